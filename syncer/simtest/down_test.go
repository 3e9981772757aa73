package simtest

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPowerThatGoesWhileAMachineEndsExcuses: what was not acknowledged then may be
// gone, and a later sync, of the machine when it is back, acknowledges nothing of it.
func TestPowerThatGoesWhileAMachineEndsExcuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(&plan{peers: 2, slow: -1, sized: make([]bool, 2)})
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.guard(func() {
			m := w.ms[0]
			if err := m.start(); err != nil {
				t.Fatal(err)
			}
			h, err := m.open("/f", true, true, false)
			if err != nil {
				t.Fatal(err)
			}
			_ = h.write(0, 0, w.oracle.bytes(m, 100, false))
			h.close()
			m.d.crashIn(1, 0)
			w.down(m, time.Now())
			if !m.crashed() {
				t.Fatal("the power did not go")
			}
			if !h.t.excused {
				t.Errorf("missed: %v", h.t)
			}
		})
		if w.failed() != "" {
			t.Error(w.failed())
		}
	})
}
