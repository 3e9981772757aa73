package syncer

import (
	"errors"
	"strings"
	"time"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Rename flags, as renameat2 has them.
const (
	RenameNoReplace = 1
	RenameExchange  = 2
)

const dirRoom = 4096 // what a directory takes, as it does on a disk

func attrOf(ino Ino, r *index.Row) Attr {
	a := Attr{Ino: ino, Kind: r.Kind, Mode: r.Mode, UID: r.UID, GID: r.GID, Nlink: r.Nlink, Rdev: r.Rdev,
		Size: r.Size, Alloc: r.Alloc, Atime: r.Atime, Mtime: r.Mtime, Ctime: r.Ctime, Btime: r.Btime}
	if a.Kind == model.Local {
		a.Kind = model.File
	}
	return a
}

func notFound(err error) error {
	if errors.Is(err, index.ErrNotFound) {
		return ErrNotExist
	}
	return err
}

// Attr returns what stat shows of an inode, one without a name included while
// it is held.
func (f *Folder) Attr(ino Ino) (Attr, error) {
	r, err := f.ix.Known(ino)
	if err != nil {
		return Attr{}, notFound(err)
	}
	a := attrOf(ino, r)
	if r.Kind == model.Dir && r.Parent == 0 && ino != RootIno {
		a.Nlink = 0
	}
	return a, nil
}

// Lookup returns what stands under a name.
func (f *Folder) Lookup(dir Ino, name string) (Attr, error) {
	if len(name) > 255 {
		return Attr{}, ErrNameTooLong
	}
	for range 3 { // the entry and the inode are two reads
		e, err := f.ix.Lookup(dir, name)
		if err != nil {
			return Attr{}, notFound(err)
		}
		if a, err := f.Attr(e.Ino); !errors.Is(err, ErrNotExist) {
			return a, err
		}
	}
	return Attr{}, ErrNotExist
}

// Parent returns the directory that a directory is in, 0 if it was removed.
func (f *Folder) Parent(dir Ino) Ino {
	r, err := f.ix.Attr(dir)
	if err != nil {
		return 0
	}
	return r.Parent
}

// List calls yield with the entries of a directory that come after a cookie, in
// an order that stays while the directory changes.
func (f *Folder) List(dir Ino, after uint64, yield func(Entry) bool) error {
	var failed error
	err := f.ix.Page(dir, after, func(cookie uint64, e index.Entry) bool {
		a, err := f.Attr(e.Ino)
		if errors.Is(err, ErrNotExist) {
			return true // gone meanwhile
		}
		if err != nil { // what cannot be read is not gone
			failed = err
			return false
		}
		return yield(Entry{Cookie: cookie, Name: e.Name, Attr: a})
	})
	return errors.Join(err, failed)
}

// Readlink returns the target of a symlink.
func (f *Folder) Readlink(ino Ino) (string, error) {
	s, err := f.ix.Shows(ino)
	return s.Content, notFound(err)
}

// Content returns the committed bytes that a file shows. A file that is being
// opened counts as busy before it asks, so with the folder locked it gets what
// was published before, or goes on with what was there.
func (f *Folder) Content(ino Ino) (Version, error) {
	f.apply.Lock()
	defer f.apply.Unlock()
	s, err := f.ix.Shows(ino)
	if err != nil {
		return Version{}, notFound(err)
	}
	return versionOf(s)
}

func versionOf(s index.Shown) (Version, error) {
	v := Version{Orig: s.Orig, Mtime: s.Mtime}
	if s.Content == "" {
		return v, nil
	}
	c, err := content.Decode(s.Content)
	v.Content = c
	return v, err
}

// checkDir returns the row of a directory that may be changed.
func checkDir(t *index.Tx, dir Ino) (*index.Row, error) {
	r := t.Row(dir)
	switch {
	case r == nil:
		return nil, ErrNotExist
	case r.Kind != model.Dir:
		return nil, ErrNotDir
	case r.Parent == 0:
		return nil, ErrNotExist // removed, though still open
	}
	return r, nil
}

func (f *Folder) checkName(dir Ino, name string) error {
	switch {
	case len(name) > 255:
		return ErrNameTooLong
	case dir == RootIno && f.ix.Fold(name) == model.Reserved:
		return ErrPerm
	case !model.ValidName(name):
		return ErrInvalid
	}
	return nil
}

// change begins an operation that writes.
func (f *Folder) change(fn func(t *index.Tx) error) error {
	if f.o.ReadOnly {
		return ErrReadOnly
	}
	return f.update(fn)
}

// mark makes a name dirty: what its user saw there is what counts as seen.
func (f *Folder) mark(t *index.Tx, dir Ino, name string) {
	y, ok := t.Drift(dir, name)
	if ok && y.Ours {
		return
	}
	var seen model.ID
	var orig model.Dot
	if e, there := t.Entry(dir, name); there && e.Kind.Replicates() {
		seen, orig = t.Row(e.Ino).ID, t.SeenOrig(e.Ino)
		y.SeenDir = e.Kind == model.Dir
		if !ok {
			y.View, y.Name = seen, e.Name
		}
	}
	y.Seen, y.SeenOrig, y.Ours = seen, orig, true
	t.SetDrift(dir, name, &y)
}

// noted tells the cutter of a change in a directory.
func (f *Folder) noted(dir Ino, name string, lazy bool) {
	f.pace.note(dir, time.Now(), lazy || temporary(name))
}

// temporary tells whether a name looks like one that will be gone soon.
func temporary(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".tmp") ||
		strings.HasSuffix(name, ".swp") || strings.HasSuffix(name, ".part") || name == "4913"
}

func stampDir(t *index.Tx, dir Ino, now int64) {
	if r := t.Row(dir); r != nil {
		r.Mtime, r.Ctime = now, now
		t.Changed(dir)
	}
}

func newRow(n New, now int64) *index.Row {
	r := &index.Row{Kind: n.Kind, Mode: n.Mode & 0o7777, UID: n.UID, GID: n.GID, Rdev: n.Rdev, Target: n.Target,
		Size: int64(len(n.Target)), Atime: now, Mtime: now, Ctime: now, Btime: now}
	if n.Kind == model.Dir {
		r.Nlink = 2
	}
	return r
}

// Create makes a file, directory, symlink or special file.
func (f *Folder) Create(dir Ino, name string, n New) (a Attr, err error) {
	if err := f.checkName(dir, name); err != nil {
		return a, err
	}
	if n.Kind == model.Symlink && (n.Target == "" || len(n.Target) > 4095) {
		return a, ErrInvalid
	}
	if err := xattrsFit(nil, n.Xattrs); err != nil {
		return a, err
	}
	room := f.roomForRows // as on a disk whose inodes are there beforehand
	if n.Kind == model.Dir {
		room = func() error { return f.Grant(dirRoom) }
	}
	if err := room(); err != nil {
		return a, err
	}
	err = f.change(func(t *index.Tx) error {
		if _, err := checkDir(t, dir); err != nil {
			return err
		}
		if _, ok := t.Entry(dir, name); ok {
			return ErrExist
		}
		if n.Kind == model.File && sharedMemory(t, dir, name) {
			n.Kind = model.Local
		}
		if n.Kind.Replicates() {
			f.markFor(t, n.By, dir, name)
		}
		now := f.o.Now().UnixNano()
		r := newRow(n, now)
		ino := t.Allocate(r)
		setLocal(t, ino, n.Xattrs)
		t.SetEntry(dir, name, ino)
		stampDir(t, dir, now)
		a = attrOf(ino, r)
		return t.Err()
	})
	if err == nil && n.Kind == model.File {
		f.guard.made(n.By, a.Ino)
	}
	if err == nil && n.Kind.Replicates() {
		f.noted(dir, name, n.Kind == model.File)
	}
	return a, err
}

// Tmpfile makes a file without a name, held by the caller. Link may give it one.
func (f *Folder) Tmpfile(n New) (a Attr, err error) {
	if err := errors.Join(f.Room(), xattrsFit(nil, n.Xattrs)); err != nil {
		return a, err
	}
	err = f.change(func(t *index.Tx) error {
		r := newRow(n, f.o.Now().UnixNano())
		ino := t.Allocate(r)
		setLocal(t, ino, n.Xattrs)
		t.Orphan(ino)
		a = attrOf(ino, r)
		f.mu.Lock()
		f.orphan(ino, nameAt{})
		f.mu.Unlock()
		return t.Err()
	})
	if err == nil {
		f.guard.made(n.By, a.Ino)
	}
	return a, err
}

// Link gives a file a further name.
func (f *Folder) Link(ino, dir Ino, name string) (a Attr, err error) {
	if err := f.checkName(dir, name); err != nil {
		return a, err
	}
	err = f.change(func(t *index.Tx) error {
		if _, err := checkDir(t, dir); err != nil {
			return err
		}
		r := t.Inode(ino)
		switch _, exists := t.Entry(dir, name); {
		case r == nil:
			return ErrNotExist
		case r.Kind == model.Dir:
			return ErrPerm
		case exists:
			return ErrExist
		case r.Nlink >= model.MaxNames:
			return ErrLinks
		}
		if r.Kind.Replicates() {
			f.mark(t, dir, name)
		}
		now := f.o.Now().UnixNano()
		r.Ctime = now
		if temporary(name) { // the names of one that has many take long to find
			if at := t.ShownNames(ino); len(at) > 0 {
				f.putAside(at[0], nameAt{Dir: dir, Name: name})
			}
		}
		t.SetEntry(dir, name, ino)
		stampDir(t, dir, now)
		f.mu.Lock()
		f.named(ino)
		f.mu.Unlock()
		a = attrOf(ino, r)
		return t.Err()
	})
	if err == nil {
		f.noted(dir, name, false)
	}
	return a, err
}

// Unlink removes a name of anything but a directory.
func (f *Folder) Unlink(dir Ino, name string) error {
	return f.remove(dir, name, false, nil)
}

// Rmdir removes an empty directory.
func (f *Folder) Rmdir(dir Ino, name string) error {
	return f.remove(dir, name, true, nil)
}

// remove removes a name, if what its user knows of it is still so.
func (f *Folder) remove(dir Ino, name string, wantDir bool, still func(t *index.Tx) error) error {
	if err := f.checkName(dir, name); err != nil {
		return err
	}
	err := f.change(func(t *index.Tx) error {
		if _, err := checkDir(t, dir); err != nil {
			return err
		}
		if still != nil {
			if err := still(t); err != nil {
				return err
			}
		}
		e, ok := t.Entry(dir, name)
		switch {
		case !ok:
			return ErrNotExist
		case wantDir && e.Kind != model.Dir:
			return ErrNotDir
		case !wantDir && e.Kind == model.Dir:
			return ErrIsDir
		case wantDir && !t.Empty(e.Ino):
			return ErrNotEmpty
		}
		f.detach(t, dir, name, f.o.Now().UnixNano())
		return t.Err()
	})
	if err == nil {
		f.noted(dir, name, false)
	}
	return err
}

// detach takes a name away by its user's will.
func (f *Folder) detach(t *index.Tx, dir Ino, name string, now int64) {
	if e, ok := t.Entry(dir, name); ok && e.Kind.Replicates() {
		f.noteLeft(nameAt{Dir: dir, Name: name}, t.Row(e.Ino).ID) // before it has left this one too
		f.mark(t, dir, name)
	}
	ino, ok := t.RemoveEntry(dir, name)
	if !ok {
		return
	}
	f.removedHere(dir, name, ino)
	stampDir(t, dir, now)
	r := t.Row(ino)
	r.Ctime = now
	t.Changed(ino)
}

// Rename moves a name, over what is there if that may be replaced.
func (f *Folder) Rename(odir Ino, oname string, ndir Ino, nname string, flags uint32) error {
	return f.RenameBy(0, odir, oname, ndir, nname, flags)
}

// RenameBy is Rename by a process that is known.
func (f *Folder) RenameBy(p Proc, odir Ino, oname string, ndir Ino, nname string, flags uint32) error {
	return f.rename(p, odir, oname, ndir, nname, flags, nil)
}

// rename is RenameBy, if what its user knows of the names is still so.
func (f *Folder) rename(p Proc, odir Ino, oname string, ndir Ino, nname string, flags uint32, still func(t *index.Tx) error) error {
	if err := errors.Join(f.checkName(odir, oname), f.checkName(ndir, nname)); err != nil {
		return firstOf(err, ErrPerm, ErrNameTooLong, ErrInvalid)
	}
	if flags&^(RenameNoReplace|RenameExchange) != 0 || flags == RenameNoReplace|RenameExchange {
		return ErrInvalid
	}
	err := f.change(func(t *index.Tx) error {
		if still != nil {
			if err := still(t); err != nil {
				return err
			}
		}
		src, dst, err := f.checkRename(t, odir, oname, ndir, nname, flags)
		if err != nil {
			return err
		}
		now := f.o.Now().UnixNano()
		if dst.Ino == src.Ino {
			if odir == ndir && src.Name == dst.Name && nname != src.Name && flags != RenameExchange {
				f.respell(t, odir, src, nname, now)
			}
			return t.Err()
		}
		oname = src.Name
		if dst.Ino != 0 {
			nname = dst.Name
		}
		if src.Kind == model.Local && flags != RenameExchange && !sharedMemory(t, ndir, nname) {
			src.Kind = model.File // no database's any more
			t.Row(src.Ino).Kind = src.Kind
		}
		if src.Kind.Replicates() || dst.Kind.Replicates() {
			f.markFor(t, p, odir, oname)
			f.markFor(t, p, ndir, nname)
			f.puts(t, p, src.Ino)
			f.puts(t, p, dst.Ino)
		}
		if flags == RenameExchange {
			t.RemoveEntry(odir, oname)
			t.RemoveEntry(ndir, nname)
			t.SetEntry(odir, oname, dst.Ino)
			t.Row(dst.Ino).Ctime = now
		} else {
			if dst.Ino != 0 {
				f.replaces(t, p, dst.Ino, src.Ino)
				f.detach(t, ndir, nname, now)
			}
			t.RemoveEntry(odir, oname)
		}
		t.SetEntry(ndir, nname, src.Ino)
		t.Row(src.Ino).Ctime = now
		if src.Kind != model.Dir && flags != RenameExchange {
			f.putAside(nameAt{Dir: odir, Name: oname}, nameAt{Dir: ndir, Name: nname})
		}
		stampDir(t, odir, now)
		stampDir(t, ndir, now)
		return t.Err()
	})
	if err == nil {
		f.noted(odir, oname, temporary(nname))
		f.noted(ndir, nname, false)
	}
	return err
}

func firstOf(err error, of ...error) error {
	for _, e := range of {
		if errors.Is(err, e) {
			return e
		}
	}
	return err
}

func (f *Folder) checkRename(t *index.Tx, odir Ino, oname string, ndir Ino, nname string, flags uint32) (src, dst index.Entry, err error) {
	if _, err = checkDir(t, odir); err != nil {
		return
	}
	if _, err = checkDir(t, ndir); err != nil {
		return
	}
	src, ok := t.Entry(odir, oname)
	if !ok {
		return src, dst, ErrNotExist
	}
	dst, there := t.Entry(ndir, nname)
	switch {
	case flags == RenameNoReplace && there && (odir != ndir || src.Name != dst.Name || nname == dst.Name):
		return src, dst, ErrExist
	case flags == RenameExchange && !there:
		return src, dst, ErrNotExist
	case src.Kind == model.Dir && under(t, ndir, src.Ino):
		return src, dst, ErrInvalid
	case flags == RenameExchange && dst.Kind == model.Dir && under(t, odir, dst.Ino):
		return src, dst, ErrInvalid
	case !there || flags == RenameExchange || src.Ino == dst.Ino:
		return src, dst, nil
	case src.Kind == model.Dir && dst.Kind != model.Dir:
		return src, dst, ErrNotDir
	case src.Kind != model.Dir && dst.Kind == model.Dir:
		return src, dst, ErrIsDir
	case dst.Kind == model.Dir && !t.Empty(dst.Ino):
		return src, dst, ErrNotEmpty
	}
	return src, dst, nil
}

// under tells whether dir is top or below it.
func under(t *index.Tx, dir, top Ino) bool {
	for dir != RootIno && dir != 0 {
		if dir == top {
			return true
		}
		r := t.Row(dir)
		if r == nil {
			return false
		}
		dir = r.Parent
	}
	return dir == top
}

// SetAttr changes mode, owner and times.
func (f *Folder) SetAttr(ino Ino, s Set) (a Attr, err error) {
	var dir Ino
	err = f.change(func(t *index.Tx) error {
		r := t.Inode(ino)
		if r == nil {
			return ErrNotExist
		}
		if len(s.Xattrs) > 0 {
			if err := xattrsFit(t.Xattrs(ino), s.Xattrs); err != nil {
				return err
			}
		}
		w, drift := t.Bytes(ino)
		if !w.Ours && drift {
			w = index.Bytes{} // what is wanted is found again at the cut
		}
		was := w
		if s.Mode != nil {
			if (*s.Mode^r.Mode)&0o777 != 0 {
				w.Set(model.AttrMode)
			}
			r.Mode = *s.Mode & 0o7777
		}
		if s.UID != nil {
			r.UID = *s.UID
		}
		if s.GID != nil {
			r.GID = *s.GID
		}
		if s.Atime != nil {
			r.Atime = *s.Atime
		}
		if s.Mtime != nil {
			w.Touched = true
			r.Mtime = *s.Mtime
		}
		setLocal(t, ino, s.Xattrs)
		r.Ctime = f.o.Now().UnixNano()
		t.Changed(ino)
		if (len(w.Attrs) != len(was.Attrs) || w.Touched != was.Touched || s.Mtime != nil) && r.Kind.Replicates() {
			f.own(t, ino, w)
			dir = groupOf(ino, r)
		}
		a = attrOf(ino, r)
		return t.Err()
	})
	if err == nil && dir != 0 {
		f.noted(dir, "", false)
	}
	return a, err
}

// own writes a w row of ours.
func (f *Folder) own(t *index.Tx, ino Ino, w index.Bytes) {
	if !w.Ours {
		w.Ours, w.Base = true, t.ShownOrig(ino)
	}
	t.SetBytes(ino, &w)
}

// groupOf is the directory whose rest an inode's changes wait for.
func groupOf(ino Ino, r *index.Row) Ino {
	if r.Parent != 0 {
		return r.Parent
	}
	return ino
}
