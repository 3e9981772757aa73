package model

import (
	"fmt"
	"math/rand"
	"testing"
)

// A node was deleted; its tombstone is collected here and not there yet. Made
// again here, it must be the same everywhere: what the tombstone still holds
// there does not come back.
func TestBirthForgetsWhatWasCollected(t *testing.T) {
	id := BirthID(RootID, "a", File, 0)
	old := []Change{
		{Dot: Dot{1, 1}, ID: id, Lamport: 1, Born: true, Links: []LinkChange{{Parent: RootID, Name: "a"}, {Key: 7, Parent: RootID, Name: "b"}},
			Version: &VersionChange{Content: "old"}, Attrs: []AttrChange{{XattrTag + "user.k", "=v"}}},
		{Dot: Dot{1, 2}, ID: id, Lamport: 2, Links: []LinkChange{{Removed: true}, {Key: 7, Removed: true}}, Gone: VV{{1, 1}}},
	}
	tombstone := &Node{ID: id}
	tombstone.Join(old[0], nil)
	tombstone.Join(old[1], VV{{1, 1}})
	deps := VV{{1, 2}, {2, 4}}
	again := Change{Dot: Dot{2, 5}, ID: id, Lamport: 9, Born: true, Links: []LinkChange{{Parent: RootID, Name: "a"}}, Version: &VersionChange{Content: "new"}}

	fresh := &Node{ID: id}
	fresh.Join(again, deps)
	tombstone.Join(again, deps)
	// What superseding left behind covers only dots that are known everywhere.
	if tombstone.Covered = fresh.Covered; dump(tombstone) != dump(fresh) {
		t.Errorf("collected\n%snot collected\n%s", dump(fresh), dump(tombstone))
	}

	// What the author did not know stays.
	unseen := Change{Dot: Dot{3, 1}, ID: id, Lamport: 3, Version: &VersionChange{VV: VV{{1, 1}}, Content: "unseen"}, Attrs: []AttrChange{{XattrTag + "user.u", "=u"}}}
	for _, order := range [][]Change{{unseen, again}, {again, unseen}} {
		n := &Node{ID: id}
		n.Join(old[0], nil)
		n.Join(old[1], VV{{1, 1}})
		for _, c := range order {
			d := deps
			if c.Dot == unseen.Dot {
				d = VV{{1, 1}}
			}
			n.Join(c, d)
		}
		if len(n.Heads) != 2 || n.Attrs[XattrTag+"user.u"].Val != "=u" || len(n.Attrs) != 1 {
			t.Errorf("%s", dump(n))
		}
	}
}

// What came over a gap says that its author knew what is in it. Who has only that
// cannot have collected what is in it: that may come late, and is there for all.
func TestBirthForgetsOnlyWhatItsAuthorHad(t *testing.T) {
	id := BirthID(RootID, "a", File, 0)
	held := Change{Dot: Dot{3, 1}, ID: id, Lamport: 1, Links: []LinkChange{{Key: 7, Parent: RootID, Name: "b"}}}
	deps := VV{{2, 4}, {3, 2}}
	again := Change{Dot: Dot{2, 5}, ID: id, Lamport: 9, Born: true, Links: []LinkChange{{Parent: RootID, Name: "a"}}, Version: &VersionChange{Content: "new"}}
	for _, lacks := range []VV{nil, {{3, 1}}} {
		again.Lacks = lacks
		first, last := &Node{ID: id}, &Node{ID: id}
		first.Join(held, nil)
		first.Join(again, deps)
		last.Join(again, deps)
		last.Join(held, nil)
		if same := dump(first) == dump(last); same != (lacks != nil) {
			t.Errorf("lacks %v: first\n%slast\n%s", lacks, dump(first), dump(last))
		}
	}
}

// Whatever an author says of its nodes within one cut, one thing after the
// other: its changes make the same of the state elsewhere.
func TestAuthorsChangesSayWhatItDid(t *testing.T) {
	for seed := range int64(2000) {
		r := rand.New(rand.NewSource(seed))
		p, _ := anyState(r)
		a := p.author()
		ids := sortedIDs(p.m.Nodes)
		for range 3 + r.Intn(30) {
			n := a.Node(ids[r.Intn(len(ids))])
			if n.ID == RootID {
				continue
			}
			key := n.Links[r.Intn(len(n.Links))].Key
			switch r.Intn(7) {
			case 0:
				a.place(n, key, RootID, []string{"a", "c"}[r.Intn(2)])
			case 1:
				a.removeName(n, key)
			case 2:
				if a.spent(n.ID) {
					continue
				}
				v := VersionChange{Mtime: int64(r.Intn(9)) << (r.Intn(2) * 60), Unsure: r.Intn(3) == 0}
				if n.Kind == File {
					v.Content = fmt.Sprint(r.Intn(9))
				}
				a.put(n, v)
			case 3:
				a.say(n.ID, n.Kind, Change{Gone: n.allVV()})
				if n.Live() {
					t.Fatalf("seed %d: deleted but alive\n%s", seed, dump(n))
				}
			case 4:
				a.setAttr(n, AttrMode, fmt.Sprint(r.Intn(3)))
			case 5:
				if n.Kind == File {
					a.place(n, a.linkKey(n, RootID, "l"), RootID, "l")
				}
			default:
				if a.spent(n.ID) {
					continue
				}
				if a.revive(n); !n.Live() {
					t.Fatalf("seed %d: revived but dead\n%s", seed, dump(n))
				}
			}
		}
		func() {
			defer func() {
				if f, ok := recover().(failure); ok {
					t.Fatalf("seed %d: %s: %s", seed, f.what, f.why)
				}
			}()
			p.commit(a)
		}()
	}
}

// Versions of a dishonest member need not be ordered as theirs should be. The
// state is the same in whatever order they come.
func TestJoinDoesNotDependOnOrder(t *testing.T) {
	for seed := range int64(3000) {
		r := rand.New(rand.NewSource(seed))
		id := BirthID(RootID, "a", File, 0)
		dot := func() Dot { return Dot{Replica(1 + r.Intn(3)), uint64(1 + r.Intn(4))} }
		vv := func() (v VV) {
			for range r.Intn(4) {
				v = v.With(dot())
			}
			return v
		}
		kind := []Kind{File, Dir}[r.Intn(2)]
		used := map[Dot]bool{}
		var cs []Change
		deps := map[Dot]VV{}
		for range 2 + r.Intn(6) {
			c := Change{Dot: dot(), ID: id, Kind: kind, Lamport: uint64(1 + r.Intn(3))}
			if used[c.Dot] {
				continue
			}
			used[c.Dot] = true
			c.Lamport = c.Lamport*8 + c.Dot.Seq // a stamp is given out once
			if r.Intn(2) == 0 {
				c.Version = &VersionChange{VV: vv()}
			}
			if r.Intn(2) == 0 {
				c.Gone = vv()
			}
			// Every link is placed by each: removing what is not there says nothing.
			c.Links = []LinkChange{{Parent: RootID, Name: fmt.Sprint("n", r.Intn(3)), Removed: r.Intn(2) == 0, Undone: false}}
			c.Attrs = []AttrChange{{AttrMode, fmt.Sprint(r.Intn(3))}}
			cs, deps[c.Dot] = append(cs, c), vv()
		}
		join := func(order []int) string {
			n := &Node{ID: id, Kind: kind}
			for _, i := range order {
				n.Join(cs[i], deps[cs[i].Dot])
				if r.Intn(3) == 0 {
					n.Join(cs[order[0]], deps[cs[order[0]].Dot])
				}
			}
			return dump(n)
		}
		want := join(r.Perm(len(cs)))
		for range 4 {
			if got := join(r.Perm(len(cs))); got != want {
				t.Fatalf("seed %d: order matters\n%s\n%s", seed, got, want)
			}
		}
	}
}
