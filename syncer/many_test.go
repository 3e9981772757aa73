package syncer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/blocks/content"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What one writer has given a file, a bit at a time, may be more than one change
// may say: who does something to that file then says it in several.
func TestWhatOneChangeMayNotSayIsSaidInSeveral(t *testing.T) {
	attrs := func(k, n int, val string) (c model.Change) {
		for i := range n {
			c.Attrs = append(c.Attrs, model.AttrChange{Name: fmt.Sprintf("xuser.%d.%d", k, i), Val: "=" + val})
		}
		return c
	}
	fork := func(k int) model.Change {
		c := attrs(k, 12, strings.Repeat("y", 60_000))
		if k == 0 {
			c.Version = &model.VersionChange{Content: content.Content{Size: 1, Inline: []byte("e")}.Encode(), Mtime: 5}
		}
		return c
	}
	for _, tt := range []struct {
		name string
		does func(k int) model.Change // the writer, twice
		then func(a *peer)
		want []string
	}{
		{"attributes, and a save", func(k int) model.Change { return attrs(k, 2500, "") }, func(a *peer) {
			a.write("/f.tmp", "G")
			a.mv("/f.tmp", "/f")
		}, []string{"/f 644 G"}},
		{"attributes, and another file", func(k int) model.Change { return attrs(k, 2500, "") }, func(a *peer) {
			a.rm("/f")
			a.write("/f", "G")
		}, []string{"/f 644 G"}},
		{"large attributes beside a version, and a move", fork, func(a *peer) { a.mv("/f", "/g") }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plainly(t)
			w := newWorld(t, 2)
			a := w.peers[0]
			a.write("/f", "F")
			w.same()
			l := newLiar(a)
			for k := range 2 {
				c := tt.does(k)
				c.ID, c.Kind, c.Lamport = a.node("/f"), model.File, uint64(20+k)
				b := l.batch(a.Knowledge(), c)
				for _, p := range w.peers {
					p.must(p.Receive(t.Context(), "eve", b))
					p.must(p.Sync())
				}
			}
			tt.then(a)
			a.must(a.Cut(t.Context()))
			if tree := w.same(); tt.want != nil && strings.TrimSpace(tree) != strings.Join(tt.want, "\n") {
				t.Errorf("want %q:\n%.1000s", tt.want, tree)
			}
			if err := a.Err(); err != nil {
				t.Error(err)
			}
			if err := a.Setxattr(RootIno, "user.goes", []byte("on"), 0); err != nil {
				t.Error(err)
			}
			w.same()
		})
	}
}
