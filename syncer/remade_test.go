package syncer_test

import (
	"strings"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A directory that others have removed and made again stays where it is while there is something in it that is not cut
// yet: who has just saved there finds it. What is of this machine only makes nobody wait.
func TestRemadeDirectoryWaitsForWhatIsNotCut(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(b *peer)
		seen string   // before the cut
		want []string // in the end, with whatever names
	}{
		{"a file", func(b *peer) { b.write("/d/x", "x") }, "x", []string{"/o2 644 o2", "/x 644 x"}},
		{"a file in a new directory", func(b *peer) { b.mkdir("/d/s"); b.write("/d/s/x", "x") }, "s", []string{"/o2 644 o2", "/s/x 644 x"}},
		{"a pipe", func(b *peer) {
			dir, _ := b.at("/d/p")
			_, err := b.Create(dir, "p", New{Kind: model.Fifo})
			b.must(err)
		}, "o2", []string{"/d/o2 644 o2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			a.mkdir("/d")
			a.write("/d/o", "o")
			w.settle()
			w.part(true)
			a.rm("/d/o")
			a.rm("/d")
			a.mkdir("/d")
			a.write("/d/o2", "o2")
			a.cutNow()
			a.must(a.Sync())
			release := b.stall()
			tt.make(b)
			for x, err := range a.Since(t.Context(), b.Knowledge(), nil) {
				a.must(err)
				b.must(b.Receive(t.Context(), a.name, x))
			}
			dir := b.stat("/d").Ino
			if _, err := b.Lookup(dir, tt.seen); err != nil {
				t.Errorf("%s in /d: %v", tt.seen, err)
			}
			release()
			w.part(false)
			tree := w.same()
			for _, want := range tt.want {
				if !strings.Contains(tree, want) {
					t.Errorf("%s is not in\n%s", want, tree)
				}
			}
		})
	}
}
