package plain

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cespare/xxhash/v2"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A stat is what a disk says of a file. Times are in ns since 1970.
type stat struct {
	id           syncer.FileID
	dev, mount   uint64
	kind         model.Kind
	other        bool // of no kind that is shared: a socket, a device
	mode         uint32
	uid, gid     uint32
	nlink        uint32
	size, alloc  int64
	mtime, ctime int64
}

// statAt tells of a name in a directory, not following a symlink. It is unix.ENOENT if
// nothing is there.
func statAt(fd int, name string) (stat, error) {
	var x unix.Statx_t
	for {
		err := unix.Statx(fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_BTIME|mountID, &x)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return stat{}, err
		}
		break
	}
	return statOf(&x), nil
}

// statFd tells of an open file.
func statFd(fd int) (stat, error) {
	var x unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME|mountID, &x); err != nil {
		return stat{}, err
	}
	return statOf(&x), nil
}

func statOf(x *unix.Statx_t) stat {
	s := stat{dev: unix.Mkdev(x.Dev_major, x.Dev_minor), mode: uint32(x.Mode) & 0o7777, nlink: x.Nlink, uid: x.Uid, gid: x.Gid,
		size: int64(x.Size), alloc: int64(x.Blocks) * 512, mtime: nanos(x.Mtime), ctime: nanos(x.Ctime)}
	s.id.Ino = x.Ino
	if x.Mask&unix.STATX_BTIME != 0 {
		s.id.Btime = nanos(x.Btime)
	}
	if x.Mask&mountID != 0 {
		s.mount = x.Mnt_id
	}
	switch x.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		s.kind = model.File
	case unix.S_IFDIR:
		s.kind, s.size = model.Dir, 0
	case unix.S_IFLNK:
		s.kind = model.Symlink
	default:
		s.other = true
	}
	return s
}

func nanos(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// is tells whether a file is the one that was seen, however it has changed.
func (s stat) is(x syncer.Seen) bool { return !s.other && s.kind == x.Kind && s.id == x.File }

// same tells whether a file is as it was seen. Of a directory only that counts which
// is shared.
func (s stat) same(x syncer.Seen) bool {
	if !s.is(x) || s.mode != x.Mode {
		return false
	}
	return s.kind == model.Dir || s.size == x.Size && s.mtime == x.Mtime && s.ctime == x.Ctime
}

// sameBytes tells whether a file has the bytes that it was seen with, by its times.
func (s stat) sameBytes(o stat) bool {
	return s.id == o.id && s.size == o.size && s.mtime == o.mtime && s.ctime == o.ctime
}

// seenStat is what stat said of what was seen.
func seenStat(x syncer.Seen) stat {
	return stat{id: x.File, kind: x.Kind, mode: x.Mode, size: x.Size, mtime: x.Mtime, ctime: x.Ctime}
}

// see fills in what stat says.
func (s stat) see(x *syncer.Seen) {
	x.Kind, x.File, x.Mode, x.Size, x.Mtime, x.Ctime = s.kind, s.id, s.mode, s.size, s.mtime, s.ctime
}

// seeMoved is see for a file that has another name, or one more; what was to be looked at again
// is so still.
func (s stat) seeMoved(x *syncer.Seen) {
	if x.Ctime != 0 {
		x.Ctime = s.ctime
	}
}

// list returns the names in a directory, sorted.
func list(fd int) ([]string, error) {
	at, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) // one with a position of its own
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(at), ".")
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// readlink returns where a symlink leads.
func readlink(fd int, name string) (string, error) {
	buf := make([]byte, 4097)
	n, err := unix.Readlinkat(fd, name, buf)
	return string(buf[:max(0, n)]), err
}

// holes returns where an open file has holes.
func holes(fd int, s stat) (out []content.Range) {
	if s.alloc >= s.size {
		return nil
	}
	for off := int64(0); off < s.size; {
		hole, err := unix.Seek(fd, off, unix.SEEK_HOLE)
		if err != nil || hole >= s.size {
			return out
		}
		data, err := unix.Seek(fd, hole, unix.SEEK_DATA)
		if err != nil { // none behind
			data = s.size
		}
		out = append(out, content.Range{Off: hole, Len: min(data, s.size) - hole})
		off = data
	}
	return out
}

// userXattrs returns the extended attributes of an open file that are shared; nil if
// the disk has none.
func userXattrs(fd int) (map[string][]byte, error) {
	buf := make([]byte, 1024)
	n, err := unix.Flistxattr(fd, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10)
		n, err = unix.Flistxattr(fd, buf)
	}
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		val := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(fd, name, val)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[name] = slices.Clone(val[:n])
	}
	return out, nil
}

// fdReader reads an open file; it does not own it.
type fdReader int

// ReadAt implements io.ReaderAt.
func (fd fdReader) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(int(fd), p[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// Who has a file open for writing.
const (
	nobody = iota
	somebody
	unknown
	unreadable
)

// readable tells whether a file may be read.
func readable(fd int, name string) bool {
	return unix.Faccessat(fd, name, unix.R_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW) == nil
}

// writers tells who has a file open for writing, or mapped.
func writers(fd int, name string) int {
	at, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.EACCES || err == unix.EPERM {
		return unreadable
	}
	if err != nil {
		return unknown
	}
	defer unix.Close(at)
	who, release := lease(at)
	release()
	return who
}

// lease asks the kernel for a lease on an open file, which it gives only if nobody has it open
// for writing. Until it is released, who opens it to write waits.
func lease(fd int) (who int, release func()) {
	switch _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err {
	case nil:
		return nobody, func() { unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) }
	case unix.EAGAIN:
		return somebody, func() {}
	}
	return unknown, func() {} // it is of another user, or the filesystem has none
}

// renameNew renames to a name at which nothing is. It is unix.EEXIST if something is.
func renameNew(ofd int, oname string, nfd int, nname string) error {
	err := unix.Renameat2(ofd, oname, nfd, nname, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	if _, err := statAt(nfd, nname); err != unix.ENOENT { // a disk that cannot look and rename at once
		return unix.EEXIST
	}
	return unix.Renameat(ofd, oname, nfd, nname)
}

// sumXattrs tells sets of extended attributes apart; 0: there are none.
func sumXattrs(xs map[string][]byte) uint64 {
	if len(xs) == 0 {
		return 0
	}
	h := xxhash.New()
	for _, n := range slices.Sorted(maps.Keys(xs)) {
		fmt.Fprintf(h, "%d %s %d %s", len(n), n, len(xs[n]), xs[n])
	}
	return max(1, h.Sum64())
}

// tick is how far apart two changes are that a filesystem before Linux 6.13 gives other times.
const tick = 20 * time.Millisecond

// fineTimes tells whether a change after a look at a file always gives it another time.
var fineTimes = func() bool {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) != nil {
		return false
	}
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return major > 6 || major == 6 && minor >= 13
}()

// mountID asks for the id of the mount; that of STATX_MNT_ID_UNIQUE, of Linux 6.8 and later, is
// given only once.
const mountID = unix.STATX_MNT_ID | unix.STATX_MNT_ID_UNIQUE
