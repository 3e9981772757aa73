package model

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// collecting is a world whose peers drop, at random moments, what all know to
// be removed.
type collecting struct {
	*world
	acks    map[*peer]map[*peer]VV // what others said they have, when all of it was here too
	horizon map[*peer]VV           // what the author of anything new must have known
	out     map[*peer]bool         // who has not joined yet
	dropped int                    // nodes and parts of nodes
}

func newCollecting(seed int64) *collecting {
	c := &collecting{world: newWorld(seed), acks: map[*peer]map[*peer]VV{}, horizon: map[*peer]VV{}, out: map[*peer]bool{}}
	for i, p := range c.peers {
		c.acks[p] = map[*peer]VV{}
		c.out[p] = i >= 2 && (seed+int64(i))%3 == 0
	}
	return c
}

// pull joins what q has, and both hear what the other has.
func (c *collecting) pull(p, q *peer, most int) int {
	if c.out[q] {
		return 0
	}
	if c.out[p] {
		c.join(p, q)
		return 1
	}
	for _, b := range q.log {
		if h := (Header{Replica: b.Replica, Lo: b.Lo, Deps: b.Deps}); !p.k.Has(Dot{b.Replica, b.Hi}) && !h.Knew(c.horizon[p]) {
			c.fail("behind", "p%d gets %v..%d by one who knew %v, and %v is stable there", p.r, Dot{b.Replica, b.Lo}, b.Hi, b.Deps, c.horizon[p])
		}
	}
	n := 0
	if most == 1<<30 && (len(p.log)+len(q.log))%2 == 0 {
		n = p.pullAlive(q)
	} else {
		n = p.pull(q, most)
	}
	if q.k.LE(p.k) { // it caught up: of what q has collected only the horizon tells
		c.horizon[p] = c.horizon[p].Join(c.horizon[q])
	}
	for _, x := range [][2]*peer{{p, q}, {q, p}} {
		if at, of := x[0], x[1]; of.k.LE(at.k) {
			c.acks[at][of] = of.k
		}
	}
	return n
}

// join makes p a member, complete at once by q: it gets what q's log still has of
// changes that something cites, and cuts only then what its user has done.
func (c *collecting) join(p, q *peer) {
	delete(c.out, p)
	cited := map[Dot]bool{}
	for _, n := range q.m.Nodes {
		n.Dots(func(d Dot) { cited[d] = true })
	}
	for _, b := range q.log {
		less := *b
		less.changes = slices.DeleteFunc(slices.Clone(b.changes), func(x Change) bool { return !cited[x.Dot] })
		p.apply(&less)
		p.log[len(p.log)-1] = b
	}
	p.k, c.horizon[p] = q.k, c.horizon[q]
	p.rescue()
	p.tree.follow(p.m)
	c.say(p, "joins by p%d", q.r)
	c.checkTree(p)
}

// stable is what all know, as far as p has heard, with all that they said
// before they knew it.
func (c *collecting) stable(p *peer) VV {
	v := p.k
	for _, q := range c.peers {
		if q != p && !c.out[q] {
			v = v.Meet(c.acks[p][q])
		}
	}
	return v
}

// collect drops what is stable, leaves first.
func (c *collecting) collect(p *peer) {
	stable := c.stable(p)
	for again := true; again; {
		again = false
		parents := map[ID]bool{}
		for _, n := range p.m.Nodes {
			for _, l := range n.Links {
				for _, x := range l.Hist {
					parents[x.Parent] = true
				}
			}
		}
		for _, id := range sortedIDs(p.m.Nodes) {
			n := p.m.Nodes[id]
			i := p.tree.byID[id]
			switch {
			case id == RootID:
			case p.m.Alive(id):
				if n.Prune(stable, p.change) {
					c.drop(p, stable)
				}
			case i != nil && p.tree.nameCount(i) > 0 || c.seen(p, id) || parents[id] || !n.Collectable(stable):
			default:
				delete(p.m.Nodes, id)
				delete(p.tree.byID, id)
				p.m.view = nil
				again = true
				c.drop(p, stable)
			}
		}
	}
	p.m.view = nil
}

func (c *collecting) drop(p *peer, stable VV) {
	c.dropped++
	c.horizon[p] = c.horizon[p].Join(stable)
}

// change finds a change in the log.
func (p *peer) change(d Dot) (Change, VV, bool) {
	for _, b := range p.log {
		if b.Replica == d.Replica && b.Lo <= d.Seq && d.Seq <= b.Hi {
			return b.changes[d.Seq-b.Lo], b.Deps, true
		}
	}
	return Change{}, nil, false
}

// seen tells whether something that p's user did to the node is to be cut.
func (c *collecting) seen(p *peer, id ID) bool {
	for _, y := range p.tree.drift {
		if y.seen == id {
			return true
		}
	}
	return false
}

// run plays steps, collecting in between.
func (c *collecting) run(ss []step) (bad *failure) {
	defer func() {
		switch x := recover().(type) {
		case nil:
		case failure:
			bad = &x
		default:
			bad = &failure{"panic", fmt.Sprint(x)}
		}
	}()
	for _, s := range ss {
		p, q := c.peers[s.p%len(c.peers)], c.peers[s.q%len(c.peers)]
		switch {
		case c.out[p] && (s.op == "collect" || s.op == "cut"):
		case s.op == "collect":
			before := list(p.m).String()
			c.collect(p)
			if got := list(p.m).String(); got != before {
				c.fail("collect", "the tree was\n%sis\n%s", before, got)
			}
		case s.op == "cut" && s.x[5]%4 == 0:
			c.cutSome(p, s.x[4])
		case s.op == "cut":
			c.cut(p)
		case s.op == "pull" && p != q:
			most := 1 << 30
			if s.x[0]%3 == 0 {
				most = 1 + s.x[1]%3
			}
			if n := c.pull(p, q, most); n > 0 {
				c.say(p, "<- p%d %d batches", q.r, n)
				c.checkTree(p)
			}
		case s.op != "pull":
			c.operate(p, s)
		}
	}
	c.quiesce()
	c.check()
	return nil
}

// quiesce cuts and exchanges until nobody learns anything new.
func (c *collecting) quiesce() {
	r := rand.New(rand.NewSource(c.seed + 2))
	for _, p := range c.peers {
		if c.out[p] {
			c.join(p, c.peers[r.Intn(2)])
		}
	}
	for rounds := 0; ; rounds++ {
		if rounds == 30 {
			c.fail("I10", "no end of exchange")
		}
		news := 0
		for _, i := range r.Perm(len(c.peers)) {
			c.cut(c.peers[i])
			if r.Intn(3) == 0 {
				c.collect(c.peers[i])
			}
		}
		for _, x := range r.Perm(len(c.peers) * len(c.peers)) {
			if p, q := c.peers[x/len(c.peers)], c.peers[x%len(c.peers)]; p != q {
				news += c.pull(p, q, 1<<30)
			}
		}
		if news == 0 {
			return
		}
	}
}

// check verifies that all show the same, that nothing is lost or back, and that
// once all have collected they hold the same, and nothing of what was removed.
func (c *collecting) check() {
	p0 := c.peers[0]
	tree := list(p0.m).String()
	for _, p := range c.peers {
		if got := list(p.m).String(); got != tree {
			c.fail("I1", "trees differ: p%d\n%s\np%d\n%s", p0.r, tree, p.r, got)
		}
		c.checkTree(p)
		c.checkReach(p)
		c.checkBack(p)
	}
	c.checkLoss(tree)
	placed := moves(c.peers)
	for _, p := range c.peers {
		c.collect(p)
		if got := list(p.m).String(); got != tree {
			c.fail("I1", "p%d collects\n%s\nto\n%s", p.r, tree, got)
		}
		for _, id := range sortedIDs(p.m.Nodes) {
			n := p.m.Nodes[id]
			if !p.m.Alive(id) && n.Kind != Dir && id != RootID && p.m.CopyOf(id).IsZero() { // a copy that is shown for want of its node stays with it
				c.fail("I11", "p%d keeps\n%s", p.r, dump(n))
			}
			if o := p0.m.Nodes[id]; p.m.Alive(id) && !alike(n, o, placed[id]) {
				c.fail("I1", "p%d and p%d differ:\n%s\n%s", p0.r, p.r, dump(o), dump(n))
			}
		}
		c.newcomer(p, tree)
	}
}

// alike compares nodes but for what says nothing any more: which of it stays,
// because it shares a change with something else, differs. It takes room: so of a
// directory that was moved more often than is remembered older places, and the births
// that say them, may be left to who has dropped it.
func alike(a, b *Node, moves int) bool {
	if a == nil || b == nil {
		return false
	}
	a, b = bare(a), bare(b)
	if la, lb := a.Link(PrimaryKey), b.Link(PrimaryKey); moves > MaxHist && la != nil && lb != nil {
		n := min(len(la.Hist), len(lb.Hist))
		la.Hist, lb.Hist = la.Hist[:n], lb.Hist[:n]
		a.Births, b.Births = nil, nil
	}
	return a.Equal(b)
}

// moves counts how often the directories were placed. What nothing cites any more not
// everybody has heard of.
func moves(peers []*peer) map[ID]int {
	out := map[ID]int{}
	seen := map[Dot]bool{}
	for _, p := range peers {
		for _, b := range p.log {
			for _, x := range b.changes {
				if x.Kind == Dir && len(x.Links) > 0 && x.Links[0].Name != "" && !seen[x.Dot] {
					seen[x.Dot] = true
					out[x.ID]++
				}
			}
		}
	}
	return out
}

func bare(n *Node) *Node {
	n = n.Clone()
	for es := n.spent(); len(es) > 0; es = n.spent() {
		for _, e := range es {
			e.drop(n)
		}
	}
	n.Covered = nil
	return n
}

// newcomer joins what p's log still has of changes that something cites: it
// shows the same.
func (c *collecting) newcomer(p *peer, tree string) {
	live := map[Dot]bool{}
	for _, n := range p.m.Nodes {
		n.Dots(func(d Dot) { live[d] = true })
	}
	m := NewMem(c.fold, p.origin)
	for _, b := range p.log {
		for _, x := range b.changes {
			if live[x.Dot] {
				m.Apply(x, b.Deps)
			}
		}
	}
	if got := list(m).String(); got != tree {
		c.fail("I14", "p%d shows\n%sa newcomer\n%s", p.r, tree, got)
	}
}

// collectingSteps are steps with collections among them.
func collectingSteps(seed int64, n int) (out []step) {
	r := rand.New(rand.NewSource(seed + 9))
	for _, s := range steps(seed, n) {
		if s.op == "reader" || s.op == "settle" {
			continue
		}
		out = append(out, s)
		if r.Intn(4) == 0 {
			s.op = "collect"
			out = append(out, s)
		}
		for s.op == "pull" && r.Intn(3) > 0 { // or hardly anything becomes stable
			s.p, s.q = r.Intn(60), r.Intn(60)
			out = append(out, s)
		}
	}
	return out
}

// Peers that collect at random moments, with everybody counted, show the same as
// if nobody had; nothing comes back, and in the end nothing removed is left.
func TestCollectingHistories(t *testing.T) {
	var dropped atomic.Int64
	make := func(s int64) []step { return collectingSteps(s, length(s)) }
	s, failed := each(t, *histories, func(s int64) bool {
		w := newCollecting(s)
		bad := w.run(make(s))
		dropped.Add(int64(w.dropped))
		return bad == nil
	})
	if failed {
		explainCollecting(t, s, make(s))
	}
	if dropped.Load() < int64(*histories) {
		t.Errorf("only %d things were dropped", dropped.Load())
	}
	fmt.Printf("%d histories that collect, %d things dropped\n", *histories, dropped.Load())
}

// explainCollecting plays a history that fails again, cut down.
func explainCollecting(t *testing.T, s int64, ss []step) {
	bad := newCollecting(s).run(ss)
	if bad == nil {
		t.Fatalf("seed %d: fails only now and then", s)
	}
	calm := slices.DeleteFunc(slices.Clone(ss), func(s step) bool { return s.op == "collect" })
	if newWorld(s).run(calm) != nil {
		t.Log("it fails without collecting too")
	}
	w := newCollecting(s)
	w.tellAll(*tell)
	least := shrinkCollecting(s, ss, bad.what)
	if again := w.run(least); again != nil {
		bad = again
	}
	if *tell {
		printSteps(s, bad.what, least)
	}
	t.Fatalf("seed %d: %s: %s\nafter\n%s", s, bad.what, bad.why, strings.Join(w.words, "\n"))
}

// shrinkCollecting drops steps while the history fails in the same way.
func shrinkCollecting(seed int64, ss []step, what string) []step {
	deadline := time.Now().Add(20 * time.Second)
	for n := len(ss) / 2; n >= 1; n /= 2 {
		for i := 0; i+n <= len(ss) && time.Now().Before(deadline); {
			less := append(slices.Clone(ss[:i]), ss[i+n:]...)
			if bad := newCollecting(seed).run(less); bad != nil && bad.what == what {
				ss = less
			} else {
				i += n
			}
		}
	}
	return ss
}
