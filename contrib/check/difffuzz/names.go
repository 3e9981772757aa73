package main

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// nameOps make, move and remove names, and look at them.
var nameOps = map[string]op{
	"mkdir": {30, func(g *generator, c *call) { g.path(c, 9); c.Mode = g.mode() }, func(_ *jail, s *side, c *call) string {
		return ok(unix.Mkdirat(s.at(c), string(c.Path), c.Mode))
	}},
	"rmdir":  {20, genRmdir, unlinkat(unix.AT_REMOVEDIR)},
	"unlink": {30, func(g *generator, c *call) { g.path(c, 2) }, unlinkat(0)},
	"rename": {50, genRename, func(_ *jail, s *side, c *call) string {
		return ok(unix.Renameat2(s.at(c), string(c.Path), s.at(c), string(c.Path2), uint(c.Flags)))
	}},
	"link": {25, genLink, func(_ *jail, s *side, c *call) string {
		return ok(unix.Linkat(s.at(c), string(c.Path), s.at(c), string(c.Path2), c.Flags))
	}},
	"linkfd": {15, genLinkFd, func(j *jail, s *side, c *call) string {
		return ok(unix.Linkat(j.proc, strconv.Itoa(s.fds[c.S]), unix.AT_FDCWD, string(c.Path), unix.AT_SYMLINK_FOLLOW))
	}},
	"symlink": {20, genSymlink, func(_ *jail, s *side, c *call) string {
		return ok(unix.Symlinkat(string(c.Val), s.at(c), string(c.Path)))
	}},
	"readlink": {8, func(g *generator, c *call) { g.path(c, 1); c.Len = pick(g, int64(4096), 3, 0) }, doReadlink},
	"mknod":    {12, genMknod, doMknod},
	"access": {15, func(g *generator, c *call) {
		g.path(c, 2)
		c.Mode, c.Flags = uint32(g.IntN(8)), pick(g, 0, unix.AT_EACCESS, unix.AT_SYMLINK_NOFOLLOW, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW)
	}, func(_ *jail, s *side, c *call) string {
		return ok(access(s.at(c), string(c.Path), int(c.Mode), c.Flags))
	}},
	"stat":   {8, func(g *generator, c *call) { g.path(c, 2); c.Flags = pick(g, 0, unix.AT_SYMLINK_NOFOLLOW) }, doStat},
	"statfs": {2, func(g *generator, c *call) { g.path(c, 0) }, doStatfs},
	"list":   {10, func(g *generator, c *call) { c.Path = raw(g.there(unix.S_IFDIR)) }, doList},
	"page":   {4, genPage, doPage},
	"rest":   {2, func(g *generator, c *call) { c.Len = 120 + g.Int64N(150) }, doRest},
}

func unlinkat(flags int) func(*jail, *side, *call) string {
	return func(_ *jail, s *side, c *call) string { return ok(unix.Unlinkat(s.at(c), string(c.Path), flags)) }
}

func genRmdir(g *generator, c *call) {
	g.path(c, 1)
	if c.At == 0 && !g.one(4) {
		c.Path = raw(g.odd(g.there(unix.S_IFDIR)))
	}
}

func genRename(g *generator, c *call) {
	g.path(c, 1)
	c.Path2 = raw(g.odd(g.fresh()))
	if g.one(3) {
		c.Path2 = raw(g.odd(g.there(0)))
	}
	if c.At != 0 {
		c.Path2 = raw(g.name())
	}
	c.Flags = pick(g, 0, 0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_EXCHANGE)
	if g.one(40) {
		c.Flags = pick(g, unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE, 8)
	}
}

func genLink(g *generator, c *call) {
	g.path(c, 1)
	c.Path2 = raw(g.odd(g.fresh()))
	if c.At != 0 {
		c.Path2 = raw(g.name())
	}
	c.Flags = pick(g, 0, unix.AT_SYMLINK_FOLLOW)
}

// genLinkFd names what is open: an O_TMPFILE, or what was unlinked.
func genLinkFd(g *generator, c *call) {
	c.S, c.Path = g.slot(), raw(g.fresh())
	for i, n := range g.seen.fds {
		if n != nil && n.Nlink == 0 && n.kind() == unix.S_IFREG {
			c.S = i
		}
	}
}

func genSymlink(g *generator, c *call) {
	g.path(c, 9)
	c.Val = raw(pick(g, g.there(0), g.name(), g.name(), "../"+g.name(), "/"+g.name(), ".", "nothing", "x\xffy",
		strings.Repeat("long/", 20), strings.Repeat("q", 4095), strings.Repeat("q", 4096), ""))
}

func doReadlink(_ *jail, s *side, c *call) string {
	buf := make([]byte, c.Len)
	n, err := unix.Readlinkat(s.at(c), string(c.Path), buf)
	if err != nil {
		return errno(err)
	}
	return strconv.Quote(string(buf[:n]))
}

func genMknod(g *generator, c *call) {
	g.path(c, 9)
	c.Mode = g.mode()&0o7777 | pick(g, uint32(unix.S_IFIFO), unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFREG, unix.S_IFCHR, unix.S_IFDIR, 0, 0o170000)
}

// null is the device that opens and does nothing.
const null = 1<<8 | 3

func doMknod(_ *jail, s *side, c *call) string {
	dev := 0
	if c.Mode&unix.S_IFMT == unix.S_IFCHR {
		dev = null
	}
	return ok(unix.Mknodat(s.at(c), string(c.Path), c.Mode, dev))
}

func doStat(_ *jail, s *side, c *call) string {
	var st unix.Statx_t
	if err := unix.Statx(s.at(c), string(c.Path), c.Flags, unix.STATX_BASIC_STATS, &st); err != nil {
		return errno(err)
	}
	out := fmt.Sprintf("%06o %d %d:%d", st.Mode, st.Nlink, st.Uid, st.Gid)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		out += fmt.Sprintf(" %d", st.Size)
	}
	return out
}

// doStatfs compares what does not depend on the disk.
func doStatfs(_ *jail, s *side, c *call) string {
	fd, err := unix.Openat(s.at(c), string(c.Path), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return errno(err)
	}
	defer unix.Close(fd)
	st, err := fstatfs(fd)
	if err != nil {
		return errno(err)
	}
	sane := st.Blocks > 0 && st.Bavail <= st.Bfree && st.Bfree <= st.Blocks && st.Files > 0 && st.Ffree <= st.Files
	return fmt.Sprintf("names %d, blocks of %d %d, sane %v", st.Namelen, st.Bsize, st.Frsize, sane)
}

// doList reads a directory as its user may, and says what is in it.
func doList(j *jail, s *side, c *call) string {
	fd, err := unix.Openat(s.at(c), string(c.Path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errno(err)
	}
	defer unix.Close(fd)
	return listFd(j, fd)
}

func listFd(j *jail, fd int) string {
	all, err := list(fd, j.mem[:4096])
	if err != nil {
		return errno(err)
	}
	var out []string
	for _, e := range all {
		out = append(out, fmt.Sprintf("%q:%d", e.name, e.kind))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func genPage(g *generator, c *call) {
	c.Path, c.Val, c.Len = raw(g.there(unix.S_IFDIR)), raw(g.name()), g.Int64N(60)
}

// doPage makes some files, reads a part of the directory, changes it, and reads the rest: what stayed is listed once.
func doPage(j *jail, s *side, c *call) string {
	const files = 40
	in := func(i int) string { return path.Join(string(c.Path), fmt.Sprint("page", i)) }
	for i := range files {
		if err := unix.Mknod(in(i), unix.S_IFREG|0o600, 0); err != nil {
			return errno(err)
		}
	}
	fd, err := unix.Open(string(c.Path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errno(err)
	}
	defer unix.Close(fd)
	var seen []listed
	for len(seen) < int(c.Len) {
		some, err := getdents(fd, j.mem[:512])
		if err != nil || len(some) == 0 {
			break
		}
		seen = append(seen, some...)
	}
	var stay []string
	for i := range files {
		if i%3 != 0 {
			stay = append(stay, fmt.Sprint("page", i))
			continue
		}
		if err := unix.Unlink(in(i)); err != nil {
			return errno(err)
		}
		if i%2 == 0 {
			if err := unix.Mknod(in(files+i), unix.S_IFREG|0o600, 0); err != nil {
				return errno(err)
			}
		}
	}
	rest, err := list(fd, j.mem[:512])
	if err != nil {
		return errno(err)
	}
	times := map[string]int{}
	for _, e := range append(seen, rest...) {
		times[e.name]++
	}
	for i := range files {
		unix.Unlink(in(i))
		unix.Unlink(in(files + i))
	}
	for name, n := range times {
		if n > 1 {
			return fmt.Sprintf("%q is listed %d times", name, n)
		}
	}
	for _, name := range stay {
		if times[name] == 0 {
			return fmt.Sprintf("%q is not listed", name)
		}
	}
	return "each once"
}

// doRest does nothing for as long as it takes what was written to be settled behind the scenes.
func doRest(_ *jail, _ *side, c *call) string {
	time.Sleep(time.Duration(c.Len) * time.Millisecond)
	return "0"
}
