package index

import (
	"fmt"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

// Apply implements model.State: it joins a change into its node's row. The view
// follows when it is next asked for.
func (t *Tx) Apply(c model.Change, deps model.VV) {
	t.ix.lamport = max(t.ix.lamport, c.Lamport)
	if !c.Says() {
		return
	}
	id := c.ID
	ino := t.Ino(id)
	if ino == 0 {
		ino = t.Allocate(&Row{ID: id, Kind: c.Kind})
		t.bindID(id, ino)
	}
	r := t.Row(ino)
	if r == nil {
		t.fail(fmt.Errorf("node %v has no row: %w", id, errRow))
		return
	}
	t.touch(id)
	if r.Node == nil {
		t.born(r, c.Kind)
	}
	var before []model.Dot
	r.Node.Dots(func(d model.Dot) {
		if len(before) == 0 || before[len(before)-1] != d {
			before = append(before, d)
		}
	})
	had := c.Had(deps)
	reborn := c.Born && r.Node.Forgotten(had)
	r.Node.Join(c, deps)
	if v := c.Version; v != nil && v.Orig == (model.Dot{}) && brings(c) {
		t.keep(pastOf{id, c.Dot, v.Content}, noted{kind: c.Kind, mtime: v.Mtime, mode: r.Mode, dot: c.Dot})
	}
	cited := set[model.Dot]{}
	r.Node.Dots(func(d model.Dot) { cited[d] = struct{}{} })
	var forgotten model.VV
	for _, d := range before {
		if _, yes := cited[d]; !yes {
			t.dead(d)
			cited[d] = struct{}{} // once
			if reborn && had.Has(d) {
				forgotten = forgotten.With(d)
			}
		}
	}
	if len(forgotten) > 0 {
		t.SetHorizon(forgotten) // collected by its author, who had heard that all knew it
	}
	for _, l := range r.Node.Links {
		for _, x := range l.Hist {
			dir := t.Number(x.Parent) // it has a number now, so that writing the row makes no other
			if t.ix.watch != nil {
				t.ix.watch.found(dir, 0)
			}
		}
	}
	t.Changed(ino)
}

// born gives the row of a node that was only named before, or is new, what it
// needs.
func (t *Tx) born(r *Row, k model.Kind) {
	r.Node = &model.Node{ID: r.ID, Kind: k}
	if r.Btime == 0 {
		now := t.now()
		r.Kind = k
		r.Mode, r.Nlink = bornMode(k), 0
		if k == model.Dir {
			r.Nlink = 2
		}
		r.UID, r.GID = t.ix.owner[0], t.ix.owner[1]
		r.Mtime, r.Atime, r.Ctime, r.Btime = now, now, now, now
	}
}

// brings tells whether a change has all bytes of its version in it.
func brings(c model.Change) bool {
	if c.Kind != model.File {
		return c.Kind == model.Symlink
	}
	v, err := content.Decode(c.Version.Content)
	return err == nil && v.Size <= content.MaxInline
}

// cites tells whether a field of the node has the dot.
func cites(n *model.Node, d model.Dot) (yes bool) {
	n.Dots(func(x model.Dot) { yes = yes || x == d })
	return yes
}

// A Cut is the tree as a Diff is told of it.
type Cut struct{ *Tx }

var _ model.Tree = Cut{}

// Bind implements model.Tree: the inode of a new thing shows node id from now
// on. A dead node that is used again brings its replicated part.
func (c Cut) Bind(th *model.Thing, id model.ID) {
	t := c.Tx
	ino := Ino(th.Ino)
	r := t.Row(ino)
	t.touch(id)
	t.freeze(ino, r)
	t.suspect(ino, true)
	if !r.ID.IsZero() && r.ID != id { // a conflict copy that nobody pinned and that is no more
		t.unbindID(r.ID)
		r.Of, r.OfOrig = model.ID{}, model.Dot{}
	}
	if old := t.Ino(id); old != 0 && old != ino {
		o := t.Row(old)
		r.Node, r.Of, r.OfOrig, r.Kids, r.Crowd, r.Eff = o.Node, o.Of, o.OfOrig, o.Kids, o.Crowd, o.Eff
		c.strip(old, o)
		if r.Kind == model.Dir {
			r.ID = id
			t.bindID(id, ino)
			t.rehome(old, ino)
		}
	}
	r.ID = id
	if r.Node == nil {
		r.Node = &model.Node{ID: id, Kind: r.Kind}
	}
	t.bindID(id, ino)
	t.Changed(ino)
}

// rehome gives a directory's new number what the view has in it: others made
// the directory, and things in it, while it was being made here.
func (t *Tx) rehome(old, ino Ino) {
	in := names{}
	prefix := t.ix.keys.dir(tableEntry, old)
	t.fail(scan(t.b, prefix, after(prefix), func(k, _ []byte) error {
		name := string(k[len(prefix)+8:])
		in[nameKey{old, name}] = t.viewAt(old, name)
		return nil
	}))
	for k := range t.ix.theirs[old] {
		y := t.ix.names[k]
		in[k] = viewed{y.View, y.Name}
	}
	for k, v := range in {
		if y, ok := t.Drift(old, k.name); ok && y.Ours {
			continue // its own cut will say what becomes of it
		}
		t.SetDrift(old, k.name, nil)
		if e, ok := t.Entry(old, k.name); ok && e.Kind.Replicates() {
			t.flip(old, e.Name, 0)
		}
		if !v.id.IsZero() {
			t.show(ino, k.name, v)
		}
	}
	crowds := map[string]*crowd{}
	prefix = t.ix.keys.dir(tableCrowd, old)
	t.fail(scan(t.b, prefix, after(prefix), func(k, v []byte) error {
		x, err := decodeCrowd(v)
		crowds[string(k[len(prefix):])] = x
		return err
	}))
	for base, x := range crowds {
		t.dropCrowd(old, base)
		t.writeCrowd(ino, base, x)
	}
	delete(t.crowded, old)
	delete(t.crowded, ino)
}

// strip leaves an inode what is local: it shows no node any more. A directory's
// number goes on to name it in the rows of what was in it.
func (c Cut) strip(ino Ino, r *Row) {
	t := c.Tx
	t.freeze(ino, r)
	t.suspect(ino, false)
	r.Node, r.Of, r.OfOrig = nil, model.ID{}, model.Dot{}
	t.Changed(ino)
	if r.Kind == model.Dir {
		r.Kids, r.Crowd, r.Eff = 0, 0, 0
		return
	}
	r.ID = model.ID{}
	t.lose(ino)
}

// Swap implements model.Tree: the replicated parts of two files change places.
func (c Cut) Swap(th *model.Thing, id model.ID) {
	t := c.Tx
	a, b := Ino(th.Ino), t.Ino(id)
	if a == b || b == 0 {
		return
	}
	ra, rb := t.Row(a), t.Row(b)
	for _, ino := range []Ino{a, b} {
		for _, k := range t.shownNames(ino) { // the view goes on having this node there
			if _, drift := t.Drift(k.dir, k.name); !drift {
				t.block(k, t.viewAt(k.dir, k.name), t.Row(ino).ID)
				t.vacated = true
			}
		}
	}
	for _, ino := range []Ino{a, b} {
		if r := t.Row(ino); !r.ID.IsZero() {
			t.touch(r.ID)
		}
		t.freeze(ino, t.Row(ino)) // who has it open goes on reading it
		t.suspect(ino, false)
		if shown := t.Row(ino).Shown; shown != nil {
			shown.Orig = model.Dot{} // it is no version of the node that it gets
		}
	}
	ra.ID, rb.ID = rb.ID, ra.ID
	ra.Node, rb.Node = rb.Node, ra.Node
	ra.Of, rb.Of = rb.Of, ra.Of
	ra.OfOrig, rb.OfOrig = rb.OfOrig, ra.OfOrig
	for _, x := range []struct {
		ino Ino
		r   *Row
	}{{a, ra}, {b, rb}} {
		if !x.r.ID.IsZero() {
			t.bindID(x.r.ID, x.ino)
		}
		t.Changed(x.ino)
	}
	for _, ino := range []Ino{a, b} { // what was wanted is no longer, for this inode
		if w, ok := t.Bytes(ino); ok && !w.Ours {
			t.setBytes(ino, nil)
		}
		t.lose(ino)
	}
}
