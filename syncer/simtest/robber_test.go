package simtest

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// What the villain does to the nodes of others. A writer may do away with what it
// knows: then that is in the history of who had it.

// rob makes changes to nodes that others have made, as somebody would who knows
// what a victim does; nil: there are none, or it cannot be asked.
func (v *villain) rob(m *machine, x *victim) (cs []model.Change, what string) {
	if !m.up || m.crashed() || m.unwell() {
		return nil, ""
	}
	v.mu.Lock()
	k := x.k
	v.mu.Unlock()
	all := v.living(m, k)
	if len(all) == 0 {
		return nil, ""
	}
	n := all[v.r.IntN(len(all))]
	other := all[v.r.IntN(len(all))]
	add := func(c model.Change) {
		c.Lamport = v.lamport()
		c.Dot = model.Dot{Replica: v.replica, Seq: v.seq + 1 + uint64(len(cs))}
		cs = append(cs, c)
	}
	v.w.count("nodes of others touched", 1)
	base := model.Change{ID: n.ID, Kind: n.Kind}
	switch v.r.IntN(10) {
	case 0, 8:
		what = "removes what it knows"
		if v.r.IntN(4) > 0 { // not so often all of it
			all = []*model.Node{n}
		}
		for _, n := range all[:min(len(all), 100)] {
			v.take(m, n)
			add(removal(n))
		}
	case 1, 9:
		what = "overwrites a file"
		c := v.file("of others", model.RootID)
		v.take(m, n)
		if base.Version = c.Version; n.Kind == model.Dir {
			base.Version = nil
		} else {
			base.Version.VV = known(n)
		}
		add(base)
	case 2, 3:
		what = "moves a node, into a file perhaps"
		v.loosen(m, n)
		base.Links = []model.LinkChange{{Key: model.PrimaryKey, Parent: other.ID, Name: oddNames[v.r.IntN(len(oddNames))]}}
		if other.ID == n.ID {
			base.Links[0].Parent = model.RootID
		}
		add(base)
	case 4:
		what = "a node is of another kind"
		v.loosen(m, n)
		c := v.file("of another kind", model.RootID)
		base.Links, base.Version = c.Links, c.Version
		if base.Kind = model.File; n.Kind == model.File {
			base.Kind, base.Version = model.Dir, nil
		}
		add(base)
	case 5:
		what = "a living node is born again"
		v.loosen(m, n)
		base.Born = true
		if v.r.IntN(2) == 0 {
			base.Links = []model.LinkChange{{Key: model.PrimaryKey, Parent: other.ID, Name: "born again"}}
		}
		add(base)
	case 6:
		what = "attributes of others"
		v.loosen(m, n)
		base.Attrs = []model.AttrChange{{Name: model.AttrMode, Val: "\x01\x80"}, {Name: "user.0", Val: "evil"}}
		add(base)
	case 7:
		what = "a file that nobody has"
		add(v.ghost())
	}
	return cs, what
}

// living lists the nodes that a machine shows and that are known to who knows k.
func (v *villain) living(m *machine, k model.VV) (out []*model.Node) {
	h := m.holding()
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

// texts are those that the versions of a node hold.
func (v *villain) texts(m *machine, n *model.Node) (out []*text) {
	for _, h := range n.Heads {
		b := []byte("-> " + h.Content)
		if n.Kind == model.File {
			c, err := content.Decode(h.Content)
			if err != nil || c.Size == 0 || c.Size > 1<<20 {
				continue
			}
			b = make([]byte, c.Size)
			if k, err := content.NewReader(m.f.Blocks(), c).ReadAt(context.Background(), b, 0); k < len(b) {
				v.w.say("evil cannot read: %v", err)
				continue
			}
		}
		if t := v.w.oracle.texts[maphash.Bytes(v.w.oracle.seed, b)]; t != nil {
			out = append(out, t)
		}
	}
	return out
}

// loosen notes that the villain may bring back what a node holds: what it says
// may come late, and moves beat deletions.
func (v *villain) loosen(m *machine, n *model.Node) {
	for _, t := range v.texts(m, n) {
		t.loose = true
	}
}

// take notes that the villain does away with what a node holds. Whoever had it
// has it in its history.
func (v *villain) take(m *machine, n *model.Node) {
	for _, t := range v.texts(m, n) {
		t.loose = true
		if t.acked && t.kept && !t.consumed && !t.excused {
			t.robbed, t.day = true, v.w.days
			v.w.count("texts robbed", 1)
		}
		t.consume(v.machine, nil)
	}
}

// ghost makes a file of which nobody has the bytes.
func (v *villain) ghost() model.Change {
	name := fmt.Sprint("ghost ", v.w.oracle.next())
	c := v.file(name, model.RootID)
	body := content.Content{Size: 5000 + v.r.Int64N(1<<20)}
	for i := range body.Root {
		body.Root[i] = byte(v.r.Uint32())
	}
	c.Version.Content, c.Born = body.Encode(), true
	v.w.ghosts++
	return c
}

// haunted tells whether all that a machine waits for is files that nobody has.
func (m *machine) haunted() bool {
	if m.w.ghosts == 0 {
		return false
	}
	ghosts, others, bytes := 0, 0, 0
	m.rows(func(ix *index.Index, _ *pebble.DB) {
		ix.Names(func(_ index.Ino, name string, y index.Drift) {
			if y.Ours {
				return
			}
			if others++; strings.HasPrefix(name, "ghost ") {
				ghosts++
			}
		})
		ix.AllBytes(func(_ index.Ino, w index.Bytes) {
			if !w.Ours {
				bytes++
			}
		})
	})
	return ghosts == others && bytes <= ghosts
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
