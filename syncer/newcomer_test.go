package syncer_test

import (
	"context"
	"strings"
	"testing"
)

// first lets p have some of what q has, until it shows a path, and loses q then.
func (w *world) first(p, q *peer, path string) {
	w.t.Helper()
	if !w.meet(w.t.Context(), p, q) {
		w.t.Fatalf("%s takes nothing from %s", p.name, q.name)
	}
	for b, err := range q.Since(w.t.Context(), p.Knowledge(), nil) {
		p.must(err)
		p.must(p.Receive(w.t.Context(), q.name, b))
		if strings.Contains(p.list(true), path+" ") {
			w.shut()
			return
		}
	}
	w.t.Fatalf("%s has no %s", q.name, path)
}

// oneHasCollected is a world of two in which /x was made, kept open long enough
// to be known, and removed; only b has forgotten it. c joins, cut off.
func oneHasCollected(t *testing.T) (w *world, a, b, c *peer) {
	w = newWorld(t, 2)
	w.members()
	a, b = w.peers[0], w.peers[1]
	a.write("/x", "once")
	w.same()
	a.write("/stays", "here")
	w.same()
	b.rm("/x")
	w.same()
	w.ack()
	if n := b.collectNow(); n == 0 {
		t.Fatal("nothing is collected")
	}
	w.part(true)
	c = w.join()
	return w, a, b, c
}

// What one member told a newcomer may be what another has forgotten the removal
// of: it is not there when the other has told all.
func TestNewcomerKeepsNothingThatOthersHaveForgotten(t *testing.T) {
	w, a, b, c := oneHasCollected(t)
	c.write("/mine", "c's")
	w.first(c, a, "/x")
	if err := c.Cut(context.Background()); err != nil || len(c.Knowledge()) > 0 && c.Knowledge().Get(c.Replica()) > 0 {
		t.Errorf("a newcomer says something before it is complete: %v, %v", c.Knowledge(), err)
	}
	w.talk2(c, b)
	w.talk2(c, b)
	w.until("the state of b", func() bool {
		l := c.list(true)
		return strings.Contains(l, "/stays ") && strings.Contains(l, "/mine ") && !strings.Contains(l, "/x ")
	})
	w.part(false)
	if tree := w.same(); !strings.Contains(tree, "/mine") || strings.Contains(tree, "/x") {
		t.Errorf("all show\n%s", tree)
	}
	if s, err := a.Stats(); err != nil || s.Conflicts > 0 {
		t.Errorf("%d conflicts: %v", s.Conflicts, err)
	}
}

// A second member does not feed a newcomer beside the first, and goes on where
// the first ended if nobody has collected anything.
func TestNewcomerTakesFromOneMemberAtATime(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/x", "x")
	w.same()
	b.write("/y", "y")
	w.same()
	w.part(true)
	c := w.join()
	w.first(c, a, "/x")
	ino := c.stat("/x").Ino
	if !w.meet(t.Context(), c, b) || w.meet(t.Context(), c, a) {
		t.Error("two members at a time, or none")
	}
	w.part(false)
	w.want("/x 644 x", "/y 644 y")
	if got := c.stat("/x").Ino; got != ino {
		t.Errorf("what was there already came anew: inode %d, was %d", got, ino)
	}
}

// Two newcomers do not take each other for complete.
func TestNewcomersWaitForAMember(t *testing.T) {
	w := newWorld(t, 1)
	w.peers[0].write("/x", "x")
	w.part(true)
	b, c := w.join(), w.join()
	b.write("/b", "b's")
	c.write("/c", "c's")
	if w.meet(t.Context(), b, c) {
		t.Error("two newcomers meet")
	}
	w.part(false)
	w.want("/b 644 b's", "/c 644 c's", "/x 644 x")
}
