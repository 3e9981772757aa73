package syncer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clachanfs/clachan/blocks"
	. "github.com/clachanfs/clachan/syncer"
)

// slow lets fetches through only once it is opened, but those of small blocks.
type slow struct {
	memRemote
	gate chan struct{}
	size int64 // of blocks that are held up
}

func (r *slow) Fetch(ctx context.Context, id blocks.ID, size int64, c Class) error {
	if size >= r.size {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.memRemote.Fetch(ctx, id, size, c)
}

func behind(p *peer, size int64) *slow {
	r := &slow{memRemote: memRemote{p}, gate: make(chan struct{}), size: size}
	p.again(r)
	return r
}

// A commit writes objects, moves a ref and removes a lock: another peer sees all
// of it or nothing, however long the last byte takes.
func TestDirectoryGroupsFlipTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		r := behind(b, 50_000)
		a.mkdir("/git")
		a.write("/git/index", "old")
		a.write("/git/index.lock", "")
		a.write("/git/ref", "old")
		a.mkdir("/other")
		w.settle()
		w.part(true)
		a.write("/git/obj1", strings.Repeat("1", 5_000))
		a.write("/git/obj2", strings.Repeat("2", 60_000)) // the slow one
		a.write("/git/index", "new")
		a.mv("/git/index.lock", "/git/index.done")
		a.write("/git/ref", "new")
		a.write("/other/f", "new")
		a.must(a.Cut(context.Background()))
		w.part(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := b.shows("/other/f"); got != "new" {
			t.Errorf("another directory waits too: %q", got)
		}
		at := func() string {
			return fmt.Sprintf("%d %d %s %s lock %v", len(b.shows("/git/obj1")), len(b.shows("/git/obj2")), b.shows("/git/index"), b.shows("/git/ref"), b.has("/git/index.lock"))
		}
		if got := at(); got != "0 0 old old lock true" {
			t.Errorf("before the last byte: %s", got)
		}
		close(r.gate)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := at(); got != "5000 60000 new new lock false" {
			t.Errorf("after the last byte: %s", got)
		}
	})
}

func (p *peer) has(path string) bool {
	dir, name := p.at(path)
	_, err := p.Lookup(dir, name)
	return err == nil
}

// What does not become complete holds up the rest for 30 s, and a database for
// as long as it takes.
func TestIncompleteGroupsSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.write("/gone", "old")
		a.write("/x.db", "old")
		a.write("/x.db-journal", "old")
		w.settle()
		r := behind(b, 50_000)
		w.part(true)
		a.write("/first", "f") // is cut at once; what follows, together
		synctest.Wait()
		a.rm("/gone")
		a.write("/small", strings.Repeat("s", 5_000))
		a.write("/big", strings.Repeat("b", 60_000))
		a.write("/x.db", strings.Repeat("d", 60_000))
		a.rm("/x.db-journal")
		a.must(a.Cut(context.Background()))
		w.part(false)
		at := func() string {
			return fmt.Sprintf("%v %d %d, %d %v", b.has("/gone"), len(b.shows("/small")), len(b.shows("/big")), len(b.shows("/x.db")), b.has("/x.db-journal"))
		}
		for _, s := range []struct {
			after time.Duration
			want  string
		}{{10 * time.Second, "true 0 0, 3 true"}, {21 * time.Second, "false 5000 0, 3 true"}, {time.Hour, "false 5000 0, 3 true"}} {
			time.Sleep(s.after)
			synctest.Wait()
			if got := at(); got != s.want {
				t.Errorf("%v later: %s, want %s", s.after, got, s.want)
			}
		}
		close(r.gate)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, want := at(), "false 5000 60000, 60000 false"; got != want {
			t.Errorf("in the end: %s, want %s", got, want)
		}
	})
}

// A database and its journal come in several batches, and what is in the first is not
// here yet: the others wait for it.
func TestBatchesOfADatabaseWaitForEachOther(t *testing.T) {
	big := strings.Repeat("b", 60_000)
	for _, tt := range []struct {
		name  string
		old   string // the database that b shows
		steps [][2]string
	}{
		{"a journal after a new database", "", [][2]string{{"/x.db", big}, {"/x.db-journal", "j"}}},
		{"a journal after a version", "old", [][2]string{{"/x.db", big}, {"/x.db-journal", "j"}}},
		{"a log after a version", "old", [][2]string{{"/x.db", big}, {"/x.db-wal", strings.Repeat("w", 5_000)}}},
		{"a version after a journal", "old", [][2]string{{"/x.db-journal", big}, {"/x.db", "new"}}},
		{"a larger one after a journal", "old", [][2]string{{"/x.db-journal", big}, {"/x.db", strings.Repeat("n", 5_000)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a, b := w.peers[0], w.peers[1]
				if tt.old != "" {
					a.write("/x.db", tt.old)
				}
				w.settle()
				r := behind(b, 50_000)
				for _, s := range tt.steps {
					a.write(s[0], s[1])
					a.cutNow()
					time.Sleep(5 * time.Second)
					synctest.Wait()
				}
				for _, name := range []string{"/x.db-journal", "/x.db-wal"} {
					if b.has(name) || b.shows("/x.db") != tt.old {
						t.Errorf("before all is here:\n%s", b.tree())
					}
				}
				close(r.gate)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				for _, s := range tt.steps {
					if got := b.shows(s[0]); got != s[1] {
						t.Errorf("in the end %s is %.10q, want %.10q", s[0], got, s[1])
					}
				}
			})
		})
	}
}

// What nobody wants any more holds nothing up: the rest is shown soon.
func TestAGroupDoesNotWaitForWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		behind(b, 50_000)
		a.write("/first", "f") // is cut at once; what follows, together
		synctest.Wait()
		a.write("/small", strings.Repeat("s", 5_000))
		a.write("/big", strings.Repeat("b", 60_000))
		a.must(a.Cut(t.Context()))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if b.has("/small") {
			t.Error("shown without its group")
		}
		a.mkdir("/d") // in another batch, and group
		a.mv("/big", "/d/big")
		a.must(a.Cut(t.Context()))
		a.rm("/d/big")
		a.must(a.Cut(t.Context()))
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if !b.has("/small") || b.has("/big") {
			t.Errorf("shown are\n%s", b.tree())
		}
	})
}

// A restart in between shows nothing by halves either.
func TestRestartKeepsADatabaseTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.write("/x.db", "old")
		a.write("/x.db-journal", "old")
		w.settle()
		behind(b, 50_000)
		a.write("/x.db", strings.Repeat("d", 60_000))
		a.rm("/x.db-journal")
		a.must(a.Cut(context.Background()))
		time.Sleep(time.Second)
		r := behind(b, 50_000)
		b.write("/else", "wakes what waits")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.shows("/x.db"); got != "old" || !b.has("/x.db-journal") {
			t.Errorf("after a restart: %d bytes, journal %v", len(got), b.has("/x.db-journal"))
		}
		close(r.gate)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.shows("/x.db"); len(got) != 60_000 || b.has("/x.db-journal") {
			t.Errorf("in the end: %d bytes, journal %v", len(got), b.has("/x.db-journal"))
		}
	})
}

// Of files that have each moved to where the next was, none is gone while the
// last waits.
func TestFilesThatMoveOnStayUntilTheLastIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		r := behind(b, 50_000)
		for _, d := range []string{"/c", "/d", "/e"} {
			a.mkdir(d)
		}
		a.write("/c/p", "P")
		a.write("/d/q", "Q")
		w.settle()
		w.part(true)
		for _, d := range []string{"/c", "/d", "/e"} {
			a.write(d+"/first", "f") // is cut at once; what follows, together
		}
		synctest.Wait()
		a.mv("/d/q", "/e/r")
		a.mv("/c/p", "/d/q")
		a.write("/e/big", strings.Repeat("b", 60_000))
		a.cutNow()
		w.part(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if p, q := b.shows("/c/p"), b.shows("/d/q"); p != "P" || q != "Q" || b.has("/e/r") {
			t.Errorf("while the last waits: %q, %q", p, q)
		}
		close(r.gate)
		time.Sleep(time.Minute)
		synctest.Wait()
		if q, r := b.shows("/d/q"), b.shows("/e/r"); q != "P" || r != "Q" || b.has("/c/p") {
			t.Errorf("in the end: %q, %q", q, r)
		}
		w.same()
	})
}

// Directories that have changed places, and were held up by what came with them,
// are not for ever in each other's way.
func TestDirectoriesThatWaitChangePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		r := behind(b, 50_000)
		for _, d := range []string{"/d", "/e", "/d/x", "/f"} {
			a.mkdir(d)
		}
		a.write("/d/1", "D")
		a.write("/e/2", "E")
		w.settle()
		w.part(true)
		a.must(a.Rename(RootIno, "d", RootIno, "e", RenameExchange))
		e, err := a.Lookup(RootIno, "e")
		a.must(err)
		a.must(a.Rename(RootIno, "f", e.Ino, "x", RenameExchange)) // and one in the other
		a.write("/big", strings.Repeat("b", 60_000))
		a.write("/e/big", strings.Repeat("b", 60_001))
		a.must(a.Cut(context.Background()))
		w.part(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !b.has("/d/1") || b.has("/big") {
			t.Error("nothing held the directories up")
		}
		close(r.gate)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !b.has("/e/1") || !b.has("/d/2") || !b.has("/big") {
			t.Errorf("not shown:\n%s", b.tree())
		}
		w.same()
	})
}
