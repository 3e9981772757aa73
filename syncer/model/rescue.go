package model

import "slices"

// Rescue gives names back that were removed with a directory while somebody else
// moved that directory away: mv trash/proj keep beside rm -r trash leaves keep/proj
// whole. What was removed alone stays so. A database and its journals come back
// together, also where somebody else has written to a journal. And a file left
// without names gets the one it shows, so that which of several does not hang on
// who knows what. nodes are those that may need it. It is the only thing a replica
// does without its user.
func (a *Author) Rescue(nodes []ID) {
	nodes = slices.Clone(nodes)
	slices.SortStableFunc(nodes, func(x, y ID) int { return a.rank(x) - a.rank(y) })
	for _, id := range nodes {
		n := a.Node(id)
		if n == nil || n.Kind == Dir || len(n.Heads) == 0 {
			continue
		}
		was := n.Live()
		shown := map[uint64]bool{}
		if was {
			for _, e := range n.Names(a.Fold) {
				shown[e.Key] = true
			}
		}
		for _, l := range slices.Clone(n.Links) {
			if !l.Dead() || len(l.Hist) == 0 || shown[l.Key] || !(a.movedAway(l) && !a.outlived(l) || a.needed(l)) {
				continue
			}
			a.settle(l.Loc().Parent)
			a.place(a.Node(id), l.Key, l.Loc().Parent, l.Loc().Name)
			if n = a.Node(id); !n.Live() {
				a.revive(n)
			}
		}
		n = a.Node(id)
		if !n.Live() {
			continue
		}
		for _, e := range n.Names(a.Fold) {
			if e.Undue && (e.Key != PrimaryKey || len(n.Links) > 1) {
				a.settle(e.Parent)
				a.place(a.Node(id), e.Key, e.Parent, e.Base)
			}
		}
	}
}

// movedAway tells whether every removal of the link is concurrent with the
// latest move of a directory above it, and was of that directory too.
func (a *Author) movedAway(l Link) bool {
	for _, d := range l.Dels {
		moved := false
		for x := l.Loc().Parent; x != RootID; x = a.Loc(x).Parent {
			n := a.Node(x)
			if n == nil || n.Kind != Dir || len(n.Links) == 0 {
				break
			}
			h := n.Links[0].Hist
			if len(h) > 0 && a.Origin(h[0].Dot).K.Has(d.Dot) {
				break // it was put there without what was removed
			}
			moved = moved || a.elsewhere(n, d.K) && n.Links[0].removedBy(d.Dot.Replica)
		}
		if !moved {
			return false
		}
	}
	return true
}

// elsewhere tells whether others moved a directory from where those who knew k knew
// it, wherever it is since. That they made one of a name is no move.
func (a *Author) elsewhere(n *Node, k VV) bool {
	h := n.Links[0].Hist
	if len(h) < 2 || k.Has(h[0].Dot) {
		return false
	}
	i := slices.IndexFunc(h, func(x Loc) bool { return k.Has(x.Dot) })
	if i < 0 {
		i = len(h) - 1
	}
	return slices.ContainsFunc(h[:i], func(x Loc) bool {
		return (x.Parent != h[i].Parent || a.Fold(x.Name) != a.Fold(h[i].Name)) && !slices.Contains(n.Births, x.Dot)
	})
}

// removedBy tells whether a replica has removed a directory from a place that is not
// the latest, and has not put it elsewhere by that.
func (l *Link) removedBy(r Replica) bool {
	return slices.ContainsFunc(l.Dels, func(d Del) bool {
		return d.Dot.Replica == r && !d.K.Has(l.Hist[0].Dot) && !slices.ContainsFunc(l.Hist, func(x Loc) bool { return x.Dot == d.Dot })
	})
}

// rank puts databases before their journals.
func (a *Author) rank(id ID) int {
	if n := a.Node(id); n != nil && len(n.Links) > 0 && len(n.Links[0].Hist) > 0 {
		if _, suffix := journal(n.Links[0].Loc().Name, a.Fold); suffix != "" {
			return 1
		}
	}
	return 0
}

// outlived tells whether a removed link is of a journal whose database is there, or was
// moved away, and was not removed with it: its program did away with it, and has gone on
// since.
func (a *Author) outlived(l Link) bool {
	base, suffix := journal(l.Loc().Name, a.Fold)
	if suffix == "" {
		return false
	}
	e := a.At(l.Loc().Parent, base)
	if e == nil {
		id := BirthID(l.Loc().Parent, a.Fold(base), File, 0)
		return len(a.Entries(id)) > 0
	}
	if e.Kind == Dir {
		return false
	}
	n := a.Node(e.ID)
	db := n.Link(e.Key)
	return db == nil || slices.ContainsFunc(l.Dels, func(d Del) bool {
		return !slices.ContainsFunc(db.Dels, func(o Del) bool {
			return a.together(d.Dot, o.Dot) || d.K.Has(o.Dot) || o.K.Has(d.Dot) && a.asItWas(n, d)
		})
	})
}

// asItWas tells whether a file has no version that who removed something did not know.
func (a *Author) asItWas(n *Node, d Del) bool {
	return !slices.ContainsFunc(n.Heads, func(v Version) bool { return !d.K.Has(v.Orig) || a.together(v.Orig, d.Dot) }) &&
		!slices.ContainsFunc(n.Gone, func(g Gone) bool { return !g.VV.LE(d.K) }) // of versions that never came
}

// needed tells whether a removed link is of a database whose journal was written by
// somebody who did not know.
func (a *Author) needed(l Link) bool {
	return slices.ContainsFunc(Journals, func(suffix string) bool {
		e := a.At(l.Loc().Parent, l.Loc().Name+suffix)
		if e == nil || e.Kind != File {
			return false
		}
		return slices.ContainsFunc(a.Node(e.ID).Shown(), func(v Version) bool {
			return !slices.ContainsFunc(l.Dels, func(d Del) bool { return d.K.Has(v.Orig) || v.Dot == d.Dot || a.Origin(v.Dot).K.Has(d.Dot) })
		})
	})
}

// together tells whether two changes are of one batch.
func (a *Author) together(x, y Dot) bool {
	return x.Replica == y.Replica && a.Origin(x).Lo == a.Origin(y).Lo
}
