package syncer_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
)

// What a restored database has written under dots by which others mean something
// else is kept as what nobody else has: while it waits for what proves that
// histories part, and when it has begun anew, until others have what came of it.
func TestWhatNobodyElseHasOutlivesAFork(t *testing.T) {
	w := newCrashable(t, 2)
	w.members()
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "known to all")
	w.same()
	old := a.copyOfDisk()
	for _, data := range []string{"lost 1", "lost 2", "lost 3", "lost 4"} {
		a.write("/g", data)
		a.cutNow()
	}
	w.same()
	w.part(true)
	a.opts.KeepShare = 1e-18
	a.restore(old)
	for _, data := range []string{"seen by nobody else", "second"} {
		a.write("/f", data)
		a.cutNow()
	}
	was := a.Replica()
	if a.Knowledge().Get(was) >= b.Knowledge().Get(was) {
		t.Fatal("it gave out dots that others do not know")
	}
	kept := func(when string, want bool) {
		t.Helper()
		a.must(a.Expire(t.Context()))
		if got := a.pasts(); slices.Contains(got, "seen by nobody else") != want {
			t.Errorf("%s: kept %q", when, got)
		}
	}
	ours, err := a.Opening()
	a.must(err)
	theirs, err := b.Opening()
	b.must(err)
	theirs.Proofs = nil
	if _, err := a.Meet(context.Background(), b.name, ours, theirs); !errors.Is(err, ErrWait) || a.Replica() != was {
		t.Fatalf("met unproven: %v", err)
	}
	k := b.Knowledge()
	a.Acked(b.name, k, 0)
	kept("while it waits", true)
	w.part(false)
	w.same()
	if a.Replica() == was {
		t.Fatal("it has not begun anew")
	}
	a.Acked(b.name, k, 0)
	kept("begun anew", true)
	a.again(a.opts.Remote)
	a.Acked(b.name, k, 0)
	kept("after a restart", true)
	w.same()
	w.ack()
	kept("when others have what came of it", false)
}
