package syncer

import (
	"time"

	"github.com/clachanfs/clachan/syncer/index"
)

// watchSets looks again when what waits to be shown together has waited for too
// long. The caller holds the apply lock.
func (f *Folder) watchSets() {
	if !f.ix.Sets() || f.watching {
		return
	}
	f.watching = true
	time.AfterFunc(splitIn, func() {
		f.apply.Lock()
		f.watching = false
		f.apply.Unlock()
		f.lookAtSets()
	})
}

// lookAtSets lets the publisher show what is overdue, or complete.
func (f *Folder) lookAtSets() {
	select {
	case f.overdue <- struct{}{}:
	default:
	}
}

const splitIn = 5 * time.Second

// splitSets shows what is overdue.
func (f *Folder) splitSets() error {
	return f.update(func(t *index.Tx) error {
		t.Overdue(f.busy)
		f.watchSets()
		return t.Err()
	})
}
