package mount

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/syncer"
)

// openFlags: pages stay valid, since every change of others is notified; and closing has nothing to flush.
const openFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH

// synced is the handle of files whose every change is to be durable at once. The kernel sees to that itself where bytes
// are written.
const synced = 2

func (m *Mount) handle(flags uint32) uint64 {
	if flags&syscall.O_DSYNC != 0 || m.opts.Sync { // O_SYNC has this bit too
		return synced
	}
	return 0
}

func writes(flags uint32) bool { return flags&syscall.O_ACCMODE != syscall.O_RDONLY }

// Open implements fuse.RawFileSystem.
func (m *Mount) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ino := syncer.Ino(in.NodeId)
	if a := m.replay.of(in.Pid); a != nil {
		return m.reopen(a, ino, out)
	}
	return m.status("open", ino, m.openFile(m.ctxOf(cancel, &in.InHeader), ino, in, out))
}

// openFile registers an open file. What it holds is read when it is needed: from now on it stays.
func (m *Mount) openFile(ctx context.Context, ino syncer.Ino, in *fuse.OpenIn, out *fuse.OpenOut) error {
	w := writes(in.Flags)
	if w && m.closing.Load() {
		return errClosing
	}
	if w && (m.folder.ReadOnly() || m.opts.ReadOnly) {
		return syncer.ErrReadOnly
	}
	l, fresh := m.table.open(ino, w)
	opened := false
	defer func() {
		if !opened {
			m.closeFile(ino, w)
		}
	}()
	m.catchUp(l)
	m.knows(l, fresh, m.procs.of(in.Pid), in.Flags)
	if in.Flags&syscall.O_TRUNC != 0 {
		if err := m.openTrunc(ctx, ino, in); err != nil {
			return err
		}
	}
	if w {
		l.noCaps.Store(false)
	}
	out.Fh, out.OpenFlags, opened = m.handle(in.Flags), openFlags, true
	return nil
}

// catchUp has the kernel drop what it knows of a file that others have changed, if it may not have been told yet: who
// opens the file counts as having seen what is there now. Of all handlers that of OPEN may do so: nothing is locked.
func (m *Mount) catchUp(l *live) {
	if m.table.behind(l.ino) {
		l.behind.Store(true)
		m.server.InodeNotify(uint64(l.ino), 0, 0)
		m.table.caughtUp(l.ino)
	}
}

// knows settles which version of a file the one who opens it goes on from: what is there, if it reads that or adds to
// it, else what it knew before. Who opens it beside others says nothing of what they know.
func (m *Mount) knows(l *live, fresh bool, p syncer.Proc, flags uint32) {
	trunc := flags&syscall.O_TRUNC != 0
	seen, stale := m.folder.Opened(l.ino, p, !trunc && flags&syscall.O_ACCMODE != syscall.O_WRONLY)
	switch {
	case stale && (trunc || flags&syscall.O_APPEND == 0):
		l.stale.Store(&seen)
	case fresh && writes(flags):
		l.stale.Store(nil)
	}
}

// openTrunc is the O_TRUNC of an open.
func (m *Mount) openTrunc(ctx context.Context, ino syncer.Ino, in *fuse.OpenIn) error {
	if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 {
		if _, err := m.killPriv(ino, in.Caller); err != nil {
			return err
		}
	}
	return m.truncate(ctx, ino, 0)
}

// openNew opens a file that was just made. It may have been cut in between, empty: what it holds is read when it is
// needed, like that of any other.
func (m *Mount) openNew(a syncer.Attr, flags uint32, out *fuse.OpenOut) {
	l, _ := m.table.open(a.Ino, writes(flags))
	l.noCaps.Store(true)
	out.Fh, out.OpenFlags = m.handle(flags), openFlags
}

// Release implements fuse.RawFileSystem.
func (m *Mount) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if in.Fh != replayed {
		m.closeFile(syncer.Ino(in.NodeId), writes(in.Flags))
	}
}

// closeFile undoes an open. When nobody may write to a dirty file any more, it can be cut; its row says by then what
// was written, also to who reads it after a crash.
func (m *Mount) closeFile(ino syncer.Ino, w bool) {
	defer func() {
		if m.table.release(ino, w) {
			m.folder.Closed(ino)
		}
	}()
	if l := m.table.peek(ino); w && l != nil {
		if err := m.save(context.Background(), l, false); err != nil {
			m.unsaved(l, err)
		}
	}
}

// Flush implements fuse.RawFileSystem.
func (m *Mount) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Fsync implements fuse.RawFileSystem. The kernel lets no write of the file begin or go on meanwhile, and has written
// back its mapped pages.
func (m *Mount) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	ino := syncer.Ino(in.NodeId)
	l := m.table.peek(ino)
	err := m.durable(l)
	if err == nil && l != nil && (l.begun.Load() != 0 || l.shared.Load()) && !m.opts.Sync { // else it says nothing of what the program means
		l.fsynced.Store(stamp())
		l.paged.Store(false)
		m.folder.Synced(ino)
	}
	return m.status("fsync", ino, err)
}

// durable makes what is staged of a file, if it is one, and all rows durable. It is not interrupted: after that a
// program may count on what it was told.
func (m *Mount) durable(l *live) error {
	if l != nil {
		if err := m.save(m.life, l, true); err != nil {
			return err
		}
	}
	return m.folder.Sync()
}
