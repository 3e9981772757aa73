package plain

import (
	"errors"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// compare finds where a directory of the folder is not as it was last written.
func (p *pass) compare(dir syncer.Ino) error {
	d := p.d
	there := map[string]bool{}
	var failed error
	err := d.folder.List(dir, 0, func(e syncer.Entry) bool {
		at := syncer.Place{Dir: dir, Name: e.Name}
		there[e.Name] = true
		s, ok, err := d.sight.Get(at)
		if err != nil {
			failed = err
			return false
		}
		if !ok || s.Ino != e.Attr.Ino {
			p.tree.add(at, true)
			return true
		}
		if p.differs(e.Attr, s) {
			p.tree.add(at, false)
		}
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	return d.sight.In(dir, func(name string, s syncer.Seen) bool {
		if !there[name] && s.Ino != 0 {
			p.tree.add(syncer.Place{Dir: dir, Name: name}, true)
		}
		return true
	})
}

// differs tells whether an inode is otherwise than it was written.
func (p *pass) differs(t syncer.Attr, s syncer.Seen) bool {
	if t.Mode&0o777 != s.TreeMode&0o777 {
		return true
	}
	if t.Kind == model.Dir {
		return false
	}
	if t.Mtime != s.TreeMtime {
		return true
	}
	if t.Kind == model.Symlink {
		return t.Size != s.Size
	}
	v, err := p.d.folder.Content(t.Ino)
	return err != nil || v.Orig != s.Orig
}

// giveSome writes what others have changed.
func (p *pass) giveSome() error {
	now := time.Now()
	for at, t := range p.again {
		if !t.After(now) {
			delete(p.again, at)
			p.tree.add(at, true)
		}
	}
	p.done = map[syncer.Place]bool{}
	for len(p.tree) > 0 {
		dirs := p.tree
		p.tree = todo{}
		for _, dir := range slices.Sorted(maps.Keys(dirs)) {
			if err := p.giveIn(dir, dirs[dir]); err != nil {
				return err
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) giveIn(dir syncer.Ino, n *names) error {
	if n.all {
		if err := p.compare(dir); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.set)) {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.give(syncer.Place{Dir: dir, Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// give makes a name on disk what the folder has there.
func (p *pass) give(at syncer.Place) error {
	if p.done[at] || p.made[at] {
		return nil
	}
	p.done[at] = true
	d := p.d
	s, seen, err := d.sight.Get(at)
	if err != nil {
		return err
	}
	t, terr := d.folder.Lookup(at.Dir, at.Name)
	if terr != nil && !errors.Is(terr, syncer.ErrNotExist) {
		return terr
	}
	switch _, there, err := p.path(at.Dir); {
	case err != nil:
		return err
	case !there && terr != nil: // its directory was removed
		return nil
	case !there:
		return p.giveUp(at)
	}
	there := terr == nil
	if there && p.afterCut(at, t.Ino) || seen && p.afterCut(at, s.Ino) {
		return nil
	}
	switch {
	case !there && (!seen || s.Ino == 0):
		d.fine(at)
		return nil
	case !there:
		return p.giveGone(at, s)
	case seen && s.Ino == t.Ino:
		return p.giveChanged(at, s, t)
	}
	return p.giveNew(at, s, seen, t)
}

// afterCut tells whether a file has bytes that are to be cut first, and has the name given then.
func (p *pass) afterCut(at syncer.Place, ino syncer.Ino) bool {
	if ino == 0 || p.d.waits(ino) == nil {
		return false
	}
	p.blocked[ino] = append(p.blocked[ino], at)
	return true
}

// againIn has names given again, those that are to be later only then.
func (p *pass) againIn(wait time.Duration, names ...syncer.Place) {
	then := time.Now().Add(wait)
	for _, at := range names {
		if later, ok := p.again[at]; ok && later.After(then) {
			then = later
		}
	}
	for _, at := range names {
		p.again[at] = then
	}
}

// unblock has the names given that waited for a file to be cut.
func (p *pass) unblock(ino syncer.Ino) {
	for _, at := range p.blocked[ino] {
		p.tree.add(at, true)
	}
	delete(p.blocked, ino)
}

// giveUp writes the directory first that a name is in.
func (p *pass) giveUp(at syncer.Place) error {
	up, _, ok := p.d.folder.Named(at.Dir)
	if !ok {
		return nil
	}
	delete(p.done, at)
	p.tree.add(up, true)
	return nil
}

// giveGone removes from disk what others have removed, or moved.
func (p *pass) giveGone(at syncer.Place, s syncer.Seen) error {
	if to, _, ok := p.d.folder.Named(s.Ino); ok && to != at {
		if err := p.give(to); err != nil {
			return err
		}
		if now, still, err := p.d.sight.Get(at); err != nil || !still || now.Ino != s.Ino {
			return err
		}
		if now, there, err := p.d.sight.Get(to); err != nil || !there || now.Ino != s.Ino { // not yet
			p.againIn(soon, at, to)
			return err
		}
	}
	_, err := p.remove(at, s)
	return err
}

// remove takes a name from disk that is as it was seen.
func (p *pass) remove(at syncer.Place, s syncer.Seen) (gone bool, err error) {
	if s.Kind == model.Dir {
		return p.removeDir(at, s)
	}
	fd, err := p.open(at.Dir)
	if err != nil {
		return false, p.ungiven(at, err)
	}
	gone, err = p.takeAway(fd, at, s)
	if err != nil || !gone {
		return gone, err
	}
	p.row(at, nil)
	return true, nil
}

// asSeen tells whether something is at a name, and is as it was seen there, and no program has
// it open for writing: who has goes on with what he has, and what he writes counts. If it is
// not, it is tried again.
func (p *pass) asSeen(fd int, at syncer.Place, s syncer.Seen) (there, ok bool, err error) {
	st, err := statAt(fd, at.Name)
	switch {
	case err == unix.ENOENT:
		return false, false, nil
	case err != nil:
		return true, false, p.ungiven(at, err)
	case !st.same(s):
		return true, false, p.changedHere(at)
	case s.Kind == model.File && writers(fd, at.Name) == somebody:
		p.again[at] = time.Now().Add(settle)
		return true, false, nil
	}
	return true, true, nil
}

// takeAway moves a file among those in the making, and deletes it if it is what was seen there.
func (p *pass) takeAway(fd int, at syncer.Place, s syncer.Seen) (gone bool, err error) {
	if there, ok, err := p.asSeen(fd, at, s); err != nil || !ok {
		return err == nil && !there, err
	}
	parts, err := p.r.parts()
	if err != nil {
		return false, p.ungiven(at, err)
	}
	defer unix.Close(parts)
	p.keep(s, 0)
	name := p.d.partName()
	if err := unix.Renameat(fd, at.Name, parts, name); err != nil { // nothing has that name
		return false, p.ungiven(at, err)
	}
	if is, err := statAt(parts, name); err != nil || !untouched(is, s) || s.Kind == model.File && writers(parts, name) == somebody { // a program was faster
		return false, errors.Join(p.rescue(parts, name, fd, at), p.changedHere(at))
	}
	if err := unix.Unlinkat(parts, name, 0); err != nil {
		return false, p.ungiven(at, err)
	}
	return true, nil
}

// rescue puts back what was taken away, under another name if its own is taken by now.
func (p *pass) rescue(parts int, name string, fd int, at syncer.Place) error {
	err := renameNew(parts, name, fd, at.Name)
	for n := 0; err == unix.EEXIST && n < 1000; n++ {
		to := p.d.folder.ConflictName(at.Name, n)
		if err = renameNew(parts, name, fd, to); err == nil {
			p.disk.add(syncer.Place{Dir: at.Dir, Name: to}, true)
		}
	}
	return err
}

// untouched tells whether a file that was renamed since it was looked at is otherwise as it was.
func untouched(is stat, s syncer.Seen) bool {
	return is.is(s) && is.size == s.Size && is.mtime == s.Mtime
}

// changedHere is for a name that others have changed and its user too: his change is taken in
// first.
func (p *pass) changedHere(at syncer.Place) error {
	if p.d.folder.ReadOnly() {
		fd, err := p.open(at.Dir)
		if err != nil {
			return p.ungiven(at, err)
		}
		done, err := p.asideTo(&place{dir: at.Dir, fd: fd}, at.Name)
		if err != nil || !done {
			p.again[at] = time.Now().Add(lookAgain)
			return err
		}
		if err := p.unseeAll(at); err != nil {
			return err
		}
		delete(p.done, at)
		return nil
	}
	p.disk.add(at, true)
	p.again[at] = time.Now().Add(soon)
	return nil
}

// ungiven is for a name that could not be written: it is tried again.
func (p *pass) ungiven(at syncer.Place, err error) error {
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) { // its directory: its user has moved it, perhaps
		if e := p.r.check(p.d.mark); e != nil {
			return e
		}
		if up, e := p.d.sight.Of(at.Dir); e == nil && len(up) > 0 {
			p.disk.add(up[0], true)
		}
		p.again[at] = time.Now().Add(tryAgain)
		return nil
	}
	if errors.Is(err, syncer.ErrNotExist) { // others have removed it just now
		p.again[at] = time.Now().Add(soon)
		return nil
	}
	wait := lookAgain
	if errors.Is(err, syncer.ErrOffline) || errors.Is(err, unix.EAGAIN) {
		wait = tryAgain
	}
	p.d.trouble(at, p.name(at), cannot("write", err))
	p.again[at] = time.Now().Add(wait)
	return nil
}

// owner is who owns what others make.
func (d *Dir) owner() (uid, gid uint32) { return uint32(os.Geteuid()), uint32(os.Getegid()) }
