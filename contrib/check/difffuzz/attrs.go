package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// attrOps change mode, owner and times.
var attrOps = map[string]op{
	"chmod": {30, func(g *generator, c *call) {
		g.path(c, 1)
		if c.Mode = g.mode(); g.one(8) {
			c.Flags = unix.AT_SYMLINK_NOFOLLOW
		}
	}, func(_ *jail, s *side, c *call) string {
		return ok(chmodat(s.at(c), string(c.Path), c.Mode, c.Flags))
	}},
	"fchmod": {8, func(g *generator, c *call) { c.S, c.Mode = g.slot(), g.mode() }, func(_ *jail, s *side, c *call) string {
		return ok(unix.Fchmod(s.fds[c.S], c.Mode))
	}},
	"chown": {25, func(g *generator, c *call) {
		g.path(c, 1)
		c.UID, c.GID, c.Flags = g.id(), g.id(), pick(g, 0, 0, unix.AT_SYMLINK_NOFOLLOW)
	}, func(_ *jail, s *side, c *call) string {
		return ok(unix.Fchownat(s.at(c), string(c.Path), c.UID, c.GID, c.Flags))
	}},
	"fchown": {6, func(g *generator, c *call) { c.S, c.UID, c.GID = g.slot(), g.id(), g.id() }, func(_ *jail, s *side, c *call) string {
		return ok(unix.Fchown(s.fds[c.S], c.UID, c.GID))
	}},
	"utimens": {25, func(g *generator, c *call) {
		g.path(c, 1)
		c.Times, c.Flags = [2]ts{g.when(), g.when()}, pick(g, 0, unix.AT_SYMLINK_NOFOLLOW)
	}, func(_ *jail, s *side, c *call) string {
		p := string(c.Path)
		return ok(utimens(s.at(c), &p, c.Times, c.Flags))
	}},
	"caps": {4, func(g *generator, c *call) { c.Who, c.Flags = 0, g.IntN(7) }, doCaps},
	"futimens": {8, func(g *generator, c *call) { c.S, c.Times = g.slot(), [2]ts{g.when(), g.when()} }, func(_ *jail, s *side, c *call) string {
		return ok(utimens(s.fds[c.S], nil, c.Times, 0))
	}},
}

// capability is a valid security.capability.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// doCaps gives a file a capability, changes it, and says what is left. The file is only there meanwhile: see the
// package comment.
func doCaps(_ *jail, _ *side, c *call) string {
	fd, err := unix.Open("/caps", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return errno(err)
	}
	defer unix.Unlink("/caps")
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, "security.capability", []byte(capability), 0); err != nil {
		return errno(err)
	}
	switch c.Flags {
	case 0:
		_, err = unix.Write(fd, []byte("x"))
	case 1:
		err = unix.Ftruncate(fd, 5)
	case 2:
		err = unix.Fchown(fd, 1001, -1)
	case 3:
		err = unix.Fallocate(fd, 0, 0, 100)
	case 4:
		err = unix.Fchmod(fd, 0o4711)
	case 5:
		err = unix.Fsetxattr(fd, "user.a", []byte("x"), 0)
	case 6:
		_, err = unix.Read(fd, make([]byte, 1))
	}
	buf := make([]byte, 100)
	n, err2 := unix.Fgetxattr(fd, "security.capability", buf)
	return ok(err) + " " + res(n, err2)
}

// How an xattr call names its file.
const (
	byPath = iota
	byLink // not followed
	byFd
)

// xattrOps change extended attributes and ACLs.
var xattrOps = map[string]op{
	"setxattr": {30, genSetxattr, func(_ *jail, s *side, c *call) string {
		v := []byte(c.Val)
		switch c.T {
		case byLink:
			return ok(unix.Lsetxattr(string(c.Path), string(c.Name), v, c.Flags))
		case byFd:
			return ok(unix.Fsetxattr(s.fds[c.S], string(c.Name), v, c.Flags))
		}
		return ok(unix.Setxattr(string(c.Path), string(c.Name), v, c.Flags))
	}},
	"setacl": {30, genSetACL, func(_ *jail, s *side, c *call) string {
		return ok(unix.Setxattr(string(c.Path), string(c.Name), []byte(c.Val), c.Flags))
	}},
	"getxattr": {15, genGetxattr, func(_ *jail, s *side, c *call) string {
		buf := make([]byte, c.Len)
		get := func() (int, error) { return unix.Getxattr(string(c.Path), string(c.Name), buf) }
		switch c.T {
		case byLink:
			get = func() (int, error) { return unix.Lgetxattr(string(c.Path), string(c.Name), buf) }
		case byFd:
			get = func() (int, error) { return unix.Fgetxattr(s.fds[c.S], string(c.Name), buf) }
		}
		return value(buf, get)
	}},
	"listxattr": {10, genGetxattr, func(_ *jail, s *side, c *call) string {
		buf := make([]byte, c.Len)
		get := func() (int, error) { return unix.Listxattr(string(c.Path), buf) }
		switch c.T {
		case byLink:
			get = func() (int, error) { return unix.Llistxattr(string(c.Path), buf) }
		case byFd:
			get = func() (int, error) { return unix.Flistxattr(s.fds[c.S], buf) }
		}
		n, err := again(get)
		if err != nil || len(buf) == 0 {
			return res(n, err)
		}
		all := strings.Split(string(buf[:n]), "\x00")
		slices.Sort(all)
		return fmt.Sprintf("%q", all)
	}},
	"removexattr": {10, genGetxattr, func(_ *jail, s *side, c *call) string {
		switch c.T {
		case byLink:
			return ok(unix.Lremovexattr(string(c.Path), string(c.Name)))
		case byFd:
			return ok(unix.Fremovexattr(s.fds[c.S], string(c.Name)))
		}
		return ok(unix.Removexattr(string(c.Path), string(c.Name)))
	}},
}

// value is what a call gave into a buffer, or the size where there is none.
func value(buf []byte, get func() (int, error)) string {
	n, err := again(get)
	if err != nil || len(buf) == 0 {
		return res(n, err)
	}
	return strconv.QuoteToASCII(string(buf[:n]))
}

func (g *generator) xattrName() string {
	if g.one(12) {
		return pick(g, "user.", "user."+strings.Repeat("x", 250), "user."+strings.Repeat("x", 251), "foo.bar", "security.", "system.other",
			"user", "", "trusted.", "user.\xff")
	}
	return pick(g, "user.a", "user.a", "user.b", "trusted.t", "security.other", aclAccess, aclDefault)
}

func (g *generator) xattrTarget(c *call) {
	if c.T = g.IntN(3); c.T == byFd {
		c.S = g.slot()
	} else {
		g.path(c, 1)
	}
}

func genGetxattr(g *generator, c *call) {
	g.xattrTarget(c)
	c.Name, c.Len = raw(g.xattrName()), pick(g, int64(1024), 1024, 0, 3, g.Int64N(30))
}

func genSetxattr(g *generator, c *call) {
	g.xattrTarget(c)
	c.Name = raw(g.xattrName())
	c.Flags = pick(g, 0, 0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE)
	if g.one(30) {
		c.Flags = pick(g, 3, 4)
	}
	switch c.Name {
	case aclAccess, aclDefault:
		c.Val = raw(g.acl())
	default:
		c.Val = raw(strings.Repeat(string(rune('a'+g.IntN(26))), pick(g, 0, 1, 5, g.IntN(100))))
	}
}

func genSetACL(g *generator, c *call) {
	g.path(c, 0)
	c.Name = aclAccess
	if n := g.seen.nodes[string(c.Path)]; n != nil && n.kind() == unix.S_IFDIR && g.one(2) {
		c.Name = aclDefault
	}
	c.Val = raw(g.acl())
}

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// acl makes up an ACL in the format of the kernel: nearly always a valid one.
func (g *generator) acl() string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	none := ^uint32(0)
	add := func(tag int, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, uint16(tag))
		b = binary.LittleEndian.AppendUint16(b, uint16(g.IntN(8)))
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	named := g.IntN(4)
	add(0x01, none)
	if named&1 != 0 {
		add(0x02, 1001)
		if g.one(2) {
			add(0x02, 1002)
		}
	}
	add(0x04, none)
	if named&2 != 0 {
		add(0x08, 2001)
	}
	if named != 0 && !g.one(20) || named == 0 && g.one(6) {
		add(0x10, none)
	}
	add(0x20, none)
	if g.one(30) { // spoiled
		return pick(g, string(b[:len(b)-1]), string(b[:4]), "", string(b[:len(b)-8]), "\x01"+string(b[1:]), string(b)+string(b[4:12]))
	}
	return string(b)
}
