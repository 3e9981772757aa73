package syncer_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a program writes to a file that it has open, when others have changed or
// removed that, is kept: as a conflict copy, or where it was.
func TestWritersLoseNothingToWhatOthersDo(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    func(b *peer)
		want []string // name=content; a conflict copy ends in "copy"
	}{
		{"changed", func(b *peer) { b.write("/d/f", "theirs") }, []string{"/d/copy=mine", "/d/f=theirs"}},
		{"replaced", func(b *peer) { b.write("/d/n", "theirs"); b.mv("/d/n", "/d/f") }, []string{"/d/copy=mine", "/d/f=theirs"}},
		{"removed", func(b *peer) { b.rm("/d/f") }, []string{"/d/f=mine"}},
		{"removed and made anew", func(b *peer) { b.rm("/d/f"); b.cutNow(); b.write("/d/f", "theirs") }, []string{"/d/copy=mine", "/d/f=theirs"}},
		{"removed with its directory", func(b *peer) { b.rm("/d") }, []string{"/copy=mine"}},
		{"moved", func(b *peer) { b.mv("/d/f", "/g") }, []string{"/g=mine"}},
	} {
		for _, writes := range []string{"closes", "rests"} {
			t.Run(tt.name+", "+writes, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 2)
					a, b := w.peers[0], w.peers[1]
					a.mkdir("/d")
					a.write("/d/f", "was")
					w.settle()
					h := a.edit("/d/f")
					tt.b(b)
					w.settle()
					time.Sleep(time.Minute)
					h.write(0, "mine")
					if writes == "closes" {
						h.close()
					} else {
						h.fsync()
						time.Sleep(time.Minute)
						h.close()
					}
					var got []string
					for line := range strings.Lines(w.same()) {
						f := strings.Fields(line)
						if strings.HasSuffix(line, "/\n") {
							continue
						}
						path := f[0]
						if strings.Contains(line, "(conflict, ua, da,") {
							path = path[:strings.LastIndex(path, "/")+1] + "copy"
						}
						got = append(got, path+"="+f[len(f)-1])
					}
					slices.Sort(got)
					if !slices.Equal(got, tt.want) {
						t.Errorf("want %q\ngot %q", tt.want, got)
					}
				})
			})
		}
	}
}

// What its own user has removed or replaced stays away, whoever writes to it still.
func TestWritersToWhatIsRemovedHereGetNothingBack(t *testing.T) {
	for name, do := range map[string]func(a *peer){
		"removed":  func(a *peer) { a.rm("/f") },
		"replaced": func(a *peer) { a.write("/n", "new"); a.mv("/n", "/f") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a := w.peers[0]
				a.write("/f", "was")
				w.settle()
				h := a.edit("/f")
				do(a)
				w.settle()
				h.write(0, "mine")
				h.close()
				if tree := w.same(); strings.Contains(tree, "mine") || strings.Contains(tree, "conflict") {
					t.Errorf("it is back:\n%s", tree)
				}
			})
		})
	}
}

// A journal is not laid beside a database that it is not of.
func TestJournalsAreNotGivenBackBesideAnotherDatabase(t *testing.T) {
	for name, tt := range map[string]struct {
		suffix string
		b      func(b *peer)
		both   bool // the program writes to the database too
	}{
		"removed and made anew":       {"-wal", func(b *peer) { b.rm("/x.db"); b.rm("/x.db-wal"); b.cutNow(); b.write("/x.db", "new") }, false},
		"removed and made anew, both": {"-wal", func(b *peer) { b.rm("/x.db"); b.rm("/x.db-wal"); b.cutNow(); b.write("/x.db", "new") }, true},
		"replaced":                    {"-wal", func(b *peer) { b.write("/n", "new"); b.mv("/n", "/x.db"); b.rm("/x.db-wal") }, false},
		"replaced, both":              {"-wal", func(b *peer) { b.write("/n", "new"); b.mv("/n", "/x.db"); b.rm("/x.db-wal") }, true},
		"rollback journal":            {"-journal", func(b *peer) { b.write("/n", "new"); b.mv("/n", "/x.db"); b.rm("/x.db-journal") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a, b := w.peers[0], w.peers[1]
				a.write("/x.db", "old")
				a.write("/x.db"+tt.suffix, "of old")
				w.settle()
				db, wal := a.edit("/x.db"), a.edit("/x.db"+tt.suffix)
				tt.b(b)
				w.settle()
				time.Sleep(time.Minute)
				if got := a.shows("/x.db"); got != "new" {
					t.Fatal(got)
				}
				wal.write(6, ", more")
				if tt.both {
					db.write(3, ", more")
				}
				wal.close()
				db.close()
				tree := w.same()
				if strings.Contains(tree, "/x.db 644 new") && strings.Contains(tree, "/x.db"+tt.suffix+" 644 of old") {
					t.Errorf("the journal of another database is beside it:\n%s", tree)
				}
				if !strings.Contains(tree, "of old, more") || tt.both && !strings.Contains(tree, "old, more") {
					t.Errorf("lost:\n%s", tree)
				}
			})
		})
	}
}

// What others took first and its own user removes then stays away too.
func TestWhatItsUserRemovesAfterOthersIsNotGivenBack(t *testing.T) {
	for name, do := range map[string]struct{ b, a func(p *peer) }{
		"changed, removed here":           {func(b *peer) { b.write("/d/f", "theirs") }, func(a *peer) { a.rm("/d/f") }},
		"changed, replaced here":          {func(b *peer) { b.write("/d/f", "theirs") }, func(a *peer) { a.write("/d/n", "new"); a.mv("/d/n", "/d/f") }},
		"removed, directory removed here": {func(b *peer) { b.rm("/d/f") }, func(a *peer) { a.rm("/d") }},
		"removed, made and removed here":  {func(b *peer) { b.rm("/d/f") }, func(a *peer) { a.write("/d/f", "new"); a.rm("/d/f") }},
		"changed, directory removed here": {func(b *peer) { b.write("/d/f", "theirs") }, func(a *peer) { a.rm("/d") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a, b := w.peers[0], w.peers[1]
				a.mkdir("/d")
				a.write("/d/f", "was")
				w.settle()
				h := a.edit("/d/f")
				do.b(b)
				w.settle()
				time.Sleep(time.Minute)
				do.a(a)
				w.settle()
				h.write(0, "mine")
				h.close()
				if tree := w.same(); strings.Contains(tree, "mine") {
					t.Errorf("it is back:\n%s", tree)
				}
			})
		})
	}
}
