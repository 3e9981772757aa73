package model

import "slices"

// The pin rule: whatever the view decided by itself is written out as ordinary
// changes before a local operation touches it, so that the operation changes
// what it is about and nothing else. Pinning does not change the view.

// prep pins an entry, the further versions of its node, and the entries whose
// names depend on its name.
func (a *Author) prep(e *Entry) {
	a.part(e.ID)
	a.pin(e)
	for _, x := range a.Entries(e.ID) {
		if x.Extra {
			a.pin(x)
		}
	}
	for _, x := range a.Entries(e.ID) {
		if x.Parent != e.Parent || x.Name != e.Name {
			continue
		}
		a.unite(x)
		if x.Undue {
			a.settle(x.Parent)
			a.place(a.Node(x.ID), x.Key, x.Parent, x.Name)
		}
	}
}

// part takes a version from the node that still has it though id is a copy of it
// on its own: it would come back beside the node as soon as the copy goes.
func (a *Author) part(id ID) {
	of := a.Node(a.CopyOf(id))
	if of == nil {
		return
	}
	shown := of.Shown()
	if len(shown) < 2 || !slices.ContainsFunc(shown[1:], func(h Version) bool { return ForkID(of.ID, h.Orig) == id }) {
		return
	}
	for _, x := range a.Entries(of.ID) {
		if x.Extra {
			a.pin(x)
		}
	}
	if of = a.Node(of.ID); len(of.Shown()) > 1 {
		a.reassert(of, shown[0])
	}
}

// unite removes the further links that have come to the same name.
func (a *Author) unite(e *Entry) {
	for _, k := range e.Dups {
		a.removeName(a.Node(e.ID), k)
	}
}

func (a *Author) pin(e *Entry) {
	all := a.rivals(e)
	if len(all) == 0 {
		return
	}
	a.settle(e.Parent)
	for _, x := range all {
		if x.Kind == Dir && x.Name != x.Base { // it is going to be placed anew
			a.pinLocs(x.ID)
		}
	}
	a.write(a.rivals(e))
}

// rivals returns the entries of e's directory that wanted its name, with those
// whose like would have got its name if it had been free: whole groups.
func (a *Author) rivals(e *Entry) []*Entry {
	crowd, name := a.Crowded(e.Parent), a.Fold(e.Name)
	bases := map[string]bool{a.Fold(e.Base): true}
	for _, x := range crowd {
		if x.Over[name] {
			bases[a.Fold(x.Base)] = true
		}
	}
	kin(bases, a.Fold)
	return slices.DeleteFunc(slices.Clone(crowd), func(x *Entry) bool { return !bases[a.Fold(x.Base)] })
}

// write gives entries the names they show: displaced ones a place, conflict
// copies a node of their own.
func (a *Author) write(es []*Entry) {
	var forked []ID
	mains := map[ID]Version{}
	for _, e := range es {
		switch {
		case e.Extra:
			if !slices.Contains(forked, e.ID) {
				forked = append(forked, e.ID)
				mains[e.ID] = a.Node(e.ID).Shown()[0]
			}
			a.fork(e)
		case e.Name != e.Base:
			a.unite(e)
			a.place(a.Node(e.ID), e.Key, e.Parent, e.Name)
		}
	}
	for _, id := range forked { // the main content alone stays with the node
		a.reassert(a.Node(id), mains[id])
	}
}

// fork makes a conflict copy a node of its own. Its id is derived, so that two
// replicas that do it make the same node.
func (a *Author) fork(e *Entry) {
	for _, h := range a.Node(e.ID).Further() { // of several that repeat a content, the one shown
		if h.Orig == e.Orig {
			a.forkAs(a.Node(e.ID), h, e.Parent, e.Name)
			a.noteFork(e, h, e.Name)
			return
		}
	}
}

func (a *Author) forkAs(of *Node, v Version, parent ID, name string) {
	id := ForkID(of.ID, v.Orig)
	if n := a.Node(id); n != nil && n.Live() {
		return
	}
	if n := a.Node(id); n == nil || len(n.Links) == 0 {
		c := a.born(n)
		c.Links = []LinkChange{{Key: PrimaryKey, Parent: parent, Name: name}}
		a.say(id, of.Kind, c)
	}
	a.removeOthers(a.Node(id))
	a.setAttrs(a.Node(id), attrsOf(of))
	a.place(a.Node(id), PrimaryKey, parent, name)
	a.reassert(a.Node(id), v)
}

// pinLocs pins the undone moves if one is at dir or above it.
func (a *Author) pinLocs(dir ID) {
	undone := a.Undone()
	for ; dir != RootID; dir = a.Loc(dir).Parent {
		if slices.Contains(undone, dir) {
			a.pinUndone()
			return
		}
	}
}

// pinUndone makes all undone moves explicit, the directories above them that live
// only through what is in them, and the names of the rivals of both. All is as it is
// before the first is written: with one less the others' cycles come out differently.
// So all places come first, and nothing is made to live where it is but for a moment.
func (a *Author) pinUndone() {
	var rivals []*Entry
	at, done := map[ID]Loc{}, map[ID]bool{RootID: true}
	var lone []ID
	undone := a.Undone()
	for _, id := range undone {
		for _, e := range a.Entries(id) {
			lone = append(lone, a.lone(e.Parent, done)...)
		}
	}
	pinned := slices.Concat(lone, undone)
	for _, id := range pinned {
		at[id] = a.Loc(id)
		for _, e := range a.Entries(id) {
			at[id] = Loc{Parent: e.Parent, Name: e.Name}
			rivals = append(rivals, a.rivals(e)...)
		}
	}
	for _, id := range pinned {
		if l := at[id]; l.Name != "" { // else it has no place yet
			a.say(id, Dir, Change{Links: []LinkChange{{Key: PrimaryKey, Parent: l.Parent, Name: l.Name}}, Attrs: a.further(a.Node(id), nil)})
		}
	}
	for _, id := range lone {
		a.put(a.Node(id), VersionChange{})
	}
	a.write(rivals)
}
