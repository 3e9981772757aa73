package model

import (
	"cmp"
	"slices"
)

// A Thing is what the tree holds under one inode number.
type Thing struct {
	Ino   uint64
	ID    ID // the node it shows; zero: not born yet
	Was   ID // the node it showed, if that is not known any more
	Kind  Kind
	Names int // in the tree; 0: it is there no more
	// Edited: the bytes, Content, are not those of Base, which its user had seen;
	// else they are those of the version Orig.
	Edited  bool
	Content string
	Orig    Dot
	Base    Dot
	Mtime   int64
	Touched bool // the mtime was set without new bytes
	// Attrs are all attributes; of a born thing those count that are Set here,
	// or all if Reset.
	Attrs map[string]string
	Set   []string
	Reset bool

	stranger bool // it continues a node that its user never saw
	brought  bool // its bytes are those of another node
}

// A Name is a name that the tree and the view may not agree on.
type Name struct {
	Dir      *Thing
	Name     string
	Seen     ID // what was shown when its user first changed it; zero: nothing
	SeenOrig Dot
	Tree     *Thing // nil: nothing now
	// Spared: the node seen is nowhere in the tree, but the names that its user
	// left it others have removed since. So nobody saw its last name go.
	Spared bool
	Still  bool // the node seen is in the tree where others have something else, which waits
}

// A Tree is told which number shows which node.
type Tree interface {
	Bind(t *Thing, id ID) // t is born as id
	Swap(t *Thing, id ID) // t shows node id from now on, and what showed id shows what t did
}

// Diff says what the tree's user did: changes that make the view show what the
// tree shows under the names, whatever operations led there. Names that are
// related (one thing under several, a thing seen at one and now at another, a
// name in a directory not born yet) must all be given; things are those of
// names and those edited in place. An edited conflict copy that is no node of
// its own yet must come with its name.
//
// Rules (path before inode for files, inode for directories): a file where one
// was is an edit of that node; a file that has left its name to a new file
// stays behind in identity (the new one is its next version); a thing elsewhere
// whose name is vacated has moved; what is new is born; what was seen and now
// is nowhere is deleted. What arrived from others unseen is never overwritten:
// an edit forks it first, a delete of it does nothing.
//
// Which link a node had under a name is looked up before anything is said:
// while the changes are made, names may collide for a moment and show others.
func (a *Author) Diff(tree Tree, names []*Name, things []*Thing) {
	d := &diff{Author: a, tree: tree, names: names, things: things, key: map[*Name]uint64{},
		of: map[*Thing][]*Name{}, held: map[ID]bool{}, lost: map[ID][]*Name{}, gained: map[*Thing][]*Name{}}
	d.find()
	d.expect()
	d.pins()
	d.identify()
	d.compare()
	d.deletes()
	d.makeDirs()
	d.moves()
	d.births()
	for _, t := range d.editOrder() {
		d.edit(t)
		d.comeBack(t)
		d.giveWay(t)
	}
}

// A spot is a folded name of a directory.
type spot struct {
	dir  ID
	name string
}

type diff struct {
	*Author
	tree   Tree
	names  []*Name
	things []*Thing
	key    map[*Name]uint64 // the link under which the node seen had the name
	of     map[*Thing][]*Name
	held   map[ID]bool // nodes that the tree shows
	lost   map[ID][]*Name
	gained map[*Thing][]*Name
}

// find looks for the links of the nodes seen: where they are shown, or where
// they would be had others not taken the name.
func (d *diff) find() {
	for _, n := range d.names {
		if n.Tree != nil {
			d.of[n.Tree] = append(d.of[n.Tree], n)
		}
		if n.Seen.IsZero() || n.Dir.ID.IsZero() {
			continue
		}
		if e := d.At(n.Dir.ID, n.Name); e != nil && e.Node() == n.Seen {
			d.key[n] = e.Key
			if e.Extra {
				d.key[n] = PrimaryKey
			}
			continue
		}
		for _, e := range d.Entries(n.Seen) {
			if !e.Extra && e.Parent == n.Dir.ID && d.Fold(e.Base) == d.Fold(n.Name) {
				d.key[n] = e.Key
			}
		}
	}
}

// pins writes down what the view decided about everything the cut is about.
func (d *diff) pins() {
	for _, n := range d.names {
		t, x := n.Tree, d.Node(n.Seen)
		if t != nil && t.Kind == Dir || x != nil && x.Kind == Dir {
			d.pinUndone() // a directory moves, is spelt anew, goes, or a dead one is used again
			break
		}
	}
	lone, dead := d.footing()
	if len(lone)+len(dead) > 0 {
		d.pinUndone()
	}
	for _, n := range d.names {
		if n.Dir.ID.IsZero() {
			continue
		}
		if e := d.At(n.Dir.ID, n.Name); e != nil {
			d.prep(e)
		}
	}
	for _, id := range lone {
		d.found(id)
	}
	done := map[ID]bool{{}: true}
	prepAll := func(id ID) {
		if done[id] {
			return
		}
		done[id] = true
		for _, e := range d.Entries(id) {
			if !e.Extra {
				d.prep(e)
			}
		}
	}
	for _, n := range d.names {
		prepAll(n.Seen)
	}
	for _, t := range d.things {
		prepAll(t.ID)
	}
	for _, id := range dead { // now: where it comes back others may have put something else
		d.uphold(id)
	}
}

// identify gives files the node of the path they are at. Where the node seen
// there is still in the tree under another name, it stays at its path, and its
// thing is new at the other: an editor moved it aside for a backup. Conflict
// copies that are gone before anybody pinned them are new again. A node that has
// a further name as its user knows stays with that (Spared, Still).
func (d *diff) identify() {
	given := map[spot]bool{}
	for _, n := range d.names {
		given[spot{n.Dir.ID, d.Fold(n.Name)}] = true
	}
	shows := map[ID]*Thing{}
	for _, t := range d.things {
		if !t.ID.IsZero() && d.Node(t.ID) == nil {
			t.ID = ID{}
		}
		if !t.ID.IsZero() {
			shows[t.ID] = t
		}
	}
	for _, n := range d.names {
		t := n.Tree
		if t == nil || t.Names != 1 || n.Spared || n.Still || t.Kind != File && t.Kind != Symlink {
			continue
		}
		id := d.idOfPath(n)
		if id == t.ID || !d.single(id, t.Kind) || !d.vacated(id, given) || !t.ID.IsZero() && !d.single(t.ID, t.Kind) {
			continue
		}
		old := shows[id]
		if old != nil && old.Names > 0 && (!t.ID.IsZero() || len(d.namesOf(old)) != old.Names) {
			continue
		}
		delete(shows, t.ID)
		d.take(n, t, id, old)
		shows[id] = t
	}
	for _, t := range d.things {
		d.hold(t)
	}
	for _, n := range d.names {
		d.hold(n.Dir)
	}
}

// hold marks the node that a thing in the tree shows.
func (d *diff) hold(t *Thing) { d.held[t.ID] = d.held[t.ID] || t.Names > 0 }

// idOfPath is the node that a file at the name continues: the one seen there,
// or the one somebody else has made there, unseen, when it was created.
func (d *diff) idOfPath(n *Name) ID {
	if !n.Seen.IsZero() || !n.Tree.ID.IsZero() || n.Dir.ID.IsZero() {
		return n.Seen
	}
	if e := d.At(n.Dir.ID, n.Name); e != nil && d.Fold(e.Base) == d.Fold(n.Name) {
		return e.ID
	}
	return ID{}
}

// single tells whether a node is a file of that kind without further names.
func (d *diff) single(id ID, k Kind) bool {
	x := d.Node(id)
	return x != nil && x.Kind == k && d.nameCount(id) < 2
}

// vacated tells whether the view shows a file at given names only: elsewhere
// others have put it, and the tree shows it there too.
func (d *diff) vacated(id ID, given map[spot]bool) bool {
	return !slices.ContainsFunc(d.Entries(id), func(e *Entry) bool { return !e.Extra && !given[spot{e.Parent, d.Fold(e.Name)}] })
}

// take makes t the thing that shows node id; old showed it, if any.
func (d *diff) take(n *Name, t *Thing, id ID, old *Thing) {
	if t.brought = !t.ID.IsZero(); t.brought {
		d.own(t) // its bytes are new to the node
	}
	if old != nil && old.Names > 0 {
		d.own(old) // born anew elsewhere with the bytes it has
	}
	was := t.ID
	d.tree.Swap(t, id)
	if old != nil {
		old.ID = was
	}
	t.ID, t.Edited, t.Reset, t.Base, t.stranger = id, true, true, n.SeenOrig, n.Seen.IsZero()
}

// own makes a thing carry the bytes that the tree has: newer ones that its node
// shows elsewhere may never have come here.
func (d *diff) own(t *Thing) {
	if _, ok := d.Node(t.ID).Best(); ok {
		t.Edited = true
	}
}

// namesOf returns the given names that a thing has now.
func (d *diff) namesOf(t *Thing) []*Name { return d.of[t] }

// nameCount is the number of a node's names in the view.
func (d *diff) nameCount(id ID) int {
	k := 0
	for _, e := range d.Entries(id) {
		if !e.Extra {
			k++
		}
	}
	return k
}

// byKey is the name that a link shows.
func (d *diff) byKey(id ID, key uint64) *Entry {
	for _, e := range d.Entries(id) {
		if !e.Extra && e.Key == key {
			return e
		}
	}
	return nil
}

// compare finds which names nodes have lost and things have gained. A name
// spelt anew is both. A link that was shown under two names, as a conflict copy
// and then without a rival, is lost once.
func (d *diff) compare() {
	type link struct {
		id  ID
		key uint64
	}
	lost := map[link]bool{}
	for _, n := range d.names {
		t := n.Tree
		if t != nil && t.ID == n.Seen && !t.ID.IsZero() {
			key, ok := d.key[n]
			if !ok {
				continue
			}
			e := d.byKey(t.ID, key)
			if e == nil || e.Name == n.Name || d.Fold(e.Name) != d.Fold(n.Name) {
				continue
			}
		}
		key, ok := d.key[n]
		if l := (link{n.Seen, key}); !n.Seen.IsZero() && !(ok && lost[l]) {
			d.lost[n.Seen] = append(d.lost[n.Seen], n)
			lost[l] = ok
		}
		if t != nil && t.Kind.Replicates() && (t.ID.IsZero() || !d.shownAt(t.ID, n)) {
			d.gained[t] = append(d.gained[t], n)
		}
	}
}

// shownAt tells whether the view shows the node under the name already.
func (d *diff) shownAt(id ID, n *Name) bool {
	return !n.Dir.ID.IsZero() && slices.ContainsFunc(d.Entries(id), func(e *Entry) bool {
		return !e.Extra && e.Parent == n.Dir.ID && e.Name == n.Name
	})
}

// deletes removes names whose nodes have gained none for them. Directories that
// lose names stay, though they may live only through what was in them.
func (d *diff) deletes() {
	gains := map[ID]int{}
	for t, ns := range d.gained {
		if !t.ID.IsZero() {
			gains[t.ID] += len(ns)
		}
	}
	for _, n := range d.names {
		if slices.Contains(d.lost[n.Seen], n) && d.Alive(n.Dir.ID) && (len(d.lost[n.Dir.ID]) == 0 || gains[n.Dir.ID] > 0) {
			d.settle(n.Dir.ID)
		}
	}
	stays := map[ID]bool{}
	for _, t := range d.things {
		stays[t.ID] = t.Names > 0
	}
	for _, id := range sortedIDs(d.lost) {
		ns := d.lost[id]
		k := min(gains[id], len(ns))
		for _, n := range ns[k:] {
			d.unlink(id, n, stays[id] || n.Spared || n.Still)
		}
		d.lost[id] = ns[:k]
	}
}

// unlink removes a name, and the content with the last: unless the node stays
// in the tree, or what it shows now its user never saw.
func (d *diff) unlink(id ID, n *Name, stays bool) {
	key, ok := d.key[n]
	x, e := d.Node(id), d.byKey(id, key)
	if !ok || e == nil {
		return // somebody else moved or removed it
	}
	if d.nameCount(id) == 1 && !stays {
		if x.Kind != Dir && !d.Own(e.Orig) && !slices.ContainsFunc(d.lost[id], func(o *Name) bool { return o.SeenOrig == e.Orig }) {
			return
		}
		d.say(x.ID, x.Kind, Change{Gone: x.allVV()})
	}
	d.removeName(d.Node(id), key)
}

// makeDirs makes the new directories, parents first, so that ids are there for
// what goes into them.
func (d *diff) makeDirs() {
	for again := true; again; {
		again = false
		for _, n := range d.names {
			t := n.Tree
			if t == nil || t.Kind != Dir || !t.ID.IsZero() || n.Dir.ID.IsZero() {
				continue
			}
			d.makeDir(t, n)
			delete(d.gained, t)
			again = true
		}
	}
}

// makeDir makes a directory, or takes the one that others have put there,
// unseen, or have put something into: unless this cut made that live by itself
// for what moved out of it, and then deleted it.
func (d *diff) makeDir(t *Thing, n *Name) {
	e := d.At(n.Dir.ID, n.Name)
	if e == nil || e.Kind != Dir || d.Fold(e.Base) != d.Fold(n.Name) || d.held[e.ID] || d.spent(e.ID) {
		d.put(d.birth(t, n), VersionChange{})
		d.setAttrs(d.Node(t.ID), t.Attrs)
		return
	}
	d.bind(t, e.ID)
	dead := !d.Node(t.ID).Live() // it lives through what is in it, if only for a moment of this cut
	if dead {
		d.put(d.Node(t.ID), VersionChange{})
	}
	if dead || t.ID == n.Seen { // removed, and made again
		d.place(d.Node(t.ID), PrimaryKey, n.Dir.ID, n.Name)
		d.setAttrs(d.Node(t.ID), t.Attrs)
		return
	}
	for _, k := range sortedKeys(t.Attrs) {
		d.setAttr(d.Node(t.ID), k, t.Attrs[k])
	}
}

// birth makes the node of a thing at a name.
func (d *diff) birth(t *Thing, n *Name) *Node {
	if x := d.Node(t.Was); !t.Was.IsZero() && !d.held[t.Was] && x == nil { // others may know it still
		d.bind(t, t.Was)
		d.say(t.ID, t.Kind, d.born(nil))
		d.place(d.Node(t.ID), PrimaryKey, n.Dir.ID, n.Name)
		return d.Node(t.ID)
	}
	return d.Author.birth(n.Dir.ID, n.Name, t.Kind, func(id ID) bool { return d.held[id] }, func(id ID) { d.bind(t, id) })
}

func (d *diff) bind(t *Thing, id ID) {
	t.ID = id
	d.held[id] = true
	d.tree.Bind(t, id)
}

// moves gives things the names they have gained, each in place of one lost if
// there is one.
func (d *diff) moves() {
	for _, t := range d.gainers() {
		if t.ID.IsZero() {
			continue
		}
		lost := d.lost[t.ID]
		for _, n := range d.gained[t] {
			if n.Dir.ID.IsZero() {
				continue
			}
			x := d.Node(t.ID)
			var key uint64
			switch {
			case t.Kind == Dir:
				key = PrimaryKey
			case len(lost) > 0:
				key = d.movedKey(x, n, lost)
				lost = lost[1:]
			default:
				key = d.linkKey(x, n.Dir.ID, n.Name)
			}
			d.place(x, key, n.Dir.ID, n.Name)
			d.wakeThing(t) // a move beats a concurrent delete
		}
		delete(d.gained, t)
	}
}

// movedKey is the link that moves from the first of the names lost to n. If
// others have moved or removed it meanwhile, ours is the later move, where it is
// plain which of the node's links it was.
func (d *diff) movedKey(x *Node, n *Name, lost []*Name) uint64 {
	if key, ok := d.key[lost[0]]; ok {
		return key
	}
	taken := map[uint64]bool{}
	for _, o := range d.names {
		if key, ok := d.key[o]; ok && o.Seen == x.ID {
			taken[key] = true
		}
	}
	es := slices.DeleteFunc(slices.Clone(d.Entries(x.ID)), func(e *Entry) bool {
		return e.Extra || taken[e.Key] || d.Own(d.Node(x.ID).placed(e.Key))
	})
	if len(es) > 0 && len(es) <= len(lost) {
		return es[0].Key
	}
	if len(x.Links) == 1 && x.Links[0].Dead() {
		return x.Links[0].Key
	}
	return d.linkKey(x, n.Dir.ID, n.Name)
}

func (d *diff) gainers() []*Thing {
	ts := make([]*Thing, 0, len(d.gained))
	for t := range d.gained {
		ts = append(ts, t)
	}
	slices.SortFunc(ts, func(a, b *Thing) int {
		return cmp.Or(compareBools(a.Kind != Dir, b.Kind != Dir), cmp.Compare(a.Ino, b.Ino))
	})
	return ts
}

// births makes the new files: the first name gives the id, the rest are links.
func (d *diff) births() {
	for _, t := range d.gainers() {
		ns := d.gained[t]
		if !t.ID.IsZero() || ns[0].Dir.ID.IsZero() {
			continue
		}
		x := d.birth(t, ns[0])
		d.put(x, VersionChange{Content: t.Content, Mtime: t.Mtime, Unsure: d.Unsure})
		d.setAttrs(d.Node(t.ID), t.Attrs)
		for _, n := range ns[1:] {
			x = d.Node(t.ID)
			d.place(x, d.linkKey(x, n.Dir.ID, n.Name), n.Dir.ID, n.Name)
		}
		t.Edited, t.Set, t.Reset, t.Touched = false, nil, false, false
	}
}

// edit writes what changed in a thing that is no new node.
func (d *diff) edit(t *Thing) {
	x := d.Node(t.ID)
	if t.ID.IsZero() || x == nil || !d.Alive(t.ID) && (t.Names == 0 || t.Kind != Dir && !t.Edited) {
		return // attributes bring no file back, and who has collected it would have them alone
	}
	if t.Reset {
		d.setAttrs(x, t.Attrs)
	} else {
		for _, k := range t.Set {
			d.setAttr(d.Node(t.ID), k, t.Attrs[k])
		}
	}
	x = d.Node(t.ID)
	if t.Names == 0 { // shown where the tree has something else
		return
	}
	shown := x.Shown()
	switch {
	case !t.Edited && (!t.Touched || len(shown) == 0):
		return
	case len(shown) == 0:
	case !t.Edited || shown[0].Content == t.Content && !t.brought: // or they are nowhere once somebody edits the node
		if shown[0].Mtime != t.Mtime {
			shown[0].Mtime, shown[0].Unsure = t.Mtime, d.Unsure
			d.reassert(x, shown[0])
		}
		return
	case shown[0].Content != t.Content && shown[0].Orig != t.Base && !d.seen(t, shown[0].Orig) && !d.woken[t.ID]:
		d.forkUnseen(x, shown[0])
	}
	d.put(d.Node(t.ID), VersionChange{Content: t.Content, Mtime: t.Mtime, Unsure: d.Unsure})
}

// seen tells whether the user here knew a version of a thing's node, though it
// is not the one its bytes began with: what was made of that one here.
func (d *diff) seen(t *Thing, orig Dot) bool {
	return d.Own(orig) || !t.stranger && orig.Replica == d.Replica && d.Origin(orig).K.Has(t.Base)
}
