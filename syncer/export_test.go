package syncer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

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

// Amid runs fn while a change is under way, which others wait for.
func (f *Folder) Amid(fn func()) error {
	return f.update(func(*index.Tx) error {
		fn()
		return nil
	})
}

// Removing runs fn in the middle of the removal of a file.
func (f *Folder) Removing(dir Ino, name string, fn func()) error {
	return f.update(func(t *index.Tx) error {
		t.RemoveEntry(dir, name)
		f.letGo(t)
		fn()
		return nil
	})
}

// Holding tells whether something waits to be shown together.
func (f *Folder) Holding() bool {
	f.apply.Lock()
	defer f.apply.Unlock()
	return f.ix.Sets()
}

// CutOrder is the order in which a cut takes names.
func (f *Folder) CutOrder(names []index.Place) []index.Place {
	f.apply.Lock()
	defer f.apply.Unlock()
	s := &selection{names: map[nameAt]index.Drift{}}
	for _, k := range names {
		s.names[k] = index.Drift{}
	}
	t := f.ix.Begin()
	defer t.Abort()
	return (&cutting{f: f, t: t}).inOrder(s)
}

// Mislabel has the folder say what others refuse.
func (f *Folder) Mislabel() {
	f.apply.Lock()
	defer f.apply.Unlock()
	f.o.Label.Author = "not/a label"
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

// Forget collects what is dead, as if all members that count knew it.
func (f *Folder) Forget() error {
	dead := map[model.ID]bool{}
	f.apply.Lock()
	t := f.ix.Begin()
	var drop [][]byte
	for b, err := range f.sinceLocked() {
		if err != nil {
			return err
		}
		_, changes, err := f.seal.Decode(b)
		if err != nil {
			return err
		}
		all := true
		for _, c := range changes {
			n := t.Node(c.ID)
			gone := n != nil && c.ID != model.RootID && !t.Alive(c.ID)
			if all = all && gone; gone {
				dead[c.ID] = true
			}
		}
		if all {
			drop = append(drop, b.Header)
		}
	}
	for id := range dead {
		ino := t.Ino(id)
		t.Row(ino).Node = nil
		t.Changed(ino)
	}
	t.SetHorizon(f.ix.K())
	err := t.Commit()
	f.apply.Unlock()
	return errors.Join(err, f.dropBatches(drop), f.Sync())
}

func (f *Folder) sinceLocked() iter.Seq2[model.Batch, error] {
	return func(yield func(model.Batch, error) bool) {
		s := f.ix.Snapshot()
		defer s.Close()
		s.Since(nil, nil)(yield)
	}
}

func (f *Folder) dropBatches(headers [][]byte) error {
	it, err := f.disk.Meta().NewIter(&pebble.IterOptions{LowerBound: f.key('b'), UpperBound: f.key('c')})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		for _, h := range headers {
			if bytes.HasSuffix(it.Value(), h) {
				body := append(f.key('c'), it.Key()[5:]...)
				mark := append(f.key('k'), it.Key()[5:]...)
				v, closer, err := f.disk.Meta().Get(mark)
				if err != nil {
					return err
				}
				v = append(bytes.Clone(v), h...) // what proves it stays
				if err := errors.Join(closer.Close(), f.disk.Meta().Set(mark, v, nil)); err != nil {
					return err
				}
				if err := errors.Join(f.disk.Meta().Delete(it.Key(), nil), f.disk.Meta().Delete(body, nil)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (f *Folder) key(table byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, f.o.Number), table)
}
