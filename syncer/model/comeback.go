package model

import "slices"

// Files that others have removed, and that this cut brings back.

// wakeThing makes the node of a thing live if others have removed it: a file with
// the bytes that it has here. Those of a later version may be nowhere by now.
func (d *diff) wakeThing(t *Thing) {
	n := d.Node(t.ID)
	best, dead := n.Best()
	dead = dead && len(n.Shown()) == 0
	if dead && t.Kind != Dir && !t.Edited && t.Orig != (Dot{}) && t.Orig != best.Orig {
		d.wake(n, Version{Dot: t.Orig, Orig: t.Orig, Content: t.Content, Mtime: t.Mtime})
		return
	}
	d.revive(n)
}

// comeBack gives a file that lives on without names, or with the last it had
// elsewhere, those it has here.
func (d *diff) comeBack(t *Thing) {
	es := d.Entries(t.ID)
	lent, ok := d.lent[t.ID]
	if t.Names == 0 || len(es) == 0 || !es[0].Undue && !ok {
		return
	}
	for _, n := range d.namesOf(t) {
		if n.Dir.ID.IsZero() {
			continue
		}
		x := d.Node(t.ID)
		key, there := d.linkKey(x, n.Dir.ID, n.Name), false
		for i := range x.Links {
			if l := &x.Links[i]; l.At(n.Dir.ID, n.Name, d.Fold) {
				key, there = l.Key, there || !l.Dead()
			}
		}
		if !there {
			d.place(x, key, n.Dir.ID, n.Name)
		}
	}
	if ok && d.nameCount(t.ID) > 1 && !slices.ContainsFunc(d.namesOf(t), func(n *Name) bool { return d.Node(t.ID).Link(lent).At(n.Dir.ID, n.Name, d.Fold) }) {
		d.removeName(d.Node(t.ID), lent)
	}
}

// giveWay takes from a file that this cut has brought back the names under which
// its user has something else, or has removed something: it moves to one that it
// has here and is not shown under, or goes if it has others.
func (d *diff) giveWay(t *Thing) {
	if !d.woken[t.ID] && !d.renewed[t.ID] || t.Names == 0 {
		return
	}
	own := d.namesOf(t)
	isOwn := func(dir ID, name string) bool {
		return slices.ContainsFunc(own, func(o *Name) bool { return o.Dir.ID == dir && d.Fold(o.Name) == d.Fold(name) })
	}
	if !slices.ContainsFunc(d.Entries(t.ID), func(e *Entry) bool { return !e.Extra && !isOwn(e.Parent, e.Base) }) {
		return // as it nearly always is
	}
	for _, n := range d.names {
		if isOwn(n.Dir.ID, n.Name) { // perhaps in a directory that has been made anew
			continue
		}
		for _, e := range slices.Clone(d.Entries(t.ID)) {
			if e.Extra || e.Parent != n.Dir.ID || d.Fold(e.Base) != d.Fold(n.Name) {
				continue
			}
			i := slices.IndexFunc(own, func(o *Name) bool { return !o.Dir.ID.IsZero() && !d.shownAt(t.ID, o) })
			switch {
			case i >= 0:
				d.place(d.Node(t.ID), e.Key, own[i].Dir.ID, own[i].Name)
			case d.nameCount(t.ID) > 1:
				d.removeName(d.Node(t.ID), e.Key)
			}
		}
	}
}
