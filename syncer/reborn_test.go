package syncer_test

import (
	"testing"

	. "github.com/clachanfs/clachan/syncer"
)

// Of a name that is made anew by who has collected what had it, nothing comes back
// for who has not, also once all that the birth said has been said again.
func TestWhatIsBornAnewStaysSo(t *testing.T) {
	w := newWorld(t, 2)
	w.members()
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "old")
	a.must(a.Setxattr(a.stat("/f").Ino, "user.k", []byte("old"), 0))
	w.same()
	a.rm("/f")
	w.same()
	w.ack()
	if n := b.collectNow(); n != 1 {
		t.Fatalf("%d collected", n)
	}
	w.part(true)
	b.write("/f", "new")
	b.must(b.Cut(t.Context()))
	b.write("/f", "newer")
	b.mv("/f", "/g")
	mode := uint32(0o600)
	_, err := b.SetAttr(b.stat("/g").Ino, Set{Mode: &mode})
	b.must(err)
	b.must(b.Cut(t.Context()))
	w.part(false)
	w.same()
}
