package model

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
)

// note records what superseded and removed what, with what its author knew.
func (w *world) note(c Change, k VV) {
	if c.Version != nil || len(c.Gone) > 0 {
		w.supers[c.ID] = append(w.supers[c.ID], noted{c.Dot, k})
	}
	for _, l := range c.Links {
		if l.Removed {
			if w.unlinks[c.ID] == nil {
				w.unlinks[c.ID] = map[uint64][]noted{}
			}
			w.unlinks[c.ID][l.Key] = append(w.unlinks[c.ID][l.Key], noted{c.Dot, k})
		}
	}
	reset := func(attr string) {
		if w.resets[c.ID] == nil {
			w.resets[c.ID] = map[string][]noted{}
		}
		w.resets[c.ID][attr] = append(w.resets[c.ID][attr], noted{c.Dot, k})
	}
	for _, a := range c.Attrs {
		reset(a.Name)
	}
	if c.Born {
		reset("")
	}
}

// cut cuts all of p. If nothing came from others meanwhile, the view must show
// exactly what the tree showed (I7).
func (w *world) cut(p *peer) {
	apart := len(p.others) > 0 || p.halfway()
	before := p.tree.list()
	names := p.expect(all)
	n := p.cut(all)
	w.say(p, "cut: %d changes", n)
	if got := p.list(); !apart && !got.equal(before) {
		w.fail("I7", "tree was\n%sview is\n%s", before, got)
	}
	groups := map[*inode]ID{} // the names of one file are those of one node
	for _, x := range names {
		x.check(p, groups)
	}
	p.settled()
	w.checkTree(p)
	if again := p.cut(all); again > 0 {
		w.fail("I10", "an idle cut makes %d changes", again)
	}
}

// cutSome cuts a part: its names must be in the view, and the tree stays.
func (w *world) cutSome(p *peer, x int) {
	apart := len(p.others) > 0 || p.halfway()
	pick := p.some(x)
	before, names := p.tree.list(), p.expect(pick)
	n := p.cut(pick)
	w.say(p, "cut of some: %d changes", n)
	groups := map[*inode]ID{} // the names of one file are those of one node
	for _, x := range names {
		x.check(p, groups)
	}
	if got := p.tree.list(); !apart && !got.equal(before) {
		w.fail("I7", "tree was\n%stree is\n%s", before, got)
	}
	w.checkTree(p)
}

// expected is what a dirty name must show after the cut, though other names
// were changed by others meanwhile.
type expected struct {
	dir  *inode
	name string
	to   *inode
	was  sight // of to
	of   ID    // the node whose conflict copy it is, if nobody has pinned that
}

func (p *peer) expect(pick func(place) bool) (out []expected) {
	if p.halfway() {
		return nil
	}
	for _, pl := range p.tree.places() {
		y := p.tree.drift[pl]
		d := pl.dir.kids[pl.fold]
		var now ID
		if e := p.m.At(pl.dir.id, y.name); e != nil {
			now = e.Node()
		}
		if !pick(pl) || pl.dir.id.IsZero() && len(p.others) > 0 || p.others[y.seen] || now != y.seen || p.tree.nameCount(pl.dir) == 0 && pl.dir != p.tree.root {
			continue
		}
		if d.to != nil && (p.others[d.to.id] || d.to.kind == Dir && p.moved) {
			continue
		}
		if n := p.m.Node(y.seen); n != nil && n.Kind == Dir && d.to == nil && len(p.others) > 0 {
			continue // it lives on if others put something in it
		}
		if len(p.others) > 0 && strings.Contains(y.name, "(conflict") {
			continue // hangs on other names
		}
		x := expected{dir: pl.dir, name: y.name, to: d.to}
		if d.to != nil {
			x.was = sight{kind: d.to.kind, content: d.to.content, mtime: d.to.mtime, attrs: attrString(d.to.attrs)}
			x.of = p.m.CopyOf(d.to.id)
		}
		out = append(out, x)
	}
	return out
}

func (x expected) check(p *peer, groups map[*inode]ID) {
	e := p.m.At(x.dir.id, x.name)
	if e != nil && e.Kind == Dir && (x.to == nil || x.to.kind != Dir) && len(p.others) > 0 {
		return // others put something into what was dead
	}
	if e != nil && e.Undue && p.others[e.ID] {
		return // the last name of a file, which nobody removed knowing that
	}
	if e == nil != (x.to == nil) {
		panic(failure{"I7", fmt.Sprintf("%s in %v shows %v, want %v", x.name, x.dir.id, e, x.to)})
	}
	if e == nil {
		return
	}
	n := p.m.Node(e.ID)
	v := version(n, e)
	got := sight{kind: e.Kind, content: v.Content, mtime: v.Mtime, attrs: attrString(attrsOf(n))}
	if p.others[e.Node()] || p.others[e.ID] || p.others[x.of] || e.Kind == Dir { // others touched or tagged it too
		x.was.attrs, got.attrs, x.was.mtime, got.mtime = "", "", 0, 0
	}
	if got != x.was {
		panic(failure{"I7", fmt.Sprintf("%s in %v shows %+v, want %+v", x.name, x.dir.id, got, x.was)})
	}
	if other, ok := groups[x.to]; ok && other != e.Node() {
		panic(failure{"I7", fmt.Sprintf("%s in %v is no longer the file it was linked to", x.name, x.dir.id)})
	}
	groups[x.to] = e.Node()
}

// checkTree: every name is found where it is listed (I4), and without drift the
// tree is the view.
func (w *world) checkTree(p *peer) {
	paths(p.m, func(path string, e *Entry) {
		if p.m.At(e.Parent, e.Name) != e {
			w.fail("I4", "%s", path)
		}
		w.met.names++
		for _, x := range []struct {
			n   *int
			has bool
		}{{&w.met.conflicts, e.Name != e.Base}, {&w.met.copies, e.Extra}, {&w.met.undue, e.Undue}, {&w.met.further, e.Key != PrimaryKey}} {
			if x.has {
				*x.n++
			}
		}
		if e.Extra {
			w.checkClock(p, e)
		}
	})
	w.met.undone += len(p.m.Undone())
	if !p.tree.drifts() {
		if got, want := p.tree.list(), p.list(); !got.equal(want) {
			w.fail("drift", "tree\n%sview\n%s", got, want)
		}
	}
	w.checkAgreed(p)
}

// checkClock: a conflict copy is older than what has the plain name, but for one
// of an unsure clock that is far ahead of a sure one.
func (w *world) checkClock(p *peer, e *Entry) {
	n := p.m.Node(e.ID)
	copied, main := version(n, e), n.Shown()[0]
	const day = 24 * 3600 * 1e9
	near := false // to a sure one of those it was chosen from
	for _, h := range n.Heads {
		near = near || !h.Unsure && !n.Del().Has(h.Dot) && main.Mtime-h.Mtime <= day
	}
	switch newer := copied.Mtime > main.Mtime; {
	case newer && !copied.Unsure:
		w.fail("clock", "%v has the name and not %v, which is newer\n%s", main.Dot, copied.Dot, dump(n))
	case main.Unsure && !copied.Unsure && !near:
		w.fail("clock", "%v has the name and not %v, which is of a sure clock\n%s", main.Dot, copied.Dot, dump(n))
	case newer:
		w.met.unsure++
	}
}

// checkAgreed: who knows the same sees the same, at any moment (I14).
func (w *world) checkAgreed(p *peer) {
	for _, q := range w.peers {
		if q == p || !q.k.Equal(p.k) {
			continue
		}
		w.met.agreed++
		if a, b := p.list(), q.list(); !a.equal(b) {
			w.fail("I14", "p%d and p%d know the same: p%d\n%sp%d\n%s", p.r, q.r, p.r, a, q.r, b)
		}
		if a, b := p.tree, q.tree; !a.drifts() && !b.drifts() && !a.list().equal(b.list()) {
			w.fail("I14", "p%d and p%d know the same: p%d\n%sp%d\n%s", p.r, q.r, p.r, a.list(), q.r, b.list())
		}
	}
}

// checkCalm: the view decided nothing by itself (I5).
func (w *world) checkCalm(p *peer) {
	paths(p.m, func(path string, e *Entry) {
		if e.Extra || e.Name != e.Base || e.Undue || len(e.Dups) > 0 || !p.m.Node(e.ID).Live() {
			w.fail("I5", "%s: %+v", path, *e)
		}
	})
	if len(p.m.Undone()) > 0 {
		w.fail("I5", "undone moves")
	}
}

// quiesce cuts and exchanges until nobody learns anything new.
func (w *world) quiesce() {
	r := rand.New(rand.NewSource(w.seed + 2))
	for rounds := 0; ; rounds++ {
		if rounds == 30 {
			w.fail("I10", "no end of exchange")
		}
		news := 0
		for _, i := range r.Perm(len(w.peers)) {
			if !w.peers[i].reader {
				w.cut(w.peers[i])
			}
		}
		for _, x := range r.Perm(len(w.peers) * len(w.peers)) {
			p, q := w.peers[x/len(w.peers)], w.peers[x%len(w.peers)]
			if p != q {
				n := p.pull(q, 1<<30)
				news += n
				if n > 0 {
					w.say(p, "<- p%d %d batches", q.r, n)
				}
			}
		}
		if news == 0 {
			return
		}
	}
}

// check verifies what must hold after a full exchange.
func (w *world) check() {
	p0 := w.peers[0]
	tree := p0.list()
	for _, p := range w.peers {
		for id, n := range p0.m.Nodes {
			if !n.Equal(p.m.Nodes[id]) {
				w.fail("I1", "p%d and p%d differ:\n%s\n%s", p0.r, p.r, dump(n), dump(p.m.Nodes[id]))
			}
		}
		if len(p.m.Nodes) != len(p0.m.Nodes) {
			w.fail("I1", "p%d and p%d have other nodes", p0.r, p.r)
		}
		if got := p.list(); !got.equal(tree) {
			w.fail("I1", "trees differ: p%d\n%s\np%d\n%s", p0.r, tree, p.r, got)
		}
		w.checkTree(p)
		w.checkReach(p)
	}
	w.checkOrder(p0)
	w.checkLive(p0)
	w.checkLoss(tree.String())
	w.checkBack(p0)
	w.checkPin(p0)
	w.checkScan(p0)
}

// checkReach: every live node can be reached (I4). Who has a part of a cut only
// may lack a directory that the rest of it makes.
func (w *world) checkReach(p *peer) {
	reach := map[ID]bool{RootID: true}
	paths(p.m, func(_ string, e *Entry) { reach[e.ID] = true })
	for _, id := range sortedIDs(p.m.Nodes) {
		if p.m.Alive(id) && !reach[id] || p.m.Nodes[id].Live() && !reach[id] {
			w.fail("I4", "live node cannot be reached\n%s", dump(p.m.Nodes[id]))
		}
	}
}

// checkOrder: any causal order of the batches, some of them twice, makes the
// same state (I1, I2).
func (w *world) checkOrder(p *peer) {
	r := rand.New(rand.NewSource(w.seed + 3))
	m := NewMem(w.fold, p.origin)
	var k VV
	var done []*joined
	for len(done) < len(p.log) {
		var ready []*joined
		for _, b := range p.log {
			if !k.Has(Dot{b.Replica, b.Hi}) && b.Deps.LE(k) {
				ready = append(ready, b)
			}
		}
		todo := []*joined{ready[r.Intn(len(ready))]}
		done = append(done, todo[0])
		if r.Intn(4) == 0 {
			todo = append(todo, done[r.Intn(len(done))])
		}
		for _, b := range todo {
			for _, c := range b.changes {
				m.Apply(c, b.Deps)
			}
			k = k.With(Dot{b.Replica, b.Hi})
		}
	}
	for id, n := range p.m.Nodes {
		if !n.Equal(m.Nodes[id]) {
			w.fail("I2", "order matters:\n%s\n%s", dump(n), dump(m.Nodes[id]))
		}
	}
}

// checkLive: the changes that something still cites make the same state alone,
// in any order: the log keeps no others.
func (w *world) checkLive(p *peer) {
	live := map[Dot]bool{}
	for _, n := range p.m.Nodes {
		n.Dots(func(d Dot) { live[d] = true })
	}
	m := NewMem(w.fold, p.origin)
	r := rand.New(rand.NewSource(w.seed + 4))
	for _, i := range r.Perm(len(p.log)) {
		b := p.log[i]
		for _, j := range r.Perm(len(b.changes)) {
			if c := b.changes[j]; live[c.Dot] {
				m.Apply(c, b.Deps)
			}
		}
	}
	for id, n := range p.m.Nodes {
		if o := m.Nodes[id]; !n.Equal(o) && id != RootID {
			w.fail("I1", "live changes make other nodes:\n%s\n%s", dump(n), dump(o))
		}
	}
}

// checkLoss: a content is visible unless a user who saw it did away with it (I3).
func (w *world) checkLoss(tree string) {
	ok := map[string]bool{}
	paths(w.peers[0].m, func(_ string, e *Entry) { ok[version(w.peers[0].m.Node(e.ID), e).Content] = true })
	for _, p := range w.peers {
		for c := range p.consumed {
			ok[c] = true
		}
	}
	for _, p := range w.peers {
		for _, c := range sortedKeys(p.written) {
			if !ok[c] {
				w.fail("I3", "%s lost\n%s", c, tree)
			}
		}
	}
}

// checkBack: nothing that somebody superseded, removed or reset, knowing it, is
// back (I13). A name that was removed is shown for want of another only; a
// directory that was, for what is in it.
func (w *world) checkBack(p *peer) {
	for id, n := range p.m.Nodes {
		del := n.Del()
		for _, h := range n.Heads {
			for _, x := range w.supers[id] {
				if x.k.Has(h.Dot) && !del.Has(h.Dot) {
					w.fail("I13", "version %v is back\n%s", h.Dot, dump(n))
				}
			}
		}
		for i := range n.Links {
			l := &n.Links[i]
			for _, x := range w.unlinks[id][l.Key] {
				if x.k.Has(l.Loc().Dot) && !l.Dead() {
					w.fail("I13", "name %x is back\n%s", l.Key, dump(n))
				}
			}
		}
		for name, a := range n.Attrs {
			for _, x := range slices.Concat(w.resets[id][name], w.resets[id][""]) {
				if a.Val != "" && x.k.Has(a.Dot) {
					w.fail("I13", "attribute %q of %v is back\n%s", name, a.Dot, dump(n))
				}
			}
		}
	}
	full := map[ID]bool{}
	paths(p.m, func(_ string, e *Entry) { full[e.Parent] = true })
	paths(p.m, func(path string, e *Entry) {
		n := p.m.Node(e.ID)
		switch l := n.Link(e.Key); {
		case n.Kind == Dir && !n.Live() && !full[e.ID]:
			w.fail("I13", "directory %s is back, and nothing in it\n%s", path, dump(n))
		case n.Kind != Dir && !e.Extra && l.Dead() && (!e.Undue || len(n.Names(w.fold)) > 1):
			w.fail("I13", "%s is back\n%s", path, dump(n))
		}
	})
}

// checkPin: writing down what the view decided does not change it (I6).
func (w *world) checkPin(p *peer) {
	tree := p.list()
	a := p.author()
	var all []*Entry
	paths(p.m, func(_ string, e *Entry) { all = append(all, e) })
	for _, e := range all {
		if e := a.At(e.Parent, e.Name); e != nil {
			a.prep(e)
			if got := p.list(); !got.equal(tree) {
				w.fail("I6", "pinning %s\n%s\n%s", e.Name, tree, got)
			}
		}
	}
	for _, e := range all {
		if e.Kind == Dir {
			a.settle(e.ID)
		}
	}
	a.pinUndone()
	p.commit(a)
	if got := p.list(); !got.equal(tree) {
		w.fail("I6", "\n%s\n%s", tree, got)
	}
}

// checkScan: a cut of everything, where the tree is the view and nothing is
// left to pin, says nothing.
func (w *world) checkScan(p *peer) {
	p.tree.follow(p.m)
	p.tree.walk(func(_ string, dir *inode, d dent) { p.tree.mark(dir, d.name) })
	if n := p.cut(all); n > 0 {
		w.fail("I10", "a scan of everything makes %d changes", n)
	}
}
