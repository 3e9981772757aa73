package syncer_test

import (
	"context"
	"fmt"
	mrand "math/rand"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// talk2 lets two exchange what they have while nobody else does.
func (w *world) talk2(p, q *peer) {
	w.t.Helper()
	w.talk.Lock()
	defer w.talk.Unlock()
	for range 6 {
		if w.meet(context.Background(), p, q) {
			w.send(context.Background(), p, q)
			w.send(context.Background(), q, p)
		}
	}
}

// longAway is a world in which the third peer was away while the others deleted
// things and forgot that they had; away is what it did meanwhile.
func longAway(t *testing.T, away func(c *peer)) *world {
	w := newCrashable(t, 3)
	a, b, c := w.peers[0], w.peers[1], w.peers[2]
	a.mkdir("/d")
	a.mkdir("/d/sub")
	for _, f := range []string{"/d/x", "/d/sub/y", "/edit", "/gone", "/keep"} {
		a.write(f, "old "+f)
		a.cutNow()
	}
	w.same()
	w.part(true)
	away(c)
	c.cutNow()
	a.rm("/d")
	a.rm("/gone")
	a.cutNow()
	b.write("/edit", "b's")
	b.cutNow()
	w.talk2(a, b)
	w.talk2(a, b)
	for _, p := range []*peer{a, b} {
		p.must(p.Forget())
	}
	return w
}

func TestLongAwayWithoutChangesFollows(t *testing.T) {
	w := longAway(t, func(*peer) {})
	w.part(false)
	w.want("/edit 644 b's", "/keep 644 old /keep")
	c := w.peers[2]
	if as := c.Alarms(); len(as) != 1 || !strings.Contains(as[0].Text, "was away") {
		t.Errorf("told %v", as)
	}
	for _, f := range []string{"/d/x", "/d/sub/y", "/edit", "/gone"} { // nobody may have them any more
		if !slices.Contains(c.pasts(), "old "+f) {
			t.Errorf("%q is not in the history: %q", "old "+f, c.pasts())
		}
	}
}

// What its user has done away with, and is not cut yet when a member begins anew, is
// in its history, and so is what only that member knew and was written over.
func TestWhatIsNotCutWhenAMemberReturnsIsInItsHistory(t *testing.T) {
	none := func(*peer) {}
	for _, tt := range []struct {
		name            string
		away, now, then func(c *peer)
		gone            []string
		removed         bool
	}{
		{"removed", none, func(c *peer) { c.rm("/keep"); c.rm("/edit") }, none, []string{"old /keep", "old /edit"}, true},
		{"removed while open", none, func(c *peer) { c.open(c.ino("/keep"), false); c.rm("/keep") }, none, []string{"old /keep"}, true},
		{"removed with all around it", none, func(c *peer) { c.rm("/d") }, none, []string{"old /d/x", "old /d/sub/y"}, true},
		{"replaced", none, func(c *peer) { c.write("/new", "new"); c.mv("/new", "/keep") }, none, []string{"old /keep"}, false},
		{"moved over", none, func(c *peer) { c.mv("/keep", "/edit") }, none, []string{"old /edit"}, false},
		{"its own, removed", func(c *peer) { c.write("/keep", "c's") }, func(c *peer) { c.rm("/keep") }, none, []string{"old /keep", "c's"}, true},
		{"its own, written over", func(c *peer) { c.write("/edit", "c's") }, func(c *peer) { c.write("/edit", "now") }, none, []string{"c's"}, false},
		{"its own, written over when it is complete", func(c *peer) { c.write("/edit", "c's") }, none,
			func(c *peer) { c.write("/edit", "then") }, []string{"c's"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := longAway(t, tt.away)
				a, c := w.peers[0], w.peers[2]
				c.mkdir("/e")
				c.cutNow() // what follows at once is not cut at once
				tt.now(c)
				w.talk2(c, a)
				if len(c.Alarms()) == 0 {
					t.Fatal("it has not begun anew")
				}
				tt.then(c)
				w.part(false)
				w.same()
				n := map[string]int{}
				c.must(c.Pasts(func(x index.Past) bool { n[c.bytesOf(x)]++; return true }))
				for _, s := range tt.gone {
					if n[s] != 1 {
						t.Errorf("%q is in the history %d times: %q", s, n[s], c.pasts())
					}
				}
				for s := range n {
					if s == "" {
						t.Errorf("the history has what was no version: %q", c.pasts())
					}
				}
				if last := tt.gone[len(tt.gone)-1]; tt.removed && !slices.ContainsFunc(c.deleted(), func(x index.Past) bool { return c.bytesOf(x) == last && x.Here }) {
					t.Errorf("%q is not among what was removed here", last)
				}
			})
		})
	}
}

func TestLongAwayKeepsItsChangesAndNothingElse(t *testing.T) {
	w := longAway(t, func(c *peer) {
		c.write("/d/sub/y", "c's y")
		c.write("/new", "c's new")
		c.mv("/keep", "/kept")
		c.rm("/gone")
		c.mkdir("/e")
		c.write("/e/z", "c's z")
	})
	w.part(false)
	w.want("/d 755 /", "/d/sub 755 /", "/d/sub/y 644 c's y", "/e 755 /", "/e/z 644 c's z", "/edit 644 b's", "/kept 644 old /keep", "/new 644 c's new")
	c := w.peers[2]
	c.write("/edit", "c after")
	w.peers[0].rm("/d")
	w.want("/e 755 /", "/e/z 644 c's z", "/edit 644 c after", "/kept 644 old /keep", "/new 644 c's new")
}

// A reader that begins anew follows in all: attributes that only it has are not its
// to tell, and do not wait to be cut for ever.
func TestAReaderThatReturnsHasNothingOfItsOwn(t *testing.T) {
	w := longAway(t, func(c *peer) {
		ino, mode, then := c.stat("/keep").Ino, uint32(0o600), int64(7e9)
		_, err := c.SetAttr(ino, Set{Mode: &mode, Mtime: &then})
		c.must(err)
		c.must(c.Setxattr(ino, "user.c", []byte("c"), 0))
		c.must(c.Setxattr(c.stat("/d/sub").Ino, "user.c", []byte("c"), 0))
	})
	a, c := w.peers[0], w.peers[2]
	w.talk.Lock()
	c.stop()
	c.opts.ReadOnly = true
	c.start()
	w.talk.Unlock()
	w.part(false)
	w.want("/edit 644 b's", "/keep 644 old /keep")
	if x, y := a.list(true), c.list(true); x != y {
		t.Errorf("the writer shows\n%s\nthe reader\n%s", x, y)
	}
	if s, err := c.Stats(); err != nil || s.Pending != 0 {
		t.Errorf("%d changes wait to be cut, %v", s.Pending, err)
	}
}

// Who was away and edited what others edited too gets a conflict copy; programs
// go on seeing the same inodes.
// A symlink that a member made anew while it was away leads where it said, and one
// that it only moved where others had it lead, whoever made it first.
func TestLongAwayKeepsWhereSymlinksLead(t *testing.T) {
	for _, maker := range []int{1, 2} {
		for _, tt := range []struct {
			name   string
			before func(b *peer)
			away   func(c *peer)
			others func(a *peer)
			want   string
		}{
			{"made anew", func(*peer) {}, func(c *peer) { c.ln("/l2", "new"); c.mv("/l2", "/l") }, func(*peer) {}, "/l -> new"},
			{"removed and made", func(*peer) {}, func(c *peer) { c.rm("/l"); c.ln("/l", "new") }, func(*peer) {}, "/l -> new"},
			{"moved", func(b *peer) { b.ln("/l2", "new"); b.mv("/l2", "/l") }, func(c *peer) { c.mv("/l", "/m") }, func(a *peer) { a.rm("/l") }, "/m -> new"},
		} {
			t.Run(fmt.Sprint(tt.name, " by ", maker), func(t *testing.T) {
				w := newCrashable(t, 3)
				a, b, c := w.peers[0], w.peers[1], w.peers[2]
				a.write("/gone", "g")
				a.cutNow()
				w.peers[maker].ln("/l", "old")
				w.same()
				tt.before(b)
				w.same()
				w.part(true)
				tt.away(c)
				c.cutNow()
				tt.others(a)
				a.rm("/gone")
				a.cutNow()
				w.talk2(a, b)
				w.talk2(a, b)
				for _, p := range []*peer{a, b} {
					p.must(p.Forget())
				}
				w.part(false)
				w.same()
				for _, p := range w.peers {
					at, to, _ := strings.Cut(tt.want, " -> ")
					if got, err := p.Readlink(p.stat(at).Ino); err != nil || got != to {
						t.Errorf("%s: %s leads to %q, %v, not to %q", p.name, at, got, err, to)
					}
				}
			})
		}
	}
}

// ln makes a symlink.
func (p *peer) ln(path, target string) {
	p.t.Helper()
	dir, name := p.at(path)
	_, err := p.Create(dir, name, New{Kind: model.Symlink, Mode: 0o777, Target: target})
	p.must(err)
}

func TestLongAwayEditOfWhatOthersEditedIsAConflict(t *testing.T) {
	w := longAway(t, func(c *peer) { c.write("/edit", "c's") })
	c := w.peers[2]
	dir, name := c.at("/keep")
	before, err := c.Lookup(dir, name)
	c.must(err)
	w.part(false)
	tree := w.same()
	holds(t, tree, "b's", "c's")
	if strings.Contains(tree, "/d") || strings.Count(tree, "conflict") != 1 {
		t.Errorf("got\n%s", tree)
	}
	after, err := c.Lookup(dir, name)
	c.must(err)
	if before.Ino != after.Ino {
		t.Errorf("/keep was inode %d, is %d", before.Ino, after.Ino)
	}
}

// What is done while a member is not complete yet is its own, and comes out when
// it is.
func TestWorkGoesOnWhileAMemberReturns(t *testing.T) {
	w := longAway(t, func(c *peer) { c.write("/first", "c1") })
	a, c := w.peers[0], w.peers[2]
	w.talk.Lock()
	if w.meet(context.Background(), a, c) {
		t.Fatal("nothing was to be begun anew")
	}
	w.talk.Unlock()
	if tree := c.tree(); !strings.Contains(tree, "/d/sub/y") || !strings.Contains(tree, "/first 644 c1") {
		t.Fatalf("the tree went away:\n%s", tree)
	}
	c.write("/first", "c2")
	c.write("/d/x", "c's x")
	c.rm("/keep")
	c.mv("/edit", "/edit2")
	c.cutNow()
	w.part(false)
	w.want("/d 755 /", "/d/x 644 c's x", "/edit2 644 b's", "/first 644 c2")
}

// A power cut at any moment of a return leaves a member that returns again, or
// is complete.
func TestReturnSurvivesPowerCuts(t *testing.T) {
	t.Logf("seed %d", *seed)
	r := mrand.New(mrand.NewSource(*seed))
	for round := range 12 {
		w := longAway(t, func(c *peer) {
			for i := range 5 {
				c.write(fmt.Sprint("/new", i), fmt.Sprint("new ", i))
				c.cutNow()
			}
			c.write("/d/x", "c's x")
		})
		a, c := w.peers[0], w.peers[2]
		for range 1 + r.Intn(3) {
			w.talk.Lock()
			w.meet(context.Background(), a, c) // begins anew, if it has not
			if stop := r.Intn(8); w.meet(context.Background(), a, c) {
				k := a.Knowledge()
				for b, err := range a.Since(context.Background(), c.Knowledge(), nil) {
					a.must(err)
					if stop--; stop < 0 {
						break
					}
					c.must(c.Receive(context.Background(), "a", b))
				}
				if stop >= 0 {
					w.anew(c, c.CaughtUp(context.Background(), "a", k))
				}
			}
			w.shut()
			w.talk.Unlock()
			c.crash(r)
		}
		w.part(false)
		tree := w.same()
		for i := range 5 {
			holds(t, tree, fmt.Sprint("new ", i))
		}
		holds(t, tree, "c's x", "b's", "old /keep")
		if strings.Contains(tree, "gone") || strings.Contains(tree, "sub") || strings.Contains(tree, "conflict") {
			t.Fatalf("round %d: got\n%s", round, tree)
		}
	}
}
