package model

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
)

// anyState is a state of arbitrary elements: cycles, crowded names, removed and
// doubled names as no history of a few users has them. Its changes are such that
// members take them in.
func anyState(r *rand.Rand) (*peer, int) {
	p := newPeer(0, Bytes, r)
	var ids []ID
	kinds := map[ID]Kind{}
	for i := range 4 + r.Intn(8) {
		k := []Kind{Dir, Dir, Dir, File}[r.Intn(4)]
		id := derive("test", k, nil, nil, uint64(i), 0)
		ids, kinds[id] = append(ids, id), k
	}
	parent := func() ID {
		if id := ids[r.Intn(len(ids))]; kinds[id] == Dir && r.Intn(5) > 0 {
			return id
		}
		return RootID
	}
	known := map[ID]VV{}
	seq := map[Replica]uint64{}
	for i := range 20 + r.Intn(60) {
		id := ids[i%len(ids)]
		d := Dot{Replica: Replica(2 + r.Intn(3))}
		seq[d.Replica]++
		d.Seq = seq[d.Replica]
		c := Change{Dot: d, ID: id, Kind: kinds[id], Lamport: uint64(i + 1)}
		l := LinkChange{Parent: parent(), Name: []string{"a", "b.txt"}[r.Intn(2)], Removed: r.Intn(5) == 0}
		if c.Kind == File && r.Intn(3) == 0 {
			l.Key = uint64(1 + r.Intn(2))
		}
		if l.Parent != id {
			c.Links = append(c.Links, l)
		}
		if r.Intn(2) == 0 || known[id] == nil {
			c.Version = &VersionChange{Mtime: int64(r.Intn(3)) * 1e9 << (r.Intn(2) * 20), Unsure: r.Intn(3) == 0}
			if c.Kind == File {
				c.Version.Content = fmt.Sprint("x", i)
			}
			if r.Intn(3) == 0 {
				c.Version.VV = known[id]
			}
			known[id] = known[id].With(d)
		}
		if r.Intn(12) == 0 {
			c.Gone = known[id]
		}
		p.join(c, VV{{2, seq[2]}, {3, seq[3]}, {4, seq[4]}}.Without(d))
	}
	p.nameAll()
	p.lamport = 1000
	p.settled()
	return p, len(p.m.Undone())
}

// join takes in a change of a member who knew deps.
func (p *peer) join(c Change, deps VV) {
	d := c.Dot
	p.apply(p.send(Header{Replica: d.Replica, Lo: d.Seq, Hi: d.Seq, Deps: deps, Author: "eve", Device: "box"}, [][]byte{c.Encode()}))
}

// nameAll gives every node a name, as every birth does.
func (p *peer) nameAll() {
	for _, id := range sortedIDs(p.m.Nodes) {
		if n := p.m.Nodes[id]; id != RootID && (len(n.Links) == 0 || n.Links[0].Key != PrimaryKey || len(n.Links[0].Hist) == 0) {
			d := Dot{5, p.k.Get(5) + 1}
			p.join(Change{Dot: d, ID: id, Kind: n.Kind, Lamport: d.Seq, Links: []LinkChange{{Parent: RootID, Name: "a"}}}, VV{d}.Without(d))
		}
	}
}

// Whatever the state: writing down what the view decided does not change it,
// one entry at a time or all, in any order.
func TestPinsDoNotChangeTheView(t *testing.T) {
	undone := 0
	for seed := range int64(3000) {
		r := rand.New(rand.NewSource(seed))
		p, n := anyState(r)
		undone += n
		want := list(p.m)
		a := p.author()
		var es []*Entry
		paths(p.m, func(_ string, e *Entry) { es = append(es, e) })
		for _, i := range r.Perm(len(es)) {
			if e := a.At(es[i].Parent, es[i].Name); e != nil {
				a.prep(e)
			}
			if got := list(p.m); !got.equal(want) {
				t.Fatalf("seed %d: pinning %s in %v\n%s\n%s", seed, es[i].Name, es[i].Parent, want, got)
			}
		}
		a.pinUndone()
		for _, e := range es {
			if e.Kind == Dir {
				a.settle(e.ID)
			}
		}
		if got := list(p.m); !got.equal(want) {
			t.Fatalf("seed %d: pinning all\n%s\n%s", seed, want, got)
		}
	}
	if undone == 0 {
		t.Error("no undone moves met")
	}
	t.Logf("%d undone moves", undone)
}

// Two versions that each repeat what the other has superseded do not hide each
// other.
func TestHeadsDoNotHideEachOther(t *testing.T) {
	n := &Node{Heads: []Version{
		{Dot: Dot{3, 1}, VV: VV{{1, 1}, {2, 1}, {3, 1}}, Orig: Dot{1, 1}, Content: "a", Mtime: 1},
		{Dot: Dot{4, 1}, VV: VV{{1, 1}, {2, 1}, {4, 1}}, Orig: Dot{2, 1}, Content: "b", Mtime: 2},
	}}
	if s := n.Shown(); len(s) != 1 || s[0].Content != "b" {
		t.Errorf("shown %+v", s)
	}
}

// Versions that are said to be of one change, beside each other and each with a
// content of its own, would be one node: each has a name, and a node when that is
// written, and the content that was shown under it.
func TestVersionsOfOneChangeAreToldApart(t *testing.T) {
	p := newPeer(0, Bytes, rand.New(rand.NewSource(1)))
	id, orig := BirthID(RootID, "f", File, 0), Dot{2, 1}
	for i, by := range []string{"", "eve", "eva"} {
		c := Change{Dot: Dot{Replica(2 + i), 1}, ID: id, Kind: File, Lamport: 1, Version: &VersionChange{Content: fmt.Sprint("content", i), Mtime: int64(3-i) * 1e9}}
		if by == "" {
			c.Links = []LinkChange{{Parent: RootID, Name: "f"}}
		} else {
			c.Version.Orig, c.Version.By = orig, Label{by, "box"}
		}
		p.m.Apply(c, nil)
		p.k = p.k.With(c.Dot)
	}
	p.lamport = 1
	want := list(p.m)
	a := p.author()
	a.prep(a.At(RootID, "f"))
	if got := list(p.m); len(want) != 3 || !got.equal(want) {
		t.Errorf("\n%s\nand once it is written\n%s", want, got)
	}
}

// Of the directories in a cycle some are removed and live only through what is in
// them. To pin where they are brings none back that nothing is in.
func TestPinnedMovesBringNothingBack(t *testing.T) {
	p := newPeer(0, Bytes, rand.New(rand.NewSource(1)))
	dirs := map[string]ID{"/": RootID}
	for _, s := range []string{"A", "B", "C", "D", "E"} {
		dirs[s] = BirthID(RootID, s, Dir, 0)
	}
	for i, x := range []struct{ dir, in, name string }{
		{"A", "/", "a"}, {"B", "A", "b"}, {"C", "B", "c"}, {"D", "C", "d"}, {"E", "D", "e"}, // one in the other
		{"B", "E", "b"}, {"A", "E", "a"}, {"C", "A", "c"},
	} {
		c := Change{Dot: Dot{2, uint64(i + 1)}, ID: dirs[x.dir], Kind: Dir, Lamport: uint64(i + 1), Links: []LinkChange{{Parent: dirs[x.in], Name: x.name}}}
		if c.Version = (&VersionChange{}); strings.Contains("ABE", x.dir) {
			c.Gone = VV{c.Dot}
		}
		p.m.Apply(c, nil)
		p.k = p.k.With(c.Dot)
	}
	p.lamport = 8
	want := list(p.m)
	a := p.author()
	a.pinUndone()
	if got := list(p.m); len(want) != 4 || !got.equal(want) {
		t.Errorf("\n%s\nand once the moves are pinned\n%s", want, got)
	}
}
