package syncer_test

import (
	"testing"
)

// A file that is moved here, and was removed by those who had written more to it, comes back with the bytes that its
// mover had: of what was never here nobody may have any by now.
func TestMovedFileComesBackWithBytesThatAreHere(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(p *peer) // before it is cut
		want string
	}{
		{"moved", func(p *peer) {}, "one"},
		{"and written", func(p *peer) { p.write("/g", "two") }, "two"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			a.opts.KeepShare = 1e-15 // of the disk is history
			w.members()
			a.write("/f", "one")
			w.settle()
			w.part(true)
			b.mv("/f", "/g")
			tt.do(b)
			a.write("/f", noise(1, 100<<10))
			a.cutNow()
			a.rm("/f")
			a.cutNow()
			a.must(a.Sync())
			for x, err := range a.Since(t.Context(), b.Knowledge(), nil) {
				a.must(err)
				b.must(b.Receive(t.Context(), a.name, x))
			}
			b.must(b.Sync())
			a.Acked(b.name, b.Knowledge(), 0)
			a.must(a.Expire(t.Context()))
			if n := a.countPasts(); n > 0 {
				t.Fatalf("%d versions are left", n)
			}
			w.part(false)
			w.want("/g 644 " + tt.want)
			if got := b.past("/g"); len(got) > 0 && tt.want == "one" {
				t.Errorf("history %v", got)
			}
		})
	}
}
