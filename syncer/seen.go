package syncer

import (
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// A surface that shows the tree later than it changes, as a directory on disk does,
// remembers what its user has seen of it, and says so where it removes or replaces
// something: what others have made meanwhile is not meant.

// What is remembered of a directory on disk.
type (
	Sight  = index.Sight
	Seen   = index.Seen
	FileID = index.FileID
	// A Sighting is what is Seen at a Place.
	Sighting = index.Sighting
)

// Sight is what was seen of the folder, for its surface.
func (f *Folder) Sight() *Sight { return f.ix.Sight() }

// sees tells whether a name shows what its user has seen there; versions that were
// cut here he has written himself.
func (f *Folder) sees(t *index.Tx, at Place, s Seen) bool {
	e, ok := t.Entry(at.Dir, at.Name)
	if !ok {
		return s.Ino == 0
	}
	if e.Ino != s.Ino || e.Kind != model.File {
		return e.Ino == s.Ino
	}
	orig := t.ShownOrig(e.Ino)
	return orig == s.Orig || orig.Replica == f.ix.Replica()
}

// RemoveSeen removes a name that shows what was seen there, of a directory if that is
// empty. It is ErrStale if it shows something else by now.
func (f *Folder) RemoveSeen(at Place, s Seen) error {
	return f.remove(at.Dir, at.Name, s.Kind == model.Dir, func(t *index.Tx) error {
		if !f.sees(t, at, s) {
			return ErrStale
		}
		return t.Err()
	})
}

// RenameSeen moves an inode to a name that shows what was seen there, replacing it, or
// exchanges the two. It is ErrStale if one of them shows something else by now.
func (f *Folder) RenameSeen(from Place, ino Ino, to Place, s Seen, exchange bool) error {
	flags := uint32(0)
	if exchange {
		flags = RenameExchange
	} else if s.Ino == 0 {
		flags = RenameNoReplace
	}
	return f.rename(0, from.Dir, from.Name, to.Dir, to.Name, flags, func(t *index.Tx) error {
		if e, ok := t.Entry(from.Dir, from.Name); !ok || e.Ino != ino || !f.sees(t, to, s) {
			return ErrStale
		}
		return t.Err()
	})
}

// Expects tells whether others have put something at a name whose bytes are not here.
func (f *Folder) Expects(at Place) bool {
	f.apply.Lock()
	defer f.apply.Unlock()
	return f.expects(at.Dir, at.Name)
}

// expects is Expects for the holder of apply.
func (f *Folder) expects(dir Ino, name string) bool {
	y, _, _ := f.ix.Dirty(Place{Dir: dir, Name: f.ix.Fold(name)})
	return !y.Ours && !y.View.IsZero()
}

// Complete tells whether a member has told all that there was when this one joined.
func (f *Folder) Complete() bool {
	f.apply.Lock()
	defer f.apply.Unlock()
	return !f.ix.Incomplete()
}

// Ours tells whether this device made a version.
func (f *Folder) Ours(v Version) bool {
	return v.Orig == (model.Dot{}) || v.Orig.Replica == f.ix.Replica()
}

// ConflictName is what is called a file that cannot have its name, the n-th of them.
func (f *Folder) ConflictName(name string, n int) string {
	return model.ConflictName(name, f.o.Label, f.o.Now().Unix(), n)
}

// Found is a file that was made behind the folder's back, with bytes that are to be cut.
type Found struct {
	Name  string
	New   New
	Dirty DirtyState
	Wait  bool // it is ErrExpected where others have put something whose bytes are not here
}

// ErrExpected is why a file is not made where that of others is to come.
var ErrExpected = errors.New("what others have put there is not here yet")

// Find makes files in a directory as they were found, and returns what each is, or why it could
// not be made. Made is told before anybody can cut them, with the folder locked.
func (f *Folder) Find(dir Ino, files []Found, made func(as []Attr, errs []error)) (as []Attr, errs []error) {
	as, errs = make([]Attr, len(files)), make([]error, len(files))
	err := f.roomForRows()
	if err == nil {
		err = f.change(func(t *index.Tx) error {
			if _, err := checkDir(t, dir); err != nil {
				return err
			}
			now := f.o.Now().UnixNano()
			for i, x := range files {
				if errs[i] = f.checkName(dir, x.Name); errs[i] != nil {
					continue
				}
				if _, ok := t.Entry(dir, x.Name); ok {
					errs[i] = ErrExist
					continue
				}
				if x.Wait && f.expects(dir, x.Name) {
					errs[i] = ErrExpected
					continue
				}
				f.mark(t, dir, x.Name)
				r := newRow(x.New, now)
				r.Size, r.Alloc, r.Mtime = x.Dirty.Size, x.Dirty.Alloc, x.Dirty.Mtime
				ino := t.Allocate(r)
				t.SetEntry(dir, x.Name, ino)
				t.SetBytes(ino, &index.Bytes{Ours: true, Written: true, Gen: x.Dirty.Gen, From: x.Dirty.From})
				as[i] = attrOf(ino, r)
			}
			stampDir(t, dir, now)
			made(as, errs)
			return t.Err()
		})
	}
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return as, errs
	}
	f.noted(dir, "", false)
	return as, errs
}

// Showing is what an inode shows; zero: there is none.
type Showing struct {
	Attr Attr
	Orig model.Dot // the version, zero: none was cut yet
}

// Showing tells what inodes show now.
func (f *Folder) Showing(inos []Ino) ([]Showing, error) {
	out := make([]Showing, len(inos))
	f.apply.Lock()
	defer f.apply.Unlock()
	t := f.ix.Begin()
	defer t.Abort()
	t.Near(nil, inos)
	for i, ino := range inos {
		if r := t.Inode(ino); r != nil {
			out[i] = Showing{attrOf(ino, r), t.ShownOrig(ino)}
		}
	}
	if err := t.Err(); err != nil {
		return nil, fmt.Errorf("read inodes: %w", err)
	}
	return out, nil
}
