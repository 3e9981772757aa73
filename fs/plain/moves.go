package plain

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A file that turns up where it was not seen, and is not where it was, was moved: its number
// on the disk tells. But what takes a name keeps its place: a program that renames a file to
// a backup and writes it anew has edited it.

// takeMoved takes in a move or a further name; over is what was seen at the new place.
func (p *pass) takeMoved(c *place, name string, over syncer.Seen, st stat) (done bool, err error) {
	d, at := p.d, c.at(name)
	places, err := d.sight.At(st.id.Ino)
	if err != nil {
		return false, err
	}
	for _, from := range places {
		s, ok, err := d.sight.Get(from)
		if err != nil {
			return false, err
		}
		if !ok || from == at || !st.is(s) || s.Ino == 0 {
			continue
		}
		is, there, err := p.stat(from)
		if err != nil {
			return false, err
		}
		switch {
		case there && is.id == st.id && st.kind == model.File:
			return p.takeLink(c, name, s, st)
		case there && is.id == st.id: // a directory that is seen twice
			continue
		case there && is.kind == st.kind && st.kind != model.Dir:
			continue // path first
		}
		return p.takeMove(c, name, from, s, over, st)
	}
	return false, nil
}

// stat looks where something was seen.
func (p *pass) stat(at syncer.Place) (st stat, there bool, err error) {
	fd, err := p.open(at.Dir)
	if err == nil {
		st, err = statAt(fd, at.Name)
	}
	switch err {
	case nil:
		return st, true, nil
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return st, false, nil
	}
	return st, true, nil // it cannot be known: so it was not moved
}

// takeMove moves an inode of the folder to where its file is now.
func (p *pass) takeMove(c *place, name string, from syncer.Place, s, over syncer.Seen, st stat) (done bool, err error) {
	d, at := p.d, c.at(name)
	src, _, ok := d.folder.Named(s.Ino)
	if !ok { // others have removed it
		return false, p.unseeAll(from)
	}
	exchange := over.Ino != 0
	if src != at {
		if err := d.folder.RenameSeen(src, s.Ino, at, over, exchange); err != nil {
			if errors.Is(err, syncer.ErrExist) || errors.Is(err, syncer.ErrStale) && over.Ino == 0 {
				if t, lerr := d.folder.Lookup(at.Dir, at.Name); lerr == nil && t.Ino != s.Ino { // never seen: that on disk goes aside
					return true, p.aside(c, name)
				}
			}
			return true, p.refused(at, err)
		}
	}
	p.shifts++
	d.elsewhere(s.Ino)
	d.elsewhere(over.Ino)
	if err := d.sight.Delete(from); err != nil {
		return true, err
	}
	delete(p.gone, from)
	if exchange {
		if err := d.sight.Set(from, over); err != nil {
			return true, err
		}
	}
	if st.size == s.Size && st.mtime == s.Mtime || st.kind != model.File {
		st.seeMoved(&s)
	}
	if err := d.sight.Set(at, s); err != nil {
		return true, err
	}
	p.moved()
	if st.kind == model.Dir {
		p.lookTwice(s.Ino)
		p.tree.of(s.Ino).all = true // what is in it may have waited for it
	}
	p.disk.add(at, st.kind == model.Dir) // what else has changed
	p.disk.add(from, true)
	p.tree.add(from, true)
	p.tree.add(at, false) // others may have changed it where it was
	return true, nil
}

// takeLink gives an inode of the folder a further name.
func (p *pass) takeLink(c *place, name string, s syncer.Seen, st stat) (done bool, err error) {
	d, at := p.d, c.at(name)
	if t, err := d.folder.Lookup(c.dir, name); err == nil && t.Ino == s.Ino {
		// it is one already
	} else if err == nil {
		return false, nil // meet
	} else if _, err := d.folder.Link(s.Ino, c.dir, name); err != nil {
		if errors.Is(err, syncer.ErrNotExist) {
			return false, nil
		}
		return true, p.refused(at, err)
	}
	d.elsewhere(s.Ino)
	if st.size == s.Size && st.mtime == s.Mtime {
		st.seeMoved(&s)
		if err := p.all(s.Ino, st.seeMoved); err != nil {
			return true, err
		}
	}
	return true, d.sight.Set(at, s)
}

// all changes what is seen at all names of an inode.
func (p *pass) all(ino syncer.Ino, change func(*syncer.Seen)) error {
	at, err := p.d.sight.Of(ino)
	if err != nil {
		return err
	}
	for _, k := range at {
		s, ok, err := p.d.sight.Get(k)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		change(&s)
		if err := p.d.sight.Set(k, s); err != nil {
			return err
		}
	}
	return nil
}

// takeGone removes what has been gone for a while, unless it is much. As long as more goes it
// waits, so that much is seen as much.
func (p *pass) takeGone() error {
	var due []syncer.Place
	last, first := time.Time{}, time.Now()
	for at, since := range p.gone {
		s, seen, err := p.d.sight.Get(at)
		if err != nil {
			return err
		}
		st, there, err := p.stat(at)
		if err != nil {
			return err
		}
		there = there && !(s.Kind == model.Dir && st.id.Ino != 0 && st.kind != model.Dir)
		if there || !seen {
			if delete(p.gone, at); there {
				p.disk.add(at, true)
			}
			continue
		}
		due = append(due, at)
		if since.After(last) {
			last = since
		}
		if since.Before(first) {
			first = since
		}
	}
	if len(due) == 0 && p.recheck {
		p.release()
	}
	p.recheck = false
	if len(due) == 0 || time.Since(last) < goneFor && time.Since(first) < goneMost {
		return nil
	}
	clear(p.gone)
	if err := p.r.check(p.d.mark); err != nil { // nothing is gone of a disk that is
		p.whole = true
		return err
	}
	if p.d.folder.ReadOnly() {
		for _, at := range due {
			p.d.trouble(at, p.name(at), "was removed here, but this device may only read the folder")
		}
		return nil
	}
	due, err := p.many(due)
	if err != nil {
		return err
	}
	slices.SortFunc(due, func(a, b syncer.Place) int { return int(int64(a.Dir) - int64(b.Dir)) })
	for _, at := range due {
		if err := p.removeSeen(at); err != nil {
			return err
		}
		p.disk.add(at, true) // something else may be there
	}
	return nil
}

// removeSeen removes from the folder what was seen at a name, and below it, as far as it is
// what was seen: what others have changed comes back.
func (p *pass) removeSeen(at syncer.Place) error {
	d := p.d
	s, ok, err := d.sight.Get(at)
	if err != nil || !ok {
		return err
	}
	if err := p.eachSeen(s, p.removeSeen); err != nil {
		return err
	}
	if s.Ino != 0 {
		t, err := d.folder.Lookup(at.Dir, at.Name)
		if err == nil && t.Ino == s.Ino {
			err = d.folder.RemoveSeen(at, s)
		}
		if err != nil && !errors.Is(err, syncer.ErrNotExist) && !errors.Is(err, syncer.ErrStale) && !errors.Is(err, syncer.ErrNotEmpty) {
			return p.refused(at, err)
		}
	}
	p.d.fine(at)
	return p.unset(at)
}

// eachSeen does something with all that was seen in a directory, which may change its rows.
func (p *pass) eachSeen(s syncer.Seen, do func(syncer.Place) error) error {
	if s.Kind != model.Dir || s.Ino == 0 {
		return nil
	}
	var below []syncer.Place
	err := p.d.sight.In(s.Ino, func(name string, _ syncer.Seen) bool {
		below = append(below, syncer.Place{Dir: s.Ino, Name: name})
		return true
	})
	for _, at := range below {
		if err != nil {
			break
		}
		err = do(at)
	}
	return err
}

// unset says that nothing is seen at a name. What was there and not cut is gone, or will be
// found elsewhere.
func (p *pass) unset(at syncer.Place) error {
	d := p.d
	s, ok, err := d.sight.Get(at)
	if err != nil || !ok {
		return err
	}
	p.shifts++
	if err := d.sight.Delete(at); err != nil || s.Ino == 0 {
		return err
	}
	p.tree.add(at, true)
	if to, _, ok := d.folder.Named(s.Ino); ok {
		p.tree.add(to, true)
	}
	if s.Kind != model.File {
		return nil
	}
	if names, err := d.sight.Of(s.Ino); err != nil || len(names) > 0 {
		return err
	}
	if err := p.left(s); err != nil || d.waits(s.Ino) == nil {
		return err
	}
	d.forget(s.Ino)
	p.unblock(s.Ino)
	if err := d.folder.Clean(s.Ino); err != nil && !errors.Is(err, syncer.ErrNotExist) {
		return err
	}
	return nil
}

// unseeAll forgets what was seen at a name and below.
func (p *pass) unseeAll(at syncer.Place) error {
	s, ok, err := p.d.sight.Get(at)
	if err != nil || !ok {
		return err
	}
	if err := p.eachSeen(s, p.unseeAll); err != nil {
		return err
	}
	p.moved()
	return p.unset(at)
}
