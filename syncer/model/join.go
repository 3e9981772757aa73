package model

import "slices"

// Join adds a change to a node: the least upper bound of the two. deps is what
// the change's author knew. Changes must come in causal order; of two that
// carry the same dot the later counts, which only a cut in the making uses.
// The node is changed in place.
func (n *Node) Join(c Change, deps VV) {
	if had := c.Had(deps); c.Born && n.Forgotten(had) {
		n.forget(had)
	}
	if i, found := slices.BinarySearchFunc(n.Births, c.Dot, compareDots); c.Born && !found {
		n.Births = slices.Insert(n.Births, i, c.Dot)
	}
	if v := c.Version; v != nil {
		h := Version{Dot: c.Dot, VV: v.VV.With(c.Dot), Orig: v.Orig, Content: v.Content, Mtime: v.Mtime, Unsure: v.Unsure, By: v.By}
		if h.Orig == (Dot{}) {
			h.Orig = c.Dot
		}
		n.addHead(h)
	}
	for _, l := range c.Links {
		n.joinLink(l, c, deps)
	}
	for _, a := range c.Attrs {
		x := Attr{Val: a.Val, Stamp: Stamp{c.Lamport, c.Dot.Replica}, Dot: c.Dot}
		if y, ok := n.Attrs[a.Name]; !ok || !x.Stamp.Less(y.Stamp) {
			if n.Attrs == nil {
				n.Attrs = map[string]Attr{}
			}
			n.Attrs[a.Name] = x
		}
	}
	if len(c.Gone) > 0 {
		n.addGone(Gone{Dot: c.Dot, VV: c.Gone})
	}
}

// addHead keeps the versions that none superseded, whatever the order in which
// they came: so Covered grows with every version, also with those dropped.
func (n *Node) addHead(h Version) {
	n.Covered = n.Covered.Join(h.VV.Without(h.Dot)) // all earlier ones of its replica too: VV has its dot
	n.Heads = slices.DeleteFunc(n.Heads, func(x Version) bool { return x.Dot == h.Dot })
	n.Heads = append(n.Heads, h)
	n.Heads = slices.DeleteFunc(n.Heads, func(x Version) bool { return n.Covered.Has(x.Dot) })
	slices.SortFunc(n.Heads, func(a, b Version) int { return compareDots(a.Dot, b.Dot) })
}

func (n *Node) addGone(g Gone) {
	n.Gone = slices.DeleteFunc(n.Gone, func(x Gone) bool { return x.Dot == g.Dot })
	n.Gone = maximal(append(n.Gone, g), func(x Gone) (Dot, VV) { return x.Dot, x.VV })
}

// maximal keeps the elements whose set is within no other's; of equal ones the
// greatest dot.
func maximal[T any](xs []T, of func(T) (Dot, VV)) []T {
	var out []T
	for i, a := range xs {
		da, va := of(a)
		if !slices.ContainsFunc(xs, func(b T) bool {
			db, vb := of(b)
			return da != db && va.LE(vb) && (!vb.LE(va) || compareDots(da, db) < 0)
		}) {
			out = append(out, xs[i])
		}
	}
	slices.SortFunc(out, func(a, b T) int {
		da, _ := of(a)
		db, _ := of(b)
		return compareDots(da, db)
	})
	return out
}

func (n *Node) joinLink(lc LinkChange, c Change, deps VV) {
	i, found := n.link(lc.Key)
	if !found {
		n.Links = slices.Insert(n.Links, i, Link{Key: lc.Key})
	}
	l := &n.Links[i]
	if lc.Name != "" {
		l.place(Loc{Parent: lc.Parent, Name: lc.Name, Stamp: Stamp{c.Lamport, c.Dot.Replica}, Dot: c.Dot}, n.Kind)
	}
	if lc.Removed {
		d := Del{Dot: c.Dot, K: deps.With(Dot{c.Dot.Replica, c.Dot.Seq - 1})}
		if lc.Undone {
			d.K = d.K.With(c.Dot)
		}
		l.Dels = slices.DeleteFunc(l.Dels, func(x Del) bool { return x.Dot == d.Dot })
		l.Dels = maximal(append(l.Dels, d), func(x Del) (Dot, VV) { return x.Dot, x.K })
	}
}

func (l *Link) place(x Loc, k Kind) {
	l.Hist = slices.DeleteFunc(l.Hist, func(o Loc) bool { return o.Stamp == x.Stamp })
	l.Hist = append(l.Hist, x)
	slices.SortFunc(l.Hist, func(a, b Loc) int { return b.Stamp.Compare(a.Stamp) })
	limit := 1
	if k == Dir {
		limit = MaxHist
	}
	l.Hist = l.Hist[:min(len(l.Hist), limit)]
}

// Forgotten tells whether who knew deps, and makes the node anew, may have
// collected it: no version within deps lives, whatever is said.
func (n *Node) Forgotten(deps VV) bool {
	del := n.Del()
	return !slices.ContainsFunc(n.Heads, func(h Version) bool { return deps.Has(h.Dot) && !del.Has(h.Dot) })
}

// forget drops what the author of a birth no longer had: collected there,
// though perhaps not yet here.
func (n *Node) forget(deps VV) {
	n.Heads = slices.DeleteFunc(n.Heads, func(h Version) bool { return deps.Has(h.Dot) })
	n.Gone = slices.DeleteFunc(n.Gone, func(g Gone) bool { return deps.Has(g.Dot) })
	n.Births = slices.DeleteFunc(n.Births, deps.Has)
	for i := range n.Links {
		l := &n.Links[i]
		l.Hist = slices.DeleteFunc(l.Hist, func(x Loc) bool { return deps.Has(x.Dot) })
		l.Dels = slices.DeleteFunc(l.Dels, func(d Del) bool { return deps.Has(d.Dot) })
	}
	n.Links = slices.DeleteFunc(n.Links, func(l Link) bool { return len(l.Hist) == 0 && len(l.Dels) == 0 })
	for k, a := range n.Attrs {
		if deps.Has(a.Dot) {
			delete(n.Attrs, k)
		}
	}
}
