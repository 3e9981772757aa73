package plain

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What goes from one place on disk to another, since others have moved it.

// giveNew puts something at a name that was not there.
func (p *pass) giveNew(at syncer.Place, s syncer.Seen, seen bool, t syncer.Attr) error {
	d := p.d
	from, err := d.sight.Of(t.Ino)
	if err != nil {
		return err
	}
	if seen && len(from) == 0 && s.Kind == model.File && t.Kind == model.File { // it was given another number
		v, err := d.folder.Content(t.Ino)
		if err != nil {
			return err
		}
		if v.Orig == s.Orig && v.Orig != (model.Dot{}) {
			s.Ino = t.Ino
			p.row(at, &s)
			return nil
		}
	}
	if seen {
		free, err := p.makeWay(at, s, t, len(from) > 0)
		if err != nil || !free {
			return err
		}
		if s, seen, err = d.sight.Get(at); err != nil {
			return err
		}
		if seen && s.Ino == t.Ino { // it came as others left
			return p.giveChanged(at, s, t)
		}
		if from, err = d.sight.Of(t.Ino); err != nil {
			return err
		}
	}
	for _, k := range from {
		x, err := d.folder.Lookup(k.Dir, k.Name)
		if err != nil || x.Ino != t.Ino {
			return p.giveMove(at, k, t, s, seen)
		}
	}
	if len(from) > 0 && t.Kind != model.Dir {
		return p.giveLink(at, from[0], t)
	}
	return p.makeAt(at, s, seen, t)
}

// makeWay takes what was seen at a name to where it is now, or off the disk. A file is
// replaced by another without that.
func (p *pass) makeWay(at syncer.Place, s syncer.Seen, t syncer.Attr, moves bool) (free bool, err error) {
	d := p.d
	if to, _, ok := d.folder.Named(s.Ino); s.Ino != 0 && ok && to != at {
		if err := p.give(to); err != nil {
			return false, err
		}
		if now, still, err := d.sight.Get(at); err != nil || !still || now.Ino != s.Ino {
			return true, err
		}
		if now, there, err := d.sight.Get(to); err != nil || !there || now.Ino != s.Ino { // not yet
			if moves || err != nil {
				return true, err // then the two change places
			}
			return p.stepAside(at, s)
		}
	}
	if s.Kind != model.Dir && t.Kind != model.Dir && !moves && s.Kind == t.Kind {
		return true, nil
	}
	if s.Ino == 0 && t.Kind == model.Dir { // what is only of this machine is in it
		return true, nil
	}
	gone, err := p.remove(at, s)
	if err != nil || !gone {
		if err == nil {
			d.trouble(at, p.name(at), "something else is there that is only on this machine: move it away")
			p.again[at] = time.Now().Add(lookAgain)
		}
		return false, err
	}
	return true, p.flush()
}

// stepAside takes what is in the way to a name beside it for a moment: where it goes is not
// there yet, perhaps below what comes.
func (p *pass) stepAside(at syncer.Place, s syncer.Seen) (free bool, err error) {
	if err := p.flush(); err != nil {
		return false, err
	}
	fd, err := p.open(at.Dir)
	if err != nil {
		return false, p.ungiven(at, err)
	}
	if st, err := statAt(fd, at.Name); err != nil || !st.is(s) {
		return false, p.changedHere(at)
	}
	to := syncer.Place{Dir: at.Dir, Name: ours + "-" + p.d.partName()}
	err = renameNew(fd, at.Name, fd, to.Name)
	if err == nil {
		err = unix.Fsync(fd)
	}
	if err != nil {
		return false, p.ungiven(at, err)
	}
	if st, err := statAt(fd, to.Name); err == nil && untouched(st, s) {
		st.seeMoved(&s)
	}
	p.moved()
	p.again[to] = time.Now().Add(soon)
	return true, errors.Join(p.d.sight.Delete(at), p.d.sight.Set(to, s))
}

// giveMove moves what is on disk to where it is in the folder.
func (p *pass) giveMove(at, from syncer.Place, t syncer.Attr, over syncer.Seen, exchange bool) error {
	d := p.d
	if err := p.flush(); err != nil {
		return err
	}
	s, ok, err := d.sight.Get(from)
	if err != nil || !ok || s.Ino != t.Ino {
		p.again[at] = time.Now().Add(soon)
		return err
	}
	ofd, nfd, err := p.openBoth(from.Dir, at.Dir)
	if err != nil {
		return p.ungiven(at, err)
	}
	if st, err := statAt(ofd, from.Name); err != nil || !st.is(s) {
		p.disk.add(from, true) // its user has moved or changed it too
		p.again[at] = time.Now().Add(goneFor)
		return nil
	}
	if exchange {
		err = unix.Renameat2(ofd, from.Name, nfd, at.Name, unix.RENAME_EXCHANGE)
	} else {
		err = renameNew(ofd, from.Name, nfd, at.Name)
	}
	switch err {
	case nil:
	case unix.EINVAL, unix.ENOSYS: // a disk that cannot exchange
		if !exchange {
			return p.ungiven(at, err)
		}
		if free, err := p.stepAside(at, over); err != nil || !free {
			return err
		}
		p.againIn(soon, at)
		return nil
	case unix.EEXIST: // its user has made something there just now
		return p.changedHere(at)
	default:
		return p.ungiven(at, err)
	}
	if err := errors.Join(unix.Fsync(ofd), unix.Fsync(nfd)); err != nil {
		return p.ungiven(at, err)
	}
	p.moved()
	if err := d.sight.Delete(from); err != nil {
		return err
	}
	if exchange {
		if err := d.sight.Set(from, over); err != nil {
			return err
		}
		delete(p.done, from)
		p.tree.add(from, true)
	}
	if st, there, err := p.stat(at); err == nil && there && untouched(st, s) {
		st.seeMoved(&s)
	}
	if err := d.sight.Set(at, s); err != nil {
		return err
	}
	d.fine(at)
	if t.Kind != model.Dir {
		return p.giveChanged(at, s, t)
	}
	p.lookTwice(t.Ino)
	p.tree.of(t.Ino).all = true // what is in it may have waited for it
	return nil
}

// giveLink gives a file on disk a further name.
func (p *pass) giveLink(at, from syncer.Place, t syncer.Attr) error {
	d := p.d
	s, ok, err := d.sight.Get(from)
	if err != nil || !ok {
		p.again[at] = time.Now().Add(soon)
		return err
	}
	ofd, nfd, err := p.openBoth(from.Dir, at.Dir)
	if err != nil {
		return p.ungiven(at, err)
	}
	switch err := unix.Linkat(ofd, from.Name, nfd, at.Name, 0); err {
	case nil:
	case unix.EEXIST:
		return p.changedHere(at)
	case unix.EPERM, unix.EMLINK, unix.ENOTSUP, unix.EXDEV: // a disk without them has two files
		return p.makeAt(at, syncer.Seen{}, false, t)
	default:
		return p.ungiven(at, err)
	}
	st, err := statAt(nfd, at.Name)
	if err != nil || !untouched(st, s) {
		p.disk.add(at, true)
		return nil
	}
	if err := unix.Fsync(nfd); err != nil {
		return p.ungiven(at, err)
	}
	if err := p.all(t.Ino, st.seeMoved); err != nil {
		return err
	}
	st.seeMoved(&s)
	return d.sight.Set(at, s)
}
