package model

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"sort"
)

var testSeal = Seal{Folder: [32]byte{1}, Key: [32]byte{2}}

func anyone(ed25519.PublicKey) error { return nil }

// peer is one replica: a state, a log and a tree that its user changes.
type peer struct {
	m       *Mem
	r       Replica
	key     ed25519.PrivateKey
	by      Label
	clock   int64 // a wall clock, perhaps wrong: in eighths of a second
	unsure  bool  // nothing keeps the clock right
	k       VV
	lamport uint64
	prev    [32]byte
	log     []*joined // in a causal order
	of      map[Replica][]*joined
	sealed  bool // batches are signed and verified: slow
	verbose bool

	viewed  *view
	listing listing // of viewed
	tree    *tree
	rng     *rand.Rand // how cuts are split into batches

	reader   bool        // cuts nothing
	promotes bool        // will be a writer in the end
	others   map[ID]bool // nodes that others changed since the tree was clean
	moved    bool        // they moved a directory
	written  map[string]bool
	consumed map[string]bool
	note     func(c Change, k VV)
}

// joined is a batch that was sent and verified.
type joined struct {
	raw Batch
	Header
	changes []Change
	more    bool // the cut goes on in the replica's next batch
}

func newPeer(i int, fold Fold, rng *rand.Rand) *peer {
	p := &peer{
		r: Replica(i + 1), by: Label{Author: []string{"ann", "bob"}[i%2], Device: "box"}, rng: rng,
		key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32)),
		of:  map[Replica][]*joined{}, written: map[string]bool{}, consumed: map[string]bool{}, note: func(Change, VV) {},
	}
	p.m = NewMem(fold, p.origin)
	p.tree = newTree(fold)
	p.tree.consume = func(c string) { p.consumed[c] = true }
	p.settled()
	return p
}

func (p *peer) settled() {
	p.others, p.moved = map[ID]bool{}, false
}

// seconds is the coarse clock that headers show.
func (p *peer) seconds() int64 { return p.clock / 8 }

func (p *peer) mtime() int64 { return p.clock * 1e9 / 8 }

func (p *peer) origin(d Dot) Origin {
	bs := p.of[d.Replica]
	if i := sort.Search(len(bs), func(i int) bool { return bs[i].Hi >= d.Seq }); i < len(bs) {
		h := bs[i]
		return Origin{K: h.Deps.With(Dot{d.Replica, d.Seq - 1}), Lo: h.Lo, By: Label{h.Author, h.Device}, UTC: h.UTC}
	}
	return Origin{K: p.k.With(Dot{p.r, d.Seq - 1}), Lo: p.k.Get(p.r) + 1, By: p.by, UTC: p.seconds()}
}

func (p *peer) author() *Author {
	return &Author{State: kept{p.m, map[ID]*Node{}}, K: p.k, Replica: p.r, Lamport: p.lamport, By: p.by, Now: p.seconds(), Unsure: p.unsure}
}

// kept remembers nodes as they were before an author changed them.
type kept struct {
	*Mem
	was map[ID]*Node
}

// Apply implements State.
func (k kept) Apply(c Change, deps VV) {
	if _, ok := k.was[c.ID]; !ok {
		k.was[c.ID] = nil
		if n := k.Nodes[c.ID]; n != nil {
			k.was[c.ID] = n.Clone()
		}
	}
	k.Mem.Apply(c, deps)
}

// undo takes back what was applied, and returns it.
func (k kept) undo() map[ID]*Node {
	made := map[ID]*Node{}
	for id, n := range k.was {
		if made[id], k.Nodes[id] = k.Nodes[id], n; n == nil {
			delete(k.Nodes, id)
		}
	}
	k.view = nil
	return made
}

// trees: the Tree of a cut.

type cutTree struct {
	t      *tree
	things map[*Thing]*inode
}

func (c cutTree) Bind(t *Thing, id ID) {
	a, b := c.things[t], c.t.byID[id]
	if b != nil && b != a {
		c.t.rebind(b, ID{})
	}
	c.t.rebind(a, id)
}

func (c cutTree) Swap(t *Thing, id ID) {
	a, b := c.things[t], c.t.byID[id]
	was := a.id
	c.t.rebind(a, id)
	if b != nil && b != a {
		c.t.rebind(b, was)
	}
}

// rebind makes an inode show a node and no other.
func (t *tree) rebind(i *inode, id ID) {
	if t.byID[i.id] == i {
		delete(t.byID, i.id)
	}
	if i.id = id; !id.IsZero() {
		t.byID[id] = i
	}
}

// cutInput is what a cut hands to Diff.
type cutInput struct {
	cutTree
	p      *peer
	of     map[*inode]*Thing
	names  []*Name
	list   []*Thing
	places []place // of names
}

func (c *cutInput) thing(i *inode) *Thing {
	if t := c.of[i]; t != nil {
		return t
	}
	t := &Thing{Ino: i.ino, ID: i.id, Kind: i.kind, Names: c.t.nameCount(i), Edited: i.edited, Content: i.content,
		Base: i.base, Mtime: i.mtime, Touched: i.touched, Attrs: map[string]string{}, Reset: len(i.attred) > 0}
	for k, v := range i.attrs {
		t.Attrs[k] = v
	}
	c.of[i], c.things[t] = t, i
	return t
}

func (c *cutInput) name(pl place, y *drift) {
	n := &Name{Dir: c.thing(pl.dir), Name: y.name, Seen: y.seen, SeenOrig: y.seenOrig}
	if d, ok := pl.dir.kids[pl.fold]; ok {
		n.Name, n.Tree = d.name, c.thing(d.to)
		c.add(n.Tree)
	}
	if i := c.t.byID[y.seen]; i != nil {
		n.Spared = !i.unlinked && c.t.nameCount(i) == 0
	}
	c.names = append(c.names, n)
	c.places = append(c.places, pl)
}

func (c *cutInput) add(t *Thing) {
	if !slices.Contains(c.list, t) {
		c.list = append(c.list, t)
	}
}

// input collects all that is dirty. A file whose node the view does not have,
// such as a conflict copy that nobody has pinned, comes with its names.
func (p *peer) input(pick func(place) bool) *cutInput {
	c := &cutInput{cutTree: cutTree{p.tree, map[*Thing]*inode{}}, p: p, of: map[*inode]*Thing{}}
	for _, pl := range p.tree.places() {
		if pick(pl) {
			c.name(pl, p.tree.drift[pl])
		}
	}
	p.tree.walk(func(_ string, dir *inode, d dent) {
		y := p.tree.drift[place{dir, p.tree.fold(d.name)}]
		if (d.to.dirty() || len(d.to.attred) > 0) && (y == nil || pick(place{dir, p.tree.fold(d.name)})) {
			c.add(c.thing(d.to))
		}
	})
	for _, id := range sortedIDs(p.tree.byID) {
		if i := p.tree.byID[id]; len(i.attred) > 0 && p.tree.nameCount(i) == 0 {
			c.add(c.thing(i))
		}
	}
	p.tree.walk(func(_ string, dir *inode, d dent) {
		i, pl := d.to, place{dir, p.tree.fold(d.name)}
		if c.of[i] != nil && p.tree.drift[pl] == nil && !i.id.IsZero() && !p.m.Alive(i.id) {
			c.name(pl, &drift{name: d.name, seen: i.id, seenOrig: i.seenOrig()})
		}
	})
	return c
}

// cut turns what was changed here into changes and returns how many.
func (p *peer) cut(pick func(place) bool) int {
	in := p.input(pick)
	if len(in.names)+len(in.list) == 0 {
		return 0
	}
	a := p.author()
	a.Diff(in.cutTree, in.names, in.list)
	for t, i := range in.things {
		if slices.Contains(in.list, t) {
			i.clean()
		}
	}
	for _, pl := range in.places {
		delete(p.tree.drift, pl)
	}
	seen := map[ID]bool{}
	for _, y := range p.tree.drift {
		seen[y.seen] = true
	}
	for id, i := range p.tree.byID {
		i.unlinked = i.unlinked && seen[id]
	}
	if p.verbose {
		for _, c := range a.Changes() {
			fmt.Printf("    %q %q\n", fmt.Sprintf("%+v", c), fmt.Sprintf("%+v", c.Version))
		}
	}
	p.commit(a)
	p.tree.follow(p.m)
	return len(a.Changes())
}

func all(place) bool { return true }

// some picks dirty names by x, and all that must be cut with them: the names of
// the same thing or node, those of new directories they are in, those in removed
// directories, and if one is a directory's, all such: moves of directories that
// are torn apart can make cycles.
func (p *peer) some(x int) func(place) bool {
	picked := map[place]bool{}
	var all []place
	for i, pl := range p.tree.places() {
		all = append(all, pl)
		picked[pl] = x>>(i%16)&1 == 0
	}
	isDir := func(pl place) bool {
		to, seen := pl.dir.kids[pl.fold].to, p.tree.byID[p.tree.drift[pl].seen]
		return to != nil && to.kind == Dir || seen != nil && seen.kind == Dir
	}
	related := func(a, b place) bool {
		ai, bi := a.dir.kids[a.fold].to, b.dir.kids[b.fold].to
		as, bs := p.tree.drift[a].seen, p.tree.drift[b].seen
		return ai != nil && ai == bi || !as.IsZero() && as == bs || ai != nil && !ai.id.IsZero() && ai.id == bs ||
			bi != nil && !bi.id.IsZero() && bi.id == as || isDir(a) && isDir(b) || a.dir == bi && bi.id.IsZero() || b.dir.id == as && p.tree.nameCount(b.dir) == 0
	}
	for again := true; again; {
		again = false
		for _, a := range all {
			for _, b := range all {
				if picked[a] && !picked[b] && related(a, b) {
					picked[b], again = true, true
				}
			}
		}
	}
	return func(pl place) bool { return picked[pl] }
}

// commit sends what the author said through the wire form. What arrives there,
// joined to what was before, must be what the author made of the state.
func (p *peer) commit(a *Author) {
	made := a.State.(kept).undo()
	for cs := a.Changes(); len(cs) > 0; {
		n := 1 + p.rng.Intn(len(cs))
		if p.rng.Intn(2) == 0 {
			n = len(cs)
		}
		var raw [][]byte
		for _, c := range cs[:n] {
			raw = append(raw, c.Encode())
		}
		lo := cs[0].Dot.Seq
		j := p.send(Header{Replica: p.r, Lo: lo, Hi: lo + uint64(n) - 1, Deps: p.k, Prev: p.prev,
			UTC: a.Now, Author: p.by.Author, Device: p.by.Device}, raw)
		cs = cs[n:]
		j.more = len(cs) > 0
		p.apply(j)
	}
	for id, n := range made {
		if !n.Equal(p.m.Nodes[id]) {
			panic(failure{"I2", fmt.Sprintf("the author made of %v\n%s\nits changes make\n%s", id, dump(n), dump(p.m.Nodes[id]))})
		}
	}
}

func dump(n *Node) string {
	if n == nil {
		return "nothing"
	}
	s := fmt.Sprintf("%v kind %d covered %v gone %v\n", n.ID, n.Kind, n.Covered, n.Gone)
	for _, h := range n.Heads {
		s += fmt.Sprintf("  head %v vv %v orig %v %q %d (unsure: %v) %v\n", h.Dot, h.VV, h.Orig, h.Content, h.Mtime, h.Unsure, h.By)
	}
	for _, l := range n.Links {
		s += fmt.Sprintf("  link %x %v dels %v\n", l.Key, l.Hist, l.Dels)
	}
	for _, k := range sortedKeys(n.Attrs) {
		s += fmt.Sprintf("  attr %q %v\n", k, n.Attrs[k])
	}
	return s
}

// send makes a batch of encoded changes, as others get it.
func (p *peer) send(h Header, raw [][]byte) *joined {
	if p.sealed {
		b := testSeal.Sign(h, raw, p.key)
		p.prev = HeaderHash(b.Header)
		return receive(b)
	}
	j := &joined{Header: h}
	for i, b := range raw {
		d := Dot{h.Replica, h.Lo + uint64(i)}
		c, err := DecodeChange(b, d)
		if err == nil {
			err = c.within(h.Deps.With(Dot{d.Replica, d.Seq - 1}))
		}
		if err != nil {
			panic(failure{"wire", err.Error()})
		}
		j.changes = append(j.changes, c)
	}
	return j
}

// receive verifies a batch as a member does.
func receive(b Batch) *joined {
	h, cs, err := testSeal.Verify(b, anyone)
	if err != nil {
		panic(failure{"wire", err.Error()})
	}
	for _, c := range cs {
		if again, err := DecodeChange(c.Encode(), c.Dot); err != nil || !reflect.DeepEqual(again, c) {
			panic(failure{"wire", fmt.Sprintf("%+v: %v: %+v", c, err, again)})
		}
	}
	return &joined{raw: b, Header: h, changes: cs}
}

// halfway tells whether p has a part of somebody's cut only.
func (p *peer) halfway() bool {
	for _, bs := range p.of {
		if bs[len(bs)-1].more {
			return true
		}
	}
	return false
}

// list is what the view shows.
func (p *peer) list() listing {
	if v := p.m.View(); v != p.viewed {
		p.viewed, p.listing = v, list(p.m)
	}
	return p.listing
}

// apply joins a batch and logs it. The caller has checked its deps.
func (p *peer) apply(b *joined) {
	for _, c := range b.changes {
		p.m.Apply(c, b.Deps)
		p.lamport = max(p.lamport, c.Lamport)
		if b.Replica == p.r {
			p.note(c, b.Deps.With(Dot{c.Dot.Replica, c.Dot.Seq - 1}))
			continue
		}
		p.others[c.ID] = true
		p.moved = p.moved || c.Kind == Dir && len(c.Links) > 0
	}
	p.k = p.k.With(Dot{b.Replica, b.Hi})
	p.log = append(p.log, b)
	p.of[b.Replica] = append(p.of[b.Replica], b)
	p.m.view = nil // names of conflict copies hang on headers
}

// pull joins the first batches that q has and p lacks, at most max.
func (p *peer) pull(q *peer, max int) (n int) {
	return p.pullOf(q, max, func(b *joined) *joined { return b })
}

// pullAlive joins all that q has and p lacks, but for the changes of which nothing is
// left there.
func (p *peer) pullAlive(q *peer) int {
	cited := map[Dot]bool{}
	for _, n := range q.m.Nodes {
		n.Dots(func(d Dot) { cited[d] = true })
	}
	return p.pullOf(q, 1<<30, func(b *joined) *joined {
		less := *b
		less.changes = slices.DeleteFunc(slices.Clone(b.changes), func(c Change) bool { return !cited[c.Dot] })
		return &less
	})
}

func (p *peer) pullOf(q *peer, max int, part func(b *joined) *joined) (n int) {
	for _, b := range q.log {
		if n == max {
			break
		}
		if p.k.Has(Dot{b.Replica, b.Hi}) {
			continue
		}
		if !b.Deps.LE(p.k) {
			panic(failure{"causal", fmt.Sprint(b.Deps, p.k)})
		}
		p.apply(part(b))
		p.log[len(p.log)-1] = b // where a part is missing, it is asked for nowhere
		n++
	}
	if n == 0 {
		return 0
	}
	p.rescue()
	p.tree.follow(p.m)
	return n
}

func (p *peer) rescue() {
	if p.reader {
		return
	}
	a := p.author()
	a.Rescue(sortedIDs(p.m.Nodes))
	if len(a.Changes()) > 0 {
		p.commit(a)
	}
}
