package plain

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What is left on disk: of directories that others have removed, of files in the making.

// removeDir takes a directory from disk with all that was seen in it. What is left in it
// then was never the folder's: it stays.
func (p *pass) removeDir(at syncer.Place, s syncer.Seen) (gone bool, err error) {
	if err := p.eachSeen(s, p.give); err != nil {
		return false, err
	}
	if err := p.flush(); err != nil {
		return false, err
	}
	fd, err := p.open(at.Dir)
	if err != nil {
		return false, p.ungiven(at, err)
	}
	switch err := unix.Unlinkat(fd, at.Name, unix.AT_REMOVEDIR); err {
	case nil, unix.ENOENT:
		p.moved()
		p.row(at, nil)
		return true, nil
	case unix.ENOTDIR:
		return false, p.changedHere(at)
	case unix.ENOTEMPTY, unix.EEXIST:
	default:
		return false, p.ungiven(at, err)
	}
	st, serr := statAt(fd, at.Name)
	if err := p.unseeAll(at); err != nil {
		return false, err
	}
	if serr == nil {
		left := syncer.Seen{}
		st.see(&left)
		p.row(at, &left)
		p.disk.add(at, true)
	}
	return false, nil
}

// hasMore tells whether something is in a directory, or below, that the folder would take in.
func (p *pass) hasMore(c *place, name string, depth int) (bool, error) {
	fd, err := unix.Openat(c.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil || depth > maxDepth {
		return false, err
	}
	defer unix.Close(fd)
	in := &place{fd: fd, path: path.Join(c.path, name)}
	if in.g, err = c.g.with(fd, in.path); err != nil {
		return false, err
	}
	all, err := list(fd)
	for _, n := range all {
		st, e := statAt(fd, n)
		if e != nil || st.other || in.g.match(path.Join(in.path, n), st.kind == model.Dir) {
			continue
		}
		if st.kind != model.Dir {
			return true, nil
		}
		if more, err := p.hasMore(in, n, depth+1); more || err != nil {
			return more, err
		}
	}
	return false, err
}

// tidy removes what was in the making when the daemon was killed. What its user has written
// to meanwhile comes back, under another name.
func (p *pass) tidy() error {
	fd, err := p.r.parts()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	all, err := list(fd)
	for _, n := range all {
		st, e := statAt(fd, n)
		if e != nil || st.kind == model.Dir {
			continue
		}
		at, e := p.d.sight.At(st.id.Ino)
		if e != nil {
			return e
		}
		mine := true
		for _, k := range at {
			if s, ok, e := p.d.sight.Get(k); e == nil && ok && st.is(s) {
				mine = untouched(st, s)
			}
		}
		if mine {
			err = errors.Join(err, unix.Unlinkat(fd, n, 0))
			continue
		}
		to := p.d.folder.ConflictName("rescued"+strings.TrimPrefix(n, "new"), 0)
		err = errors.Join(err, renameNew(fd, n, p.r.fd, to))
	}
	return err
}

// takeLeft looks at a directory that others have removed, and in which was only what is of
// this machine: it comes back when there is more.
func (p *pass) takeLeft(c *place, name string, s syncer.Seen, st stat) error {
	at := c.at(name)
	if st.kind == model.Dir {
		more, err := p.hasMore(c, name, 0)
		if err != nil {
			return p.unread(at, err)
		}
		if !more {
			st.see(&s)
			return p.d.sight.Set(at, s)
		}
	}
	if err := p.d.sight.Delete(at); err != nil {
		return err
	}
	return p.takeNew(c, name, st)
}
