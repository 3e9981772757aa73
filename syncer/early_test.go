package syncer_test

import "testing"

// What a member has told before all of it was durable here counts once it is: it
// may have nothing more to say.
func TestWhatWasToldTooEarlyCountsLater(t *testing.T) {
	w := newWorld(t, 2)
	w.members()
	a, b := w.peers[0], w.peers[1]
	b.write("/f", "f")
	w.same()
	w.cut.Store(true)
	b.rm("/f")
	b.must(b.Cut(t.Context()))
	b.must(b.Sync())
	a.Acked(b.name, b.Knowledge(), 0)
	for x, err := range b.Since(t.Context(), a.Knowledge(), nil) {
		a.must(err)
		a.must(a.Receive(t.Context(), b.name, x))
	}
	a.must(a.Sync())
	if n := a.collectNow(); n != 1 {
		t.Errorf("%d nodes collected", n)
	}
}
