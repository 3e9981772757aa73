package syncer_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What somebody removes beside another who makes a directory of that name too stays
// away: to make one is not to move it.
func TestRemovedFileStaysAwayWhenOthersMakeItsDirectoryToo(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    func(b *peer)
		want string
	}{
		{"made too", func(b *peer) { b.mkdir("/lock.d") }, "/lock.d 755 /"},
		{"made too, and moved", func(b *peer) { b.mkdir("/lock.d"); b.cutNow(); b.mv("/lock.d", "/kept") }, "/kept 755 /\n/kept/owner 644 x"},
	} {
		for i := range 2 {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 2)
					a, b := w.peers[i], w.peers[1-i]
					w.part(true)
					a.mkdir("/lock.d")
					a.write("/lock.d/owner", "x")
					a.cutNow()
					a.rm("/lock.d/owner")
					a.cutNow()
					time.Sleep(time.Second)
					tt.b(b)
					b.cutNow()
					w.part(false)
					if got := strings.TrimSpace(w.same()); got != tt.want {
						t.Errorf("want\n%s\ngot\n%s", tt.want, got)
					}
				})
			})
		}
	}
}

// A journal that its program has done away with beside a move of its directory stays
// away: its database has gone on. What is removed with its database comes back.
func TestJournalOfALiveDatabaseIsNotRescued(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    func(b *peer)
		want string
	}{
		{"committed", func(b *peer) { b.rm("/d/x.db-wal"); b.write("/d/x.db", "2") }, "/e/x.db 644 2"},
		{"then removed", func(b *peer) {
			b.rm("/d/x.db-wal")
			b.cutNow()
			time.Sleep(time.Second)
			b.write("/d/x.db", "2")
			b.cutNow()
			b.rm("/d/x.db")
		}, "/e/x.db 644 2"},
		{"removed with it", func(b *peer) { b.rm("/d/x.db-wal"); b.rm("/d/x.db") }, "/e/x.db 644 1\n/e/x.db-wal 644 of 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a, b := w.peers[0], w.peers[1]
				a.mkdir("/d")
				a.write("/d/x.db", "1")
				a.write("/d/x.db-wal", "of 1")
				w.settle()
				w.part(true)
				a.mv("/d", "/e")
				a.cutNow()
				b.mkdir("/busy") // is cut at once; what follows, together
				synctest.Wait()
				tt.b(b)
				b.cutNow()
				w.part(false)
				tree := w.same()
				var got []string
				for line := range strings.Lines(tree) {
					if strings.Contains(line, "x.db") {
						got = append(got, strings.TrimSpace(line[strings.Index(line, "/e/"):]))
					}
				}
				if strings.Join(got, "\n") != tt.want {
					t.Errorf("want\n%s\ngot\n%s", tt.want, tree)
				}
			})
		})
	}
}
