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
		select {
		case f.overdue <- struct{}{}:
		default:
		}
	})
}

const splitIn = 5 * time.Second

// splitSets shows what is overdue, some at a time: others wait for the lock.
func (f *Folder) splitSets() error {
	for more := true; more; {
		err := f.update(func(t *index.Tx) error {
			more = t.Overdue(f.busy)
			f.watching = false
			f.watchSets()
			return t.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}
