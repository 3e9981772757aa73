package simtest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/clachanfs/clachan/syncer"
)

// TestUnlinkedFileComesBackWithoutItsBytes: a file that is unlinked before what
// was written to it is cut, and that others have moved meanwhile, is shown where
// they have put it, with the bytes that they know, not with those. A surface that
// went on having them would show bytes that no row tells of.
func TestUnlinkedFileComesBackWithoutItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(&plan{peers: 2, slow: -1, sized: make([]bool, 2)})
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.guard(func() { w.unlinked(t) })
		if w.failed() != "" {
			t.Error(w.failed())
		}
	})
}

func (w *world) unlinked(t *testing.T) {
	for _, m := range w.ms {
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
	}
	a, b := w.ms[0], w.ms[1]
	put := func(m *machine, path string, n int) {
		h, err := m.open(path, true, true, false)
		if err == nil {
			err = h.write(0, 0, w.oracle.bytes(m, n, false))
			h.close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(a, "/f", 220)
	put(a, "/g", 10)
	w.together()
	_ = a.rename("/f", "/g", syncer.RenameExchange)
	time.Sleep(80 * time.Millisecond) // b hears of it before it cuts what follows
	put(b, "/f", 88)
	_ = b.rename("/f", "/f~", 0)
	put(b, "/f", 99)
	_ = b.unlink("/f~")
	time.Sleep(time.Second)
	synctest.Wait()
	x, err := b.stat("/g")
	if err != nil || x.Size < 200 {
		t.Errorf("what others have moved is not there: %+v, %v", x, err)
	}
	b.tree()
	w.together()
}
