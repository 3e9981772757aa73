package mount

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
)

// opened returns what an open file holds.
func (m *Mount) opened(ino syncer.Ino) (*live, *staging.File, error) {
	l := m.table.peek(ino)
	if l == nil {
		return nil, nil, syscall.EBADF
	}
	f, err := m.load(l)
	return l, f, err
}

// Read implements fuse.RawFileSystem.
func (m *Mount) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	ino := syncer.Ino(in.NodeId)
	l, f, err := m.opened(ino)
	if err != nil {
		return nil, m.status("read", ino, err)
	}
	n, err := f.ReadAt(m.ctxOf(cancel, &in.InHeader), buf[:min(int(in.Size), len(buf))], int64(in.Offset))
	if err != nil && err != io.EOF {
		return nil, m.status("read", ino, err)
	}
	if !l.read.Load() && in.Flags&syscall.O_NOATIME == 0 {
		m.touch(l, f)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write implements fuse.RawFileSystem.
func (m *Mount) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	ino := syncer.Ino(in.NodeId)
	l := m.table.peek(ino)
	if l == nil {
		return 0, fuse.EBADF
	}
	err := m.writeCosts(l, in.Caller, in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0)
	if err != nil {
		return 0, m.status("write", ino, err)
	}
	change, paged := m.change, in.WriteFlags&fuse.WRITE_CACHE != 0
	if paged {
		change = m.store
		l.paged.Store(true)
	}
	// The file ends where it ends here: the kernel does not ask before it appends.
	appends := in.Flags&syscall.O_APPEND != 0 && !paged && l.behind.Load()
	n, off, ctx := 0, int64(in.Offset), m.ctxOf(cancel, &in.InHeader)
	err = change(ctx, l, func(f *staging.File, gen uint64) (err error) {
		if appends {
			off = f.Info().Size
		}
		n, err = f.Write(ctx, gen, data, off, time.Now().UnixNano())
		return err
	})
	if appends && err == nil {
		l.misled.Store(off != int64(in.Offset))
	}
	if off != int64(in.Offset) || err != nil && paged {
		m.note.inode(ino, false) // it has these bytes elsewhere, or has bytes that nobody else will see
	}
	if err != nil && n == 0 {
		return 0, m.status("write", ino, err)
	}
	return uint32(n), fuse.OK
}

// writeCosts takes away what any write does: file capabilities, and suid and sgid from the unprivileged.
func (m *Mount) writeCosts(l *live, by fuse.Caller, priv bool) error {
	if err := m.killCaps(l); err != nil {
		return err
	}
	if !priv || l.noPriv.Load() {
		return nil
	}
	none, err := m.killPriv(l.ino, by)
	if none {
		l.noPriv.Store(true)
	}
	return err
}

// Lseek implements fuse.RawFileSystem: the kernel asks only for data and holes.
func (m *Mount) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	const seekData, seekHole = 3, 4
	ino := syncer.Ino(in.NodeId)
	if in.Whence != seekData && in.Whence != seekHole {
		return fuse.EINVAL
	}
	_, f, err := m.opened(ino)
	if err != nil {
		return m.status("lseek", ino, err)
	}
	off, err := m.seek(m.ctxOf(cancel, &in.InHeader), ino, f, int64(in.Offset), in.Whence == seekHole)
	if err == io.EOF {
		return fuse.Status(syscall.ENXIO)
	}
	out.Offset = uint64(off)
	return m.status("lseek", ino, err)
}

// seek finds data or a hole. What was written to a mapping may be in the kernel alone, which does not write it back to
// ask: where there seems to be a hole, it has to let go of its pages first.
func (m *Mount) seek(ctx context.Context, ino syncer.Ino, f *staging.File, off int64, hole bool) (int64, error) {
	for done := off; ; {
		at, err := f.Seek(ctx, off, hole)
		if err != nil && (hole || err != io.EOF) || m.table.writers(ino) == 0 {
			return at, err
		}
		from, to, end := off, at, err // of the hole
		if hole {
			from = at
			to, end = f.Seek(ctx, at, false)
		}
		if end == io.EOF {
			to = f.Info().Size
		} else if end != nil {
			return 0, end
		}
		if from >= to || to <= done {
			return at, err
		}
		m.server.InodeNotify(uint64(ino), from, to-from)
		done = to
	}
}

// Modes of fallocate.
const (
	fallocKeep  = 0x01
	fallocPunch = 0x02
	fallocZero  = 0x10
)

// Fallocate implements fuse.RawFileSystem.
func (m *Mount) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	ino, ctx := syncer.Ino(in.NodeId), m.ctxOf(cancel, &in.InHeader)
	off, n, now := int64(in.Offset), int64(in.Length), time.Now().UnixNano()
	keep := in.Mode&fallocKeep != 0
	zero := false
	switch in.Mode {
	case 0, fallocKeep:
	case fallocPunch | fallocKeep, fallocZero, fallocZero | fallocKeep:
		zero = true
	default:
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	if off < 0 || n <= 0 {
		return fuse.EINVAL
	}
	l := m.table.peek(ino)
	if l == nil {
		return fuse.EBADF
	}
	err := m.writeCosts(l, in.Caller, in.Uid != 0)
	if err == nil && zero {
		err = m.zero(ctx, l, off, n, keep, now)
	} else if err == nil {
		err = m.change(ctx, l, func(f *staging.File, gen uint64) error { return f.Allocate(ctx, gen, off, n, keep, now) })
	}
	if err == nil && in.Fh == synced {
		err = m.durable(l)
	}
	return m.status("fallocate", ino, err)
}

// zero makes a hole. The row knows of it before staged bytes go: else what is below them comes back after a crash.
func (m *Mount) zero(ctx context.Context, l *live, off, n int64, keep bool, now int64) error {
	err := m.change(ctx, l, func(f *staging.File, gen uint64) error { return f.Hide(ctx, gen, off, n, now) })
	if err == nil {
		err = m.saveOver(ctx, l, l.covers(off, off+n))
	}
	if err == nil {
		err = m.change(ctx, l, func(f *staging.File, gen uint64) error { return f.Zero(ctx, gen, off, n, keep, now) })
	}
	return err
}

// copyMax is how many bytes one copy_file_range copies, and shareMax of how many it shares the blocks: the kernel comes
// again for the rest. For fewer than shareMin it is not worth it.
const copyMax, shareMax, shareMin = 16 << 20, 4<<30 - 4096, 256 << 10

// CopyFileRange implements fuse.RawFileSystem. A copy from the start on, as cp makes it, of what is staged nowhere, names
// the blocks of the other. Otherwise bytes are copied; holes stay holes, and equal blocks are shared once the copy is cut.
func (m *Mount) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	src, dst, ctx := syncer.Ino(in.NodeId), syncer.Ino(in.NodeIdOut), m.ctxOf(cancel, &in.InHeader)
	_, from, err := m.opened(src)
	to := m.table.peek(dst)
	if to == nil {
		return 0, fuse.EBADF
	}
	if err == nil {
		err = m.writeCosts(to, in.Caller, in.Uid != 0)
	}
	if err != nil {
		return 0, m.status("copy_file_range", src, err)
	}
	off, out, n := int64(in.OffIn), int64(in.OffOut), int64(min(in.Len, shareMax))
	done, err := int64(0), syncer.ErrNoCopy
	if off == out && n >= shareMin {
		done, err = m.share(ctx, src, from, to, off, n)
	}
	if errors.Is(err, syncer.ErrNoCopy) {
		done, err = m.copyRange(ctx, from, to, off, out, min(n, copyMax))
		if err == nil {
			err = m.save(ctx, to, false) // holes that were copied are known from the row alone
		}
	}
	if done > 0 && in.FhOut == synced {
		if err := m.durable(to); err != nil {
			return 0, m.status("copy_file_range", dst, err)
		}
	}
	if done > 0 {
		return uint32(done), fuse.OK
	}
	return 0, m.status("copy_file_range", dst, err)
}

// share lets a file that ends at off go on with n bytes of another.
func (m *Mount) share(ctx context.Context, src syncer.Ino, from *staging.File, to *live, off, n int64) (int64, error) {
	f, err := m.load(to)
	if err != nil {
		return 0, err
	}
	if from.Dirty() || f.Dirty() || f.Info().Size != off || src == to.ino || to.stale.Load() != nil {
		return 0, syncer.ErrNoCopy
	}
	c, err := m.folder.Copy(ctx, src, to.ino, off, n)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	to.mu.Lock() // nothing is staged meanwhile
	defer to.mu.Unlock()
	if m.closing.Load() {
		return 0, errClosing
	}
	if f.Dirty() {
		return 0, syncer.ErrNoCopy
	}
	v, err := c.Commit()
	if err != nil {
		return 0, err
	}
	s := m.source(v)
	m.rowTimes(to.ino, &s)
	to.base.Store(&v)
	f.Reset(s)
	to.shared.Store(true)
	to.wrote.Store(stamp())
	return v.Content.Size - off, nil
}

func (m *Mount) copyRange(ctx context.Context, from *staging.File, to *live, in, out, n int64) (done int64, err error) {
	if out >= staging.MaxSize {
		return 0, staging.ErrTooBig
	}
	n = min(n, from.Info().Size-in, staging.MaxSize-out)
	buf := make([]byte, max(0, min(n, maxWrite)))
	for done < n {
		data, err := from.Seek(ctx, in+done, false)
		if err == io.EOF {
			data = in + n
		} else if err != nil {
			return done, err
		}
		now := time.Now().UnixNano()
		if hole := min(data, in+n) - (in + done); hole > 0 {
			if err := m.zero(ctx, to, out+done, hole, false, now); err != nil {
				return done, err
			}
			done += hole
			continue
		}
		k, err := from.ReadAt(ctx, buf[:min(int64(len(buf)), n-done)], in+done)
		if err != nil && err != io.EOF {
			return done, err
		}
		if k == 0 {
			return done, nil // cut short meanwhile
		}
		w := 0
		err = m.change(ctx, to, func(f *staging.File, gen uint64) (err error) {
			w, err = f.Write(ctx, gen, buf[:k], out+done, now)
			return err
		})
		if err != nil {
			return done, err
		}
		done += int64(w)
	}
	return done, nil
}

// Ioctl implements fuse.RawFileSystem: nothing is passed on to the disk below.
func (m *Mount) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
