package plain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

const (
	batchFiles = 256      // written before they are put in place
	batchBytes = 64 << 20 // of them
	batchFew   = 4        // so few are synced one by one
	spare      = 32 << 20 // bytes of the disk that are left
	chunk      = 1 << 20  // read at once
	holeChunk  = 64 << 10 // zeros of this size are left out where the file has holes
)

// makeAt writes what the folder has at a name.
func (p *pass) makeAt(at syncer.Place, over syncer.Seen, seen bool, t syncer.Attr) error {
	switch t.Kind {
	case model.Dir:
		return p.makeDir(at, t)
	case model.Symlink, model.File:
	default:
		return nil // of this machine only
	}
	d := p.d
	if free, err := p.mayReplace(at, over, seen, t); err != nil || !free {
		return err
	}
	s := syncer.Seen{Ino: t.Ino, Kind: t.Kind, TreeMode: t.Mode, TreeMtime: t.Mtime}
	name := d.partName()
	parts, err := p.r.parts()
	if err != nil {
		return p.ungiven(at, err)
	}
	defer unix.Close(parts)
	var v syncer.Version
	if t.Kind == model.Symlink {
		target, err := d.folder.Readlink(t.Ino)
		if err == nil {
			err = unix.Symlinkat(target, parts, name)
		}
		if err != nil {
			return p.ungiven(at, err)
		}
	} else {
		if v, err = d.folder.Content(t.Ino); err != nil {
			return p.ungiven(at, err)
		}
		s.Orig = v.Orig
		if s.Attrs, err = p.writeFile(parts, name, t, v); err != nil {
			return p.ungiven(at, errors.Join(err, ignoreMissing(unix.Unlinkat(parts, name, 0))))
		}
	}
	p.d.wrote.Add(1)
	m := made{at: at, name: name, s: s, v: v}
	if seen {
		m.over = &over
	}
	p.batch.files = append(p.batch.files, m)
	p.made[at] = true
	p.batch.bytes += t.Size
	if len(p.batch.files) >= batchFiles || p.batch.bytes >= batchBytes {
		return p.flush()
	}
	return nil
}

// mayReplace tells whether it is worth writing a file now: its place is as it was seen, nobody
// has it open for writing, and there is room. Else it is tried again.
func (p *pass) mayReplace(at syncer.Place, over syncer.Seen, seen bool, t syncer.Attr) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(p.r.fd, &fs); err == nil && int64(fs.Bavail)*fs.Bsize < t.Alloc+spare {
		p.d.trouble(at, p.name(at), cannot("write", unix.ENOSPC))
		p.again[at] = time.Now().Add(roomAgain)
		return false, nil
	}
	if !seen || over.Kind != model.File {
		return true, nil
	}
	fd, err := p.open(at.Dir)
	if err != nil {
		return false, p.ungiven(at, err)
	}
	there, ok, err := p.asSeen(fd, at, over)
	return ok || err == nil && !there, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// makeDir makes a directory, and has all that is in it written.
func (p *pass) makeDir(at syncer.Place, t syncer.Attr) error {
	fd, err := p.open(at.Dir)
	if err != nil {
		return p.ungiven(at, err)
	}
	s := syncer.Seen{Ino: t.Ino, TreeMode: t.Mode, TreeMtime: t.Mtime}
	switch err := unix.Mkdirat(fd, at.Name, t.Mode&0o777|0o700); err {
	case nil:
		if err := p.dress(fd, at.Name, t); err != nil {
			return p.ungiven(at, err)
		}
	case unix.EEXIST: // of the same name, and perhaps one of its user
		st, err := statAt(fd, at.Name)
		if err != nil || st.kind != model.Dir {
			return p.changedHere(at)
		}
		s.TreeMode = st.mode // that of the folder is given when it is looked at again
		p.again[at] = time.Now().Add(soon)
	default:
		return p.ungiven(at, err)
	}
	st, err := statAt(fd, at.Name)
	if err != nil {
		return p.ungiven(at, err)
	}
	st.see(&s)
	p.row(at, &s)
	p.fresh[t.Ino] = at
	p.disk.of(t.Ino).all = true // it may have been there
	p.lookTwice(t.Ino)
	p.tree.of(t.Ino).all = true
	return nil
}

// dress gives a directory the mode and owner it is to have.
func (p *pass) dress(fd int, name string, t syncer.Attr) error {
	at, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return errors.Join(p.chown(at), unix.Fchmod(at, dirMode(t)))
}

// dirMode is the mode of a directory here: one that its members may not write to has to be
// filled all the same.
func dirMode(t syncer.Attr) uint32 {
	if os.Geteuid() == 0 {
		return t.Mode & 0o777
	}
	return t.Mode&0o777 | 0o700
}

// chown gives what root's daemon makes to who owns the directory.
func (p *pass) chown(fd int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return unix.Fchown(fd, int(p.r.uid), int(p.r.gid))
}

// writeFile makes a file with the bytes and attributes of the folder's.
func (p *pass) writeFile(parts int, name string, t syncer.Attr, v syncer.Version) (attrs uint64, err error) {
	fd, err := unix.Openat(parts, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), name)
	err = p.copyOut(f, v, t.Alloc < t.Size)
	if err == nil {
		err = errors.Join(p.chown(fd), p.giveXattrs(fd, t.Ino), unix.Fchmod(fd, t.Mode&0o777), setTime(fd, t.Mtime))
	}
	if err == nil && len(p.batch.files) < batchFew {
		err = f.Sync()
	}
	if is, xerr := userXattrs(fd); xerr == nil {
		attrs = sumXattrs(is)
	}
	return attrs, errors.Join(err, f.Close())
}

func setTime(fd int, mtime int64) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd),
		[]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}, 0)
}

// copyOut writes the bytes of a version, of a sparse file without its zeros.
func (p *pass) copyOut(f *os.File, v syncer.Version, sparse bool) error {
	r := content.NewReader(p.d.folder.Blocks(), v.Content)
	buf := p.buffer()
	for off := int64(0); off < v.Content.Size; {
		n, err := r.ReadAt(p.ctx, buf[:min(int64(len(buf)), v.Content.Size-off)], off)
		if err != nil && !(errors.Is(err, io.EOF) && off+int64(n) == v.Content.Size) {
			return err
		}
		for b := buf[:n]; len(b) > 0; {
			part := b
			if sparse {
				part = b[:min(len(b), holeChunk)]
			}
			b = b[len(part):]
			if !sparse || len(bytes.TrimLeft(part, "\x00")) > 0 {
				if _, err := f.WriteAt(part, off); err != nil {
					return err
				}
			}
			off += int64(len(part))
		}
	}
	if sparse {
		return f.Truncate(v.Content.Size)
	}
	return nil
}

func (p *pass) buffer() []byte {
	if p.buf == nil {
		p.buf = make([]byte, chunk)
	}
	return p.buf
}

// giveXattrs makes the extended attributes of an open file those of the folder's. A disk that
// has none goes without.
func (p *pass) giveXattrs(fd int, ino syncer.Ino) error {
	f := p.d.folder
	want, err := f.Listxattr(ino)
	if err != nil {
		return err
	}
	is, err := userXattrs(fd)
	if is == nil {
		return nil
	}
	for n := range is {
		if _, err := f.Getxattr(ino, n); errors.Is(err, syncer.ErrNoAttr) {
			if err := unix.Fremovexattr(fd, n); err != nil {
				return err
			}
		}
	}
	for _, n := range want {
		if !strings.HasPrefix(n, "user.") {
			continue
		}
		val, e := f.Getxattr(ino, n)
		if e == nil && !bytes.Equal(is[n], val) {
			e = unix.Fsetxattr(fd, n, val, 0)
		}
		if e != nil && !errors.Is(e, syncer.ErrNoAttr) && !errors.Is(e, unix.ENOTSUP) && !errors.Is(e, unix.ENOSPC) {
			return e
		}
	}
	return err
}

// giveChanged writes what others have changed of a file or directory that stays where it is.
func (p *pass) giveChanged(at syncer.Place, s syncer.Seen, t syncer.Attr) error {
	d := p.d
	if t.Kind == model.File {
		v, err := d.folder.Content(t.Ino)
		if err != nil {
			return p.ungiven(at, err)
		}
		if v.Orig != s.Orig {
			if names, err := d.sight.Of(t.Ino); err != nil || len(names) > 1 {
				return errors.Join(err, p.makeAll(names, s, t))
			}
			return p.makeAt(at, s, true, t)
		}
	}
	fd, err := p.open(at.Dir)
	if err != nil {
		return p.ungiven(at, err)
	}
	if t.Kind == model.Symlink {
		return p.giveTarget(fd, at, s, t)
	}
	o, err := unix.Openat(fd, at.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ELOOP {
		p.disk.add(at, true)
		return nil
	}
	if err != nil {
		return p.ungiven(at, err)
	}
	defer unix.Close(o)
	who, release := nobody, func() {}
	if t.Kind == model.File { // nobody writes to it while it gets its times
		who, release = lease(o)
	}
	defer release()
	st, err := statFd(o)
	switch {
	case err != nil:
		return p.ungiven(at, err)
	case !st.same(s):
		return p.changedHere(at)
	case who == somebody:
		p.again[at] = time.Now().Add(settle)
		return nil
	}
	switch {
	case t.Mode&0o777 == s.TreeMode&0o777:
	case t.Kind == model.Dir:
		err = unix.Fchmod(o, dirMode(t))
	default:
		err = unix.Fchmod(o, t.Mode&0o777)
	}
	if t.Kind == model.File {
		if t.Mtime != s.TreeMtime {
			err = errors.Join(err, setTime(o, t.Mtime))
		}
		err = errors.Join(err, p.giveXattrs(o, t.Ino))
		if is, xerr := userXattrs(o); xerr == nil {
			s.Attrs = sumXattrs(is)
		}
	}
	if err != nil {
		return p.ungiven(at, err)
	}
	if st, err = statFd(o); err != nil {
		return p.ungiven(at, err)
	}
	d.fine(at)
	s.TreeMode, s.TreeMtime = t.Mode, t.Mtime
	if st.size != s.Size { // just now
		p.disk.add(at, false)
		return nil
	}
	st.see(&s)
	if names, err := d.sight.Of(t.Ino); err != nil || len(names) > 1 {
		return errors.Join(err, p.all(t.Ino, func(x *syncer.Seen) { st.see(x); x.TreeMode, x.TreeMtime = t.Mode, t.Mtime }))
	}
	return d.sight.Set(at, s)
}

// giveTarget has a symlink lead where it does in the folder.
func (p *pass) giveTarget(fd int, at syncer.Place, s syncer.Seen, t syncer.Attr) error {
	is, err := readlink(fd, at.Name)
	if err != nil {
		p.disk.add(at, true)
		return nil
	}
	if want, err := p.d.folder.Readlink(t.Ino); err != nil || is != want {
		return errors.Join(err, p.makeAt(at, s, true, t))
	}
	s.TreeMode, s.TreeMtime = t.Mode, t.Mtime
	return p.d.sight.Set(at, s)
}

// makeAll writes a file that has several names: one is written, and the others are made anew.
func (p *pass) makeAll(names []syncer.Place, s syncer.Seen, t syncer.Attr) error {
	for _, k := range names[1:] {
		x, ok, err := p.d.sight.Get(k)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if gone, err := p.remove(k, x); err != nil || !gone {
			return err
		}
		delete(p.done, k)
		p.tree.add(k, false)
	}
	if err := p.flush(); err != nil {
		return err
	}
	if st, there, err := p.stat(names[0]); err == nil && there && untouched(st, s) { // it has fewer names
		st.seeMoved(&s)
	}
	p.done[names[0]] = true
	if err := p.makeAt(names[0], s, true, t); err != nil {
		return err
	}
	return p.flush()
}

// partName makes up a name for a file in the making.
func (d *Dir) partName() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	return fmt.Sprintf("new-%x", d.gen)
}

// equal tells whether a name on disk shows what the folder has there, and of a file which version.
func (p *pass) equal(fd int, name string, st stat, t syncer.Attr) (bool, syncer.Version, error) {
	d := p.d
	if st.kind != t.Kind {
		v, _ := d.folder.Content(t.Ino)
		return false, v, nil
	}
	switch st.kind {
	case model.Dir:
		return true, syncer.Version{}, nil
	case model.Symlink:
		is, err := readlink(fd, name)
		if err != nil {
			return false, syncer.Version{}, err
		}
		was, err := d.folder.Readlink(t.Ino)
		return err == nil && is == was, syncer.Version{}, err
	}
	v, err := d.folder.Content(t.Ino)
	if err != nil || v.Content.Size != st.size || v.Orig == (model.Dot{}) {
		return false, v, err
	}
	same, err := p.sameContent(fd, name, v)
	return same, v, err
}

// sameContent tells whether a file has the bytes of a version.
func (p *pass) sameContent(fd int, name string, v syncer.Version) (bool, error) {
	at, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(at)
	before, err := statFd(at)
	if err != nil || before.size != v.Content.Size {
		return false, err
	}
	same, err := p.d.folder.Same(p.ctx, fdReader(at), v)
	if err != nil {
		return false, ignoreEOF(err)
	}
	after, err := statFd(at)
	return same && after.sameBytes(before), err
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
