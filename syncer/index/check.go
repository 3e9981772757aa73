package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/clachanfs/clachan/syncer/model"
)

// Check makes the state and the view anew from the log and compares them with
// the rows. report is called with each difference. The caller holds the apply
// lock.
func (ix *Index) Check(report func(error)) error {
	mem, err := ix.replay()
	if err != nil {
		return fmt.Errorf("check index: %w", err)
	}
	return ix.compare(mem, report)
}

// compare reports where the rows are not what mem makes of the same changes.
func (ix *Index) compare(mem *model.Mem, report func(error)) error {
	t := ix.Begin()
	defer t.Abort()
	c := &check{ix: ix, t: t, mem: mem, report: report}
	for id := range mem.Nodes {
		c.node(id)
	}
	err := ix.scan(ix.keys.table(tableID), func(k, _ []byte) error {
		id := model.ID(k[5:])
		if n := t.Node(id); mem.Nodes[id] == nil && n != nil && (len(n.Heads) > 0 || len(n.Links) > 0 || len(n.Attrs) > 0) {
			report(fmt.Errorf("node %v is in no batch of the log", id))
		}
		return nil
	})
	for id, n := range mem.Nodes {
		if n.Kind == model.Dir && mem.Alive(id) {
			c.dir(id)
		}
	}
	c.drift()
	return errors.Join(err, c.tree(), c.past(), c.tombs(), t.Err())
}

// replay joins all batches of the log, those not yet known included.
func (ix *Index) replay() (*model.Mem, error) {
	s := ix.Snapshot()
	defer s.Close()
	origins := map[model.Dot]model.Origin{}
	mem := model.NewMem(ix.fold, func(d model.Dot) model.Origin { return origins[d] })
	for b, err := range s.Since(nil, nil) {
		if err != nil {
			return nil, err
		}
		h, changes, err := ix.seal.Decode(b)
		if err != nil {
			return nil, err
		}
		for i, c := range changes {
			d := model.Dot{Replica: h.Replica, Seq: h.Lo + uint64(i)}
			origins[d] = model.Origin{K: h.Deps.With(model.Dot{Replica: d.Replica, Seq: d.Seq - 1}), Lo: h.Lo,
				By: model.Label{Author: h.Author, Device: h.Device}, UTC: h.UTC}
			if !c.ID.IsZero() {
				mem.Apply(c, h.Deps)
			}
		}
	}
	return mem, nil
}

type check struct {
	ix     *Index
	t      *Tx
	mem    *model.Mem
	report func(error)
}

func (c *check) node(id model.ID) {
	want, got := c.mem.Nodes[id], c.t.Node(id)
	if got == nil {
		c.report(fmt.Errorf("node %v of the log has no row", id))
		return
	}
	// What was superseded is told by changes that are dead and not in the log.
	a, b := *want, *got
	a.Covered, b.Covered = nil, nil
	a.Births = slices.DeleteFunc(slices.Clone(a.Births), func(d model.Dot) bool { return !slices.Contains(b.Births, d) }) // rows of before have none
	if !a.Equal(&b) {
		c.report(fmt.Errorf("node %v is %+v, by the log %+v", id, b, a))
	}
}

// dir compares what the view has in a directory.
func (c *check) dir(id model.ID) {
	ino := c.t.Ino(id)
	r := c.t.Row(ino)
	if ino == 0 || r == nil {
		c.report(fmt.Errorf("directory %v has no row", id))
		return
	}
	want := map[string]model.ID{}
	kids := uint64(0)
	for _, e := range c.mem.List(id) {
		want[e.Name] = e.Node()
		if !e.Extra {
			kids++
		}
	}
	if r.Kids != kids {
		c.report(fmt.Errorf("directory %d counts %d children, by the log %d", ino, r.Kids, kids))
	}
	got := map[string]model.ID{}
	err := c.ix.Page(ino, 0, func(_ uint64, e Entry) bool {
		if v := c.t.viewAt(ino, e.Name); !v.id.IsZero() {
			got[v.name] = v.id
		}
		return true
	})
	if err != nil {
		c.report(err)
	}
	for k, y := range c.ix.names {
		if k.dir == ino && !y.View.IsZero() {
			got[y.Name] = y.View
		}
	}
	for name, id := range want {
		if got[name] != id {
			c.report(fmt.Errorf("directory %d: %q shows %v, by the log %v", ino, name, got[name], id))
		}
	}
	for name, id := range got {
		if _, ok := want[name]; !ok {
			c.report(fmt.Errorf("directory %d: %q shows %v, by the log nothing", ino, name, id))
		}
	}
}

// inode compares what an inode shows with what its node says. What is changed
// here, or is not here yet, may differ.
func (c *check) inode(ino Ino, r *Row, fault func(string, ...any)) {
	w, drift := c.t.Bytes(ino)
	n, v := c.t.described(r), c.t.Wanted(ino)
	if n != nil {
		if mode := modeOf(n); mode != r.Mode&0o777 && !w.Sets(model.AttrMode) && r.ID != model.RootID {
			fault("has mode %o, its node says %o", r.Mode, mode)
		}
		c.xattrs(ino, n.Attrs, w, fault)
	}
	switch {
	case !r.ID.IsZero() && c.t.Ino(r.ID) != ino:
		fault("shows node %v, which has inode %d", r.ID, c.t.Ino(r.ID))
	case r.Kind == model.Dir || drift && w.Ours:
	case v.Dot == (model.Dot{}):
		if drift {
			fault("waits for bytes that nobody has written")
		}
	case r.Shown != nil && !drift:
		fault("shows version %v, which is not wanted any more", r.Shown.Orig)
	case r.Shown == nil && drift && r.Nlink > 0:
		fault("is shown though its bytes are not here")
	case r.Shown == nil && r.Mtime != v.Mtime:
		fault("has mtime %d, its version %d", r.Mtime, v.Mtime)
	}
}

func (c *check) xattrs(ino Ino, attrs map[string]model.Attr, w Bytes, fault func(string, ...any)) {
	want := map[string]string{}
	for tag, a := range attrs {
		if strings.HasPrefix(tag, model.XattrTag+"user.") && a.Val != "" && !w.Sets(tag) {
			want[tag[1:]] = a.Val[1:]
		}
	}
	for name, val := range c.t.Xattrs(ino) {
		if !strings.HasPrefix(name, "user.") || w.Sets(model.XattrTag+name) {
			continue
		}
		if was, ok := want[name]; !ok || was != string(val) {
			fault("has attribute %s = %q, by its node %q", name, val, was)
		}
		delete(want, name)
	}
	for name := range want {
		fault("lacks attribute %s", name)
	}
}

// drift checks that something is to be done for every difference.
func (c *check) drift() {
	for ino, w := range c.ix.bytes {
		switch r := c.t.Row(ino); {
		case r == nil:
			c.report(fmt.Errorf("inode %d is to be cut or fetched, but is not there", ino))
		case w.Ours && r.Kind != model.Dir && r.Nlink == 0 && !c.ix.orphans[ino]:
			c.report(fmt.Errorf("inode %d is to be cut, but has no name", ino))
		case !w.Ours && c.t.Wanted(ino).Dot == (model.Dot{}):
			c.report(fmt.Errorf("inode %d (node %v, of %v version %v, %d names) waits for bytes that nobody has written", ino, r.ID, r.Of, r.OfOrig, r.Nlink))
		}
	}
	for k, y := range c.ix.names {
		if y.Ours || y.Held {
			continue
		}
		e, ok := c.t.Entry(k.dir, k.name)
		switch target := c.t.Ino(y.View); {
		case c.t.holds(k.dir, k.name):
		case ok && !e.Kind.Replicates():
		case ok && (c.t.leaves(e) || !y.View.IsZero() && c.t.unsaid(e)):
		case y.View.IsZero() && !ok:
			c.report(fmt.Errorf("directory %d: %q waits to go, but is not there", k.dir, k.name))
		case y.View.IsZero() && (e.Kind != model.Dir || c.t.Empty(e.Ino) || c.t.alive(c.t.Row(e.Ino).ID)):
			c.report(fmt.Errorf("directory %d: %q waits to go for nothing", k.dir, k.name))
		case !y.View.IsZero() && target != 0 && c.t.elsewhere(target): // a move that is not cut, or comes with others
		case !y.View.IsZero() && (target == 0 || c.t.ready(target)):
			c.report(fmt.Errorf("directory %d: %q waits for what is here", k.dir, k.name))
		}
	}
}

// tree checks what the tree says of itself: names lead to inodes, inodes count
// their names.
func (c *check) tree() error {
	names := map[Ino]uint32{}
	err := c.ix.scan(c.ix.keys.table(tableEntry), func(k, v []byte) error {
		dir, name := Ino(binary.BigEndian.Uint64(k[5:])), string(k[21:])
		e, err := decodeEntry(v, name)
		if err != nil {
			return err
		}
		if c.ix.fold(e.Name) != name {
			c.report(fmt.Errorf("directory %d: %q stands as %q", dir, e.Name, name))
		}
		names[e.Ino]++
		switch r := c.t.Row(e.Ino); {
		case r == nil:
			c.report(fmt.Errorf("directory %d: %q leads to inode %d, which is not there", dir, name, e.Ino))
		case r.Kind != e.Kind:
			c.report(fmt.Errorf("directory %d: %q has kind %d, its inode %d", dir, name, e.Kind, r.Kind))
		case r.Kind == model.Dir && r.Parent != dir:
			c.report(fmt.Errorf("directory %d says that it is in %d, not in %d", e.Ino, r.Parent, dir))
		case c.ix.back != nil: // shows what it showed
		default:
			c.inode(e.Ino, r, func(format string, args ...any) {
				c.report(fmt.Errorf("directory %d: %q (inode %d) %s", dir, name, e.Ino, fmt.Sprintf(format, args...)))
			})
		}
		return nil
	})
	inos := make([]Ino, 0, len(names))
	for ino := range names {
		inos = append(inos, ino)
	}
	slices.Sort(inos)
	for _, ino := range inos {
		if r := c.t.Row(ino); r != nil && r.Kind != model.Dir && r.Nlink != names[ino] {
			c.report(fmt.Errorf("inode %d counts %d names, has %d", ino, r.Nlink, names[ino]))
		}
	}
	return err
}

// State describes all nodes: equal on peers that know the same. The caller holds
// the apply lock.
func (ix *Index) State() map[string]string {
	out := map[string]string{}
	t := ix.Begin()
	defer t.Abort()
	t.fail(ix.scan(ix.keys.table(tableID), func(k, _ []byte) error {
		if n := t.Node(model.ID(k[5:])); n != nil {
			out[n.ID.String()] = fmt.Sprintf("%d %v gone %v links %v attrs %v", n.Kind, n.Heads, n.Gone, n.Links, n.Attrs)
		}
		return nil
	}))
	return out
}
