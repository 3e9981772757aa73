package main

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// op is a kind of call: how often, with which arguments, and how it is made.
type op struct {
	weight int
	gen    func(g *generator, c *call)
	do     func(j *jail, s *side, c *call) string
}

// ops are all kinds, by name.
var ops = merge(nameOps, fileOps, attrOps, xattrOps)

func merge(sets ...map[string]op) map[string]op {
	all := map[string]op{}
	for _, set := range sets {
		for name, o := range set {
			all[name] = o
		}
	}
	return all
}

// drawn is the names of the ops, each as often as its weight says.
var drawn = func() (out []string) {
	for name, o := range ops {
		for range o.weight {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}()

// generator makes up calls that fit what is there.
type generator struct {
	*rand.Rand
	seen *snapshot // of the first side
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0x636c616368616e))}
}

// next makes up a call.
func (g *generator) next() *call {
	c := &call{Op: drawn[g.IntN(len(drawn))]}
	if len(g.seen.order) > 70 && g.IntN(3) == 0 { // not ever more
		c.Op = []string{"unlink", "rmdir", "unlink", "rename"}[g.IntN(4)]
	}
	if g.one(3) {
		c.Who = 1 + g.IntN(len(users)-1)
	}
	c.Umask = pick(g, uint32(0o22), 0, 0, 0o77, 0o27, 0o777)
	ops[c.Op].gen(g, c)
	if c.Op == "read" && g.isDir(c.S) { // the position there is what the filesystem says
		c.Op = "pread"
	}
	if strings.HasSuffix(c.Op, "chown") && c.UID == -1 && c.GID == -1 { // see the package comment
		c.Who = 0
	}
	if g.direct(c.S) || g.direct(c.T) { // what goes on at a position or an end that is not aligned
		switch c.Op {
		case "read", "sendfile", "copy_file_range":
			c.Op = "pread"
		case "write", "append":
			c.Op = "pwrite"
		case "setfl":
			c.Flags = 0
		}
	}
	return c
}

// one is true once in n times.
func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// names are few, so that they meet; and some that are odd.
var names = []string{"a", "b", "c", "d", "e", "f"}

var oddNames = []string{
	strings.Repeat("n", 255), strings.Repeat("m", 256), "\xff\xfe\x01", "trail. ", "a b\n", "é", "e\u0301", ".tmp~", "x.swp",
	"db", "db-wal", "db-shm", "db-journal", "con (conflict, x, y, 2026-01-01 00.00.00).txt", "...",
}

func (g *generator) name() string {
	if g.one(6) {
		return pick(g, oddNames...)
	}
	return pick(g, names...)
}

// there is a path that exists, of a kind if that is not 0.
func (g *generator) there(kind uint32) string {
	for range 8 {
		p := g.seen.order[g.IntN(len(g.seen.order))]
		if n := g.seen.nodes[p]; (kind == 0 || n.kind() == kind) && (p != "/" || kind == unix.S_IFDIR || g.one(4)) {
			return p
		}
	}
	return "/"
}

// fresh is a name in a directory that exists: it may be there too.
func (g *generator) fresh() string {
	for {
		if dir := g.there(unix.S_IFDIR); strings.Count(dir, "/") < 4 || g.one(20) {
			return path.Join(dir, g.name())
		}
	}
}

// path sets where a call goes: so many times in ten to a name that is made up.
func (g *generator) path(c *call, fresh int) {
	if g.one(12) {
		if s, ok := g.dirSlot(); ok {
			c.At, c.Path = s+1, raw(g.name())
			return
		}
	}
	p := g.there(0)
	if g.IntN(10) < fresh {
		p = g.fresh()
	}
	c.Path = raw(g.odd(p))
}

// odd spells a path in another way, now and then.
func (g *generator) odd(p string) string {
	if !g.one(16) {
		return p
	}
	return pick(g, p+"/", p+"/.", p+"/..", "/."+p, "//"+p, p+"/"+g.name(), "", path.Dir(p)+"/../"+p, g.name())
}

// dirSlot is an open directory.
func (g *generator) dirSlot() (int, bool) {
	for range slots {
		s := g.IntN(slots)
		if n := g.seen.fds[s]; n != nil && n.kind() == unix.S_IFDIR {
			return s, true
		}
	}
	return 0, false
}

// slot is one that is open, nearly always.
func (g *generator) slot() int {
	for range 2 * slots {
		if s := g.IntN(slots); g.seen.fds[s] != nil {
			return s
		}
	}
	return g.IntN(slots)
}

// file is an open file, if there is one.
func (g *generator) file() int {
	for range 2 * slots {
		s := g.IntN(slots)
		if n := g.seen.fds[s]; n != nil && n.kind() == unix.S_IFREG && g.seen.flags[s]&unix.O_PATH == 0 {
			return s
		}
	}
	return g.slot()
}

// span sets an offset and a length that are near the ends and the blocks of a file, aligned if it must be.
func (g *generator) span(c *call, slot int) {
	size := int64(0)
	if n := g.seen.fds[slot]; n != nil && n.kind() == unix.S_IFREG {
		size = int64(n.Size)
	}
	c.Off = g.offset(size)
	c.Len = pick(g, g.Int64N(100), g.Int64N(5000), 4096, 4096*g.Int64N(8), g.Int64N(40000))
	if g.one(30) {
		c.Len = g.Int64N(300000)
	}
	if g.direct(slot) {
		c.Off, c.Len = c.Off/4096*4096, (c.Len+4095)/4096*4096
	}
}

func (g *generator) direct(slot int) bool { return g.seen.flags[slot]&unix.O_DIRECT != 0 }

func (g *generator) isDir(slot int) bool {
	return g.seen.fds[slot] != nil && g.seen.fds[slot].kind() == unix.S_IFDIR
}

func (g *generator) offset(size int64) int64 {
	switch g.IntN(8) {
	case 0:
		return 0
	case 1:
		return size
	case 2:
		return max(0, size+g.Int64N(9000)-4500)
	case 3:
		return g.Int64N(size + 1)
	case 4:
		return 4096 * g.Int64N(size/4096+4)
	case 5:
		if g.one(8) {
			return pick(g, int64(1)<<32-100, 1<<33, 1<<40+7, 1<<43)
		}
	}
	return g.Int64N(30000)
}

// mode is the bits of a mode, odd ones among them.
func (g *generator) mode() uint32 {
	if g.one(3) {
		return uint32(g.IntN(0o10000))
	}
	return pick(g, uint32(0o777), 0o666, 0o644, 0o755, 0o1777, 0o2775, 0o2770, 0o6755, 0o4711, 0o600, 0o700, 0, 0o2666)
}

// id is an owner, or no change.
func (g *generator) id() int { return pick(g, 0, 1001, 1002, 1003, 2001, 2002, -1, 1001, -1) }

// when is a time for utimensat, to the nanosecond.
func (g *generator) when() ts {
	return pick(g,
		ts{0, unix.UTIME_NOW}, ts{0, unix.UTIME_OMIT}, ts{0, 1}, ts{0, 0}, ts{1, 999999999}, ts{-1, 5}, ts{1 << 31, 7},
		ts{g.Int64N(1e9), g.Int64N(1e9)}, ts{4e9 + g.Int64N(1e9), g.Int64N(1e9)}, ts{5, 1e9})
}
