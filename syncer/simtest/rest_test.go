package simtest

import (
	"time"

	"github.com/clachanfs/clachan/syncer/index"
)

// rest waits until all that was done is cut. Nobody asks for it: machines have to
// wake up for it by themselves. Where programs have files open, which they do
// nothing to, that is when those have rested for half a minute.
func (w *world) rest(why string, atMost time.Duration) {
	for deadline := time.Now().Add(atMost); ; time.Sleep(300 * time.Millisecond) {
		w.onward()
		late := w.uncut()
		if late == nil || w.mapping() {
			return
		}
		if time.Now().After(deadline) {
			s, err := late.f.Stats()
			w.fail("I1", "%s does not cut, %s, for %v: %d changes, %v", late.name, why, atMost, s.Pending, err)
		}
	}
}

// mapping tells whether somebody writes by pages: only an fsync, or the close,
// says when those are whole.
func (w *world) mapping() bool {
	for h := range w.handles {
		if h.mapped {
			return true
		}
	}
	return false
}

// uncut is a machine that has something to cut, and nothing that keeps it from
// it: what failed on its disk is tried again after a minute.
func (w *world) uncut() *machine {
	for _, m := range w.ms {
		if !m.up || m.crashed() || m.rotten || !m.sick.IsZero() && time.Since(m.sick) < 70*time.Second {
			continue
		}
		if s, err := m.f.Stats(); err != nil || s.Pending > 0 && !m.incomplete() {
			return m
		}
	}
	return nil
}

// incomplete tells whether a machine says nothing yet: somebody has to tell it
// all there is.
func (m *machine) incomplete() bool { return m.index().Incomplete() }

// index reads the rows of a machine.
func (m *machine) index() *index.Index {
	ix, err := index.Open(m.bd.Meta(), 1, m.w.plan.names, 0, 0)
	if err != nil {
		m.w.fail("I8", "%s: %v", m.name, err)
	}
	return ix
}
