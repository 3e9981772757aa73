package plain

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
)

// One turn of the loop.

// gather takes what others have told since the last turn.
func (p *pass) gather() error {
	d := p.d
	d.mu.Lock()
	touched, flipped, cut, asked := d.touched, d.flipped, d.cut, d.asked
	d.touched, d.flipped, d.cut, d.asked = nil, nil, nil, 0
	d.mu.Unlock()
	if err := p.committed(cut); err != nil {
		return err
	}
	for _, t := range touched {
		if err := p.touched(t); err != nil {
			return err
		}
	}
	for _, f := range flipped {
		if err := p.flipped(f); err != nil {
			return err
		}
	}
	now := time.Now()
	for at, t := range p.later {
		if !t.After(now) {
			delete(p.later, at)
			p.disk.add(at, true)
		}
	}
	p.seconds = slices.DeleteFunc(p.seconds, func(s second) bool {
		if s.at.After(now) {
			return false
		}
		p.disk.of(s.dir).all = true
		return true
	})
	return p.answered(asked)
}

// touched finds what a path was when it was last seen.
func (p *pass) touched(name string) error {
	if name == "." {
		p.whole = true
		return nil
	}
	at, deep, err := p.resolve(name)
	if err != nil {
		return err
	}
	p.disk.add(at, deep)
	return nil
}

// resolve follows a path as far as it was seen. What is beyond is new: all of it is to be
// looked at.
func (p *pass) resolve(name string) (at syncer.Place, deep bool, err error) {
	at.Dir = syncer.RootIno
	parts := strings.Split(name, "/")
	for i, n := range parts {
		at.Name = n
		if i == len(parts)-1 {
			return at, false, nil
		}
		s, ok, err := p.d.sight.Get(at)
		if err != nil || !ok || s.Ino == 0 {
			return at, true, err
		}
		at.Dir = s.Ino
	}
	return at, true, nil
}

// flipped notes what others have changed.
func (p *pass) flipped(f syncer.Flip) error {
	if f.Dir != 0 {
		p.tree.add(syncer.Place{Dir: f.Dir, Name: f.Name}, f.New != 0)
	}
	if f.Content == 0 {
		return nil
	}
	at, err := p.d.sight.Of(f.Content)
	if err != nil {
		return err
	}
	for _, k := range at {
		p.tree.add(k, false)
	}
	return nil
}

// A pass is one turn at a directory that is there.
type pass struct {
	*loop
	ctx     context.Context
	r       *root
	paths   map[syncer.Ino]string
	fds     map[syncer.Ino]int
	done    map[syncer.Place]bool       // what has been given, or is being
	made    map[syncer.Place]bool       // what is in the making
	fresh   map[syncer.Ino]syncer.Place // directories just made, of which no row tells yet
	batch   *batch
	buf     []byte
	recheck bool // what is kept back was looked at again
}

const maxFds = 64

func newPass(l *loop, ctx context.Context, r *root) *pass {
	return &pass{loop: l, ctx: ctx, r: r, paths: map[syncer.Ino]string{}, fds: map[syncer.Ino]int{},
		made: map[syncer.Place]bool{}, fresh: map[syncer.Ino]syncer.Place{}, batch: newBatch()}
}

// path is where a directory of the folder is on disk; false: nowhere yet.
func (p *pass) path(dir syncer.Ino) (string, bool, error) {
	if dir == syncer.RootIno {
		return ".", true, nil
	}
	if s, ok := p.paths[dir]; ok {
		return s, true, nil
	}
	at, err := p.d.sight.Of(dir)
	if k, ok := p.fresh[dir]; ok {
		at = []syncer.Place{k}
	}
	if err != nil || len(at) == 0 {
		return "", false, err
	}
	up, ok, err := p.path(at[0].Dir)
	if err != nil || !ok {
		return "", false, err
	}
	s := path.Join(up, at[0].Name)
	p.paths[dir] = s
	return s, true, nil
}

// name is where a name of the folder is on disk, for people.
func (p *pass) name(at syncer.Place) string {
	up, ok, err := p.path(at.Dir)
	if err != nil || !ok {
		return at.Name
	}
	return path.Join(up, at.Name)
}

// open returns a directory, which stays open until moved or the end of the pass.
func (p *pass) open(dir syncer.Ino) (int, error) {
	if fd, ok := p.fds[dir]; ok {
		return fd, nil
	}
	name, ok, err := p.path(dir)
	if err != nil {
		return -1, err
	}
	if !ok {
		return -1, unix.ENOENT
	}
	fd, err := p.r.openDir(name)
	if err != nil {
		return -1, err
	}
	if len(p.fds) >= maxFds {
		p.moved()
	}
	p.fds[dir] = fd
	return fd, nil
}

// openBoth opens two directories.
func (p *pass) openBoth(a, b syncer.Ino) (afd, bfd int, err error) {
	if _, err = p.open(a); err == nil {
		bfd, err = p.open(b)
	}
	if err == nil {
		afd, err = p.open(a) // opening the second may have closed the first
	}
	return afd, bfd, err
}

// moved forgets where directories are, since some are elsewhere now.
func (p *pass) moved() {
	for _, fd := range p.fds {
		unix.Close(fd)
	}
	clear(p.fds)
	clear(p.paths)
}

func (p *pass) close() { p.moved() }

// answered does what somebody has said about files that are gone.
func (p *pass) answered(a answer) error {
	d := p.d
	d.mu.Lock()
	h := d.held
	if a != 0 {
		d.held = nil
	}
	d.mu.Unlock()
	if h == nil || a == 0 {
		return nil
	}
	for _, at := range slices.Collect(maps.Keys(h.at)) {
		if a == accept {
			p.gone[at] = time.Now()
			h.accepted = true
			continue
		}
		if err := p.unseeAll(at); err != nil {
			return err
		}
		p.tree.add(at, true)
		delete(p.gone, at)
	}
	if a == accept {
		d.mu.Lock()
		d.held = h
		d.mu.Unlock()
	}
	return nil
}
