package model

import "slices"

// Rescue gives names back that were removed with a directory while somebody else
// moved that directory away: mv trash/proj keep beside rm -r trash leaves keep/proj
// whole. What was removed alone stays so. And a file left without names gets the
// one it shows, so that which of several does not hang on who knows what.
// nodes are those that may need it. It is the only thing a replica does without
// its user.
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
			if !l.Dead() || len(l.Hist) == 0 || shown[l.Key] || !a.movedAway(l) || a.outlived(l) {
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
			moved = moved || a.elsewhere(h, d.K) && n.Links[0].removedBy(d.Dot.Replica)
		}
		if !moved {
			return false
		}
	}
	return true
}

// elsewhere tells whether a directory has been moved from where those who knew k knew
// it. That others made one of that name there too is no move.
func (a *Author) elsewhere(h []Loc, k VV) bool {
	if len(h) < 2 || k.Has(h[0].Dot) {
		return false
	}
	for _, o := range h[1:] {
		if k.Has(o.Dot) {
			return o.Parent != h[0].Parent || a.Fold(o.Name) != a.Fold(h[0].Name)
		}
	}
	return true
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

// outlived tells whether a removed link is of a journal whose database is there, and
// was not removed with it: its program did away with it, and has gone on since.
func (a *Author) outlived(l Link) bool {
	base, suffix := journal(l.Loc().Name, a.Fold)
	if suffix == "" {
		return false
	}
	e := a.At(l.Loc().Parent, base)
	if e == nil || e.Kind == Dir {
		return false
	}
	db := a.Node(e.ID).Link(e.Key)
	return db == nil || !slices.ContainsFunc(l.Dels, func(d Del) bool {
		return slices.ContainsFunc(db.Dels, func(o Del) bool { return a.together(d.Dot, o.Dot) })
	})
}

// together tells whether two changes are of one batch.
func (a *Author) together(x, y Dot) bool {
	return x.Replica == y.Replica && a.Origin(x).Lo == a.Origin(y).Lo
}
