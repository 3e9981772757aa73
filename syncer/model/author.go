package model

import "slices"

// An Author makes the changes of one cut. Each node touched gets one dot; what
// is said of it later in the same cut is added to the same change, or to a further
// one if that would be too large. Everything said is applied to the state at once.
type Author struct {
	State
	K       VV // known before the cut, own changes included
	Lacks   VV // what begins there is in K, and in part not here: it came over gaps
	Replica Replica
	Lamport uint64
	By      Label
	Now     int64 // UTC seconds, for the batch header
	Unsure  bool  // the wall clock is not synchronised

	changes []*Change
	index   map[ID]int
	forks   map[forked]string // versions that this cut made conflict copies
	upheld  map[ID]bool       // directories about to live again
	woken   map[ID]bool       // files that live again with a version that was deleted
	renewed map[ID]bool       // files that this cut has brought back
	lent    map[ID]uint64     // the link of files that live again under the last name they had
}

// Changes returns what was said, by dot.
func (a *Author) Changes() []Change {
	out := make([]Change, len(a.changes))
	for i, c := range a.changes {
		out[i] = *c
	}
	return out
}

// Own tells whether d is a dot of this cut.
func (a *Author) Own(d Dot) bool { return d.Replica == a.Replica && d.Seq > a.K.Get(a.Replica) }

// Origin returns what is known of a dot, those of this cut included.
func (a *Author) Origin(d Dot) Origin {
	if a.Own(d) {
		return Origin{K: a.deps(d), Lo: a.K.Get(d.Replica) + 1, By: a.By, UTC: a.Now}
	}
	return a.State.Origin(d)
}

func (a *Author) deps(d Dot) VV { return a.K.With(Dot{d.Replica, d.Seq - 1}) }

func (a *Author) change(id ID, kind Kind) *Change {
	if i, ok := a.index[id]; ok {
		return a.changes[i]
	}
	return a.another(id, kind)
}

// another is a further change of a node.
func (a *Author) another(id ID, kind Kind) *Change {
	if a.index == nil {
		a.index = map[ID]int{}
	}
	a.Lamport++
	c := &Change{ID: id, Kind: kind, Lamport: a.Lamport,
		Dot: Dot{a.Replica, a.K.Get(a.Replica) + uint64(len(a.changes)) + 1}}
	a.index[id] = len(a.changes)
	a.changes = append(a.changes, c)
	return c
}

// say adds part to the change of a node and applies the whole of it: so the
// state here is what the change makes of it elsewhere.
func (a *Author) say(id ID, kind Kind, part Change) {
	c := a.change(id, kind)
	for _, p := range part.inPieces() {
		if !c.fits(p) || a.early(c, p) {
			c = a.another(id, kind)
		}
		c.merge(p)
		a.Apply(*c, a.deps(c.Dot))
	}
}

// early tells whether what is to be added to a change places something in a
// directory that this cut makes live only after it: batches may part between them.
func (a *Author) early(c *Change, part Change) bool {
	return (!c.Born || c.place() != nil) && slices.ContainsFunc(part.Links, func(l LinkChange) bool {
		i, said := a.index[l.Parent]
		return l.Name != "" && said && a.changes[i].Version != nil && a.changes[i].Dot.Seq > c.Dot.Seq
	})
}

// put writes a version that supersedes all heads known here, so the versions of
// a node by one replica are totally ordered. Without an Orig its content is new.
func (a *Author) put(n *Node, v VersionChange) {
	n = a.renew(n)
	c := a.change(n.ID, n.Kind)
	v.VV = n.allVV().Without(c.Dot)
	if v.Orig == c.Dot {
		v.Orig, v.By = Dot{}, Label{}
	}
	a.say(n.ID, n.Kind, Change{Version: &v})
}

// reassert repeats a content: a passive version. It stays what this cut made
// it, if this cut wrote it.
func (a *Author) reassert(n *Node, h Version) {
	by := h.By
	if h.Orig == h.Dot {
		by = a.Origin(h.Dot).By
	}
	a.put(n, VersionChange{Orig: h.Orig, By: by, Content: h.Content, Mtime: h.Mtime, Unsure: h.Unsure})
}

// revive makes a node alive that may not be.
func (a *Author) revive(n *Node) {
	if s := n.Shown(); len(s) > 0 {
		a.reassert(n, s[0])
	} else if h, ok := n.Best(); ok {
		a.wake(n, h)
	} else if n.Kind == Dir {
		a.put(n, VersionChange{})
	}
}

// wake makes a file live again with a version.
func (a *Author) wake(n *Node, h Version) {
	a.reassert(n, h)
	if a.woken == nil {
		a.woken = map[ID]bool{}
	}
	a.woken[n.ID] = true
}

func (a *Author) place(n *Node, key uint64, parent ID, name string) {
	if a.Alive(n.ID) {
		a.uphold(parent)
	}
	a.say(n.ID, n.Kind, Change{Links: []LinkChange{{Key: key, Parent: parent, Name: name}}})
}

func (a *Author) removeName(n *Node, key uint64) {
	a.say(n.ID, n.Kind, Change{Links: []LinkChange{a.removal(n, key)}})
}

func (a *Author) removal(n *Node, key uint64) LinkChange {
	l := LinkChange{Key: key, Removed: true}
	if x := n.Link(key); x != nil && a.Own(x.Loc().Dot) { // placed by this cut
		l.Undone = true
	}
	return l
}

// spent tells whether this cut has deleted a content of the node that it wrote
// itself: it cannot write another under the same dot.
func (a *Author) spent(id ID) bool {
	i, ok := a.index[id]
	return ok && a.changes[i].Gone.Has(a.changes[i].Dot)
}

// removeOthers removes what names a node still has besides its first.
func (a *Author) removeOthers(n *Node) {
	var gone []LinkChange
	for _, l := range n.Links {
		if l.Key != PrimaryKey && !l.Dead() {
			gone = append(gone, a.removal(n, l.Key))
		}
	}
	if len(gone) > 0 {
		a.say(n.ID, n.Kind, Change{Links: gone})
	}
}

func (a *Author) setAttr(n *Node, name, val string) {
	if n.Attrs[name].Val != val {
		a.sayAttrs(n, []AttrChange{{Name: name, Val: val}})
	}
}

// setAttrs gives n the attributes and no others.
func (a *Author) setAttrs(n *Node, want map[string]string) {
	var set []AttrChange
	has := a.Node(n.ID).Attrs
	for _, k := range sortedKeys(want) {
		if has[k].Val != want[k] {
			set = append(set, AttrChange{k, want[k]})
		}
	}
	for _, k := range sortedKeys(has) {
		if _, ok := want[k]; !ok && has[k].Val != "" {
			set = append(set, AttrChange{Name: k})
		}
	}
	if len(set) > 0 {
		a.sayAttrs(n, set)
	}
}

// sayAttrs sets attributes.
func (a *Author) sayAttrs(n *Node, set []AttrChange) {
	a.say(n.ID, n.Kind, Change{Attrs: slices.Concat(a.further(a.Node(n.ID), set), set)})
}

// further are the attributes, beside those set, that are to be said again with a
// part of a directory that is dead or lives only through what is in it: who has
// collected it would have that part alone, and give no others to what is born there.
func (a *Author) further(n *Node, set []AttrChange) []AttrChange {
	if n.Kind != Dir || n.ID == RootID || n.Live() {
		return nil
	}
	return slices.DeleteFunc(a.whole(n).Attrs, func(x AttrChange) bool {
		return slices.ContainsFunc(set, func(y AttrChange) bool { return y.Name == x.Name })
	})
}

func attrsOf(n *Node) map[string]string {
	m := map[string]string{}
	for k, x := range n.Attrs {
		if x.Val != "" {
			m[k] = x.Val
		}
	}
	return m
}

// born says that a node is made over nothing known, if that is so.
func (a *Author) born(n *Node) Change {
	if n != nil && n.known() {
		return Change{}
	}
	return Change{Born: true, Lacks: a.Lacks}
}

// birth makes the node of a new name. Its id follows from the place, so that
// two replicas that create the same name create one node; a dead node that is
// still there is used again, without anything it had.
func (a *Author) birth(dir ID, name string, k Kind, taken func(ID) bool, bind func(ID)) *Node {
	id := a.unborn(dir, name, k, taken)
	n := a.Node(id)
	bind(id)
	a.uphold(dir) // first: batches may part here
	a.say(id, k, a.born(n))
	n = a.Node(id)
	a.removeOthers(n)
	a.place(a.Node(id), PrimaryKey, dir, name)
	return a.Node(id)
}

// unborn is the id that what is born at a name gets.
func (a *Author) unborn(dir ID, name string, k Kind, taken func(ID) bool) ID {
	for i := 0; ; i++ {
		if id := BirthID(dir, a.Fold(name), k, i); !taken(id) && !a.spent(id) && a.free(id, dir, name) {
			return id
		}
	}
}

// free tells whether a node can be born at a name: it is unknown, or dead there.
func (a *Author) free(id, dir ID, name string) bool {
	n := a.Node(id)
	if n == nil || !n.known() {
		return true
	}
	l := n.Link(PrimaryKey)
	return !a.Alive(id) && (l == nil || l.At(dir, name, a.Fold))
}

// linkKey is the key of a further name: derived like an id at birth.
func (a *Author) linkKey(n *Node, dir ID, name string) uint64 {
	for i := 0; ; i++ {
		k := LinkKey(dir, a.Fold(name), i)
		if l := n.Link(k); l == nil || l.Dead() && l.At(dir, name, a.Fold) {
			return k
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

func sortedIDs[V any](m map[ID]V) []ID {
	ids := make([]ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}
