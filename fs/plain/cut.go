package plain

import (
	"slices"

	"github.com/clachanfs/clachan/syncer"
)

// committed follows cuts: what was frozen is what is seen.
func (p *pass) committed(cut []committed) error {
	for some := range slices.Chunk(cut, foundMost) {
		if err := p.committedSome(some); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) committedSome(cut []committed) error {
	inos := make([]syncer.Ino, len(cut))
	for i, c := range cut {
		inos[i] = c.ino
	}
	shows, err := p.d.folder.Showing(inos)
	if err != nil { // then others may have been there, too
		p.d.log.Error("what was cut", "err", err)
		shows = make([]syncer.Showing, len(cut))
	}
	var names []cutName
	for i, c := range cut {
		x, last := p.d.cutUp(c)
		if last {
			p.unblock(c.ino)
			defer p.d.forget(c.ino) // until rows tell of it, it is what is being cut
		}
		if names, err = p.cutNames(names, c, x, last, shows[i]); err != nil {
			return err
		}
	}
	return p.seeCut(names)
}

// A cutName is a name of a file that was cut.
type cutName struct {
	syncer.Sighting
	was   syncer.Seen // until then
	last  bool        // nothing more of the file is to be cut
	alone bool        // it has no other name
	other bool        // others were there meanwhile
}

// cutNames appends the names of a file that was cut, with what is seen there from now on.
func (p *pass) cutNames(names []cutName, c committed, x pending, last bool, now syncer.Showing) ([]cutName, error) {
	if x.was.id.Ino == 0 {
		return names, nil
	}
	at, err := p.cutAt(c.ino, x, now)
	for _, k := range at {
		s, ok, err := p.d.sight.Get(k)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		n := cutName{syncer.Sighting{At: k, Seen: s}, s, last, len(at) == 1, now.Orig != c.v.Orig || now.Attr.Mode != s.TreeMode}
		n.Seen.Orig = c.v.Orig
		if last {
			x.was.see(&n.Seen)
			n.Seen.TreeMtime = now.Attr.Mtime
		}
		names = append(names, n)
	}
	return names, err
}

// cutAt is where a file that was cut is seen.
func (p *pass) cutAt(ino syncer.Ino, x pending, now syncer.Showing) ([]syncer.Place, error) {
	if x.at.Dir != 0 && now.Attr.Nlink == 1 {
		if s, ok, err := p.d.sight.Get(x.at); err != nil || ok && s.Ino == ino {
			return []syncer.Place{x.at}, err
		}
	}
	return p.d.sight.Of(ino)
}

// seeCut notes what is seen at the names of files that were cut.
func (p *pass) seeCut(names []cutName) error {
	d := p.d
	var rows []syncer.Sighting
	for _, n := range names {
		if n.alone && n.was.File == n.Seen.File { // numbers change hands
			rows = append(rows, n.Sighting)
		} else if err := d.sight.Set(n.At, n.Seen); err != nil {
			return err
		}
	}
	if err := d.sight.SetAll(rows); err != nil {
		return err
	}
	for _, n := range names {
		if !n.last {
			continue
		}
		if n.was.File != n.Seen.File { // it was replaced
			if err := p.left(n.was); err != nil {
				return err
			}
		}
		if n.other {
			p.tree.add(n.At, false)
		}
	}
	return nil
}
