package model

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// anyWorld is a user whose tree shows an arbitrary state.
func anyWorld(seed int64) (*world, *peer) {
	w := &world{seed: seed, names: []string{"a", "b.txt", "c"}, fold: Bytes, contents: 1000, // apart from those of the state
		supers: map[ID][]noted{}, unlinks: map[ID]map[uint64][]noted{}, resets: map[ID]map[string][]noted{}}
	r := rand.New(rand.NewSource(seed))
	p, _ := anyState(r)
	if seed%3 == 0 {
		oddities(r, p)
		p.settled()
	}
	p.note = w.note
	w.peers = []*peer{p}
	return w, p
}

// oddities adds changes whose parts have nothing to do with each other: births of
// what is there, copies of anything, names and versions removed at random.
func oddities(r *rand.Rand, p *peer) {
	ids := sortedIDs(p.m.Nodes)
	name := func() string {
		return []string{"a", "b.txt", "c", ConflictName("a", Label{"eve", "box"}, 0, r.Intn(2))}[r.Intn(4)]
	}
	for i := range 1 + r.Intn(25) {
		rep := Replica(2 + r.Intn(3))
		d := Dot{rep, p.k.Get(rep) + 1}
		known := func() Dot { return p.k[r.Intn(len(p.k))] }
		vv := func() (v VV) {
			for range r.Intn(4) {
				x := known()
				v = v.With(Dot{x.Replica, 1 + uint64(r.Intn(int(x.Seq)))})
			}
			return v
		}
		kind := []Kind{Dir, Dir, File, Symlink}[r.Intn(4)]
		c := Change{Dot: d, ID: ids[r.Intn(len(ids))], Lamport: uint64(100 + i)}
		parent := RootID
		if x := ids[r.Intn(len(ids))]; x.Kind() == Dir {
			parent = x
		}
		switch r.Intn(4) {
		case 0:
			c.ID = BirthID(parent, name(), kind, r.Intn(2))
		case 1:
			x := known()
			c.ID = ForkID(c.ID, Dot{x.Replica, 1 + uint64(r.Intn(int(x.Seq)))})
		}
		c.Kind = c.ID.Kind()
		if c.ID == RootID {
			continue
		}
		for key := range uint64(3) {
			l := LinkChange{Key: key, Parent: parent, Name: name(), Removed: r.Intn(4) == 0}
			if l.Removed && r.Intn(3) == 0 {
				l.Parent, l.Name, l.Undone = ID{}, "", r.Intn(2) == 0
			}
			if l.Parent == c.ID || key > 0 && c.Kind == Dir || r.Intn(3) == 0 {
				continue
			}
			c.Born = c.Born || key == PrimaryKey && l.Name != "" && r.Intn(5) == 0
			c.Links = append(c.Links, l)
		}
		if r.Intn(2) == 0 {
			c.Version = &VersionChange{VV: vv(), Mtime: int64(r.Intn(3)) * 1e9, Unsure: r.Intn(3) == 0}
			if c.Kind != Dir {
				c.Version.Content = fmt.Sprint("x", 200+r.Intn(30))
			}
			if r.Intn(3) == 0 {
				c.Version.Orig, c.Version.By = known(), Label{"eva", "box"}
			}
		}
		if r.Intn(3) == 0 {
			c.Attrs = []AttrChange{{[]string{AttrMode, XattrTag + "user.k"}[r.Intn(2)], []string{"", "=1"}[r.Intn(2)]}}
		}
		if r.Intn(8) == 0 {
			c.Gone = vv()
		}
		// What is in a directory that nobody knows waits there, and is shown once somebody
		// makes a directory of that id: no cut can know it. So all parents are known.
		if p.join(c, p.k); p.m.Node(c.ID) != nil && !slices.Contains(ids, c.ID) {
			ids = append(ids, c.ID)
		}
	}
	p.nameAll()
	p.lamport += 1000
}

// runAny lets the user of an arbitrary state do something, cuts it, and returns
// what broke.
func runAny(w *world, p *peer, ss []step) (bad *failure) {
	defer w.recovered(&bad)
	if w.seed%2 == 0 { // as who joins it does
		p.rescue()
	}
	p.tree.follow(p.m)
	w.checkTree(p)
	for _, s := range ss {
		w.operate(p, s)
	}
	if w.seed%4 == 1 { // more comes before the cut
		oddities(rand.New(rand.NewSource(w.seed+6)), p)
		p.tree.follow(p.m)
	}
	p.tree.each(p.tree.root, func(_ *inode, _ string, d dent) {
		if d.to.edited || d.to.id.IsZero() { // what else it shows others may have superseded
			p.written[d.to.content] = true
		}
	})
	paths(p.m, func(_ string, e *Entry) {
		// Who says that other bytes are what the user here has seen is believed: they are
		// overwritten by an edit of that, not kept beside it.
		if v := version(p.m.Node(e.ID), e); v.Orig == v.Dot {
			p.written[v.Content] = true
		}
	})
	w.cut(p)
	w.checkReach(p)
	w.checkLoss(p.list().String())
	w.checkBack(p)
	w.checkPin(p)
	w.checkScan(p)
	return nil
}

// anySteps are 1 to 10 operations.
func anySteps(seed int64) []step {
	n := 1 + rand.New(rand.NewSource(seed+5)).Intn(10)
	return slices.DeleteFunc(steps(seed, n), func(s step) bool {
		return slices.Contains([]string{"pull", "cut", "reader", "settle"}, s.op)
	})
}

// Whatever the state, also one that no honest history makes: the view shows after
// a cut what the tree showed before it, and nothing that its user saw is lost.
func TestCutsOfAnything(t *testing.T) {
	run := func(s int64, ss []step) (*world, *failure) {
		w, p := anyWorld(s)
		return w, runAny(w, p, ss)
	}
	s, failed := each(t, *histories, func(s int64) bool {
		_, bad := run(s, anySteps(s))
		return bad == nil
	})
	if !failed {
		fmt.Printf("%d cuts of anything\n", *histories)
		return
	}
	_, bad := run(s, anySteps(s))
	if bad == nil {
		t.Fatalf("seed %d: fails only now and then", s)
	}
	least := cutDown(anySteps(s), func(ss []step) bool {
		_, again := run(s, ss)
		return again != nil && again.what == bad.what
	})
	w, bad := run(s, least)
	t.Fatalf("seed %d: %s: %s\nafter\n%s", s, bad.what, bad.why, strings.Join(w.words, "\n"))
}
