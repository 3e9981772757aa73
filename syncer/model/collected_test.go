package model

import (
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// Scripts of peers who all count. "here" changes what "removes" has removed,
// beside "moves", who knows more, and has collected it by then: "fourth" helps.
var collectedElsewhere = []struct {
	name   string
	script string
}{
	{"a removed file is touched and gets a mode", `
here write /f F
here xattr /f 1
here cut
moves <- here
removes <- here
removes rm /f
removes cut
here touch /f 1
here chmod /f m
here <- removes
moves <- removes
moves <- here
moves collects
here cut
moves <- here
moves write /f F2
moves cut
here <- moves`},
	{"a directory that lives only through what is in it gets a mode", lonelyX + `
here chmod /x m
here cut
moves <- here
moves mkdir /x
moves cut
here <- moves`},
	{"two give it an attribute, and who makes it anew has heard of one", `
here mkdir /x
here write /x/g G
here cut
moves <- here
removes <- here
fourth <- here
here write /x/g G2
here cut
moves <- here
fourth <- here
removes rm /x
removes cut
moves mv /x/g /g
moves cut
here <- removes
fourth <- removes
moves <- removes
moves <- here
moves <- fourth
moves collects
here write /z 1
here cut
here write /z 2
here cut
here xattr /x 2
here cut
fourth xattr /x 3
fourth cut
removes <- fourth
removes <- here
moves <- here
moves mkdir /x
moves cut
removes <- moves
moves <- removes`},
	{"a dead directory in which something is to be cut gets a mode", `
here mkdir /x
here xattr /x 1
here cut
moves <- here
removes <- here
removes rm /x
removes cut
here write /x/n N
here chmod /x m
here <- removes
moves <- removes
moves <- here
moves collects
here cuts /
here rm /x
here cut
moves <- here
moves mkdir /x
moves cut
here <- moves`},
	{"a removed file gets a name, and had another in a directory that lives only through what is in it", `
here mkdir /x
here write /x/g G
here cut
moves <- here
removes <- here
here write /x/f F
here cut
moves mkdir /x/f
moves cut
here <- moves
moves <- here
removes <- here
removes <- moves
moves write /z 1
moves cut
moves write /z 2
moves cut
moves chmod /x/f` + spaced(annCopy) + ` m
moves cut
removes rm /x
removes cut
removes <- moves
here <- moves
here write /x/g G2
here cut
moves <- here
moves mv /x/g /g
moves cut
here ln /x/f` + spaced(annCopy) + ` /e
here <- removes
moves <- here
moves <- removes
moves collects
here cut`},
	{"a directory that does so is where a move of it is undone", `
here mkdir /u
here xattr /u 1
here mkdir /w
here write /w/g G
here cut
moves <- here
removes <- here
fourth <- here
here mv /w /u/w
here cut
removes <- here
fourth <- here
moves write /z 1
moves cut
moves write /z 2
moves cut
moves mv /u /w/u
moves cut
moves rm /w/u
moves cut
here write /u/w/g G2
here cut
fourth <- here
fourth mv /u/w/g /g
fourth cut
removes rm /u/w
removes cut
here <- removes
here <- moves
removes <- here
removes <- moves
moves <- fourth
moves <- here
moves <- removes
fourth <- moves
moves <- fourth
moves <- removes
moves collects
here mkdir /d
here cut
moves <- here
moves mkdir /u
moves cut
here <- moves`},
}

// lonelyX makes a directory that is collected by one, and lives for another through
// a file in it.
const lonelyX = `
here mkdir /x
here xattr /x 1
here write /x/g G
here cut
moves <- here
removes <- here
here write /x/g G2
here cut
moves <- here
removes rm /x
removes cut
moves mv /x/g /g
moves cut
here <- removes
moves <- removes
moves <- here
moves collects`

func TestWhatOthersHaveCollectedIsNotSaidInPart(t *testing.T) {
	for _, tt := range collectedElsewhere {
		t.Run(tt.name, func(t *testing.T) {
			if bad := newScripted(tt.script).play(tt.script); bad != nil {
				t.Errorf("%s: %s", bad.what, bad.why)
			}
		})
	}
}

// spaced makes one word of a name.
func spaced(name string) string { return strings.ReplaceAll(name, " ", "_") }

// scripted is a world whose peers have names.
type scripted struct {
	*collecting
	who map[string]*peer
}

// newScripted makes as many peers as a script names, all members from the start.
func newScripted(script string) scripted {
	n := 3
	if strings.Contains(script, "fourth") {
		n = 4
	}
	c := newCollecting(1)
	for seed := int64(2); len(c.peers) != n || c.out[c.peers[2]] || c.out[c.peers[n-1]]; seed++ {
		c = newCollecting(seed)
	}
	for _, p := range c.peers {
		p.clock, p.unsure = 0, false
	}
	s := scripted{c, map[string]*peer{}}
	for i, name := range []string{"here", "moves", "removes", "fourth"}[:n] {
		s.who[name] = c.peers[i]
	}
	return s
}

// play does what a script says, one thing to a line, and has all exchanged in the
// end: "here mkdir /x", "here cut", "here <- moves" (it joins all, "<1" a batch),
// "here cuts /" (what is in the root), "moves collects" (all that is dead, or it
// fails). It returns what broke.
func (s scripted) play(script string) (bad *failure) {
	defer s.recovered(&bad)
	for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
		f := strings.Fields(line)
		p := s.who[f[0]]
		switch f[1] {
		case "cut":
			s.cut(p)
		case "cuts":
			p.cut(func(pl place) bool { return pl.dir == p.tree.root })
		case "<-":
			s.pull(p, s.who[f[2]], 1<<30)
			s.checkTree(p)
		case "<1":
			s.pull(p, s.who[f[2]], 1)
			s.checkTree(p)
		case "collects":
			s.collectDead(p)
		default:
			for i := range f {
				f[i] = strings.ReplaceAll(f[i], "_", " ")
			}
			if err := p.do(f[1], f[2:]); err != nil {
				s.fail("script", "%s: %v", line, err)
			}
		}
	}
	s.quiesce()
	s.check()
	return nil
}

// collectDead drops all that is dead, also directories in each other.
func (s scripted) collectDead(p *peer) {
	stable, before := s.stable(p), s.dropped
	s.collect(p)
	dead := func(n *Node) bool { return n.ID != RootID && !p.m.Alive(n.ID) }
	for _, id := range sortedIDs(p.m.Nodes) {
		n := p.m.Nodes[id]
		if !dead(n) {
			continue
		}
		placed := false // something that stays is or was in it
		for _, o := range p.m.Nodes {
			placed = placed || !dead(o) && slices.ContainsFunc(o.Links, func(l Link) bool {
				return slices.ContainsFunc(l.Hist, func(x Loc) bool { return x.Parent == id })
			})
		}
		if placed || !n.Collectable(stable) {
			s.fail("script", "p%d keeps\n%s", p.r, dump(n))
		}
	}
	for _, id := range sortedIDs(p.m.Nodes) {
		if dead(p.m.Nodes[id]) {
			delete(p.m.Nodes, id)
			delete(p.tree.byID, id)
			s.drop(p, stable)
		}
	}
	if p.m.view = nil; s.dropped == before {
		s.fail("script", "p%d collects nothing", p.r)
	}
}

// A cut may be parted after any change: what it places in a directory that it makes
// live by itself does not come before that.
func TestWhatIsPlacedInALonelyDirectoryComesAfterIt(t *testing.T) {
	const before = `
here mkdir /x
here write /x/g G
here write /h H
here cut
moves <- here
removes <- here
here write /x/g G2
here write /h H2
here cut
moves <- here
removes write /h H3
removes rm /x
removes cut
moves mv /x/g /g
moves cut
here <- removes
moves <- removes
moves <- here
moves collects
here mv `
	const after = ` /x/h
here cut
removes <- moves
here <- moves
moves <1 here
removes <1 here
moves <1 here
removes <1 here
moves <1 here
removes <1 here`
	for _, moved := range []string{"/h", "/h" + spaced(annCopy)} {
		for seed := range int64(12) { // where it is parted
			script := before + moved + after
			s := newScripted(script)
			s.who["here"].rng = rand.New(rand.NewSource(seed))
			if bad := s.play(script); bad != nil {
				t.Fatalf("%s: %s: %s", moved, bad.what, bad.why)
			}
		}
	}
}
