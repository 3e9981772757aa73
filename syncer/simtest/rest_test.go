package simtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/syncer/index"
)

// rest waits until all that was done is cut. Nobody asks for it: machines have to
// wake up for it by themselves. Where programs have files open, which they do
// nothing to, that is when those have rested for half a minute.
func (w *world) rest(why string, atMost time.Duration) {
	var returned time.Time // when one was last seen that may not cut yet
	for deadline := time.Now().Add(atMost); ; time.Sleep(300 * time.Millisecond) {
		w.onward()
		late := w.uncut()
		if late == nil || w.mapping() {
			return
		}
		over := time.Now().After(deadline)
		if late.incomplete() {
			if over {
				return
			}
			returned = time.Now()
		}
		if over && time.Since(returned) > atMost {
			s, err := late.f.Stats()
			late.waits()
			_ = late.f.Check(context.Background(), func(err error) { w.say("%s: check: %v", late.name, err) })
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
		if s, err := m.f.Stats(); err != nil || s.Pending > 0 && !s.Returning {
			return m
		}
	}
	return nil
}

// incomplete tells whether a machine says nothing yet: somebody has to tell it
// all there is.
func (m *machine) incomplete() (yes bool) {
	m.rows(func(ix *index.Index, _ *pebble.DB) { yes = ix.Incomplete() })
	return yes
}

// rows reads the rows of a machine from a copy: who opens an index tidies it up.
func (m *machine) rows(read func(*index.Index, *pebble.DB)) {
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), DisableWAL: true, Logger: mute{}})
	if err == nil {
		err = copyRows(db, m.bd.Meta())
	}
	var ix *index.Index
	if err == nil {
		ix, err = index.Open(db, 1, m.w.plan.names, 0, 0)
	}
	if err == nil {
		read(ix, db)
	}
	if db != nil {
		err = errors.Join(err, db.Close())
	}
	if err != nil && !m.unwell() {
		m.w.fail("I8", "%s: rows: %v", m.name, err)
	}
}

// mute logs nothing.
type mute struct{}

func (mute) Infof(string, ...any)         {}
func (mute) Errorf(string, ...any)        {}
func (mute) Fatalf(text string, a ...any) { panic(fmt.Sprintf(text, a...)) }

func copyRows(to, from *pebble.DB) error {
	it, err := from.NewIter(nil)
	if err != nil {
		return err
	}
	b := to.NewBatch()
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = b.Set(it.Key(), it.Value(), nil)
	}
	return errors.Join(err, it.Close(), b.Commit(pebble.NoSync))
}
