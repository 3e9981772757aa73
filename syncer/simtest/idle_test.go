package simtest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/clachanfs/clachan/peers/wire"
)

// TestIdlePairIsSilent: two peers that are in sync, and left alone for a day,
// say nothing but that they are there, ask for no block, and write nothing.
func TestIdlePairIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(&plan{peers: 2, slow: -1, sized: make([]bool, 2)})
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.guard(func() { w.silence(t) })
		if w.failed() != "" {
			t.Error(w.failed())
		}
	})
}

func (w *world) silence(t *testing.T) {
	for _, m := range w.ms {
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
	}
	a, b := w.ms[0], w.ms[1]
	for i, m := range []*machine{a, b, a, a} {
		path := "/" + names[i]
		if h, err := m.open(path, true, true, false); err == nil {
			_ = h.write(0, 0, w.oracle.bytes(m, 10_000*i, true))
			h.close()
		}
		_ = m.mkdir(path + ".d")
		_ = m.setxattr(path, "user.x", "y")
	}
	w.together()
	_ = b.unlink("/" + names[2])
	w.together()
	time.Sleep(2 * time.Hour) // small blocks are packed, tables compacted
	synctest.Wait()

	keepAlive := []wire.Type{wire.TypePing, wire.TypePong}
	alive, sent, blocks := w.net.count(keepAlive...), w.net.sent, w.net.blocks
	all := w.net.all()
	writes := a.d.writes.Load() + b.d.writes.Load()
	const day = 24 * time.Hour
	time.Sleep(day)
	synctest.Wait()
	alive = w.net.count(keepAlive...) - alive
	if n := w.net.all() - all - alive; n > 0 {
		t.Errorf("%d frames beside %d to keep alive: %v", n, alive, w.net)
	}
	if n := w.net.blocks - blocks; n > 0 {
		t.Errorf("%d writes to block streams", n)
	}
	if n := a.d.writes.Load() + b.d.writes.Load() - writes; n > 0 {
		t.Errorf("%d writes to disk", n)
	}
	if perMinute := (w.net.sent - sent) / int64(day/time.Minute) / 2; alive == 0 || perMinute > 2048 {
		t.Errorf("%d frames and %d bytes a minute to keep alive", alive, perMinute)
	}
	t.Logf("in a day: %d frames to keep alive, %d bytes a minute from each peer, nothing else", alive, (w.net.sent-sent)/int64(day/time.Minute)/2)
}
