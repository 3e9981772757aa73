package simtest

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// What the villain does to the nodes of others. A writer may do away with what it
// knows: then that is in the history of who had it.

// A deed is what the villain does to nodes that others have made, as somebody
// would who knows what its victim does.
type deed struct {
	*villain
	m     *machine // the victim
	to    *victim
	held  holding
	all   []*model.Node // that the victim shows, and is known to know
	n     *model.Node   // one of them
	other *model.Node
	cs    []model.Change // to be sent
	takes []*text        // what it does away with
	blind bool           // what it is about nobody can tell: nothing is sent
}

// deeds are what it does, the usual more than once.
var deeds = []func(*deed) string{
	(*deed).remove, (*deed).remove, (*deed).overwrite, (*deed).overwrite, (*deed).move, (*deed).move,
	(*deed).kind, (*deed).tag, (*deed).ghost,
}

// deed prepares to rob a victim; nil: it has nothing, or cannot be asked.
func (v *villain) deed(m *machine, x *victim) *deed {
	if !m.up || m.crashed() || m.unwell() {
		return nil
	}
	v.mu.Lock()
	k := x.k
	v.mu.Unlock()
	d := &deed{villain: v, m: m, to: x, held: m.holding()}
	if d.all = d.held.living(k); len(d.all) == 0 {
		return nil
	}
	d.n, d.other = d.all[v.r.IntN(len(d.all))], d.all[v.r.IntN(len(d.all))]
	v.w.count("nodes of others touched", 1)
	return d
}

// add says one more thing. No version is over less than its own earlier one was:
// who had only the later would show a copy more (see the doc of syncer).
func (d *deed) add(c model.Change) {
	c.Lamport = d.lamport()
	c.Dot = model.Dot{Replica: d.replica, Seq: d.seq + 1 + uint64(len(d.cs))}
	if v := c.Version; v != nil && !d.over[c.ID].LE(v.VV) {
		c.Version = nil
	} else if v != nil {
		d.over[c.ID] = v.VV.With(c.Dot)
	}
	d.cs = append(d.cs, c)
}

// send sends what was said, as one batch.
func (d *deed) send() {
	if len(d.cs) == 0 || d.blind {
		return
	}
	d.took()
	b := d.put(d.to, d.cs)
	d.cs = nil
	d.tell(d.to, b)
}

func (d *deed) change() model.Change { return model.Change{ID: d.n.ID, Kind: d.n.Kind} }

func (d *deed) remove() string {
	all := d.all
	if d.r.IntN(4) > 0 { // not so often all of it
		all = []*model.Node{d.n}
	}
	for _, n := range all[:min(len(all), 100)] {
		d.take(n)
		d.add(removal(n))
	}
	return "removes what it knows"
}

func (d *deed) overwrite() string {
	by := d.file("of others", model.RootID)
	d.take(d.n)
	c := d.change()
	switch d.n.Kind {
	case model.File:
		c.Version = by.Version
		c.Version.VV = known(d.n)
	case model.Symlink:
		to := fmt.Sprint("of others ", d.w.oracle.next())
		d.w.oracle.write(d.machine, []byte("-> "+to), to).loose = true
		c.Version = &model.VersionChange{Content: to, VV: known(d.n)}
	default: // a change that says nothing
	}
	d.add(c)
	return "overwrites a file"
}

func (d *deed) move() string {
	d.loosen(d.n)
	c := d.change()
	c.Links = []model.LinkChange{{Key: model.PrimaryKey, Parent: d.other.ID, Name: oddNames[d.r.IntN(len(oddNames))]}}
	if d.other.ID == d.n.ID {
		c.Links[0].Parent = model.RootID
	}
	d.add(c)
	return "moves a node, into a file perhaps"
}

func (d *deed) kind() string {
	d.loosen(d.n)
	as, c := d.file("of another kind", model.RootID), d.change()
	c.Links, c.Version = as.Links, as.Version
	if c.Kind = model.File; d.n.Kind == model.File {
		c.Kind, c.Version = model.Dir, nil
	}
	d.add(c)
	return "a node is of another kind"
}

// tag sets what is no mode, and an attribute that users here set too.
func (d *deed) tag() string {
	d.loosen(d.n)
	c := d.change()
	c.Attrs = []model.AttrChange{{Name: model.AttrMode, Val: "\x01\x80"}, {Name: model.XattrTag + "user.0", Val: "=evil"}}
	d.add(c)
	return "attributes of others"
}

func (d *deed) ghost() string {
	d.add(d.villain.ghost())
	return "a file that nobody has"
}

// living lists the nodes that are shown and that are known to who knows k.
func (h holding) living(k model.VV) (out []*model.Node) {
	for id, alive := range h.alive {
		if n := h.nodes[id]; alive && n != nil && id != model.RootID && known(n).LE(k) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *model.Node) int { return cmp.Compare(string(a.ID[:]), string(b.ID[:])) })
	return out
}

// known is what one knows who knows all of a node's versions.
func known(n *model.Node) model.VV {
	k := n.Covered
	for _, h := range n.Heads {
		k = k.Join(h.VV).With(h.Dot)
	}
	return k
}

func removal(n *model.Node) model.Change {
	c := model.Change{ID: n.ID, Kind: n.Kind, Gone: known(n)}
	for _, l := range n.Links {
		c.Links = append(c.Links, model.LinkChange{Key: l.Key, Removed: true})
	}
	return c
}

// texts are those that the versions of a node hold. The victim may lack the bytes
// of what it shows nobody yet: then it is read where they are.
func (d *deed) texts(n *model.Node) []*text {
	out, all := d.w.textsOf(n, d.w.ms...)
	if !all && !d.ghostly(n) {
		d.w.say("evil cannot read %v, nor can anybody", n.ID)
		d.blind = true
	}
	return out
}

// textsOf are the texts that the versions of a node hold, all that one of the
// machines has the bytes of.
func (w *world) textsOf(n *model.Node, ms ...*machine) (out []*text, all bool) {
	all = true
	for _, h := range n.Heads {
		b := []byte("-> " + h.Content)
		if n.Kind == model.File {
			c, err := content.Decode(h.Content)
			if err != nil || c.Size == 0 || c.Size > 1<<20 {
				continue
			}
			b = make([]byte, c.Size)
			if !slices.ContainsFunc(ms, func(m *machine) bool {
				k := 0
				if m.up && !m.crashed() {
					k, _ = content.NewReader(m.f.Store(), c).ReadAt(context.Background(), b, 0)
				}
				return k == len(b)
			}) {
				all = false
				continue
			}
		}
		if t := w.oracle.texts[maphash.Bytes(w.oracle.seed, b)]; t != nil {
			out = append(out, t)
		}
	}
	return out, all
}

// loosen notes that the villain may bring back what a node holds: what it says
// may come late, and moves beat deletions.
func (d *deed) loosen(n *model.Node) {
	d.loosed[n.ID] = true
	for _, t := range d.texts(n) {
		t.loose = true
	}
}

// revived tells whether a machine shows a text in a node that the villain has moved
// or changed: somebody may have made and removed it in the meantime.
func (v *villain) revived(m *machine, t *text) bool {
	h := m.holding()
	for id := range v.loosed {
		if n := h.nodes[id]; n != nil {
			if ts, _ := v.w.textsOf(n, m); slices.Contains(ts, t) {
				return true
			}
		}
	}
	return false
}

// take is to do away with what a node holds.
func (d *deed) take(n *model.Node) {
	d.loosed[n.ID] = true // an edit beats a removal
	d.takes = append(d.takes, d.texts(n)...)
}

// took notes what the villain does away with. Whoever had it has it in its history.
func (d *deed) took() {
	for _, t := range d.takes {
		t.loose = true
		if t.acked && t.kept && !t.consumed && !t.excused {
			t.robbed, t.day = true, d.w.days
			d.w.count("texts robbed", 1)
		}
		t.consume(d.machine, nil)
	}
	d.takes = nil
}

// ghost makes a file of which nobody has the bytes.
func (v *villain) ghost() model.Change {
	name := fmt.Sprint("ghost ", v.w.oracle.next())
	c := v.file(name, model.RootID)
	body := content.Content{Size: 5000 + v.r.Int64N(blocks.MaxBlock-5000)}
	for i := range body.Root {
		body.Root[i] = byte(v.r.Uint32())
	}
	c.Version.Content, c.Born = body.Encode(), true
	v.ghosts[c.Version.Content] = true
	return c
}

// ghostly tells whether nobody has the bytes of one of a file's versions.
func (v *villain) ghostly(n *model.Node) bool {
	return slices.ContainsFunc(n.Heads, func(h model.Version) bool { return v.ghosts[h.Content] })
}

// haunted tells whether all that a machine waits for is files that nobody has.
func (m *machine) haunted() bool {
	if m.w.evil == nil || len(m.w.evil.ghosts) == 0 {
		return false
	}
	all := true
	m.rows(func(ix *index.Index, _ *pebble.DB) {
		t := ix.Begin()
		defer t.Abort()
		is := func(ino index.Ino) bool { return t.Row(ino) != nil && m.w.evil.ghosts[t.Wanted(ino).Content] }
		ix.Names(func(_ index.Ino, _ string, y index.Drift) {
			all = all && (y.Ours || is(t.Ino(y.View)))
		})
		ix.AllBytes(func(ino index.Ino, w index.Bytes) {
			all = all && (w.Ours || is(ino))
		})
	})
	return all
}

// haunts returns where a file is to come that nobody has: till then its name shows what
// it did, in which machines may differ.
func (m *machine) haunts(l listing) (out []string) {
	if m.w.evil == nil || len(m.w.evil.ghosts) == 0 {
		return nil
	}
	m.rows(func(ix *index.Index, _ *pebble.DB) {
		t := ix.Begin()
		defer t.Abort()
		ix.Names(func(dir index.Ino, name string, y index.Drift) {
			if ino := t.Ino(y.View); !y.Ours && t.Row(ino) != nil && m.w.evil.ghosts[t.Wanted(ino).Content] {
				out = append(out, m.w.memory.fold(l.dirs[dir]+"/"+name))
			}
		})
	})
	return out
}

// differ tells whether two machines show what is not the same, and should be.
func differ(a, b *machine, la, lb listing) bool {
	if la.String() == lb.String() {
		return false
	}
	haunts := append(a.haunts(la), b.haunts(lb)...)
	without := func(l listing) []string {
		return slices.DeleteFunc(slices.Clone(l.lines), func(line string) bool {
			line = a.w.memory.fold(line)
			return slices.ContainsFunc(haunts, func(at string) bool {
				return strings.HasPrefix(line, at+" ") || strings.HasPrefix(line, at+"/") || line[0] == '[' && strings.Contains(line, at)
			})
		})
	}
	return !slices.Equal(without(la), without(lb))
}

// robbed checks that what the villain did away with is somewhere: shown, or in the
// history of somebody honest (I12).
func (w *world) robbed(visible map[*text]bool) {
	if w.evil == nil || w.copied {
		return
	}
	var past map[*text]bool
	for _, t := range w.oracle.texts {
		if !t.robbed || t.excused || visible[t] {
			continue
		}
		if t.robbed = w.days-t.day <= keptDays; !t.robbed || t.doer != w.evil.machine {
			continue
		}
		if past == nil {
			past = map[*text]bool{}
			for _, m := range w.ms {
				if m.sized || m.decayed {
					return
				}
				for t := range w.past(m) {
					past[t] = true
				}
			}
		}
		if !past[t] {
			w.fail("I12", "in nobody's history, since the villain has done away with it: %v", t)
		}
	}
}
