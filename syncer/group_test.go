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

// What a program does to a database is in one batch: nothing of it is told before
// the bytes that go with it, nor bytes of an instant with names of another.
func TestDatabaseIsCutAsItWasAtOneInstant(t *testing.T) {
	for _, tt := range []struct {
		name      string
		before    func(a *peer) // done when the cut begins
		meanwhile func(a *peer) // done when bytes have been frozen, once
	}{
		{"committed", func(a *peer) { a.write("/x.db", "2"); a.rm("/x.db-journal") }, nil},
		{"committed meanwhile", func(a *peer) { a.write("/x.db", "2") }, func(a *peer) { a.write("/x.db", "3"); a.rm("/x.db-journal") }},
		{"begun and committed meanwhile", func(a *peer) {
			a.rm("/x.db-journal")
			a.cutNow()
			a.write("/x.db-journal", "of 2")
			a.write("/x.db", "2")
		},
			func(a *peer) { a.write("/x.db", "3"); a.rm("/x.db-journal") }},
		{"begun meanwhile", func(a *peer) { a.rm("/x.db-journal"); a.cutNow(); a.write("/x.db", "2") },
			func(a *peer) { a.write("/x.db", "3"); a.write("/x.db-wal", "of 4") }},
		{"begun anew meanwhile", func(a *peer) { a.write("/x.db", "2") },
			func(a *peer) { a.rm("/x.db-journal"); a.write("/x.db-journal", "of 3"); a.write("/x.db", "3") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			w.part(true)
			a.write("/x.db", "1")
			a.write("/x.db-journal", "of 1")
			a.cutNow()
			tt.before(a)
			known, froze := a.Knowledge(), 0
			a.surf.mu.Lock()
			a.surf.froze = func(Ino) {
				if !a.Knowledge().LE(known) {
					t.Errorf("something is cut before the bytes that are frozen now: %v, was %v", a.Knowledge(), known)
				}
				if froze++; froze == 1 && tt.meanwhile != nil {
					tt.meanwhile(a)
				}
			}
			a.surf.mu.Unlock()
			a.cutNow()
			a.cutNow() // what is left
			if tree := a.tree(); froze == 0 || strings.Contains(tree, "conflict") {
				t.Errorf("frozen %d times:\n%s", froze, tree)
			}
			w.part(false)
			w.same()
			if x, y := a.shows("/x.db"), b.shows("/x.db"); x != y {
				t.Errorf("%q and %q", x, y)
			}
		})
	}
}

// That a journal is gone is told with the bytes that it was for, once these rest.
func TestCommitWaitsForTheDatabase(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/x.db", "1")
	a.write("/x.db-journal", "of 1")
	w.settle()
	known := a.Knowledge()
	h := a.edit("/x.db")
	h.write(0, "2")
	a.rm("/x.db-journal")
	a.cutNow()
	if !a.Knowledge().LE(known) {
		t.Error("the journal's removal is told before the database rests")
	}
	h.close()
	w.same()
	if db, journal := b.shows("/x.db"), b.shows("/x.db-journal"); db != "2" || journal != "" {
		t.Errorf("%q, %q", db, journal)
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

// A further name of a database is cut with it and its journal, which are in use.
func TestADatabaseWithAnotherNameIsCut(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	a.write("/d/x.db", "one")
	w.same()
	a.write("/d/x.db-journal", "j")
	a.write("/d/x.db", "two")
	_, err := a.Link(a.stat("/d/x.db").Ino, a.stat("/d").Ino, "e")
	a.must(err)
	a.must(a.Cut(t.Context()))
	if s, err := a.Stats(); err != nil || s.Pending > 0 {
		t.Errorf("%d things wait to be cut, %v", s.Pending, err)
	}
	w.same()
	b.want(t, "/d/e", "two")
	b.want(t, "/d/x.db-journal", "j")
}
