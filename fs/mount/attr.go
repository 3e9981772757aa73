package mount

import (
	"context"
	"errors"
	"math"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

const (
	modeSuid  = 0o4000
	modeSgid  = 0o2000
	modeGroup = 0o010 // group may execute
	blockSize = 4096

	capability = "security.capability" // what a program may do that its user may not
)

// types are the file type bits of each kind.
var types = map[model.Kind]uint32{
	model.File: syscall.S_IFREG, model.Symlink: syscall.S_IFLNK, model.Dir: syscall.S_IFDIR, model.Fifo: syscall.S_IFIFO,
	model.Socket: syscall.S_IFSOCK, model.Char: syscall.S_IFCHR, model.Block: syscall.S_IFBLK,
}

// ctxOf is the context of a request. A signal to the caller, of whatever kind, ends its wait for peers and nothing else,
// as on any disk.
func (m *Mount) ctxOf(cancel <-chan struct{}, h *fuse.InHeader) context.Context {
	return syncer.Interruptible(m.life, &fuse.Context{Caller: h.Caller, Cancel: cancel})
}

// attr returns what stat shows of an inode, and for how long the kernel may believe it.
func (m *Mount) attr(ctx context.Context, ino syncer.Ino) (syncer.Attr, time.Duration, error) {
	o := m.overlay(ctx, ino) // before the row: see the package comment
	a, err := m.folder.Attr(ino)
	if err != nil {
		return a, 0, err
	}
	o.over(&a)
	return a, o.holds(), nil
}

// overlay is what is known better than the row.
type overlay struct {
	dirty bool
	info  staging.Info
	alloc int64
	vague bool // alloc is not known
	atime int64
}

// holds is for how long the kernel may believe it: not for long if it must be asked for again, nor for so short that
// each open asks the peers.
func (o overlay) holds() time.Duration {
	if o.vague {
		return 10 * time.Second
	}
	return cacheTime
}

func (m *Mount) overlay(ctx context.Context, ino syncer.Ino) (o overlay) {
	o.atime = m.atimes.get(ino)
	l := m.table.peek(ino)
	if l == nil {
		return o
	}
	f := l.file.Load()
	if f == nil {
		return o
	}
	if o.info = f.Info(); !o.info.Dirty {
		return o
	}
	o.dirty = true
	var err error
	if o.alloc, err = f.Alloc(ctx); err != nil {
		o.alloc, o.vague = o.info.Size, true // the holes of the base are out of reach: say that there are none
	}
	return o
}

func (o overlay) over(a *syncer.Attr) {
	if o.dirty {
		a.Size, a.Alloc, a.Mtime, a.Ctime = o.info.Size, o.alloc, o.info.Mtime, max(a.Ctime, o.info.Ctime)
	}
	if o.atime != 0 { // 0 may be later than what was asked for
		a.Atime = max(a.Atime, o.atime)
	}
}

// fill writes attributes the way the kernel wants them.
func (m *Mount) fill(a *syncer.Attr, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino: uint64(a.Ino), Size: uint64(a.Size), Mode: types[a.Kind] | a.Mode&0o7777, Nlink: a.Nlink, Rdev: a.Rdev,
		Blocks: uint64((a.Alloc+blockSize-1)/blockSize) * (blockSize / 512), Blksize: blockSize,
		Owner: fuse.Owner{Uid: a.UID, Gid: a.GID},
	}
	if m.opts.UID != nil {
		out.Uid = *m.opts.UID
	}
	if m.opts.GID != nil {
		out.Gid = *m.opts.GID
	}
	out.Atime, out.Atimensec = split(a.Atime)
	out.Mtime, out.Mtimensec = split(a.Mtime)
	out.Ctime, out.Ctimensec = split(a.Ctime)
}

// split divides nanoseconds the way timespec does, also before 1970.
func split(ns int64) (sec uint64, nsec uint32) {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return uint64(s), uint32(n)
}

// GetAttr implements fuse.RawFileSystem.
func (m *Mount) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	ino := syncer.Ino(in.NodeId)
	a, holds, err := m.attr(m.ctxOf(cancel, &in.InHeader), ino)
	if err != nil {
		return m.status("getattr", ino, err)
	}
	m.fill(&a, &out.Attr)
	out.SetTimeout(holds)
	return fuse.OK
}

// Statx implements fuse.RawFileSystem: the kernel asks for the time of birth.
func (m *Mount) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	ino := syncer.Ino(in.NodeId)
	a, holds, err := m.attr(m.ctxOf(cancel, &in.InHeader), ino)
	if err != nil {
		return m.status("statx", ino, err)
	}
	var st fuse.Attr
	m.fill(&a, &st)
	out.Statx = fuse.Statx{
		Mask: unix.STATX_BASIC_STATS, Blksize: st.Blksize, Nlink: st.Nlink, Uid: st.Uid, Gid: st.Gid, Mode: uint16(st.Mode),
		Ino: st.Ino, Size: st.Size, Blocks: st.Blocks, RdevMajor: unix.Major(uint64(st.Rdev)), RdevMinor: unix.Minor(uint64(st.Rdev)),
		Atime: fuse.SxTime{Sec: st.Atime, Nsec: st.Atimensec}, Mtime: fuse.SxTime{Sec: st.Mtime, Nsec: st.Mtimensec},
		Ctime: fuse.SxTime{Sec: st.Ctime, Nsec: st.Ctimensec},
	}
	if a.Btime != 0 {
		out.Mask |= unix.STATX_BTIME
		out.Btime.Sec, out.Btime.Nsec = split(a.Btime)
	}
	out.AttrValid = uint64(holds / time.Second)
	return fuse.OK
}

// SetAttr implements fuse.RawFileSystem.
func (m *Mount) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	ino, ctx := syncer.Ino(in.NodeId), m.ctxOf(cancel, &in.InHeader)
	if a := m.replay.of(in.Pid); a != nil {
		return m.reset(ctx, a, ino, out)
	}
	a, err := m.folder.Attr(ino)
	if err == nil {
		err = m.setAttr(ctx, a, in)
	}
	if err == nil {
		a, _, err = m.attr(ctx, ino)
	}
	if err != nil {
		return m.status("setattr", ino, err)
	}
	// For no time: of this answer the kernel does not see whether a change has overtaken it.
	m.fill(&a, &out.Attr)
	return fuse.OK
}

func (m *Mount) setAttr(ctx context.Context, a syncer.Attr, in *fuse.SetAttrIn) error {
	if m.closing.Load() {
		return errClosing
	}
	set, err := m.wanted(a, in)
	if err != nil {
		return err
	}
	if size, ok := in.GetSize(); ok {
		if err := m.truncate(ctx, a.Ino, int64(min(size, 1<<62))); err != nil {
			return err
		}
	}
	if set.IsZero() {
		return nil
	}
	if a.Kind == model.File && (set.UID != nil || set.GID != nil) {
		if err := m.dropCaps(a.Ino); err != nil {
			return err
		}
	}
	if set.Atime != nil {
		m.atimes.drop(a.Ino) // before, so that it cannot come over what is set
	}
	return m.setRow(a.Ino, set)
}

// setRow changes the row and the times of staged bytes as one: a row that is
// saved meanwhile has either the old of both or the new.
func (m *Mount) setRow(ino syncer.Ino, set syncer.Set) error {
	l := m.table.peek(ino)
	if l == nil {
		_, err := m.folder.SetAttr(ino, set)
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	got, err := m.folder.SetAttr(ino, set)
	if err != nil {
		return err
	}
	l.noPriv.Store(false)
	l.read.Store(false)
	if f := l.file.Load(); f != nil {
		// The next version carries the time that was asked for.
		f.SetTimes(set.Mtime, &got.Ctime)
	}
	return nil
}

// wanted says what a SETATTR changes beside the size: what it asks for, and the bits that it costs.
func (m *Mount) wanted(a syncer.Attr, in *fuse.SetAttrIn) (set syncer.Set, err error) {
	uid, chUID := in.GetUID()
	gid, chGID := in.GetGID()
	if chUID && m.opts.UID != nil && uid != *m.opts.UID || chGID && m.opts.GID != nil && gid != *m.opts.GID {
		return set, syncer.ErrPerm // owners are what the mount says
	}
	if chUID && m.opts.UID == nil {
		set.UID = &uid
	}
	if chGID && m.opts.GID == nil {
		set.GID = &gid
	}
	if mode, ok := in.GetMode(); ok {
		set.Mode = &mode
	} else {
		// chown(-1, -1) comes with nothing at all, and costs the bits like any other chown. So does what the kernel
		// asks for before a write that costs them, so a stranger cannot be refused here.
		none := in.Valid&^(fuse.FATTR_FH|fuse.FATTR_LOCKOWNER) == 0
		mode := a.Mode
		if (chUID || chGID || none) && a.Kind != model.Dir || in.Valid&fuse.FATTR_KILL_SUIDGID != 0 {
			mode = dropPriv(a, in.Caller)
		}
		if mode != a.Mode || none { // which moves ctime, and no more, of what has no such bits
			set.Mode = &mode
		}
	}
	if t, ok := in.GetATime(); ok {
		ns := nanos(in.Atime, in.Atimensec)
		if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
			ns = t.UnixNano()
		}
		set.Atime = &ns
	}
	if t, ok := in.GetMTime(); ok {
		ns := nanos(in.Mtime, in.Mtimensec)
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			ns = t.UnixNano()
		}
		set.Mtime = &ns
	}
	return set, nil
}

// nanos joins a timespec, keeping what does not fit at the end of what does.
func nanos(sec uint64, nsec uint32) int64 {
	const most = int64(1<<63-1) / 1e9
	s := max(min(int64(sec), most-1), -most)
	return s*1e9 + int64(nsec)
}

// dropPriv is the mode without the bits that a change costs: suid and sgid. Where the group may not execute, sgid is
// kept for its members, and for root.
func dropPriv(a syncer.Attr, by fuse.Caller) uint32 {
	mode := a.Mode &^ modeSuid
	if mode&modeSgid != 0 && (mode&modeGroup != 0 || by.Uid != 0 && !inGroup(by, a.GID)) {
		mode &^= modeSgid
	}
	return mode
}

// killPriv clears suid and sgid for a write by somebody unprivileged, and says whether none is left.
func (m *Mount) killPriv(ino syncer.Ino, by fuse.Caller) (none bool, err error) {
	a, err := m.folder.Attr(ino)
	if err != nil {
		return false, err
	}
	mode := dropPriv(a, by)
	none = mode&(modeSuid|modeSgid) == 0
	if mode == a.Mode {
		return none, nil
	}
	if _, err := m.folder.SetAttr(ino, syncer.Set{Mode: &mode}); err != nil {
		return false, err
	}
	// The kernel drops sizes and times after a write, but believes to know the mode.
	m.note.inode(ino, true)
	return none, nil
}

// killCaps removes file capabilities, which any write costs.
func (m *Mount) killCaps(l *live) error {
	if l.noCaps.Load() {
		return nil
	}
	if err := m.dropCaps(l.ino); err != nil {
		return err
	}
	l.noCaps.Store(true)
	return nil
}

func (m *Mount) dropCaps(ino syncer.Ino) error {
	_, err := m.folder.Getxattr(ino, capability) // nearly always there is none: no need to lock the folder
	if err == nil {
		err = m.folder.Removexattr(ino, capability)
	}
	if errors.Is(err, syncer.ErrNoAttr) {
		return nil
	}
	return err
}

func (m *Mount) truncate(ctx context.Context, ino syncer.Ino, size int64) error {
	l, _ := m.table.open(ino, true)
	defer m.closeFile(ino, true)
	if err := m.killCaps(l); err != nil {
		return err
	}
	shrunk, covered := false, l.covers(size, math.MaxInt64)
	err := m.change(ctx, l, func(f *staging.File, gen uint64) error {
		shrunk = size < f.Info().Size
		return f.Truncate(ctx, gen, size, time.Now().UnixNano())
	})
	if err == nil && shrunk { // before the file can grow again: until then its size tells
		err = m.saveOver(ctx, l, covered)
	}
	return err
}
