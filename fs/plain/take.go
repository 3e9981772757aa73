package plain

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

const maxDepth = 2000 // directories in one another: a path has 4,095 bytes

// takeAll compares all of the directory with what was seen, and after a start with the folder.
func (p *pass) takeAll(tree bool) error {
	p.heldAgain()
	n := p.disk.of(syncer.RootIno)
	delete(p.disk, syncer.RootIno)
	if err := p.takeDir(syncer.RootIno, nil, n, tree, 0); err != nil {
		return err
	}
	return p.takeSome()
}

// takeSome compares what is to be looked at, and then takes out what is gone.
func (p *pass) takeSome() error {
	if len(p.disk) > 0 {
		p.heldAgain()
	}
	for len(p.disk) > 0 {
		dirs := p.disk
		p.disk = todo{}
		for _, dir := range slices.Sorted(maps.Keys(dirs)) {
			if err := p.ctx.Err(); err != nil {
				return err
			}
			if err := p.takeIn(dir, dirs[dir]); err != nil {
				return err
			}
		}
	}
	return p.takeGone()
}

// heldAgain has what is kept back looked at again: it may be there.
func (p *pass) heldAgain() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.held == nil {
		return
	}
	p.recheck = true
	for at := range p.d.held.at {
		p.gone[at] = p.d.held.since
	}
}

// takeIn looks at names of a directory. If it is not where it was, the one above tells.
func (p *pass) takeIn(dir syncer.Ino, n *names) error {
	g, err := p.ignoresOf(dir)
	if err != nil {
		at, e := p.d.sight.Of(dir)
		switch {
		case e != nil || len(at) == 0:
		case err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP:
			p.disk.add(at[0], true)
		default:
			p.d.trouble(at[0], p.name(at[0]), cannot("read", err))
			p.later[at[0]] = time.Now().Add(lookAgain)
		}
		return e
	}
	return p.takeDir(dir, g, n, false, 0)
}

// ignoresOf are the patterns that hold in a directory, but for its own.
func (p *pass) ignoresOf(dir syncer.Ino) (ignores, error) {
	if dir == syncer.RootIno {
		return nil, nil
	}
	at, err := p.d.sight.Of(dir)
	if err != nil {
		return nil, err
	}
	if len(at) == 0 {
		return nil, unix.ENOENT
	}
	g, err := p.ignoresOf(at[0].Dir)
	if err != nil {
		return nil, err
	}
	fd, err := p.open(at[0].Dir)
	if err != nil {
		return nil, err
	}
	name, _, err := p.path(at[0].Dir)
	if err != nil {
		return nil, err
	}
	return g.with(fd, name)
}

// A place is a directory that is being looked at.
type place struct {
	dir   syncer.Ino
	fd    int
	mount uint64 // that it is on, 0: the kernel does not say
	path  string
	g     ignores
	deep  bool // and all that is below
	tree  bool // and the folder too
	depth int
	found []found // new files, not made in the folder yet
}

func (c *place) at(name string) syncer.Place { return syncer.Place{Dir: c.dir, Name: name} }

// takeDir looks at names of a directory, with those of n.all at all of them and all below.
func (p *pass) takeDir(dir syncer.Ino, g ignores, n *names, tree bool, depth int) error {
	at := syncer.Place{Dir: dir}
	fd, err := p.open(dir)
	if err == nil && depth > maxDepth {
		err = unix.ENAMETOOLONG
	}
	name, _, perr := p.path(dir)
	if perr != nil {
		return perr
	}
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP { // the one above tells
		up, err := p.d.sight.Of(dir)
		if len(up) > 0 && depth == 0 {
			p.disk.add(up[0], true)
		}
		return err
	}
	if err != nil { // nothing in it counts as gone
		p.d.trouble(at, name, cannot("read", err))
		return nil
	}
	if fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	defer unix.Close(fd)
	c := &place{dir: dir, fd: fd, path: name, deep: n.all, tree: tree, depth: depth}
	if st, err := statFd(fd); err == nil {
		c.mount = st.mount
	}
	if c.g, err = g.with(fd, name); err != nil {
		p.d.trouble(syncer.Place{Dir: dir, Name: IgnoreFile}, path.Join(name, IgnoreFile), cannot("read", err))
		return nil // rather nothing than what is to be ignored
	}
	if !n.all {
		for _, name := range slices.Sorted(maps.Keys(n.set)) {
			s, ok, err := p.d.sight.Get(c.at(name))
			if err != nil {
				return err
			}
			if err := p.take(c, name, s, ok, n.set[name]); err != nil {
				return err
			}
		}
		return p.find(c)
	}
	if err := p.takeWhole(c); err != nil {
		return err
	}
	p.d.fine(at)
	return nil
}

// takeWhole looks at all names of a directory: those on disk and those seen, side by side.
func (p *pass) takeWhole(c *place) error {
	names, err := list(c.fd)
	if err != nil {
		p.d.trouble(c.at(""), c.path, cannot("read", err))
		return nil
	}
	i, shifts := 0, p.shifts
	var failed error
	step := func(name string, s syncer.Seen, seen bool) bool {
		if failed = p.ctx.Err(); failed == nil && seen && p.shifts != shifts { // rows have changed since the iterator began
			s, seen, failed = p.d.sight.Get(c.at(name))
		}
		if failed == nil {
			failed = p.take(c, name, s, seen, c.deep)
		}
		return failed == nil
	}
	err = p.d.sight.In(c.dir, func(name string, s syncer.Seen) bool {
		for ; i < len(names) && names[i] < name; i++ {
			if !step(names[i], syncer.Seen{}, false) {
				return false
			}
		}
		if i < len(names) && names[i] == name {
			i++
		}
		return step(name, s, true)
	})
	if err = cmp.Or(err, failed); err != nil {
		return err
	}
	for ; i < len(names); i++ {
		if !step(names[i], syncer.Seen{}, false) {
			return failed
		}
	}
	if err := p.find(c); err != nil {
		return err
	}
	if c.tree {
		return p.compare(c.dir)
	}
	return nil
}

// take looks at one name, and has the folder follow.
func (p *pass) take(c *place, name string, s syncer.Seen, seen, deep bool) error {
	if c.dir == syncer.RootIno && name == ours {
		return nil
	}
	at := c.at(name)
	st, err := statAt(c.fd, name)
	switch {
	case err == unix.ENOENT:
		if seen {
			p.goes(at)
		}
		return nil
	case err != nil: // not gone
		p.d.trouble(at, path.Join(c.path, name), cannot("read", err))
		return nil
	}
	if !seen || st.kind == s.Kind {
		delete(p.gone, at)
	}
	if was, known := p.ignoring[at]; name == IgnoreFile && !(seen && st.same(s)) && !(known && was.sameBytes(st)) {
		p.ignoring[at] = st
		p.disk.of(c.dir).all = true // what was ignored may not be any more
	}
	switch {
	case st.other || !c.sameDisk(p.r, st) || sharedMemory(c.fd, name):
		return nil
	case seen && s.Ino == 0:
		return p.takeLeft(c, name, s, st)
	case seen && st.same(s):
		p.d.fine(at)
		if st.kind == model.Dir && deep {
			return p.below(c, s)
		}
		if c.deep {
			p.placedToo(s)
		}
		return nil
	case p.d.folder.ReadOnly():
		if seen || !c.g.match(path.Join(c.path, name), st.kind == model.Dir) {
			p.d.trouble(at, path.Join(c.path, name), "was changed here, but this device may only read the folder")
		}
		return nil
	case seen:
		return p.takeChanged(c, name, s, st)
	}
	return p.takeNew(c, name, st)
}

// goes notes that what was seen at a name is not there, unless that is known.
func (p *pass) goes(at syncer.Place) {
	if _, known := p.gone[at]; !known {
		p.gone[at] = time.Now()
	}
}

// sharedMemory tells whether a file is what the programs on this machine that use a database
// share.
func sharedMemory(fd int, name string) bool {
	base, ok := strings.CutSuffix(name, model.SharedMemory)
	if !ok || base == "" {
		return false
	}
	_, err := statAt(fd, base)
	return err == nil
}

// sameDisk tells whether a file is on the disk of the directory, and not of what is mounted
// in it.
func (c *place) sameDisk(r *root, st stat) bool {
	return st.dev == r.dev && (st.mount == 0 || c.mount == 0 || c.mount == st.mount)
}

// below looks at all that is in a directory.
func (p *pass) below(c *place, s syncer.Seen) error {
	if s.Ino == 0 {
		return nil
	}
	delete(p.disk, s.Ino)
	return p.takeDir(s.Ino, c.g, &names{all: true}, c.tree, c.depth+1)
}

// rests tells whether a file can be read, and nobody is writing to it; if not, it is looked at
// again later.
func (p *pass) rests(c *place, name string, st stat) bool {
	if st.kind != model.File {
		return true
	}
	if time.Since(time.Unix(0, st.ctime)) > unclosed && readable(c.fd, name) { // whoever has it open
		return true
	}
	wait := settle
	switch writers(c.fd, name) {
	case nobody:
		if time.Since(time.Unix(0, st.ctime)) > tick || fineTimes {
			return true
		}
		wait = tick
	case unreadable:
		p.d.trouble(c.at(name), path.Join(c.path, name), cannot("read", unix.EACCES))
		p.later[c.at(name)] = time.Now().Add(lookAgain)
		return false
	case somebody:
		wait = unclosed
	}
	now, changed := time.Now(), time.Unix(0, st.ctime)
	until := changed.Add(wait)
	if until.Sub(now) > unclosed || !until.After(now) { // the first: another machine's clock
		return true
	}
	look := now.Add(settle)
	if now.Sub(changed) < settle { // it is being closed, perhaps: that is told a little too early
		look = now.Add(soon)
	}
	if look.Before(until) {
		until = look
	}
	p.later[c.at(name)] = until
	return false
}

// unread is for a name that the disk would not give or change.
func (p *pass) unread(at syncer.Place, err error) error {
	if errors.Is(err, unix.ENOENT) {
		p.disk.add(at, false)
		return nil
	}
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	p.d.trouble(at, p.name(at), cannot("read", err))
	p.later[at] = time.Now().Add(lookAgain)
	return nil
}

// refused is for what the folder would not take: it is tried again if that may change.
func (p *pass) refused(at syncer.Place, err error) error {
	if e := p.d.folder.Err(); e != nil {
		return e
	}
	switch {
	case errors.Is(err, syncer.ErrStale), errors.Is(err, syncer.ErrExist), errors.Is(err, syncer.ErrNotExist), errors.Is(err, syncer.ErrNotEmpty):
		p.later[at] = time.Now().Add(soon) // somebody was faster
		p.tree.add(at, true)
		return nil
	case errors.Is(err, syncer.ErrInvalid) && !p.crossed[at]: // into itself, until what others have moved is there
		p.crossed[at] = true
		p.later[at] = time.Now().Add(soon)
		p.tree.add(at, true)
		return nil
	case errors.Is(err, syncer.ErrInvalid), errors.Is(err, syncer.ErrFull):
		p.later[at] = time.Now().Add(lookAgain)
	}
	delete(p.crossed, at)
	p.d.trouble(at, p.name(at), err.Error())
	return nil
}

// cannot says what could not be done, and what to do.
func cannot(what string, err error) string {
	s := fmt.Sprintf("cannot %s it: %v", what, err)
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		s += " (let the user of the daemon do so: chmod or chown it)"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		s += " (make room)"
	case errors.Is(err, unix.EROFS):
		s += " (the disk is read-only)"
	}
	return s
}
