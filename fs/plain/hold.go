package plain

import (
	"errors"
	"fmt"
	"time"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// Files that are gone from a disk in great number may have been removed by their user, or
// the disk may be broken, or restored, or another. So they are not removed elsewhere until
// somebody has said so.

const (
	holdFiles = 100 // this many may be gone at once
	holdPart  = 10  // or one of so many, if that is more
	holdEmpty = 10  // an empty directory is asked about that had so many
)

// held are names that are gone, and not removed elsewhere.
type held struct {
	dir        string
	at         map[syncer.Place]bool
	files, all int
	since      time.Time
	accepted   bool
}

func (h *held) String() string {
	return fmt.Sprintf("%d of %d files are gone from %s, and were removed nowhere else (if they are to be: clachan gone --accept; to have them written again, from what other members have: clachan gone --restore)",
		h.files, h.all, h.dir)
}

type answer int

const (
	accept answer = iota + 1
	restore
)

// ErrNothingHeld says that no files are gone that are not removed elsewhere.
var ErrNothingHeld = errors.New("no files are held back")

// Held is how many files are gone from the directory, and not removed elsewhere.
func (d *Dir) Held() (files, all int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held == nil {
		return 0, 0
	}
	return d.held.files, d.held.all
}

// Accept has the files removed elsewhere that are gone.
func (d *Dir) Accept() error { return d.answer(accept) }

// Restore has the files written again that are gone.
func (d *Dir) Restore() error { return d.answer(restore) }

func (d *Dir) answer(a answer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held == nil {
		return ErrNothingHeld
	}
	d.asked = a
	d.wake()
	return nil
}

// many returns what of the names that are gone may be removed. If it is so much that somebody
// is asked, that is what he has accepted before, and the rest is kept back.
func (p *pass) many(gone []syncer.Place) (ok []syncer.Place, err error) {
	d := p.d
	d.mu.Lock()
	h := d.held
	if h != nil && h.accepted {
		d.held = nil
	}
	d.mu.Unlock()
	if h != nil && h.accepted {
		var rest []syncer.Place
		for _, at := range gone {
			in, err := p.inside(at, h.at)
			if err != nil {
				return nil, err
			}
			if in || h.at[at] {
				ok = append(ok, at)
			} else {
				rest = append(rest, at)
			}
		}
		if gone = rest; len(gone) == 0 {
			return ok, nil
		}
	}
	much, err := p.tooMany(gone)
	if err != nil || much {
		return ok, err
	}
	return append(ok, gone...), nil
}

// tooMany tells whether so much is gone that somebody is asked, and keeps it back then.
func (p *pass) tooMany(gone []syncer.Place) (bool, error) {
	d := p.d
	files := 0
	top := map[syncer.Place]bool{}
	for _, at := range gone {
		top[at] = true
	}
	for _, at := range gone {
		in, err := p.inside(at, top)
		if err != nil {
			return false, err
		}
		if in {
			continue
		}
		n, err := p.count(at, 0)
		if err != nil {
			return false, err
		}
		files += n
	}
	if files < holdEmpty {
		return p.release(), nil
	}
	st, err := d.folder.Stats()
	if err != nil {
		return false, err
	}
	limit := max(holdFiles, int(st.Files)/holdPart)
	empty, err := p.empty()
	if err != nil {
		return false, err
	}
	if files <= limit && !(empty && files >= holdEmpty) {
		return p.release(), nil
	}
	h := &held{dir: d.dir, at: map[syncer.Place]bool{}, files: files, all: max(files, int(st.Files)), since: time.Now()}
	for _, at := range gone {
		h.at[at] = true
	}
	d.mu.Lock()
	if d.held != nil {
		h.since = d.held.since
	} else {
		d.log.Warn("files are gone: they are removed nowhere else until somebody says so", "files", files, "of", h.all)
	}
	d.held = h
	d.mu.Unlock()
	return true, nil
}

// release says that nothing is kept back.
func (p *pass) release() bool {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.held = nil
	return false
}

// inside tells whether a name is in a directory that is itself among some.
func (p *pass) inside(at syncer.Place, some map[syncer.Place]bool) (bool, error) {
	for dir, n := at.Dir, 0; dir != syncer.RootIno && n < maxDepth; n++ {
		up, err := p.d.sight.Of(dir)
		if err != nil || len(up) == 0 {
			return false, err
		}
		if some[up[0]] {
			return true, nil
		}
		dir = up[0].Dir
	}
	return false, nil
}

// count is how many files were seen at a name, and below it.
func (p *pass) count(at syncer.Place, depth int) (n int, err error) {
	s, ok, err := p.d.sight.Get(at)
	if err != nil || !ok {
		return 0, err
	}
	if s.Kind != model.Dir {
		return 1, nil
	}
	if s.Ino == 0 || depth > maxDepth {
		return 0, nil
	}
	var below []syncer.Place
	err = p.d.sight.In(s.Ino, func(name string, x syncer.Seen) bool {
		if x.Kind == model.Dir {
			below = append(below, syncer.Place{Dir: s.Ino, Name: name})
		} else {
			n++
		}
		return true
	})
	for _, b := range below {
		m, e := p.count(b, depth+1)
		if e != nil {
			return 0, e
		}
		n += m
	}
	return n, err
}

// empty tells whether nothing but our own is in the directory.
func (p *pass) empty() (bool, error) {
	all, err := list(p.r.fd)
	return len(all) == 0 || len(all) == 1 && all[0] == ours, err
}
