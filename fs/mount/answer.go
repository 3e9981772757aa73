package mount

import (
	"context"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
)

// What the replaying thread does. Each is answered with what the Folder has already, and changes nothing.
type doing uint8

const (
	passes  doing = iota // looks up what is removed
	creates              // of any kind
	unlinks              // or removes a directory
	renames
	sets // attributes, and opens and closes
)

// An act is a system call of the replaying thread, for handlers to know.
type act struct {
	do     doing
	at     syncer.Place
	from   syncer.Place // of renames
	ino    syncer.Ino   // what the Folder has there; of sets: what is set
	old    syncer.Ino   // what the kernel is to see there
	oldDir bool
	done   atomic.Bool // a handler has answered
}

const (
	// replayed is the handle of files that the replaying thread opens: its number does not come with RELEASE.
	replayed = 1
	// phantom marks node ids that stand for nothing: of what is removed that the kernel does not know.
	phantom = 1 << 62
)

// of returns what the caller is doing if it is the replaying thread.
func (r *replayer) of(tid uint32) *act {
	if tid == 0 || tid != r.tid.Load() {
		return nil
	}
	return r.act.Load()
}

// look answers a LOOKUP of the replaying thread with what was there before. ok is false for what it looks up on its
// way, and for what has changed meanwhile.
func (m *Mount) look(ctx context.Context, a *act, dir syncer.Ino, name string, out *fuse.EntryOut) (st fuse.Status, ok bool) {
	at := syncer.Place{Dir: dir &^ phantom, Name: name} // what is in a phantom, somebody may still be watching
	switch {
	case a.do == renames && at == a.from && m.current(a.at, a.ino):
		attr, err := m.folder.Attr(a.ino)
		if err != nil || m.enter(ctx, attr, out) != nil {
			return fuse.ENOENT, true
		}
		out.SetEntryTimeout(0)
		return fuse.OK, true
	case at != a.at || !m.current(a.at, a.ino):
		return 0, false
	case a.do == passes, a.do == unlinks, a.do == sets, a.do == renames && a.old != 0 && !a.oldDir && m.table.known(a.old):
		m.ghost(ctx, a, out)
		return fuse.OK, true
	}
	return fuse.ENOENT, true
}

// ghost answers with what was removed: the inode that the kernel knows, or else one that is nothing but a name.
func (m *Mount) ghost(ctx context.Context, a *act, out *fuse.EntryOut) {
	defer out.SetEntryTimeout(0)
	if m.table.known(a.old) {
		attr, err := m.folder.Attr(a.old)
		placed := a.oldDir && attr.Nlink > 0 // elsewhere by now: it must not be dead to the kernel
		if err == nil && !placed && m.enter(ctx, attr, out) == nil {
			if !a.oldDir {
				out.Nlink++ // the kernel takes away the name that is gone already
			}
			out.SetAttrTimeout(0)
			return
		}
	}
	*out = fuse.EntryOut{NodeId: uint64(a.old) | phantom, Generation: 1}
	out.Attr = fuse.Attr{Ino: uint64(a.old), Mode: syscall.S_IFREG | 0o600, Nlink: 1}
	if a.oldDir {
		out.Mode, out.Nlink = syscall.S_IFDIR|0o700, 2
	}
	out.Uid, out.Gid = uint32(unix.Geteuid()), uint32(unix.Getegid())
	out.SetAttrTimeout(cacheTime)
}

// remake answers the replaying thread that it has made what is there. Attributes that come with a new entry or with
// SETATTR the kernel believes even if it was told meanwhile that they have changed: so they are of no duration.
func (m *Mount) remake(ctx context.Context, a *act, dir syncer.Ino, name string, out *fuse.EntryOut) fuse.Status {
	if st := m.redo(a, creates, syncer.Place{Dir: dir, Name: name}); st != fuse.OK {
		return st
	}
	attr, err := m.folder.Attr(a.ino)
	if err == nil {
		err = m.enter(ctx, attr, out)
	}
	out.SetAttrTimeout(0)
	a.done.Store(err == nil)
	return fuse.Status(code(err))
}

// redo answers the replaying thread that a name is as it should be.
func (m *Mount) redo(a *act, do doing, at syncer.Place) fuse.Status {
	at.Dir &^= phantom
	if a.do != do || a.at != at || !m.current(a.at, a.ino) {
		return fuse.Status(syscall.ECANCELED)
	}
	a.done.Store(true)
	return fuse.OK
}

// reset answers the replaying thread that attributes are set.
func (m *Mount) reset(ctx context.Context, a *act, ino syncer.Ino, out *fuse.AttrOut) fuse.Status {
	if a.do != sets && a.do != creates || ino != a.ino && ino != a.old {
		return fuse.Status(syscall.ECANCELED)
	}
	attr, _, err := m.attr(ctx, ino)
	if err != nil {
		return fuse.Status(code(err))
	}
	m.fill(&attr, &out.Attr)
	a.done.Store(true)
	return fuse.OK
}

// reopen answers the replaying thread that a file is open.
func (m *Mount) reopen(a *act, ino syncer.Ino, out *fuse.OpenOut) fuse.Status {
	if a.do != sets && a.do != creates || ino != a.ino {
		return fuse.Status(syscall.ECANCELED)
	}
	out.Fh, out.OpenFlags = replayed, openFlags
	return fuse.OK
}
