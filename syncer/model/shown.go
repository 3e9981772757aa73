package model

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Shown returns the versions of a node that are displayed, the winner first. A
// passive version is hidden by a newer content made from the one it repeats,
// and equal contents are one.
func (n *Node) Shown() []Version {
	del := n.Del()
	hs := slices.DeleteFunc(slices.Clone(n.Heads), func(h Version) bool { return del.Has(h.Dot) })
	if len(hs) < 2 {
		return hs
	}
	apart(hs)
	slices.SortFunc(hs, better(hs))
	hidden := make([]bool, len(hs))
	for i, t := range slices.Backward(hs) {
		for j, e := range hs {
			if i != j && !hidden[j] && t.Orig != t.Dot && e.VV.Has(t.Orig) && e.Orig != t.Orig {
				hidden[i] = true
			}
		}
	}
	var out []Version
	for i, h := range hs {
		if !hidden[i] && !slices.ContainsFunc(out, func(o Version) bool { return o.Content == h.Content }) {
			out = append(out, h)
		}
	}
	return out
}

// Further are the versions shown beside the first: the conflict copies.
func (n *Node) Further() []Version {
	s := n.Shown()
	return s[min(1, len(s)):]
}

// apart tells versions apart that are said to be of one change and hold other bytes,
// as only a liar's do: of that change is the one that it made, else that of the
// least dot. The others are of their own, or one would be taken for the other.
func apart(hs []Version) {
	if !slices.ContainsFunc(hs, func(h Version) bool { return h.Orig != h.Dot }) {
		return
	}
	first := map[Dot]Version{} // by Orig
	for _, h := range hs {
		if x, ok := first[h.Orig]; !ok || h.Dot == h.Orig || x.Dot != x.Orig && compareDots(h.Dot, x.Dot) < 0 {
			first[h.Orig] = h
		}
	}
	for i, h := range hs {
		if h.Orig != h.Dot && first[h.Orig].Content != h.Content {
			hs[i].Orig, hs[i].By = h.Dot, Label{}
		}
	}
}

// Best is the version that would win if all were alive.
func (n *Node) Best() (Version, bool) {
	if len(n.Heads) == 0 {
		return Version{}, false
	}
	return slices.MinFunc(n.Heads, better(n.Heads)), true
}

// better orders kept versions: which gets the plain name. The newest does; but a
// time that its author was unsure of, more than a day after all those of hs that
// their authors were sure of, counts as none: older than any.
func better(hs []Version) func(a, b Version) int {
	const day = 24 * time.Hour
	newest, sure := int64(math.MinInt64), false
	for _, h := range hs {
		if !h.Unsure {
			newest, sure = max(newest, h.Mtime), true
		}
	}
	when := func(v Version) int64 {
		if v.Unsure && sure && v.Mtime > newest && uint64(v.Mtime-newest) > uint64(day) {
			return math.MinInt64
		}
		return v.Mtime
	}
	return func(a, b Version) int {
		return cmp.Or(cmp.Compare(when(b), when(a)), compareDots(b.Orig, a.Orig), compareDots(b.Dot, a.Dot))
	}
}

// An Entry is one name in a directory.
type Entry struct {
	ID     ID
	Kind   Kind
	Key    uint64 // the link shown
	Orig   Dot    // the content shown
	Parent ID
	Name   string // as shown
	Base   string // as its user named it
	Extra  bool   // a concurrent version: a conflict copy that nobody has written yet
	// What the view decided about this link, for pinning:
	Dups  []uint64 // further links of the node that have come to the same name
	Undue bool     // a removed name of a live file, shown for want of another
	// Over are the folds of the taken names that losers had to avoid: one set for
	// all those of a base name.
	Over map[string]bool

	Stamp Stamp // of its Loc
	By    Label // who made it what it is, and when: for a conflict name
	UTC   int64
}

// Node is the id under which the tree knows the entry: a conflict copy is known
// by the id it has once it is pinned.
func (e *Entry) Node() ID {
	if e.Extra {
		return ForkID(e.ID, e.Orig)
	}
	return e.ID
}

// Names returns the names of a file or symlink, the one of the smallest key
// first: the links that nobody removed, or, where concurrent operations left
// none, the one that was placed last. Links that have come to the same name of
// the same directory are one. Of a directory it is the newest place.
func (n *Node) Names(fold Fold) []*Entry {
	type place struct {
		parent ID
		name   string
	}
	var out []*Entry
	var at map[place]int // in out
	if len(n.Links) > 1 {
		at = make(map[place]int, len(n.Links))
	}
	add := func(l *Link, undue bool) {
		x := l.Loc()
		e := &Entry{ID: n.ID, Kind: n.Kind, Key: l.Key, Parent: x.Parent, Base: x.Name, Undue: undue, Stamp: x.Stamp}
		if at == nil {
			out = append(out, e)
			return
		}
		p := place{e.Parent, fold(e.Base)}
		i, there := at[p]
		switch {
		case !there:
			at[p] = len(out)
			out = append(out, e)
		case e.Stamp.Less(out[i].Stamp): // the older one stands for both
			e.Dups, out[i].Dups = append(out[i].Dups, out[i].Key), nil
			out[i] = e
		default:
			out[i].Dups = append(out[i].Dups, e.Key)
		}
	}
	for i := range n.Links {
		if l := &n.Links[i]; !l.Dead() {
			add(l, false)
		}
	}
	if len(out) > 0 {
		return out
	}
	if l := n.last(); l != nil {
		add(l, true)
	}
	return out
}

// last is the link that was placed last, removed or not.
func (n *Node) last() (last *Link) {
	for i := range n.Links {
		if l := &n.Links[i]; len(l.Hist) > 0 && (last == nil || last.Hist[0].Stamp.Less(l.Hist[0].Stamp)) {
			last = l
		}
	}
	return last
}

// dot is the change that placed the name.
func (n *Node) placed(key uint64) Dot {
	if l := n.Link(key); l != nil {
		return l.Loc().Dot
	}
	return Dot{}
}

// An Origin is what the header of its batch says of a change.
type Origin struct {
	K   VV     // what the author knew before
	Lo  uint64 // the first of its batch
	By  Label
	UTC int64
}

// Claims returns the entries a node asks for, Name not yet decided: its names,
// and beside the first of them its further versions. where says where a
// directory is. A version that is a live node of its own claims nothing. The
// node must be live in the view.
func (n *Node) Claims(fold Fold, where func(ID) Loc, alive func(ID) bool, origin func(Dot) Origin) []*Entry {
	shown := n.Shown()
	if n.Kind == Dir {
		x := where(n.ID)
		o := origin(x.Dot)
		return []*Entry{{ID: n.ID, Kind: Dir, Parent: x.Parent, Base: x.Name, Stamp: x.Stamp, By: o.By, UTC: o.UTC}}
	}
	names := n.Names(fold)
	if len(names) == 0 || len(shown) == 0 {
		return nil
	}
	placed := n.placed
	if len(names) > 1 {
		dots := make(map[uint64]Dot, len(n.Links))
		for _, l := range n.Links {
			if len(l.Hist) > 0 {
				dots[l.Key] = l.Loc().Dot
			}
		}
		placed = func(key uint64) Dot { return dots[key] }
	}
	for _, e := range names {
		o := origin(placed(e.Key))
		e.Orig, e.By, e.UTC = shown[0].Orig, o.By, o.UTC
	}
	out := names
	for _, h := range shown[1:] {
		if alive(ForkID(n.ID, h.Orig)) {
			continue
		}
		e := *names[0]
		e.Orig, e.By, e.UTC, e.Extra, e.Dups, e.Undue = h.Orig, h.By, floorSeconds(h.Mtime), true, nil, false
		if h.Orig == h.Dot {
			e.By = origin(h.Dot).By
		}
		out = append(out, &e)
	}
	return out
}

func floorSeconds(ns int64) int64 {
	s := ns / 1e9
	if ns%1e9 < 0 {
		s--
	}
	return s
}

// Assign gives every claimant of a directory a name of its own: directories
// first, then who was there first; what loses is named after itself. taken
// tells which folded names are held by entries that are not among the claims.
func Assign(claims []*Entry, fold Fold, taken func(fold string) bool) {
	slices.SortFunc(claims, func(a, b *Entry) int { return before(a, b, fold) })
	g := naming{fold: fold, taken: taken, held: map[string]bool{}, lost: map[string]string{},
		tried: map[series]int{}, over: map[string]map[string]bool{}, copies: map[copyOf][]string{}}
	var losers []*Entry
	for _, e := range claims {
		if k := fold(e.Base); !e.Extra && !g.held[k] {
			e.Name, g.held[k] = e.Base, true
		} else {
			losers = append(losers, e)
		}
	}
	for _, e := range losers {
		g.name(e)
	}
}

func before(a, b *Entry, fold Fold) int {
	return cmp.Or(
		cmp.Compare(fold(a.Base), fold(b.Base)),
		compareBools(a.Extra, b.Extra),
		compareBools(a.Kind != Dir, b.Kind != Dir),
		a.Stamp.Compare(b.Stamp),
		compareIDs(a.ID, b.ID),
		compareDots(a.Orig, b.Orig),
	)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
