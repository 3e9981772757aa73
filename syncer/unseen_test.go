package syncer_test

import (
	"strings"
	"testing"
)

// Who moves a file over another moves what the tree shows: a version whose bytes
// are not here stays where its author made it, and is nothing that this member
// could have had.
func TestMovingAFileOverAnotherMovesWhatIsShown(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/e", "old")
	a.write("/x", "x")
	w.same()
	w.part(true)
	a.write("/e", strings.Repeat("new", 3000))
	a.cutNow()
	w.talk.Lock()
	if w.meet(t.Context(), a, b) {
		w.send(t.Context(), a, b) // but no blocks
	}
	w.talk.Unlock()
	b.mv("/e", "/x")
	b.cutNow()
	if tree := b.tree(); !strings.Contains(tree, "/x 644 old") {
		t.Errorf("b shows\n%s", tree)
	}
	b.write("/x", "newer")
	b.cutNow()
	b.must(b.Check(t.Context(), func(err error) { t.Error(err) }))
	w.part(false)
	a.write("/more", "m") // b hears of a, and asks for the blocks again
	tree := w.same()
	holds(t, tree, "newer")
	if !strings.Contains(tree, "/e 644 newnewne… 9000 ") {
		t.Errorf("what a has written is gone:\n%s", tree)
	}
}
