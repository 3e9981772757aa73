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

// A restored member that must begin anew twice, because the link broke in the
// middle, lets go of its lost end once others have what came of it, as one that
// began anew once does.
func TestALostEndIsLetGoOfHoweverOftenAMemberBeginsAnew(t *testing.T) {
	for _, twice := range []bool{false, true} {
		w := newCrashable(t, 3)
		a, b, c := w.peers[0], w.peers[1], w.peers[2]
		w.lostEnd()
		was := a.Replica()
		if twice {
			w.talk.Lock()
			for range 4 {
				if w.meet(t.Context(), a, b) {
					break
				}
			}
			one := a.Replica()
			for x, err := range b.Since(t.Context(), nil, nil) {
				a.must(err)
				a.must(a.Receive(t.Context(), b.name, x))
				if len(x.Body) > 0 {
					break
				}
			}
			w.shut()
			w.meet(t.Context(), a, c)
			if a.Replica() == one || one == was {
				t.Fatal("has not begun anew twice")
			}
			w.talk.Unlock()
		}
		w.part(false)
		w.same()
		w.ack()
		w.same()
		w.ack()
		a.must(a.Expire(t.Context()))
		if got := a.pasts(); slices.Contains(got, "seen by nobody else") {
			t.Errorf("twice %v: kept %q", twice, got)
		}
	}
}

// A lost end is let go of, though its member takes another id later and writes
// nothing under that.
func TestALostEndIsLetGoOfThoughItsMemberTakesAnotherID(t *testing.T) {
	for _, rekey := range []bool{false, true} {
		w := newCrashable(t, 2)
		a := w.peers[0]
		w.lostEnd()
		w.part(false)
		w.same()
		w.ack()
		if rekey {
			a.must(a.Rekey())
		}
		w.same()
		w.ack()
		a.must(a.Expire(t.Context()))
		if got := a.pasts(); slices.Contains(got, "seen by nobody else") {
			t.Errorf("rekey %v: kept %q", rekey, got)
		}
	}
}

// lostEnd restores the first peer, alone, and lets it write an end of its history
// that others do not share; nothing that they have is kept.
func (w *world) lostEnd() {
	w.t.Helper()
	w.members()
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "known to all")
	w.same()
	old := a.copyOfDisk()
	for _, data := range []string{"lost 1", "lost 2", "lost 3", "lost 4"} {
		a.write("/g", data)
		a.cutNow()
	}
	b.write("/h", "h")
	w.same()
	w.part(true)
	a.opts.KeepShare = 1e-18
	a.restore(old)
	for _, data := range []string{"seen by nobody else", "second"} {
		a.write("/f", data)
		a.cutNow()
	}
}
