package mount

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// newborn settles owner, group, mode and ACLs of a new inode: group and sgid from a sgid directory; the umask,
// or instead of it the default ACL of the directory.
func (m *Mount) newborn(dir syncer.Ino, h *fuse.InHeader, kind model.Kind, mode, umask uint32) (b syncer.New, err error) {
	b = syncer.New{Kind: kind, Mode: mode & 0o7777, UID: h.Uid, GID: h.Gid, By: m.procs.of(h.Pid)}
	parent, err := m.folder.Attr(dir)
	if err != nil {
		return b, err
	}
	if parent.Mode&modeSgid != 0 {
		b.GID = parent.GID
		if kind == model.Dir {
			b.Mode |= modeSgid
		}
	}
	if kind == model.Symlink {
		b.Mode = 0o777
		return b, nil
	}
	raw, err := m.folder.Getxattr(dir, aclDefault)
	if errors.Is(err, syncer.ErrNoAttr) {
		b.Mode &^= umask & 0o777
		return b, nil
	}
	if err != nil {
		return b, err
	}
	def, err := parseACL(raw)
	if err != nil {
		b.Mode &^= umask & 0o777
		return b, nil
	}
	child, bits, more := def.inherit(b.Mode)
	b.Mode, b.Xattrs = bits, map[string][]byte{}
	if more {
		b.Xattrs[aclAccess] = child.bytes()
	}
	if kind == model.Dir {
		b.Xattrs[aclDefault] = raw
	}
	return b, nil
}

// make makes an inode with a name and answers with it.
func (m *Mount) make(ctx context.Context, dir syncer.Ino, name string, b syncer.New, out *fuse.EntryOut) (syncer.Attr, error) {
	a, err := m.folder.Create(dir, name, b)
	if err == nil {
		err = m.enter(ctx, a, out)
	}
	return a, err
}

// Mknod implements fuse.RawFileSystem.
func (m *Mount) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	dir := syncer.Ino(in.NodeId)
	kind, ok := kindOf(in.Mode)
	if in.Mode&syscall.S_IFMT == 0 {
		kind, ok = model.File, true
	}
	if !ok || kind == model.Dir || kind == model.Symlink {
		return fuse.EINVAL
	}
	err := m.mayChange(dir, name)
	if err == nil {
		var b syncer.New
		if b, err = m.newborn(dir, &in.InHeader, kind, in.Mode, in.Umask); err == nil {
			b.Rdev = in.Rdev
			_, err = m.make(m.ctxOf(cancel, &in.InHeader), dir, name, b, out)
		}
	}
	return m.status("mknod", dir, err)
}

// Mkdir implements fuse.RawFileSystem.
func (m *Mount) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	dir := syncer.Ino(in.NodeId)
	if a := m.replay.of(in.Pid); a != nil {
		return m.remake(m.ctxOf(cancel, &in.InHeader), a, dir, name, out)
	}
	err := m.mayChange(dir, name)
	if err == nil {
		var b syncer.New
		if b, err = m.newborn(dir, &in.InHeader, model.Dir, in.Mode, in.Umask); err == nil {
			_, err = m.make(m.ctxOf(cancel, &in.InHeader), dir, name, b, out)
		}
	}
	return m.status("mkdir", dir, err)
}

// Symlink implements fuse.RawFileSystem.
func (m *Mount) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	dir := syncer.Ino(h.NodeId)
	if a := m.replay.of(h.Pid); a != nil {
		return m.remake(m.ctxOf(cancel, h), a, dir, name, out)
	}
	err := m.mayChange(dir, name)
	if err == nil {
		var b syncer.New
		if b, err = m.newborn(dir, h, model.Symlink, 0o777, 0); err == nil {
			b.Target = target
			_, err = m.make(m.ctxOf(cancel, h), dir, name, b, out)
		}
	}
	return m.status("symlink", dir, err)
}

// Create implements fuse.RawFileSystem.
func (m *Mount) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	dir, ctx := syncer.Ino(in.NodeId), m.ctxOf(cancel, &in.InHeader)
	if a := m.replay.of(in.Pid); a != nil {
		if st := m.remake(ctx, a, dir, name, &out.EntryOut); st != fuse.OK {
			return st
		}
		return m.reopen(a, a.ino, &out.OpenOut)
	}
	err := m.mayChange(dir, name)
	if err == nil {
		err = m.create(ctx, in, name, out)
	}
	if errors.Is(err, syncer.ErrExist) && in.Flags&syscall.O_EXCL == 0 {
		// It came from elsewhere after the kernel looked. Told so it looks again, and at who may open it.
		return fuse.Status(syscall.ESTALE)
	}
	return m.status("create", dir, err)
}

func (m *Mount) create(ctx context.Context, in *fuse.CreateIn, name string, out *fuse.CreateOut) error {
	b, err := m.newborn(syncer.Ino(in.NodeId), &in.InHeader, model.File, in.Mode, in.Umask)
	if err != nil {
		return err
	}
	a, err := m.make(ctx, syncer.Ino(in.NodeId), name, b, &out.EntryOut)
	if err != nil {
		return err
	}
	m.openNew(a, in.Flags, &out.OpenOut)
	return nil
}

// Tmpfile implements fuse.RawFileSystem: a file without a name, which LINK may give it.
func (m *Mount) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	dir := syncer.Ino(in.NodeId)
	if m.closing.Load() {
		return m.status("tmpfile", dir, errClosing)
	}
	b, err := m.newborn(dir, &in.InHeader, model.File, in.Mode, in.Umask)
	if err == nil && dir != syncer.RootIno && m.folder.Parent(dir) == 0 {
		err = syncer.ErrPerm // it is removed
	}
	if err != nil {
		return m.status("tmpfile", dir, err)
	}
	a, err := m.folder.Tmpfile(b)
	if err == nil {
		err = m.enter(m.ctxOf(cancel, &in.InHeader), a, &out.EntryOut)
	}
	if err != nil {
		return m.status("tmpfile", dir, err)
	}
	m.openNew(a, in.Flags, &out.OpenOut)
	return fuse.OK
}
