package syncer

import (
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Drift describes where tree and view differ, for tests that fail.
func (f *Folder) Drift() (out []string) {
	f.apply.Lock()
	defer f.apply.Unlock()
	f.ix.Names(func(dir Ino, name string, y index.Drift) {
		e, _ := f.ix.Lookup(dir, name)
		out = append(out, fmt.Sprintf("%d %q: shows %d, drift %+v", dir, name, e.Ino, y))
	})
	f.ix.AllBytes(func(ino Ino, w index.Bytes) {
		r, err := f.ix.Attr(ino)
		out = append(out, fmt.Sprintf("%d: %+v %+v %v", ino, w, r, err))
	})
	return out
}

// State describes all nodes, for tests that fail.
func (f *Folder) State() map[string]string {
	f.apply.Lock()
	defer f.apply.Unlock()
	return f.ix.State()
}

// NodeOf is the node that an inode shows.
func (f *Folder) NodeOf(ino Ino) model.ID {
	id, _, err := f.ix.Version(ino)
	if err != nil {
		return model.ID{}
	}
	return id
}

// Holding tells whether something waits to be shown together.
func (f *Folder) Holding() bool {
	f.apply.Lock()
	defer f.apply.Unlock()
	return f.ix.Sets()
}

// FailAhead stops the folder as a commit does that fails: what is in memory, a
// dot of its own, was never written.
func (f *Folder) FailAhead() {
	f.apply.Lock()
	defer f.apply.Unlock()
	t := f.ix.Begin()
	own := f.ix.Replica()
	t.Know(f.ix.K().With(model.Dot{Replica: own, Seq: f.ix.K().Get(own) + 1}))
	t.Abort()
	f.stop(errors.New("a disk that fails"))
}
