package syncer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What is removed with a directory that somebody else moves away meanwhile comes back;
// what is removed alone does not, nor because others made a directory of that name
// too. A journal comes back only with its database as it was.
func TestRescue(t *testing.T) {
	for _, tt := range []struct {
		name string
		made string // what is there before
		a, b func(p *peer)
		want string
	}{
		{"moved away from a removed directory", "/trash/ /trash/proj/ /trash/proj/sub/ /trash/proj/f /trash/proj/sub/g",
			func(a *peer) { a.rm("/trash") },
			func(b *peer) { b.mkdir("/keep"); b.mv("/trash/proj", "/keep/proj") },
			"/keep/ /keep/proj/ /keep/proj/f=1 /keep/proj/sub/ /keep/proj/sub/g=1"},
		{"in two cuts", "/trash/ /trash/f", func(a *peer) { a.rm("/trash/f"); a.cutNow(); a.rm("/trash") },
			func(b *peer) { b.mv("/trash", "/kept") }, "/kept/ /kept/f=1"},
		{"a file of a moved directory", "/d/ /d/f /d/g", func(a *peer) { a.rm("/d/f") },
			func(b *peer) { b.mv("/d", "/e") }, "/e/ /e/g=1"},
		{"a lock of a moved directory", "/repo/ /repo/index", func(a *peer) {
			a.write("/repo/index.lock", "2")
			a.cutNow()
			a.mv("/repo/index.lock", "/repo/index")
		}, func(b *peer) { b.mv("/repo", "/old") }, "/old/ /old/index=2"},
		{"of a directory made twice", "", func(a *peer) {
			a.mkdir("/lock")
			a.write("/lock/owner", "x")
			a.cutNow()
			a.rm("/lock/owner")
		}, func(b *peer) { b.mkdir("/lock") }, "/lock/"},
		{"with a directory made twice", "", func(a *peer) {
			a.mkdir("/lock")
			a.write("/lock/owner", "x")
			a.cutNow()
			a.rm("/lock")
		}, func(b *peer) { b.mkdir("/lock") }, "/lock/"},
		{"with a directory made twice and moved", "", func(a *peer) {
			a.mkdir("/lock")
			a.write("/lock/owner", "x")
			a.cutNow()
			a.rm("/lock")
		}, func(b *peer) { b.mkdir("/lock"); b.cutNow(); b.mv("/lock", "/kept") }, "/kept/ /kept/owner=x"},
		{"a database with its journal", "/d/ /d/x.db /d/x.db-wal", func(a *peer) { a.rm("/d") },
			func(b *peer) { b.mv("/d", "/e") }, "/e/ /e/x.db=1 /e/x.db-wal=1"},
		{"a file with a name like its journal", "", func(a *peer) {
			a.write("/d", "1")
			a.link("/d", "/d-wal")
			a.cutNow()
			a.write("/d-wal", "2")
			a.rm("/d")
		}, func(b *peer) {}, "/d-wal=2"},
		{"a database that had gone on", "/d/ /d/x.db /d/x.db-wal", func(a *peer) {
			a.rm("/d/x.db-wal")
			a.cutNow()
			time.Sleep(time.Second)
			a.write("/d/x.db", "2")
			a.cutNow()
			a.rm("/d")
		}, func(b *peer) { b.mv("/d", "/e") }, "/e/ /e/x.db=2"},
	} {
		for i := range 2 {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 2)
					a, b := w.peers[i], w.peers[1-i]
					for _, path := range strings.Fields(tt.made) {
						if dir, is := strings.CutSuffix(path, "/"); is {
							a.mkdir(dir)
						} else {
							a.write(path, "1")
						}
					}
					w.settle()
					w.part(true)
					for _, p := range w.peers {
						p.mkdir("/busy") // is cut at once; what follows, together
						synctest.Wait()
					}
					tt.a(a)
					a.cutNow()
					time.Sleep(time.Second)
					tt.b(b)
					b.cutNow()
					w.part(false)
					var got []string
					for line := range strings.Lines(w.same()) {
						switch f := strings.Fields(line); {
						case f[0] == "/busy":
						case len(f) > 2 && f[2] == "/":
							got = append(got, f[0]+"/")
						default:
							got = append(got, f[0]+"="+f[2])
						}
					}
					if got := strings.Join(got, " "); got != tt.want {
						t.Errorf("want %s\ngot  %s", tt.want, got)
					}
				})
			})
		}
	}
}

// tells lets q hear of p, and p of nothing.
func (w *world) tells(p, q *peer) {
	w.t.Helper()
	w.talk.Lock()
	defer w.talk.Unlock()
	for range 6 {
		if w.meet(context.Background(), p, q) {
			w.send(context.Background(), p, q)
		}
	}
}

// ends runs a world, and compares what all have in the end.
func ends(t *testing.T, name string, n int, want string, do func(w *world)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, n)
			do(w)
			if got := w.same(); got != want {
				t.Errorf("want\n%s\ngot\n%s", want, got)
			}
		})
	})
}

// database makes one with a journal, and parts those who have it.
func database(w *world) (a, b *peer) {
	a, b = w.peers[0], w.peers[1]
	a.mkdir("/d")
	a.write("/d/x.db", "1")
	a.write("/d/x.db-wal", "of 1")
	w.settle()
	w.part(true)
	return a, b
}

// A directory that is removed in several cuts comes back with its databases whole.
func TestRemovedDirectoryWithADatabaseThatWasMovedIsWhole(t *testing.T) {
	for _, first := range []string{"/d/x.db", "/d/x.db-wal"} {
		ends(t, first, 2, "/e 755 /\n/e/x.db 644 1\n/e/x.db-wal 644 of 1", func(w *world) {
			a, b := database(w)
			a.mv("/d", "/e")
			a.cutNow()
			b.rm(first) // rm -r, slower than a cut
			synctest.Wait()
			time.Sleep(time.Second)
			b.rm("/d")
			b.cutNow()
			w.part(false)
		})
	}
	ends(t, "no database", 2, "/e 755 /\n/e/trip 644 t\n/e/trip-journal 644 j", func(w *world) {
		a, b := w.peers[0], w.peers[1]
		a.mkdir("/d")
		a.write("/d/trip", "t")
		a.write("/d/trip-journal", "j")
		w.settle()
		w.part(true)
		a.mv("/d", "/e")
		a.cutNow()
		b.rm("/d/trip-journal")
		b.cutNow()
		b.rm("/d")
		b.cutNow()
		w.part(false)
	})
}

// Who has moved a directory has, though a third makes one of its old name.
func TestMovedDirectoryThatAThirdMakesTooIsMoved(t *testing.T) {
	ends(t, "", 3, "/d 755 /\n/d/f 644 1\n/x 644 8", func(w *world) {
		a, b, c := w.peers[0], w.peers[1], w.peers[2]
		w.part(true)
		a.mkdir("/d")
		a.write("/d/f", "1")
		a.cutNow()
		w.talk2(a, b)
		b.rm("/d")
		b.cutNow()
		a.mv("/d", "/k")
		a.cutNow()
		for i := range 9 {
			c.write("/x", fmt.Sprint(i))
			c.cutNow()
		}
		c.mkdir("/d")
		c.cutNow()
		w.tells(c, a)
		w.tells(c, b)
		w.part(false)
	})
}

// A journal does not come back where its database was moved away from.
func TestJournalComesBackOnlyWithTheDatabaseItIsOf(t *testing.T) {
	ends(t, "gone on elsewhere", 3, "/e 755 /\n/e/g 644 g\n/e/h 644 h\n/e/x.db 644 3", func(w *world) {
		a, b := database(w)
		c := w.peers[2]
		a.mv("/d", "/e")
		a.cutNow()
		b.write("/d/g", "g") // is cut at once; what follows, together
		c.write("/d/h", "h")
		synctest.Wait()
		b.rm("/d")
		b.cutNow()
		c.write("/d/x.db", "3")
		c.rm("/d/x.db-wal")
		c.cutNow()
		w.tells(c, a)
		w.tells(c, b)
		w.part(false)
	})
	ends(t, "moved out", 2, "/e 755 /\n/e/g 644 g\n/y.db 644 1", func(w *world) {
		a, b := database(w)
		a.mv("/d", "/e")
		a.cutNow()
		b.write("/d/g", "g")
		synctest.Wait()
		b.rm("/d/x.db-wal")
		b.mv("/d/x.db", "/y.db")
		b.rm("/d")
		b.cutNow()
		w.part(false)
	})
}

// Who writes to a journal that others remove with its database gets back both.
func TestRemovedDatabaseWhoseJournalIsWrittenComesBack(t *testing.T) {
	ends(t, "", 2, "/d 755 /\n/d/g 644 g\n/d/x.db 644 1\n/d/x.db-wal 644 of 1, 2", func(w *world) {
		a, b := database(w)
		a.write("/d/x.db-wal", "of 1, 2")
		a.cutNow()
		b.write("/d/g", "g")
		synctest.Wait()
		b.rm("/d/x.db")
		b.rm("/d/x.db-wal")
		b.cutNow()
		w.part(false)
	})
}

// A lock that is removed stays so, however often others make its directory, and where
// these births say it is.
func TestRemovedLockStaysAwayWhenOthersMakeItsDirectoryOften(t *testing.T) {
	for _, n := range []int{8, 17} {
		ends(t, fmt.Sprint(n), 2, "", func(w *world) {
			a, b := w.peers[0], w.peers[1]
			w.part(true)
			a.mkdir("/lock.d")
			a.write("/lock.d/owner", "x")
			a.cutNow()
			a.rm("/lock.d")
			a.cutNow()
			for range n {
				b.mkdir("/lock.d")
				b.cutNow()
				b.rm("/lock.d")
				b.cutNow()
			}
			w.part(false)
		})
	}
	ends(t, "moved by who removed", 2, "/lock.d 755 /\n/x 644 8", func(w *world) {
		a, b := w.peers[0], w.peers[1]
		w.part(true)
		a.mkdir("/lock.d")
		a.cutNow()
		a.mv("/lock.d", "/kept")
		a.cutNow()
		a.write("/kept/owner", "x")
		a.cutNow()
		a.rm("/kept")
		a.cutNow()
		for i := range 9 {
			b.write("/x", fmt.Sprint(i))
			b.cutNow()
		}
		b.mkdir("/lock.d")
		b.cutNow()
		w.part(false)
	})
}

// What was removed before the others moved its directory stays removed, wherever that
// is moved.
func TestWhatWasRemovedBeforeItsDirectoryMovedStaysSo(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/o")
	a.mkdir("/e")
	a.write("/e/x", "X")
	a.write("/stays", "S")
	w.same()
	w.part(true)
	a.mv("/o", "/p")
	a.cutNow()
	b.rm("/e/x")
	b.cutNow()
	w.part(false)
	w.want("/e 755 /", "/p 755 /", "/stays 644 S")
	a.mv("/e", "/p/e")
	w.want("/p 755 /", "/p/e 755 /", "/stays 644 S")
	b.rm("/p")
	w.want("/stays 644 S")
}
