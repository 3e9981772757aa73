package index

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/clachanfs/clachan/syncer/model"
)

// Settle ends what Rebase began: all that a peer with knowledge k has is here.
//
// What the tree shows and the peer knew of, but the view does not show there, is
// gone: others removed or moved it. What the peer did not know of is ours: it is
// cut, as if its user had just done it. What the view shows and the tree does
// not, its user has removed or moved, if it was known here before; else it is
// news. A version that was known before, its user has seen: what is ours
// supersedes it. One that was not becomes a conflict copy.
//
// With follow, nothing is ours but what the user did since: a reader's tree
// follows, and a newcomer's. A reader's user may do nothing: what its rows have of
// attributes that others do not know is nobody's.
type settlement struct {
	*Tx
	back   *returning
	k      model.VV
	follow bool
	ours   map[nameKey]bool // what the tree has there is to be cut
	needed map[Ino]bool     // directories in which something is
	goes   map[Ino]bool     // inodes with a name that follows the view
	stays  map[Ino]bool     // inodes with a name that is to be cut
}

// Settle lets tree and view come together again.
func (t *Tx) Settle(k model.VV, reader bool) {
	if t.ix.back == nil {
		return
	}
	t.settle() // what is to come into the view
	s := &settlement{Tx: t, back: t.ix.back, k: k, follow: reader || t.ix.back.follow, ours: map[nameKey]bool{},
		needed: map[Ino]bool{}, goes: map[Ino]bool{}, stays: map[Ino]bool{}}
	held := make([]nameKey, 0, len(t.ix.names))
	for n := range t.ix.names {
		held = append(held, n)
	}
	slices.SortFunc(held, func(a, b nameKey) int { return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.name, b.name)) })
	if reader {
		s.disown()
	}
	s.find(held)
	s.contents(held)
	t.ix.back = nil
	t.fail(t.b.Delete(t.ix.keys.meta("return"), nil))
	ns := names{}
	for _, n := range held {
		s.name(n, ns)
	}
	s.times()
	t.followAll()
	t.showAll(ns)
}

// disown lets go of attributes that are to be cut.
func (s *settlement) disown() {
	for ino, w := range maps.Clone(s.ix.bytes) {
		if w.Ours && !w.Written && !w.Kept {
			s.SetBytes(ino, nil)
		}
	}
}

// entry is what the tree has under a name, if it replicates.
func (s *settlement) at(n nameKey) (Ino, *Row) {
	e, ok := s.Entry(n.dir, n.name)
	if !ok || !e.Kind.Replicates() {
		return 0, nil
	}
	return e.Ino, s.Row(e.Ino)
}

// find finds the names that are ours, then the directories that these need.
func (s *settlement) find(held []nameKey) {
	keep := func(n nameKey, ino Ino) {
		s.ours[n], s.stays[ino] = true, true
		for d := n.dir; d != RootIno && d != 0 && !s.needed[d]; {
			s.needed[d] = true
			r := s.Row(d)
			if r == nil {
				break
			}
			d = r.Parent
		}
	}
	for _, n := range held {
		y := s.ix.names[n]
		ino, r := s.at(n)
		switch {
		case r == nil || s.agrees(y, ino):
		case y.Ours:
			keep(n, ino)
		case s.follow || y.Pending:
		case !s.back.clean(y.Placed, s.k) || s.mine(ino, r) && !s.alive(r.ID):
			keep(n, ino)
		}
	}
	for _, n := range held {
		y := s.ix.names[n]
		ino, r := s.at(n)
		if r == nil || s.ours[n] || s.agrees(y, ino) {
			continue
		}
		if s.needed[ino] && !s.alive(r.ID) {
			keep(n, ino)
		} else {
			s.goes[ino] = true
		}
	}
}

// agrees tells whether the view has under a name what the tree has, untouched.
func (s *settlement) agrees(y Drift, ino Ino) bool {
	return !y.Ours && !y.View.IsZero() && s.Ino(y.View) == ino
}

// mine tells whether a file shows bytes that the peer did not know of.
func (s *settlement) mine(ino Ino, r *Row) bool {
	w, drift := s.Bytes(ino)
	return r.Kind == model.File && (drift && w.Ours && w.Written ||
		r.Shown != nil && !r.ID.IsZero() && !s.back.clean(r.Shown.Orig, s.k) && !s.follow)
}

// contents makes bytes ours that the peer did not know of, over what their user
// had seen.
func (s *settlement) contents(held []nameKey) {
	done := map[Ino]bool{}
	for _, n := range held {
		ino, r := s.at(n)
		s.suspect(s.Ino(s.ix.names[n].View), true)
		if r == nil || done[ino] {
			continue
		}
		done[ino] = true
		s.suspect(ino, true)
		v := s.Wanted(ino)
		if !s.mine(ino, r) || r.Shown != nil && r.Shown.Content == v.Content && !s.Tx.staged(ino) {
			continue
		}
		w, _ := s.Bytes(ino)
		if !w.Ours {
			w = Bytes{Ours: true, Base: s.ShownOrig(ino)}
		}
		if !s.back.clean(w.Base, s.k) { // nobody knows it, or knows another under that dot
			w.Base = s.back.superseded(v)
		}
		if r.Shown != nil && !s.back.clean(r.Shown.Orig, s.k) {
			w.Kept, r.Shown.Orig = true, w.Base
			s.Changed(ino)
		}
		s.SetBytes(ino, &w)
	}
}

// name decides about one name.
func (s *settlement) name(n nameKey, ns names) {
	y := s.ix.names[n]
	y.Held, y.Pending = false, false
	ino, r := s.at(n)
	switch {
	case s.ix.names[n].Ours:
		if y.Seen.IsZero() || s.Node(y.Seen) == nil {
			s.seen(n, &y)
		} else if !s.back.clean(y.SeenOrig, s.k) {
			y.SeenOrig = s.back.superseded(s.Wanted(s.Ino(y.Seen)))
		}
		s.SetDrift(n.dir, n.name, &y)
		s.owed = append(s.owed, n.dir)
	case s.agrees(s.ix.names[n], ino):
		s.SetDrift(n.dir, n.name, nil)
		e, _ := s.Entry(n.dir, n.name)
		s.respell(n.dir, e, y.Name)
	case s.ours[n]:
		y.Ours, y.Placed = true, model.Dot{}
		s.seen(n, &y)
		s.SetDrift(n.dir, n.name, &y)
		s.owed = append(s.owed, n.dir)
	case r == nil && s.removed(n):
		y.Ours = true
		s.saw(&y)
		s.SetDrift(n.dir, n.name, &y)
		s.owed = append(s.owed, n.dir)
	default:
		if r != nil {
			y.Seen = r.ID
		}
		s.SetDrift(n.dir, n.name, &y)
		ns[n] = viewed{y.View, y.Name}
	}
}

// known tells whether what the view has under a name was there for the user to
// see before: a conflict copy, if all that is in conflict was known.
func (s *settlement) known(n nameKey) bool {
	y := s.ix.names[n]
	dir := s.Row(n.dir)
	if r := s.rowOf(y.View); r != nil && (r.Node == nil || !r.Node.Live()) {
		if v, of := s.further(r); v.Dot != (model.Dot{}) {
			for _, h := range of.Shown() {
				if !s.back.old.Has(h.Dot) {
					return false
				}
			}
		}
	}
	return !y.View.IsZero() && dir != nil && s.back.old.Has(s.placed(s.Ino(y.View), dir.ID, n.name))
}

// seen says what the user saw under a name that has something else now. What the
// tree has elsewhere, where the view put it, was not there.
func (s *settlement) seen(n nameKey, y *Drift) {
	y.Seen, y.SeenOrig, y.SeenDir = model.ID{}, model.Dot{}, false
	if s.known(n) && !s.goes[s.Ino(s.ix.names[n].View)] {
		s.saw(y)
	}
}

func (s *settlement) saw(y *Drift) {
	ino := s.Ino(y.View)
	y.Seen, y.SeenDir = y.View, s.Row(ino).Kind == model.Dir
	y.SeenOrig = s.back.superseded(s.Wanted(ino))
}

// removed tells whether the user took away what the view has under a name: it
// was known, or is now at a name of ours only. What is at a name that the view
// gave it is not gone, only named anew.
func (s *settlement) removed(n nameKey) bool {
	y := s.ix.names[n]
	ino := s.Ino(y.View)
	if s.follow || y.Pending || y.View.IsZero() || s.goes[ino] {
		return false
	}
	if r := s.Row(ino); s.stays[ino] && (r.Kind == model.Dir || len(s.claims(r.ID)) == 1) {
		return true
	}
	return s.known(n)
}

// times shows the mtimes that others gave directories.
func (s *settlement) times() {
	for ino := range s.suspects {
		r := s.Row(ino)
		if r == nil || r.Kind != model.Dir || r.Node == nil {
			continue
		}
		val, set := r.attr(model.AttrMtime)
		if w, _ := s.Bytes(ino); set && len(val) == 8 && !(w.Ours && w.Touched) {
			if m := int64(binary.BigEndian.Uint64([]byte(val))); m != r.Mtime {
				r.Mtime = m
				s.Changed(ino)
				s.flips = append(s.flips, Flip{Content: ino, Attrs: true})
			}
		}
	}
}
