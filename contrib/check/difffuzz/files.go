package main

import (
	"fmt"
	"hash/crc32"
	"strconv"

	"golang.org/x/sys/unix"
)

// fileOps open files and change their bytes.
var fileOps = map[string]op{
	"open":   {90, genOpen, doOpen},
	"reopen": {8, genReopen, doReopen},
	"close":  {35, func(g *generator, c *call) { c.S = g.slot() }, doClose},
	"read":   {12, genSpan, doRead},
	"pread":  {20, genSpan, doPread},
	"readv":  {6, genSpan, doReadv},
	"write":  {25, genWrite, doWrite},
	"pwrite": {50, genWrite, doPwrite},
	"writev": {8, genWrite, doWritev},
	"append": {8, genWrite, doAppend},
	"lseek":  {8, genSeek, doSeek},
	"holes":  {10, genHoles, doHoles},
	"setfl": {4, func(g *generator, c *call) { c.S, c.Flags = g.file(), pick(g, 0, unix.O_APPEND) }, func(_ *jail, s *side, c *call) string {
		return res(again(func() (int, error) { return unix.FcntlInt(uintptr(s.fds[c.S]), unix.F_SETFL, c.Flags) }))
	}},
	"truncate": {12, func(g *generator, c *call) { g.path(c, 1); c.Len = g.size(g.sizeOf(string(c.Path))) }, func(_ *jail, s *side, c *call) string {
		return ok(unix.Truncate(string(c.Path), c.Len))
	}},
	"ftruncate": {20, func(g *generator, c *call) { c.S = g.file(); c.Len = g.size(g.slotSize(c.S)) }, func(_ *jail, s *side, c *call) string {
		return ok(unix.Ftruncate(s.fds[c.S], c.Len))
	}},
	"fallocate": {30, genFallocate, func(_ *jail, s *side, c *call) string {
		return ok(unix.Fallocate(s.fds[c.S], uint32(c.Flags), c.Off, c.Len))
	}},
	"fsync":           {8, func(g *generator, c *call) { c.S, c.Flags = g.slot(), g.IntN(3) }, doSync},
	"mmap":            {15, func(g *generator, c *call) { genWrite(g, c); c.Flags = g.IntN(2) }, doMmap},
	"copy_file_range": {20, genCopy, doCopy},
	"sendfile":        {6, genCopy, doSendfile},
	"flock": {8, func(g *generator, c *call) {
		c.S, c.Flags = g.slot(), pick(g, unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN)
	}, func(_ *jail, s *side, c *call) string {
		return ok(unix.Flock(s.fds[c.S], c.Flags|unix.LOCK_NB))
	}},
	"lock": {12, genLock, doLock},
	"readdir": {8, func(g *generator, c *call) {
		if c.S, _ = g.dirSlot(); g.one(8) {
			c.S = g.slot()
		}
	}, doReaddir},
}

func (g *generator) slotSize(slot int) int64 {
	if n := g.seen.fds[slot]; n != nil {
		return int64(n.Size)
	}
	return 0
}

func (g *generator) sizeOf(p string) int64 {
	if n := g.seen.nodes[p]; n != nil {
		return int64(n.Size)
	}
	return 0
}

// size is one to truncate to.
func (g *generator) size(now int64) int64 {
	if g.one(30) {
		return pick(g, int64(-1), 1<<40, 1<<62, 1<<43+5)
	}
	return g.offset(now)
}

func genOpen(g *generator, c *call) {
	c.S, c.Mode = g.IntN(slots), g.mode()
	c.Flags = pick(g, unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR)
	g.path(c, 3)
	switch g.IntN(8) {
	case 0, 1, 2:
		c.Flags |= unix.O_CREAT
		g.path(c, 8)
	case 3:
		c.Flags |= unix.O_CREAT | unix.O_EXCL
		g.path(c, 9)
	case 4:
		if g.one(2) {
			c.Flags = c.Flags | unix.O_TMPFILE
			c.Path, c.At = raw(g.there(unix.S_IFDIR)), 0
			if g.one(4) {
				c.Flags |= unix.O_EXCL
			}
		}
	case 5:
		c.Flags = pick(g, unix.O_RDONLY, unix.O_PATH) | unix.O_DIRECTORY
		c.Path, c.At = raw(g.there(unix.S_IFDIR)), 0
	}
	for _, f := range []struct{ flag, in int }{
		{unix.O_TRUNC, 6}, {unix.O_APPEND, 6}, {unix.O_NOFOLLOW, 10}, {unix.O_DIRECTORY, 25}, {unix.O_DIRECT, 12},
		{unix.O_SYNC, 15}, {unix.O_PATH, 20}, {unix.O_NOATIME, 20},
	} {
		if g.one(f.in) {
			c.Flags |= f.flag
		}
	}
	if c.Flags&unix.O_DIRECT != 0 {
		c.Flags &^= unix.O_APPEND // the end need not be aligned
	}
}

// put keeps a descriptor in a slot, in place of what is there.
func (s *side) put(slot, fd int) {
	if s.fds[slot] >= 0 {
		unix.Close(s.fds[slot])
	}
	s.fds[slot] = fd
}

// Nothing waits for the other end of a FIFO.
const always = unix.O_NONBLOCK | unix.O_CLOEXEC

func doOpen(_ *jail, s *side, c *call) string {
	fd, err := again(func() (int, error) { return unix.Openat(s.at(c), string(c.Path), c.Flags|always, c.Mode) })
	if err != nil {
		return errno(err)
	}
	s.put(c.S, fd)
	return "0"
}

func genReopen(g *generator, c *call) {
	c.S, c.T, c.Flags = g.slot(), g.IntN(slots), pick(g, unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY|unix.O_TRUNC, unix.O_PATH)
}

func doReopen(j *jail, s *side, c *call) string {
	fd, err := again(func() (int, error) {
		return unix.Openat(j.proc, strconv.Itoa(s.fds[c.S]), c.Flags|always, 0)
	})
	if err != nil {
		return errno(err)
	}
	s.put(c.T, fd)
	return "0"
}

func doClose(_ *jail, s *side, c *call) string {
	err := unix.Close(s.fds[c.S])
	s.fds[c.S] = -1
	return ok(err)
}

func genSpan(g *generator, c *call) { c.S = g.file(); g.span(c, c.S) }

func genWrite(g *generator, c *call) {
	genSpan(g, c)
	if !g.one(5) { // else zeros
		c.Fill = byte(1 + g.IntN(255))
	}
}

// pattern fills the buffer with what a call writes.
func (j *jail) pattern(c *call) []byte {
	b := j.mem[:min(c.Len, memSize)]
	for i := range b {
		b[i] = 0
		if c.Fill != 0 {
			b[i] = c.Fill + byte(i%251)
		}
	}
	return b
}

// got says what was read.
func got(n int, err error, b []byte) string {
	if err != nil {
		return errno(err)
	}
	return fmt.Sprintf("%d bytes, sum %08x, %.16q…", n, crc32.ChecksumIEEE(b[:n]), b[:n])
}

func (j *jail) into(c *call) []byte { return j.mem[:min(c.Len, memSize)] }

func doRead(j *jail, s *side, c *call) string {
	n, err := again(func() (int, error) { return unix.Read(s.fds[c.S], j.into(c)) })
	return got(n, err, j.mem)
}

func doPread(j *jail, s *side, c *call) string {
	n, err := again(func() (int, error) { return unix.Pread(s.fds[c.S], j.into(c), c.Off) })
	return got(n, err, j.mem)
}

// halves divides a buffer for a call that takes several, at a block.
func halves(b []byte) [][]byte {
	half := len(b) / 2 / 4096 * 4096
	return [][]byte{b[:half], b[half:]}
}

func doReadv(j *jail, s *side, c *call) string {
	n, err := again(func() (int, error) { return unix.Preadv(s.fds[c.S], halves(j.into(c)), c.Off) })
	return got(n, err, j.mem)
}

func doWrite(j *jail, s *side, c *call) string {
	b := j.pattern(c)
	return res(again(func() (int, error) { return unix.Write(s.fds[c.S], b) }))
}

func doPwrite(j *jail, s *side, c *call) string {
	b := j.pattern(c)
	return res(again(func() (int, error) { return unix.Pwrite(s.fds[c.S], b, c.Off) }))
}

func doWritev(j *jail, s *side, c *call) string {
	b := j.pattern(c)
	return res(again(func() (int, error) { return unix.Pwritev(s.fds[c.S], halves(b), c.Off) }))
}

// doAppend writes at the end whatever the descriptor says, as RWF_APPEND does.
func doAppend(j *jail, s *side, c *call) string {
	b := j.pattern(c)
	return res(again(func() (int, error) { return unix.Pwritev2(s.fds[c.S], [][]byte{b}, 0, unix.RWF_APPEND) }))
}

func genSeek(g *generator, c *call) {
	genSpan(g, c)
	c.Flags = pick(g, unix.SEEK_SET, unix.SEEK_CUR, unix.SEEK_END)
	if g.one(10) {
		c.Off = -c.Off
	}
	if c.Flags != unix.SEEK_SET {
		c.Off %= 1 << 30 // ext4 has no position beyond the largest file
	}
	if g.direct(c.S) { // the position must stay aligned
		c.Flags = unix.SEEK_SET
	}
	if g.isDir(c.S) { // where a position is what the filesystem says
		c.Off, c.Flags = 0, unix.SEEK_SET
	}
}

// genHoles asks a file whose holes are comparable.
func genHoles(g *generator, c *call) {
	genSpan(g, c)
	if c.Flags = pick(g, unix.SEEK_DATA, unix.SEEK_HOLE); g.isDir(c.S) {
		c.Off, c.Flags = 0, unix.SEEK_SET
	}
}

func doSeek(_ *jail, s *side, c *call) string {
	return res(again(func() (int64, error) { return unix.Seek(s.fds[c.S], c.Off, c.Flags) }))
}

// doHoles leaves the position where it was.
func doHoles(j *jail, s *side, c *call) string {
	was, err := again(func() (int64, error) { return unix.Seek(s.fds[c.S], 0, unix.SEEK_CUR) })
	if err != nil {
		return errno(err)
	}
	defer unix.Seek(s.fds[c.S], was, unix.SEEK_SET)
	return doSeek(j, s, c)
}

func genFallocate(g *generator, c *call) {
	genSpan(g, c)
	const keep, punch, zero = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE
	c.Flags = pick(g, 0, keep, punch|keep, punch|keep, zero, zero|keep)
	if g.one(40) {
		c.Flags = pick(g, punch, punch|zero|keep)
	}
	if g.one(40) {
		c.Off = -1
	}
}

func doSync(_ *jail, s *side, c *call) string {
	fd := s.fds[c.S]
	return ok([]func(int) error{unix.Fsync, unix.Fdatasync, unix.Syncfs}[c.Flags](fd))
}

// doMmap writes to a part of a file that is there through a shared mapping.
func doMmap(j *jail, s *side, c *call) string {
	var st unix.Stat_t
	if err := unix.Fstat(s.fds[c.S], &st); err != nil {
		return errno(err)
	}
	from := min(c.Off, st.Size)
	to := min(from+c.Len, st.Size)
	base := from / 4096 * 4096
	if to <= from {
		to, base = from, 0
	}
	m, err := unix.Mmap(s.fds[c.S], base, int(max(to-base, 1)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return errno(err)
	}
	if to > from {
		copy(m[from-base:], j.pattern(c)[:to-from])
	}
	if c.Flags != 0 {
		err = unix.Msync(m, unix.MS_SYNC)
	}
	if e := unix.Munmap(m); err == nil {
		err = e
	}
	return ok(err)
}

func genCopy(g *generator, c *call) {
	genSpan(g, c)
	c.T = g.file()
	c.Off2 = g.offset(g.slotSize(c.T))
	if g.direct(c.S) || g.direct(c.T) {
		c.Off, c.Off2, c.Len = c.Off/4096*4096, c.Off2/4096*4096, c.Len/4096*4096
	}
}

func doCopy(_ *jail, s *side, c *call) string {
	from, to := c.Off, c.Off2
	return res(again(func() (int, error) {
		return unix.CopyFileRange(s.fds[c.S], &from, s.fds[c.T], &to, int(c.Len), 0)
	}))
}

func doSendfile(_ *jail, s *side, c *call) string {
	from := c.Off
	return res(again(func() (int, error) { return unix.Sendfile(s.fds[c.T], s.fds[c.S], &from, int(c.Len)) }))
}

func genLock(g *generator, c *call) {
	c.S = g.slot()
	c.Flags = pick(g, unix.F_OFD_SETLK, unix.F_OFD_SETLK, unix.F_OFD_GETLK, unix.F_SETLK, unix.F_GETLK)
	c.Mode = pick(g, uint32(unix.F_RDLCK), unix.F_WRLCK, unix.F_UNLCK)
	c.Off, c.Len = g.Int64N(50), g.Int64N(20)
}

func doLock(_ *jail, s *side, c *call) string {
	return res(ofdLock(s.fds[c.S], c.Flags, int16(c.Mode), c.Off, c.Len))
}

// doReaddir lists an open directory from its beginning: a removed one is empty.
func doReaddir(j *jail, s *side, c *call) string {
	if _, err := unix.Seek(s.fds[c.S], 0, unix.SEEK_SET); err != nil {
		return errno(err)
	}
	return listFd(j, s.fds[c.S])
}
