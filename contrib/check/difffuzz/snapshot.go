package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// node is what stat shows of an inode, with a number that is the same on both sides if all is well.
type node struct {
	unix.Statx_t
	id  int
	err error
}

func (n *node) kind() uint32 { return uint32(n.Mode) & unix.S_IFMT }

// key tells inodes apart, also where a number is given out again.
type key struct {
	ino uint64
	sec int64 // of birth
	ns  uint32
}

// snapshot is how a side looks between two calls.
type snapshot struct {
	order []string // paths, directories before what is in them
	nodes map[string]*node
	fds   [slots]*node
	flags [slots]int
	ids   map[key]int
	next  int
	times map[int][3]int64 // atime, mtime, ctime by id
}

const statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT

// look takes a snapshot. Paths are found by reading the directories, or are those of another side. With deep, the
// caches of the kernel do not answer.
func (j *jail) look(s *side, prev *snapshot, paths []string, deep bool) (*snapshot, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	n := &snapshot{nodes: map[string]*node{}, ids: map[key]int{}, times: map[int][3]int64{}}
	if prev != nil {
		n.next = prev.next
	}
	flags := statFlags
	if deep {
		flags |= unix.AT_STATX_FORCE_SYNC
	}
	if paths == nil {
		if err := j.walk(n, prev, "/", flags); err != nil {
			return nil, err
		}
	}
	for _, p := range paths {
		n.order = append(n.order, p)
		n.nodes[p] = n.stat(prev, unix.AT_FDCWD, p, flags)
	}
	for i, fd := range s.fds {
		if fd < 0 {
			continue
		}
		n.fds[i] = n.stat(prev, fd, "", flags|unix.AT_EMPTY_PATH)
		n.flags[i], _ = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	}
	return n, nil
}

// stat looks at one inode and numbers it: as before, or as the next new one.
func (n *snapshot) stat(prev *snapshot, at int, p string, flags int) *node {
	x := &node{}
	if x.err = unix.Statx(at, p, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x.Statx_t); x.err != nil {
		return x
	}
	k := key{x.Ino, x.Btime.Sec, x.Btime.Nsec}
	id, seen := n.ids[k]
	if !seen && prev != nil {
		id, seen = prev.ids[k]
	}
	if !seen {
		n.next++
		id = n.next
	}
	x.id, n.ids[k] = id, id
	n.times[id] = [3]int64{nanos(x.Atime), nanos(x.Mtime), nanos(x.Ctime)}
	return x
}

func nanos(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// walk finds all paths below p.
func (j *jail) walk(n, prev *snapshot, p string, flags int) error {
	x := n.stat(prev, unix.AT_FDCWD, p, flags)
	if x.err != nil {
		return fmt.Errorf("walk %q: %w", p, x.err)
	}
	n.order = append(n.order, p)
	n.nodes[p] = x
	if x.kind() != unix.S_IFDIR {
		return nil
	}
	entries, err := j.readdir(p)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.name == "." || e.name == ".." {
			continue
		}
		if err := j.walk(n, prev, path.Join(p, e.name), flags); err != nil {
			return err
		}
	}
	return nil
}

// readdir lists a directory by name.
func (j *jail) readdir(p string) ([]listed, error) {
	fd, err := again(func() (int, error) {
		return unix.Open(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", p, err)
	}
	defer unix.Close(fd)
	all, err := list(fd, j.mem[:32<<10])
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	return all, err
}

// entries is what a directory lists, in words: each name with its kind, and whether its number is what stat says.
func (j *jail) entries(s *side, n *snapshot, p string) string {
	if err := s.enter(); err != nil {
		return err.Error()
	}
	all, err := j.readdir(p)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "%q:%d", e.name, e.kind)
		if x := n.nodes[path.Join(p, e.name)]; x != nil && x.Ino != e.ino && (p != "/" || e.name != "..") {
			fmt.Fprintf(&b, "(number %d, stat says %d)", e.ino, x.Ino)
		}
		b.WriteByte(' ')
	}
	return b.String()
}

// content is the bytes of a file, as a hash of its blocks that are not zero; and the ranges that are data.
func (j *jail) content(s *side, p string) (sum, ranges string) {
	if err := s.enter(); err != nil {
		return err.Error(), ""
	}
	fd, err := again(func() (int, error) { return unix.Open(p, unix.O_RDONLY|unix.O_NOATIME|unix.O_CLOEXEC, 0) })
	if err != nil {
		return errno(err), ""
	}
	defer unix.Close(fd)
	var b strings.Builder
	h := fnv.New64a()
	for off := int64(0); ; {
		from, err := again(func() (int64, error) { return unix.Seek(fd, off, unix.SEEK_DATA) })
		if err == unix.ENXIO {
			break
		}
		to, err2 := again(func() (int64, error) { return unix.Seek(fd, from, unix.SEEK_HOLE) })
		if err != nil || err2 != nil {
			return fmt.Sprint(err, err2), ""
		}
		fmt.Fprintf(&b, "[%d %d) ", from, to)
		if err := j.sum(h, fd, from, to); err != nil {
			return err.Error(), ""
		}
		off = to
	}
	return fmt.Sprintf("%x", h.Sum64()), b.String()
}

// sum hashes a range block by block, but for what is zero.
func (j *jail) sum(h io.Writer, fd int, from, to int64) error {
	const block = 4096
	for off := from / block * block; off < to; off += block {
		n, err := again(func() (int, error) { return unix.Pread(fd, j.mem[:block], off) })
		if err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		b := j.mem[:n]
		for len(b) > 0 && b[len(b)-1] == 0 {
			b = b[:len(b)-1]
		}
		if len(b) > 0 {
			fmt.Fprintf(h, "%d %d:", off, len(b))
			h.Write(b)
		}
	}
	return nil
}

// window is when a call was made.
type window struct{ from, to time.Time }

const (
	tick = 25 * time.Millisecond // how far behind the clock of an inode may be
	near = 10 * time.Second
)

// moved says how a time changed: same, now, or to what it was set to.
func (w window) moved(was int64, known bool, is int64) string {
	t := time.Unix(0, is)
	switch {
	case known && was == is:
		return "same"
	case !t.Before(w.from.Add(-tick)) && !t.After(w.to):
		return "now"
	case t.Sub(w.to).Abs() < near:
		return fmt.Sprintf("not now (%v)", t.Sub(w.from))
	}
	return exactly(is)
}

// exactly is a time in words.
func exactly(ns int64) string { return fmt.Sprintf("%d ns", ns) }
