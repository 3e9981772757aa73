package simtest

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestASaveBesideAnOpenFileIsCut: a file is saved anew, its old bytes moved aside
// and perhaps removed, while another program has those open, and may have written
// to them. The save is cut when they have rested, not first when they are closed.
func TestASaveBesideAnOpenFileIsCut(t *testing.T) {
	for _, written := range []bool{false, true} {
		for _, removed := range []bool{false, true} {
			t.Run(fmt.Sprintf("written %v, removed %v", written, removed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, err := newWorld(&plan{peers: 2, slow: -1, sized: make([]bool, 2)})
					if err != nil {
						t.Fatal(err)
					}
					defer w.close()
					w.guard(func() { w.saveBeside(t, written, removed) })
					if w.failed() != "" {
						t.Error(w.failed())
					}
				})
			})
		}
	}
}

func (w *world) saveBeside(t *testing.T, written, removed bool) {
	for _, m := range w.ms {
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
	}
	a := w.ms[0]
	open := func() *handle {
		h, err := a.open("/f", true, true, false)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	put := func(h *handle, size int) {
		if err := h.write(0, 0, w.oracle.bytes(a, size, false)); err != nil {
			t.Fatal(err)
		}
	}
	first := open()
	put(first, 1000)
	first.close()
	w.together()
	held := open()
	if written {
		put(held, 300)
	}
	time.Sleep(time.Second)
	_ = a.rename("/f", "/f~", 0)
	save := open()
	put(save, 31000)
	_ = save.sync()
	save.close()
	if removed {
		_ = a.unlink("/f~")
	}
	w.rest("though the old file is open", 40*time.Second)
}
