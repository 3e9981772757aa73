package mount

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// Flags of renameat2.
const (
	renameNoReplace = 1
	renameExchange  = 2
)

// Rename implements fuse.RawFileSystem.
func (m *Mount) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	from, to := syncer.Ino(in.NodeId), syncer.Ino(in.Newdir)
	if in.Flags&^(renameNoReplace|renameExchange) != 0 || in.Flags == renameNoReplace|renameExchange {
		return fuse.EINVAL
	}
	if a := m.replay.of(in.Pid); a != nil {
		return m.redo(a, renames, syncer.Place{Dir: to, Name: newName})
	}
	err := m.mayChange(from, oldName)
	if err == nil {
		err = checkName(to, newName)
	}
	var old syncer.Attr
	if err == nil {
		old, _ = m.folder.Lookup(to, newName)
		err = m.folder.RenameBy(m.procs.of(in.Pid), from, oldName, to, newName, in.Flags)
	}
	if err == nil && old.Kind == model.Dir && m.lost(old.Ino) {
		m.table.bury(old.Ino) // as rmdir does
	}
	if err == nil && from != to {
		m.relisted(to, newName)
		if in.Flags == renameExchange {
			m.relisted(from, oldName)
		}
	}
	return m.status("rename", from, err)
}

// relisted remembers that what now stands under a name, if it is a directory, has another parent.
func (m *Mount) relisted(dir syncer.Ino, name string) {
	if a, err := m.folder.Lookup(dir, name); err == nil && a.Kind == model.Dir {
		m.table.setMoved(a.Ino)
	}
}

// Link implements fuse.RawFileSystem.
func (m *Mount) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	dir := syncer.Ino(in.NodeId)
	err := m.mayChange(dir, name)
	if err == nil {
		var a syncer.Attr
		if a, err = m.folder.Link(syncer.Ino(in.Oldnodeid), dir, name); err == nil {
			err = m.enter(m.ctxOf(cancel, &in.InHeader), a, out)
			out.SetAttrTimeout(0) // as of SETATTR
		}
	}
	return m.status("link", dir, err)
}

// Unlink implements fuse.RawFileSystem.
func (m *Mount) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	dir := syncer.Ino(h.NodeId)
	if a := m.replay.of(h.Pid); a != nil {
		return m.redo(a, unlinks, syncer.Place{Dir: dir, Name: name})
	}
	err := m.mayChange(dir, name)
	if err == nil {
		err = m.folder.Unlink(dir, name)
	}
	return m.status("unlink", dir, err)
}

// Rmdir implements fuse.RawFileSystem.
func (m *Mount) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	dir := syncer.Ino(h.NodeId)
	if a := m.replay.of(h.Pid); a != nil {
		st := m.redo(a, unlinks, syncer.Place{Dir: dir, Name: name})
		if st == fuse.OK && m.lost(a.old) {
			m.table.bury(a.old)
		}
		return st
	}
	err := m.mayChange(dir, name)
	if err == nil {
		a, _ := m.folder.Lookup(dir, name)
		if err = m.folder.Rmdir(dir, name); err == nil {
			m.table.bury(a.Ino)
		}
	}
	return m.status("rmdir", dir, err)
}
