package mount

import (
	"context"
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

const (
	nameMax = 255
	// reserved is a name at the root that is the project's own.
	reserved = ".clachan"
)

// checkName says why a name cannot be made in a directory.
func checkName(dir syncer.Ino, name string) error {
	switch {
	case len(name) > nameMax:
		return syncer.ErrNameTooLong
	case dir == syncer.RootIno && name == reserved:
		return syncer.ErrPerm
	}
	return nil
}

// mayChange says why a name cannot be made now.
func (m *Mount) mayChange(dir syncer.Ino, name string) error {
	if m.closing.Load() {
		return errClosing
	}
	return checkName(dir, name)
}

// Lookup implements fuse.RawFileSystem.
func (m *Mount) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir := syncer.Ino(h.NodeId)
	if len(name) > nameMax {
		return enametoolong
	}
	ctx := m.ctxOf(cancel, h)
	if a := m.replay.of(h.Pid); a != nil {
		if st, ok := m.look(ctx, a, dir, name, out); ok {
			return st
		}
	}
	err := m.lookup(ctx, dir, name, out)
	if m.replay.haunted(dir, name) {
		out.SetEntryTimeout(0)
	} else if errors.Is(err, syncer.ErrNotExist) && m.entries > 0 {
		// The kernel remembers that there is nothing.
		*out = fuse.EntryOut{}
		out.SetEntryTimeout(m.entries)
		return fuse.OK
	}
	return m.status("lookup", dir, err)
}

func (m *Mount) lookup(ctx context.Context, dir syncer.Ino, name string, out *fuse.EntryOut) error {
	for {
		a, err := m.find(dir, name)
		if err != nil {
			return err
		}
		if err = m.enter(ctx, a, out); err == nil || !gone(err) {
			return err
		}
		// Removed before it was held: look again.
	}
}

// find is what stands under a name. "." and ".." the kernel asks for when it has forgotten what a file handle is about,
// as those of NFS are; "." is of any kind.
func (m *Mount) find(dir syncer.Ino, name string) (syncer.Attr, error) {
	switch name {
	case ".":
		return m.folder.Attr(dir)
	case "..":
		return m.folder.Attr(m.folder.Parent(dir))
	}
	return m.folder.Lookup(dir, name)
}

func gone(err error) bool {
	return errors.Is(err, syncer.ErrNotExist) || errors.Is(err, syncer.ErrStale)
}

// enter answers with an inode: the kernel has one more reference to it.
func (m *Mount) enter(ctx context.Context, a syncer.Attr, out *fuse.EntryOut) error {
	ino, entered := a.Ino, false
	o := m.overlay(ctx, ino)
	m.table.lookup(ino, m.folder.Hold)
	defer func() {
		if !entered {
			m.Forget(uint64(ino), 1)
		}
	}()
	// Again, now that it is held: it may have been removed, or cut, since it was found.
	a, err := m.folder.Held(ino)
	if err != nil {
		return err
	}
	o.over(&a)
	m.fillEntry(&a, out)
	out.SetAttrTimeout(o.holds())
	entered = true
	return nil
}

func (m *Mount) fillEntry(a *syncer.Attr, out *fuse.EntryOut) {
	m.fill(a, &out.Attr)
	out.NodeId, out.Generation = uint64(a.Ino), 1
	if a.Kind == model.Dir {
		out.Generation = m.table.generation(a.Ino)
	}
	out.SetEntryTimeout(m.entries)
}

// Forget implements fuse.RawFileSystem. Many come in one request: a panic must not keep the others from being done.
func (m *Mount) Forget(nodeid, nlookup uint64) {
	defer func() {
		if v := recover(); v != nil {
			m.panicked(v)
		}
	}()
	ino := syncer.Ino(nodeid)
	held, l := m.table.forget(ino, nlookup)
	if !held {
		return
	}
	if l != nil {
		m.discard(ino, l)
	}
	m.folder.Release(ino)
}

// discard drops what is staged for an inode that has no name left and that nobody has open.
func (m *Mount) discard(ino syncer.Ino, l *live) {
	a, err := m.folder.Attr(ino)
	if err == nil && a.Nlink > 0 || err != nil && !gone(err) {
		return // it will be cut
	}
	if f := l.file.Load(); f != nil {
		m.doomed.add(f.Discard())
		m.table.settle(ino, l)
	}
}

// Readlink implements fuse.RawFileSystem.
func (m *Mount) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	target, err := m.folder.Readlink(syncer.Ino(h.NodeId))
	return []byte(target), m.status("readlink", syncer.Ino(h.NodeId), err)
}

// Access implements fuse.RawFileSystem. The kernel checks permissions itself.
func (m *Mount) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// StatFs implements fuse.RawFileSystem.
func (m *Mount) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	total, free, err := m.folder.Usage()
	if err != nil {
		return m.status("statfs", syncer.RootIno, err)
	}
	*out = fuse.StatfsOut{
		Blocks: uint64(max(total, 0)) / blockSize, Bfree: uint64(max(free, 0)) / blockSize, Bavail: uint64(max(free, 0)) / blockSize,
		Bsize: blockSize, Frsize: blockSize, NameLen: nameMax,
	}
	// Inodes cost about 200 bytes of the same disk.
	out.Files, out.Ffree = uint64(max(total, 0))/256+1, uint64(max(free, 0))/256
	return fuse.OK
}

// kindOf is the kind for the type bits of a mode.
func kindOf(mode uint32) (model.Kind, bool) {
	for k, bits := range types {
		if bits == mode&0o170000 {
			return k, true
		}
	}
	return 0, false
}
