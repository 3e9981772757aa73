package syncer_test

import (
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
