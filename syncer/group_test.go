package syncer_test

import (
	"context"
	"fmt"
	mrand "math/rand"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// pair reads a database and its journal as they stand together at one instant.
func (p *peer) pair(path string) (db, wal string, ok bool) {
	for range 100 {
		db = p.shows(path)
		wal = p.shows(path + "-wal")
		if p.shows(path) == db {
			return db, wal, true
		}
	}
	return "", "", false
}

// A program that keeps two files in step is never shown out of step elsewhere,
// whenever it is cut.
func TestDatabasesAreNeverTorn(t *testing.T) {
	t.Logf("seed %d", *seed)
	r := mrand.New(mrand.NewSource(*seed))
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	db, wal := a.edit("/x.db"), a.edit("/x.db-wal")
	pad := strings.Repeat("p", 20_000) // more than goes inline
	var last atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // the reader
		defer close(done)
		was := -1
		for {
			select {
			case <-stop:
				return
			default:
			}
			x, y, ok := b.pair("/x.db")
			if !ok || x == "" && y == "" {
				continue
			}
			var n, m int
			fmt.Sscanf(x, "%d ", &n)
			fmt.Sscanf(y, "%d ", &m)
			// What is written first is one ahead at most.
			if n != m && n != m+1 || n < was {
				t.Errorf("torn: database %d, journal %d, after %d", n, m, was)
				return
			}
			was = n
			last.Store(int64(n))
		}
	}()
	end := time.Now().Add(4 * time.Second)
	n := 0
	for n = 1; time.Now().Before(end); n++ {
		db.write(0, fmt.Sprintf("%d %s", n, pad))
		if r.Intn(4) == 0 {
			go a.Cut(context.Background())
			time.Sleep(time.Duration(r.Intn(3)) * time.Millisecond)
		}
		wal.write(0, fmt.Sprintf("%d %s", n, pad))
		switch r.Intn(10) {
		case 0:
			a.rest(db, wal)
			go a.Cut(context.Background())
			time.Sleep(time.Duration(r.Intn(20)) * time.Millisecond)
		case 1:
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	<-done
	db.close()
	wal.close()
	tree := w.same()
	if strings.Contains(tree, "conflict") {
		t.Errorf("conflict:\n%s", tree)
	}
	t.Logf("%d writes of both, the reader saw up to %d", n, last.Load())
	if last.Load() == 0 {
		t.Error("nothing was shown meanwhile")
	}
}

// rest makes files look as if nobody had written to them for long.
func (p *peer) rest(hs ...*handle) {
	p.surf.mu.Lock()
	defer p.surf.mu.Unlock()
	for _, h := range hs {
		u := p.surf.using[h.ino]
		u.Wrote = time.Now().Add(-time.Hour)
		u.Begun = time.Time{}
		p.surf.using[h.ino] = u
	}
}

// A database waits for all of its files to rest.
func TestDatabaseWaitsForItsJournal(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	db, wal := a.edit("/x.db"), a.edit("/x.db-wal")
	db.write(0, "1")
	wal.write(0, "1")
	db.close()
	a.must(a.Cut(context.Background()))
	w.sync()
	if got := b.shows("/x.db"); got != "" {
		t.Errorf("the database is shown before its journal rests: %q", got)
	}
	wal.close()
	w.want("/x.db 644 1", "/x.db-wal 644 1")
}

// What programs on one machine share of a database stays there.
func TestSharedMemoryStaysHere(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/x.db", "1")
	a.write("/x.db-shm", "here")
	a.write("/notes-shm", "everywhere")
	w.settle()
	for i, want := range []string{"here", ""} {
		if got := w.peers[i].shows("/x.db-shm"); got != want {
			t.Errorf("%s: shared memory %q, want %q", w.peers[i].name, got, want)
		}
		if got := w.peers[i].shows("/notes-shm"); got != "everywhere" {
			t.Errorf("%s: a file of no database %q", w.peers[i].name, got)
		}
	}
	at, err := a.Lookup(RootIno, "x.db-shm")
	a.must(err)
	if at.Kind != model.File {
		t.Errorf("kind %v", at.Kind)
	}
	a.mv("/x.db-shm", "/kept") // it is no database's any more
	w.settle()
	if got := w.peers[1].shows("/kept"); got != "here" {
		t.Errorf("renamed, it is %q elsewhere", got)
	}
	a.must(a.Check(context.Background(), func(err error) { t.Error(err) }))
}

// The copy of a database finds its journal: they are named alike, and made by one.
func TestDatabaseCopiesOpen(t *testing.T) {
	for _, name := range []string{"/x.db", "/cookies", "/noext.averyverylongextension"} {
		for _, unseen := range []bool{false, true} {
			t.Run(fmt.Sprint(name, unseen), func(t *testing.T) {
				w := newWorld(t, 3)
				a := w.peers[0]
				a.write(name, "0")
				a.write(name+"-wal", "0")
				w.settle()
				w.part(true)
				for i, p := range w.peers[:2] {
					p.write(name, fmt.Sprint(p.name, "db"))
					time.Sleep(time.Second / 100)
					p.write(name+"-wal", fmt.Sprint(p.name, "wal"))
					if i == 0 || !unseen {
						p.must(p.Cut(context.Background()))
					}
				}
				w.part(false)
				tree := w.same()
				pairs := 0
				for _, line := range strings.Split(tree, "\n") {
					path, data, _ := strings.Cut(line, " 644 ")
					if maker, ok := strings.CutSuffix(data, "db"); ok {
						pairs++
						if !strings.Contains(tree+"\n", path+"-wal 644 "+maker+"wal\n") {
							t.Errorf("%s of %s is not beside its journal:\n%s", path, maker, tree)
						}
					}
				}
				if pairs != 2 || strings.Count(tree, "\n") != 3 {
					t.Errorf("%d databases:\n%s", pairs, tree)
				}
				w.peers[2].write(name, "new") // pins what the view named
				after := w.same()
				for _, line := range strings.Split(tree, "\n") {
					if strings.Contains(line, "conflict") && !strings.Contains(after, line) {
						t.Errorf("an edit renamed a copy:\n%s\n\n%s", tree, after)
					}
				}
			})
		}
	}
}
