package model

import (
	"cmp"
	"slices"
)

// Collection. What is removed must be remembered until nobody can say anything
// any more that did not know it: until it is stable, known to all members that
// count, and everything that they said before they knew it has come here. Then
// each replica drops it when it likes. That one has and another has not must
// make no difference to what comes later; so whoever makes a dead node live
// again says all of it.

// Collectable tells whether a node that the view does not have can be dropped,
// stable being what all know. No place of another node may be in it.
func (n *Node) Collectable(stable VV) bool {
	all := true
	n.Dots(func(d Dot) { all = all && stable.Has(d) })
	return all
}

// An element is a part of a node that says nothing any more.
type element struct {
	dots []Dot
	drop func(*Node)
}

// Prune drops from a node that the view has what says nothing any more, stable
// being what all know: removed attributes, removed names beside others, deleted
// versions, and removals and deletions of what is not there. What it leaves must
// be what the changes that it still cites say alone: they may hold something
// that only what is dropped has overcome. change finds these, with what their
// authors knew. It tells whether something was dropped.
func (n *Node) Prune(stable VV, change func(Dot) (Change, VV, bool)) (some bool) {
	for again := true; again; {
		again = false
		for _, es := range n.clusters(stable) {
			less := n.Clone()
			for _, e := range es {
				e.drop(less)
			}
			if less.saidBy(change) {
				*n = *less
				again, some = true, true
				break // what is spent now is another
			}
		}
	}
	return some
}

// clusters returns the elements that can be dropped: all at once, as one may
// have overcome another, and then those that share dots together.
func (n *Node) clusters(stable VV) (out [][]element) {
	elements := n.spent()
	for again := true; again; {
		rest := n.Clone()
		for _, e := range elements {
			e.drop(rest)
		}
		cited := map[Dot]bool{}
		rest.Dots(func(d Dot) { cited[d] = true })
		kept := slices.DeleteFunc(slices.Clone(elements), func(e element) bool {
			return slices.ContainsFunc(e.dots, func(d Dot) bool { return cited[d] || !stable.Has(d) })
		})
		again = len(kept) < len(elements)
		elements = kept
	}
	all := elements
	for _, e := range elements {
		with := []element{e}
		out = slices.DeleteFunc(out, func(es []element) bool {
			if !slices.ContainsFunc(es, func(o element) bool { return share(e.dots, o.dots) }) {
				return false
			}
			with = append(with, es...)
			return true
		})
		out = append(out, with)
	}
	if len(out) > 1 {
		out = slices.Insert(out, 0, all)
	}
	return out
}

// Spent tells whether something may be pruned once it is stable.
func (n *Node) Spent() bool { return len(n.spent()) > 0 }

func share(a, b []Dot) bool {
	return slices.ContainsFunc(a, func(d Dot) bool { return slices.Contains(b, d) })
}

// saidBy tells whether the changes that a node cites make it.
func (n *Node) saidBy(change func(Dot) (Change, VV, bool)) bool {
	seen := map[Dot]bool{}
	type said struct {
		c    Change
		deps VV
	}
	var all []said
	ok := true
	n.Dots(func(d Dot) {
		if seen[d] || !ok {
			return
		}
		seen[d] = true
		var s said
		s.c, s.deps, ok = change(d)
		all = append(all, s)
	})
	slices.SortFunc(all, func(a, b said) int { return cmp.Compare(a.c.Lamport, b.c.Lamport) })
	again := &Node{ID: n.ID, Kind: n.Kind}
	for _, s := range all {
		again.Join(s.c, s.deps)
	}
	return ok && again.same(n)
}

// same tells whether two nodes say the same; what they have superseded and
// forgotten aside.
func (n *Node) same(o *Node) bool {
	a, b := *n, *o
	a.Covered, b.Covered, a.Births, b.Births = nil, nil, nil, nil
	return a.Equal(&b)
}

// spent lists what says nothing any more.
func (n *Node) spent() (out []element) {
	for k, a := range n.Attrs {
		if a.Val == "" {
			out = append(out, element{[]Dot{a.Dot}, func(n *Node) { delete(n.Attrs, k) }})
		}
	}
	del := n.Del()
	for _, h := range n.Heads {
		if del.Has(h.Dot) {
			out = append(out, element{[]Dot{h.Dot}, func(n *Node) {
				n.Heads = slices.DeleteFunc(n.Heads, func(x Version) bool { return x.Dot == h.Dot })
			}})
		}
	}
	for _, g := range n.Gone {
		if !slices.ContainsFunc(n.Heads, func(h Version) bool { return g.VV.Has(h.Dot) }) {
			out = append(out, element{[]Dot{g.Dot}, func(n *Node) {
				n.Gone = slices.DeleteFunc(n.Gone, func(x Gone) bool { return x.Dot == g.Dot })
			}})
		}
	}
	out = append(out, n.spentLinks()...)
	return append(out, n.spentBirths(out)...)
}

// spentBirths are the births of which nothing is said besides what is spent.
func (n *Node) spentBirths(spent []element) (out []element) {
	if len(n.Births) == 0 {
		return nil
	}
	rest := n
	if len(spent) > 0 {
		rest = n.Clone()
	}
	for _, e := range spent {
		e.drop(rest)
	}
	for _, d := range n.Births {
		if !rest.says(d) {
			out = append(out, element{[]Dot{d}, func(n *Node) {
				n.Births = slices.DeleteFunc(n.Births, func(x Dot) bool { return x == d })
			}})
		}
	}
	return out
}

// says tells whether something that the node says is of a birth, besides that it
// was born.
func (n *Node) says(birth Dot) (yes bool) {
	rest := *n
	rest.Births = nil
	rest.Dots(func(d Dot) { yes = yes || d == birth })
	return yes
}

func (n *Node) spentLinks() (out []element) {
	lives := n.Live() || slices.ContainsFunc(n.Links, func(l Link) bool { return !l.Dead() })
	last := n.last()
	for i := range n.Links {
		l := &n.Links[i]
		key := l.Key
		switch {
		case !l.Dead() || n.Kind == Dir && len(l.Hist) > 0:
			for _, x := range l.Hist[1:] {
				if l.removed(x) {
					out = append(out, element{[]Dot{x.Dot}, func(n *Node) {
						l := n.Link(key)
						l.Hist = slices.DeleteFunc(l.Hist, func(y Loc) bool { return y.Dot == x.Dot })
					}})
				}
			}
			for _, d := range l.Dels {
				if !d.K.Has(l.Hist[0].Dot) {
					out = append(out, l.spentDel(d))
				}
			}
		case lives && l != last: // the last is shown should there be no other
			e := element{drop: func(n *Node) {
				n.Links = slices.DeleteFunc(n.Links, func(x Link) bool { return x.Key == key })
			}}
			for _, x := range l.Hist {
				e.dots = append(e.dots, x.Dot)
			}
			for _, d := range l.Dels {
				e.dots = append(e.dots, d.Dot)
			}
			out = append(out, e)
		}
	}
	return out
}

// spentDel is the removal of older places of a link, with these.
func (l *Link) spentDel(d Del) element {
	key, e := l.Key, element{dots: []Dot{d.Dot}}
	for _, x := range l.Hist {
		if d.K.Has(x.Dot) {
			e.dots = append(e.dots, x.Dot)
		}
	}
	e.drop = func(n *Node) {
		l := n.Link(key)
		l.Hist = slices.DeleteFunc(l.Hist, func(x Loc) bool { return d.K.Has(x.Dot) })
		l.Dels = slices.DeleteFunc(l.Dels, func(x Del) bool { return x.Dot == d.Dot })
	}
	return e
}

// uphold makes a dead directory live again before something is placed in it:
// others may have collected it.
func (a *Author) uphold(dir ID) {
	n := a.Node(dir)
	if n == nil || n.Kind != Dir || dir == RootID || a.upheld[dir] || a.Alive(dir) || !n.known() {
		return
	}
	if a.upheld == nil {
		a.upheld = map[ID]bool{}
	}
	a.upheld[dir] = true // dead directories may be in each other
	a.revive(n)
	delete(a.upheld, dir)
}

// expect gives new directories, and dead ones that are to live again, their dots
// before all else is said: batches may part after any change, and what goes into a
// directory must not come before it.
func (d *diff) expect() {
	made, at, held := map[*Thing]ID{}, map[ID]*Thing{}, map[ID]bool{}
	for _, t := range d.things {
		held[t.ID] = held[t.ID] || t.Names > 0
	}
	for _, n := range d.names {
		held[n.Dir.ID] = held[n.Dir.ID] || n.Dir.Names > 0
		if t := n.Tree; t != nil && t.Kind == Dir && !t.ID.IsZero() {
			at[t.ID] = n.Dir
		}
	}
	for again := true; again; {
		again = false
		for _, n := range d.names {
			t, dir := n.Tree, cmp.Or(n.Dir.ID, made[n.Dir])
			if t == nil || t.Kind != Dir || !t.ID.IsZero() || dir.IsZero() || !made[t].IsZero() {
				continue
			}
			if e := d.At(dir, n.Name); e != nil && e.Kind == Dir && !held[e.ID] { // perhaps it is that
				continue
			}
			id := t.Was
			if id.IsZero() || held[id] || d.Node(id) != nil {
				id = d.unborn(dir, n.Name, Dir, func(id ID) bool { return held[id] })
			}
			if dir == n.Dir.ID && !d.expectUp(dir, made, at, map[ID]bool{}) {
				continue
			}
			made[t], again = id, true
			d.change(id, Dir)
		}
	}
	_, dead := d.footing()
	for _, id := range dead {
		d.expectUp(id, made, at, map[ID]bool{})
	}
}

// expectUp does so for a directory, and those above it, that are going to live by
// themselves again: where they are, and where the cut moves them. It tells
// whether all those have their dots.
func (d *diff) expectUp(dir ID, made map[*Thing]ID, at map[ID]*Thing, seen map[ID]bool) bool {
	x := d.Node(dir)
	if dir == RootID || seen[dir] || x == nil || x.Kind != Dir || !x.known() {
		return true
	}
	seen[dir] = true
	if to := at[dir]; to != nil && (to.ID.IsZero() && made[to].IsZero() || !to.ID.IsZero() && !d.expectUp(to.ID, made, at, seen)) {
		return false
	}
	if !d.expectUp(d.Loc(dir).Parent, made, at, seen) {
		return false
	}
	if !x.Live() {
		d.change(dir, Dir)
	}
	return true
}

// footing lists the directories that the cut needs and that others may have
// collected: those that live only through what is in them and are moved or put back
// where they were (what is in them the cut may move away, from a name that is not
// among its own: see movedKey), or get or lose a name and stay, parents first; and
// dead ones in which it places something.
func (d *diff) footing() (lone, dead []ID) {
	done := map[ID]bool{RootID: true}
	for _, n := range d.names {
		t := n.Tree
		if t == nil && n.Dir.Names == 0 {
			continue // it goes too
		}
		if x := d.Node(n.Dir.ID); t != nil && x != nil && x.Kind == Dir && !d.Alive(n.Dir.ID) && (t.ID != n.Seen || d.nameless(t)) {
			dead = append(dead, n.Dir.ID)
		}
		lone = append(lone, d.lone(n.Dir.ID, done)...)
	}
	for _, n := range d.names {
		if t := n.Tree; t != nil && t.Kind == Dir && !done[t.ID] && d.lonely(t.ID) {
			done[t.ID] = true
			lone = append(lone, t.ID)
		}
	}
	return lone, dead
}

// lone lists the directories at dir and above it that live only through what is in
// them, parents first, but for those done.
func (a *Author) lone(dir ID, done map[ID]bool) (out []ID) {
	for ; !done[dir]; dir = a.Loc(dir).Parent {
		done[dir] = true
		if x := a.Node(dir); x == nil || x.Kind != Dir {
			break
		}
		if a.lonely(dir) {
			out = slices.Insert(out, 0, dir)
		}
	}
	return out
}

// lonely tells whether a directory lives only through what is in it.
func (a *Author) lonely(dir ID) bool {
	x := a.Node(dir)
	return x != nil && !x.Live() && a.Alive(dir)
}

// settle makes the directories at dir and above it that live only through what is
// in them live by themselves, before something is placed there.
func (a *Author) settle(dir ID) {
	lone := a.lone(dir, map[ID]bool{RootID: true})
	if len(lone) > 0 {
		a.pinUndone()
	}
	for _, id := range lone {
		a.found(id)
	}
}

// nameless tells whether all names that the view has of a file are taken from it
// by this cut, which gives it no other: it comes back to those it has here.
func (d *diff) nameless(t *Thing) bool {
	if slices.ContainsFunc(d.names, func(n *Name) bool { return n.Tree == t && n.Seen != t.ID }) {
		return false
	}
	return !slices.ContainsFunc(d.Entries(t.ID), func(e *Entry) bool {
		return !e.Extra && !e.Undue && !slices.ContainsFunc(d.names, func(n *Name) bool {
			return n.Tree != t && n.Dir.ID == e.Parent && d.Fold(n.Name) == d.Fold(e.Name)
		})
	})
}

// found makes a directory that lives only through what is in it live by itself:
// others may have collected it, once they knew that what it lives through here is
// elsewhere. Undone moves must be pinned.
func (a *Author) found(id ID) {
	for _, e := range a.Entries(id) {
		a.prep(e)
	}
	a.put(a.Node(id), VersionChange{})
}

// renew lets the change that makes a node live by itself again say all of it: its
// attributes and its names.
func (a *Author) renew(n *Node) *Node {
	if n.Live() || n.Kind != Dir && a.Alive(n.ID) || !n.known() {
		return n
	}
	if n.Kind != Dir {
		if a.renewed == nil {
			a.renewed = map[ID]bool{}
		}
		a.renewed[n.ID] = true
	}
	part := a.whole(n)
	for _, l := range part.Links {
		if n.Kind != Dir { // of what a cut does with directories footing finds all
			a.settle(l.Parent)
		}
		a.uphold(l.Parent)
	}
	for _, l := range a.Node(n.ID).Links {
		if a.Own(l.Loc().Dot) && !l.Dead() {
			a.uphold(l.Loc().Parent)
		}
	}
	if len(part.Links)+len(part.Attrs) > 0 {
		a.say(n.ID, n.Kind, part)
	}
	return a.Node(n.ID)
}

// whole is all that is said of a node, but for its version and what this cut says.
func (a *Author) whole(n *Node) Change {
	part := Change{Links: a.namesOf(n)}
	for _, name := range sortedKeys(n.Attrs) {
		if x := n.Attrs[name]; !a.Own(x.Dot) {
			part.Attrs = append(part.Attrs, AttrChange{Name: name, Val: x.Val})
		}
	}
	return part
}

// namesOf are the names that a dead node has or would have, but for those that
// this cut has placed.
func (a *Author) namesOf(n *Node) (out []LinkChange) {
	placed := false
	for i := range n.Links {
		l := &n.Links[i]
		own := a.Own(l.Loc().Dot)
		if placed = placed || own; !own && !l.Dead() && n.Kind != Dir {
			out = append(out, LinkChange{Key: l.Key, Parent: l.Loc().Parent, Name: l.Loc().Name})
		}
	}
	switch {
	case len(n.Links) == 0:
	case n.Kind == Dir: // without the places it had before: others may have collected them
		l := LinkChange{Removed: true}
		if x := a.Loc(n.ID); !placed {
			l.Parent, l.Name = x.Parent, x.Name
			for _, e := range a.Entries(n.ID) {
				l.Name = e.Name
			}
		}
		out = append(out, l)
	case placed || len(out) > 0:
	default:
		if a.lent == nil {
			a.lent = map[ID]uint64{}
		}
		for _, e := range n.Names(a.Fold) { // for want of another
			a.lent[n.ID] = e.Key
			out = append(out, LinkChange{Key: e.Key, Parent: e.Parent, Name: e.Base})
		}
	}
	return out
}

// known tells whether anything is said of the node.
func (n *Node) known() (yes bool) {
	n.Dots(func(Dot) { yes = true })
	return yes
}
