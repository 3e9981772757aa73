package plain

import (
	"errors"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What is new on disk, or was changed, and how the folder follows.

// takeNew takes in what was never seen under a name.
func (p *pass) takeNew(c *place, name string, st stat) error {
	d, at := p.d, c.at(name)
	if c.g.match(path.Join(c.path, name), st.kind == model.Dir) {
		return nil
	}
	if done, err := p.takeMoved(c, name, syncer.Seen{}, st); done || err != nil {
		return err
	}
	if !p.rests(c, name, st) {
		return nil
	}
	t, err := d.folder.Lookup(c.dir, name)
	switch {
	case err == nil:
		return p.meet(c, name, st, t)
	case !errors.Is(err, syncer.ErrNotExist):
		return p.refused(at, err)
	}
	if st.kind != model.File && d.first && d.folder.Expects(at) { // it may be the same
		p.later[at] = time.Now().Add(tryAgain)
		return nil
	}
	return p.create(c, name, st)
}

// create makes a name in the folder.
func (p *pass) create(c *place, name string, st stat) error {
	d, at := p.d, c.at(name)
	n := syncer.New{Kind: st.kind, Mode: st.mode & 0o777}
	n.UID, n.GID = d.owner()
	if st.kind == model.File {
		c.found = append(c.found, found{at, n, st})
		if st.nlink > 1 || len(c.found) == foundMost { // its other names are to see it
			return p.find(c)
		}
		return nil
	}
	if st.kind == model.Symlink {
		var err error
		if n.Target, err = readlink(c.fd, name); err != nil {
			return p.unread(at, err)
		}
	}
	a, err := d.folder.Create(c.dir, name, n)
	if err != nil {
		return p.refused(at, err)
	}
	s := syncer.Seen{Ino: a.Ino, TreeMode: a.Mode, TreeMtime: a.Mtime}
	st.see(&s)
	if err := d.sight.Set(at, s); err != nil {
		return err
	}
	p.d.fine(at)
	if st.kind == model.Dir {
		p.lookTwice(a.Ino)
		return p.below(c, s)
	}
	return nil
}

// A found is a new file, to be made in the folder with the others of its directory.
type found struct {
	at syncer.Place
	n  syncer.New
	st stat
}

const foundMost = 64 // made at once

// find makes in the folder the files that were found in a directory.
func (p *pass) find(c *place) error {
	d, files := p.d, c.found
	c.found = nil
	if len(files) == 0 {
		return nil
	}
	req := make([]syncer.Found, len(files))
	d.mu.Lock()
	for i, x := range files {
		d.gen++
		req[i] = syncer.Found{Name: x.at.Name, New: x.n, Wait: d.first, Dirty: syncer.DirtyState{
			Gen: d.gen, From: d.gen, Size: x.st.size, Alloc: x.st.alloc, Mtime: x.st.mtime}}
	}
	d.mu.Unlock()
	as, errs := d.folder.Find(c.dir, req, func(as []syncer.Attr, errs []error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i, x := range files {
			if errs[i] == nil {
				d.pending[as[i].Ino] = &pending{gen: req[i].Dirty.Gen, was: x.st, at: x.at}
			}
		}
	})
	var rows []syncer.Sighting
	for i, x := range files {
		if errs[i] != nil {
			continue
		}
		s := syncer.Seen{Ino: as[i].Ino, TreeMode: as[i].Mode, TreeMtime: as[i].Mtime}
		x.st.see(&s)
		s.Ctime = 0 // not cut: after a crash it is looked at again
		if xerr := p.takeXattrs(c.fd, x.at.Name, &s); xerr != nil {
			return xerr
		}
		rows = append(rows, syncer.Sighting{At: x.at, Seen: s})
	}
	if err := d.sight.SetAll(rows); err != nil {
		return err
	}
	for i, x := range files {
		switch err := errs[i]; {
		case err == nil:
			d.fine(x.at)
		case errors.Is(err, syncer.ErrExpected): // it may be the same
			p.later[x.at] = time.Now().Add(tryAgain)
		default:
			if err := p.refused(x.at, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// meet is for a name that is on disk and in the folder, and was never seen: if it is the same
// on both it is seen now, and else that on disk goes aside.
func (p *pass) meet(c *place, name string, st stat, t syncer.Attr) error {
	d, at := p.d, c.at(name)
	same, v, err := p.equal(c.fd, name, st, t)
	if err != nil {
		return p.unread(at, err)
	}
	switch {
	case same:
		return p.adopt(c, name, st, t, v)
	case t.Kind == model.File && st.kind == model.File && v.Orig == (model.Dot{}) && p.unseen(t.Ino): // made here, just before a crash
		s := syncer.Seen{Ino: t.Ino, Orig: v.Orig, TreeMode: t.Mode, TreeMtime: t.Mtime}
		st.see(&s)
		s.Ctime = 0
		if err := d.sight.Set(at, s); err != nil {
			return err
		}
		return p.stage(at, t.Ino, st, v)
	}
	return p.aside(c, name)
}

// unseen tells whether an inode is nowhere on disk.
func (p *pass) unseen(ino syncer.Ino) bool {
	at, err := p.d.sight.Of(ino)
	return err == nil && len(at) == 0
}

// adopt says that a name on disk shows what the folder has there.
func (p *pass) adopt(c *place, name string, st stat, t syncer.Attr, v syncer.Version) error {
	d, at := p.d, c.at(name)
	s := syncer.Seen{Ino: t.Ino, Orig: v.Orig, TreeMode: st.mode, TreeMtime: st.mtime}
	st.see(&s)
	if err := d.sight.Set(at, s); err != nil {
		return err
	}
	d.fine(at)
	p.drop(t.Ino, at)
	if st.kind == model.File {
		p.placed(st.id.Ino, v)
	}
	if st.kind != model.Dir {
		p.tree.add(at, false) // mode and time
		return nil
	}
	p.lookTwice(t.Ino)
	if err := p.below(c, s); err != nil {
		return err
	}
	p.tree.of(t.Ino).all = true
	return nil
}

// aside gives what is on disk another name, under which it is taken in: the folder has
// something else here that its user has never seen.
func (p *pass) aside(c *place, name string) error {
	_, err := p.asideTo(c, name)
	return err
}

// asideTo is aside; false: it could not be.
func (p *pass) asideTo(c *place, name string) (bool, error) {
	d := p.d
	for n := range 1000 {
		to := d.folder.ConflictName(name, n)
		err := renameNew(c.fd, name, c.fd, to)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return false, p.unread(c.at(name), err)
		}
		d.log.Info("a file on disk and another of the folder have one name: that on disk has another now")
		p.disk.add(c.at(to), true)
		p.tree.add(c.at(name), true)
		return true, nil
	}
	return false, p.unread(c.at(name), unix.EEXIST)
}

// takeChanged takes in what was seen under a name and is otherwise now.
func (p *pass) takeChanged(c *place, name string, s syncer.Seen, st stat) error {
	at := c.at(name)
	if st.kind != s.Kind && s.Kind == model.Dir { // all that was in it is gone, or elsewhere
		p.goes(at)
		return nil
	}
	if st.kind != s.Kind {
		if !p.rests(c, name, st) {
			return nil
		}
		if err := p.removeSeen(at); err != nil {
			return err
		}
		return p.takeNew(c, name, st)
	}
	switch st.kind {
	case model.Dir:
		return p.takeChangedDir(c, name, s, st)
	case model.Symlink:
		return p.takeChangedLink(c, name, s, st)
	}
	return p.takeChangedFile(c, name, s, st)
}

func (p *pass) takeChangedDir(c *place, name string, s syncer.Seen, st stat) error {
	at := c.at(name)
	if !st.is(s) {
		if done, err := p.takeMoved(c, name, s, st); done || err != nil {
			return err
		}
		p.lookTwice(s.Ino)
	}
	if st.mode != s.Mode {
		p.setMode(s.Ino, st, &s)
	}
	st.see(&s)
	if err := p.d.sight.Set(at, s); err != nil {
		return err
	}
	p.moved()
	return p.below(c, s)
}

func (p *pass) takeChangedLink(c *place, name string, s syncer.Seen, st stat) error {
	d, at := p.d, c.at(name)
	is, err := readlink(c.fd, name)
	if err != nil {
		return p.unread(at, err)
	}
	was, err := d.folder.Readlink(s.Ino)
	if err == nil && is == was {
		st.see(&s)
		return d.sight.Set(at, s)
	}
	if err := p.removeSeen(at); err != nil {
		return err
	}
	return p.takeNew(c, name, st)
}

// takeChangedFile takes in a file that was written to, or replaced: an edit of what was seen
// at its path.
func (p *pass) takeChangedFile(c *place, name string, s syncer.Seen, st stat) error {
	d, at := p.d, c.at(name)
	if !p.rests(c, name, st) {
		return nil
	}
	x := d.waits(s.Ino)
	if x != nil && x.was.sameBytes(st) && st.mode == s.Mode {
		return nil // it is being cut
	}
	a, err := d.folder.Attr(s.Ino)
	if errors.Is(err, syncer.ErrNotExist) || err == nil && a.Nlink == 0 { // others have removed it: an edit brings it back
		if err := p.unseeAll(at); err != nil {
			return err
		}
		return p.takeNew(c, name, st)
	}
	if err != nil {
		return p.refused(at, err)
	}
	if a.Nlink > 1 && !st.is(s) { // another file, of which the other names do not know
		if err := p.removeSeen(at); err != nil {
			return err
		}
		return p.takeNew(c, name, st)
	}
	chmod := st.mode != s.Mode
	if chmod {
		p.setMode(s.Ino, st, &s)
	}
	if err := p.takeXattrs(c.fd, name, &s); err != nil {
		return err
	}
	if chmod && s.Ctime != 0 && renamed(st, seenStat(s)) { // no more than that
		st.see(&s)
		p.tree.add(at, false)
		return d.sight.Set(at, s)
	}
	v, err := d.folder.Content(s.Ino)
	if err != nil {
		return p.refused(at, err)
	}
	if x == nil && a.Size == st.size && s.Ctime != 0 { // perhaps only touched, or others wrote the same
		same, err := p.sameContent(c.fd, name, v)
		if err != nil {
			return p.unread(at, err)
		}
		if same {
			return p.touch(at, s, st, v)
		}
	}
	base := v
	if x != nil {
		base = x.base
	} else if v.Orig != s.Orig && !d.folder.Ours(v) {
		base = syncer.Version{Orig: s.Orig}
		base.Content.Cut = v.Content.Cut
	}
	if err := d.sight.Set(at, s); err != nil {
		return err
	}
	return p.stage(at, s.Ino, st, base)
}

// touch takes in that a file has the bytes it had, and perhaps another time.
func (p *pass) touch(at syncer.Place, s syncer.Seen, st stat, v syncer.Version) error {
	d := p.d
	if st.mtime != s.Mtime && v.Orig == s.Orig {
		a, err := d.folder.SetAttr(s.Ino, syncer.Set{Mtime: &st.mtime})
		if err != nil {
			return p.refused(at, err)
		}
		s.TreeMtime = a.Mtime
	}
	old := s
	st.see(&s)
	s.Orig = v.Orig
	p.tree.add(at, false)
	if err := d.sight.Set(at, s); err != nil {
		return err
	}
	p.placed(st.id.Ino, v)
	if old.File == s.File {
		return nil
	}
	return p.left(old)
}

// setMode tells the folder of a chmod.
func (p *pass) setMode(ino syncer.Ino, st stat, s *syncer.Seen) {
	mode := s.TreeMode&^0o777 | st.mode&0o777
	if a, err := p.d.folder.SetAttr(ino, syncer.Set{Mode: &mode}); err == nil {
		s.TreeMode = a.Mode
	}
	s.Mode = st.mode
}

// takeXattrs tells the folder of the extended attributes of a file. Who may not read them has
// none.
func (p *pass) takeXattrs(fd int, name string, s *syncer.Seen) error {
	at, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // its bytes cannot be read either, and that is told
	}
	defer unix.Close(at)
	is, err := userXattrs(at)
	if err != nil || is == nil || sumXattrs(is) == s.Attrs { // others may have changed them
		return nil
	}
	s.Attrs = sumXattrs(is)
	f, ino := p.d.folder, s.Ino
	known, err := f.Listxattr(ino)
	if err != nil {
		return err
	}
	for _, n := range known {
		if _, ok := is[n]; !ok && len(n) > 5 && n[:5] == "user." {
			err = errors.Join(err, f.Removexattr(ino, n))
		}
	}
	for n, val := range is {
		err = errors.Join(err, f.Setxattr(ino, n, val, 0))
	}
	if err != nil {
		p.d.log.Warn("extended attributes not taken in", "err", err)
	}
	return nil
}

// stage tells the folder that a file has bytes to be cut.
func (p *pass) stage(at syncer.Place, ino syncer.Ino, st stat, base syncer.Version) error {
	d := p.d
	gen := d.wait(ino, st, base)
	err := d.folder.Dirty(ino, syncer.DirtyState{Gen: gen, From: gen, Base: base.Orig, Size: st.size, Alloc: st.alloc, Mtime: st.mtime, Ctime: time.Now().UnixNano()})
	if err != nil {
		d.forget(ino)
		p.unblock(ino)
		return p.refused(at, err)
	}
	d.folder.Closed(ino)
	return nil
}
