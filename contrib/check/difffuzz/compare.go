package main

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// difference is one thing that is not the same on both sides.
type difference struct {
	call    *call
	what    string // "result", or a field of stat, or listing, content, holes
	of      string // the path or slot
	kind    uint32 // file type
	a, b    string
	allowed *exception
}

func (d *difference) String() string {
	return fmt.Sprintf("%s of %s\n   a: %s\n   b: %s", d.what, d.of, d.a, d.b)
}

// comparer compares two sides after each call.
type comparer struct {
	found  []difference
	group  map[int]bool // files by id that are parts of a database
	call   *call
	ra, rb string // what the call returned
	bad    bool   // the call failed on both
	win    window
	loose  map[int]bool // files by id whose blocks are not comparable any more
}

func (m *comparer) diff(what, of string, kind uint32, a, b string) {
	if a == b {
		return
	}
	d := difference{call: m.call, what: what, of: of, kind: kind, a: a, b: b}
	d.allowed = allowed(&d)
	m.found = append(m.found, d)
}

// metadata is how many of the blocks of a file ext4 may take for its extents and attributes.
const metadata = 16

// nodes compares two inodes that should look the same.
func (m *comparer) nodes(of string, a, b *node, pa, pb *snapshot) {
	if a == nil || b == nil || a.err != nil || b.err != nil {
		m.diff("stat", of, 0, there(a), there(b))
		return
	}
	kind := a.kind()
	num := func(what string, x, y any) { m.diff(what, of, kind, fmt.Sprint(x), fmt.Sprint(y)) }
	m.diff("mode", of, kind, fmt.Sprintf("%06o", a.Mode), fmt.Sprintf("%06o", b.Mode))
	num("inode", a.id, b.id)
	num("nlink", a.Nlink, b.Nlink)
	num("uid", a.Uid, b.Uid)
	num("gid", a.Gid, b.Gid)
	num("rdev", [2]uint32{a.Rdev_major, a.Rdev_minor}, [2]uint32{b.Rdev_major, b.Rdev_minor})
	num("size", a.Size, b.Size)
	if kind == unix.S_IFREG {
		if most := (b.Size+4095)/4096*8 + metadata; b.Blocks > max(most, a.Blocks) {
			m.diff("blocks", of, kind, fmt.Sprint("at most ", most), fmt.Sprint(b.Blocks))
		}
		if !m.loose[a.id] && (b.Blocks > a.Blocks || b.Blocks+metadata < a.Blocks) {
			num("blocks", a.Blocks, b.Blocks)
		}
	}
	ta, tb := m.times(a, pa), m.times(b, pb)
	if tb[0] == "same" && ta[0] != "now" && ta[0] != "same" { // set to what it was: reading had moved it in one of them
		tb[0] = exactly(nanos(b.Atime))
	}
	if tb[1] != "same" && ta[1] == "same" && m.group[a.id] {
		tb[1] = ofGroup
	}
	for i, what := range []string{"atime", "mtime", "ctime"} {
		m.diff(what, of, kind, ta[i], tb[i])
	}
}

func there(n *node) string {
	switch {
	case n == nil:
		return "not there"
	case n.err != nil:
		return errno(n.err)
	}
	return "there"
}

// times says of each time how it moved.
func (m *comparer) times(n *node, prev *snapshot) (out [3]string) {
	var was [3]int64
	known := false
	if prev != nil {
		was, known = prev.times[n.id]
	}
	for i, is := range []int64{nanos(n.Atime), nanos(n.Mtime), nanos(n.Ctime)} {
		out[i] = m.win.moved(was[i], known, is)
	}
	return out
}

// ofGroup is an mtime that moved, of what may have been cut together with another.
const ofGroup = "that of its database"

// looks compares two snapshots, each with the one before.
func (m *comparer) looks(a, b, pa, pb *snapshot) {
	m.group = map[int]bool{}
	for p, n := range a.nodes {
		if strings.HasPrefix(path.Base(p), "db") { // as the generator calls them
			m.group[n.id] = true
		}
	}
	for _, p := range a.order {
		m.nodes(fmt.Sprintf("%q", p), a.nodes[p], b.nodes[p], pa, pb)
	}
	for i := range a.fds {
		if a.fds[i] != nil || b.fds[i] != nil {
			m.nodes(fmt.Sprintf("slot %d", i), a.fds[i], b.fds[i], pa, pb)
			m.diff("flags", fmt.Sprintf("slot %d", i), 0, fmt.Sprintf("%#o", a.flags[i]), fmt.Sprintf("%#o", b.flags[i]))
		}
	}
}

// listings compares the directories that moved, or all.
func (m *comparer) listings(j *jail, sa, sb *side, a, b, pa, pb *snapshot, all bool) {
	for _, p := range a.order {
		x, y := a.nodes[p], b.nodes[p]
		if x.kind() != unix.S_IFDIR || y == nil || y.err != nil {
			continue
		}
		moved := func(n *node, prev *snapshot) bool {
			was, known := prev.times[n.id]
			return !known || was[1] != nanos(n.Mtime)
		}
		if all || moved(x, pa) || moved(y, pb) {
			m.diff("listing", fmt.Sprintf("%q", p), unix.S_IFDIR, j.entries(sa, a, p), j.entries(sb, b, p))
		}
	}
}

// contents compares the bytes of all files, and their holes.
func (m *comparer) contents(j *jail, sa, sb *side, a *snapshot) {
	for _, p := range a.order {
		if n := a.nodes[p]; n.kind() == unix.S_IFREG {
			ca, ha := j.content(sa, p)
			cb, hb := j.content(sb, p)
			m.diff("content", fmt.Sprintf("%q", p), unix.S_IFREG, ca, cb)
			if !m.loose[n.id] {
				m.diff("holes", fmt.Sprintf("%q", p), unix.S_IFREG, ha, hb)
			}
		}
	}
}

// loosen remembers files whose blocks the two sides may count differently from now on: see exceptions.
func (m *comparer) loosen(n *snapshot) {
	written := map[int]bool{}
	for i, x := range n.fds {
		if x != nil && x.err == nil && n.flags[i]&unix.O_ACCMODE != unix.O_RDONLY && n.flags[i]&unix.O_PATH == 0 {
			written[x.id] = true
		}
	}
	for _, x := range n.nodes {
		if x.err == nil && !written[x.id] {
			m.loose[x.id] = true
		}
	}
	slot := m.call.S
	switch m.call.Op {
	case "fallocate", "mmap", "fsync":
	case "copy_file_range":
		slot = m.call.T
	default:
		return
	}
	if x := n.fds[slot]; x != nil && x.err == nil {
		m.loose[x.id] = true
	}
}

// sparse says that the result of a call depends on what is not comparable.
func (m *comparer) sparse(n *snapshot) bool {
	x := n.fds[m.call.S]
	return m.call.Op == "holes" && x != nil && x.err == nil && m.loose[x.id]
}
