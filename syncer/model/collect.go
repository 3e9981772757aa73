package model

import "slices"

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
	drop func()
}

// Prune drops from a node that the view has what says nothing any more, stable
// being what all know: removed attributes, removed names beside others, deleted
// versions, and removals and deletions of what is not there. A change is cited
// as a whole or not at all: what shares its dot with something that stays,
// stays. It tells whether something was dropped.
func (n *Node) Prune(stable VV) bool {
	elements := n.spent()
	for again := true; again; {
		count := map[Dot]int{}
		n.Dots(func(d Dot) { count[d]++ })
		for _, e := range elements {
			for _, d := range e.dots {
				count[d]--
			}
		}
		kept := slices.DeleteFunc(elements, func(e element) bool {
			return slices.ContainsFunc(e.dots, func(d Dot) bool { return count[d] > 0 || !stable.Has(d) })
		})
		again = len(kept) < len(elements)
		elements = kept
	}
	for _, e := range elements {
		e.drop()
	}
	return len(elements) > 0
}

// spent lists what says nothing any more.
func (n *Node) spent() (out []element) {
	for k, a := range n.Attrs {
		if a.Val == "" {
			out = append(out, element{[]Dot{a.Dot}, func() { delete(n.Attrs, k) }})
		}
	}
	del := n.Del()
	for _, h := range n.Heads {
		if del.Has(h.Dot) {
			out = append(out, element{[]Dot{h.Dot}, func() {
				n.Heads = slices.DeleteFunc(n.Heads, func(x Version) bool { return x.Dot == h.Dot })
			}})
		}
	}
	for _, g := range n.Gone {
		if !slices.ContainsFunc(n.Heads, func(h Version) bool { return g.VV.Has(h.Dot) }) {
			out = append(out, element{[]Dot{g.Dot}, func() {
				n.Gone = slices.DeleteFunc(n.Gone, func(x Gone) bool { return x.Dot == g.Dot })
			}})
		}
	}
	return append(out, n.spentLinks()...)
}

func (n *Node) spentLinks() (out []element) {
	lives := slices.ContainsFunc(n.Links, func(l Link) bool { return !l.Dead() })
	for i := range n.Links {
		l := &n.Links[i]
		key := l.Key
		switch {
		case !l.Dead() && n.Kind == Dir:
			if e := l.spentPlaces(n); len(e.dots) > 0 {
				out = append(out, e)
			}
		case !l.Dead():
			for _, d := range l.Dels {
				out = append(out, element{[]Dot{d.Dot}, func() {
					l := n.Link(key)
					l.Dels = slices.DeleteFunc(l.Dels, func(x Del) bool { return x.Dot == d.Dot })
				}})
			}
		case lives && n.Kind != Dir:
			e := element{drop: func() {
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

// spentPlaces is all that was removed of a directory that has a place.
func (l *Link) spentPlaces(n *Node) element {
	gone := func(x Loc) bool { return l.removed(x) }
	e := element{drop: func() {
		l := n.Link(l.Key)
		l.Hist = slices.DeleteFunc(l.Hist, gone)
		l.Dels = nil
	}}
	for _, x := range l.Hist {
		if gone(x) {
			e.dots = append(e.dots, x.Dot)
		}
	}
	for _, d := range l.Dels {
		e.dots = append(e.dots, d.Dot)
	}
	return e
}

// rebirth begins the change that makes a node: over nothing known, or over what
// is dead, all of whose attributes go. Others may have collected it.
func rebirth(n *Node) Change {
	if n == nil || !n.known() {
		return Change{Born: true}
	}
	var c Change
	for _, name := range sortedKeys(n.Attrs) {
		c.Attrs = append(c.Attrs, AttrChange{Name: name})
	}
	return c
}

// renew lets the change that makes a dead node live again say all of it: its
// attributes and its names.
func (a *Author) renew(n *Node) *Node {
	if n.Live() || a.Alive(n.ID) || !n.known() {
		return n
	}
	var part Change
	placed := false
	for i := range n.Links {
		l := &n.Links[i]
		own := a.Own(l.Loc().Dot)
		if placed = placed || own; !own && !l.Dead() {
			part.Links = append(part.Links, LinkChange{Key: l.Key, Parent: l.Loc().Parent, Name: l.Loc().Name})
		}
	}
	if !placed && len(part.Links) == 0 {
		for _, e := range n.Names(a.Fold) {
			part.Links = append(part.Links, LinkChange{Key: e.Key, Parent: e.Parent, Name: e.Base})
		}
	}
	for _, name := range sortedKeys(n.Attrs) {
		if x := n.Attrs[name]; !a.Own(x.Dot) {
			part.Attrs = append(part.Attrs, AttrChange{Name: name, Val: x.Val})
		}
	}
	if len(part.Links)+len(part.Attrs) == 0 {
		return n
	}
	a.say(n.ID, n.Kind, part)
	return a.Node(n.ID)
}

// known tells whether anything is said of the node.
func (n *Node) known() (yes bool) {
	n.Dots(func(Dot) { yes = true })
	return yes
}
