package syncer

import (
	"errors"
	"fmt"
	"time"

	"github.com/clachanfs/clachan/syncer/index"
)

// What the surface tells of the bytes that it holds until they are cut.

// Dirty remembers that an inode has bytes that are not cut yet, and what it
// takes to find them after a crash.
func (f *Folder) Dirty(ino Ino, d DirtyState) error {
	var dir Ino
	var at nameAt
	err := f.change(func(t *index.Tx) error {
		r := t.Inode(ino)
		if r == nil {
			return ErrNotExist
		}
		if r.Nlink == 0 && !d.Empty {
			at = f.giveBack(t, ino, r)
		}
		w, _ := t.Bytes(ino)
		if !w.Ours {
			w = index.Bytes{Ours: true, Base: d.Base}
		} else if !w.Written && !w.Kept {
			w.Base = d.Base
		}
		if seen := t.ShownOrig(ino); seen.Replica == f.ix.Replica() {
			w.Base = seen // what was cut here meanwhile, its writer has seen
		}
		f.overwrites(t, ino, w.Base)
		w.Written, w.Gen, w.From, w.Open, w.Zero = true, d.Gen, d.From, d.Open, d.Zero
		w.Data, w.Small = d.Data, d.Data != nil
		r.Size, r.Alloc, r.Mtime = d.Size, d.Alloc, d.Mtime
		r.Ctime = max(r.Ctime, d.Ctime) // of a link or chmod since that was written
		t.Changed(ino)
		t.SetBytes(ino, &w)
		dir = groupOf(ino, r)
		return t.Err()
	})
	if err == nil && at.Dir != 0 {
		f.noted(at.Dir, at.Name, true)
	}
	if err == nil && d.Open { // else the close is told
		f.pace.wake(dir, time.Now().Add(writerQuiet))
	}
	return err
}

// Clean tells that an inode has no bytes of its own after all.
func (f *Folder) Clean(ino Ino) error {
	return f.update(func(t *index.Tx) error {
		w, ok := t.Bytes(ino)
		switch {
		case ok && w.Ours && (len(w.Attrs) > 0 || w.Touched || w.Kept):
			t.SetBytes(ino, &index.Bytes{Ours: true, Base: w.Base, Attrs: w.Attrs, Touched: w.Touched, Kept: w.Kept})
		case ok && w.Ours:
			t.SetBytes(ino, nil)
		}
		return t.Err()
	})
}

// Closed tells that nobody has the inode open for writing any more.
func (f *Folder) Closed(ino Ino) {
	if r, err := f.ix.Attr(ino); err == nil {
		f.noted(groupOf(ino, r), "", f.unfinished(ino))
	}
	f.unwait()
}

// Staged calls yield with what was dirty when the last run ended, before Run.
func (f *Folder) Staged(yield func(Ino, DirtyState) bool) error {
	f.apply.Lock()
	states := map[Ino]DirtyState{}
	var errs []error
	f.ix.AllBytes(func(ino Ino, w index.Bytes) {
		if !w.Ours || !w.Written {
			return
		}
		r, err := f.ix.Attr(ino)
		if err != nil {
			errs = append(errs, fmt.Errorf("staged inode %d: %w", ino, err))
			return
		}
		d := DirtyState{Gen: w.Gen, From: w.From, Base: w.Base, Open: w.Open, Size: r.Size, Alloc: r.Alloc, Mtime: r.Mtime, Ctime: r.Ctime,
			Zero: w.Zero}
		if w.Small {
			d.Data = append([]byte{}, w.Data...)
		}
		states[ino] = d
	})
	f.apply.Unlock()
	for ino, d := range states {
		if !yield(ino, d) {
			break
		}
	}
	return errors.Join(errs...)
}

// Accessed tells when inodes were read; at is asked for each, with the folder locked.
func (f *Folder) Accessed(inos []Ino, at func(Ino) int64) error {
	return f.update(func(t *index.Tx) error {
		for _, ino := range inos {
			read := at(ino)
			if r := t.Inode(ino); r != nil && read > r.Atime {
				r.Atime = read
				t.Changed(ino)
			}
		}
		return t.Err()
	})
}
