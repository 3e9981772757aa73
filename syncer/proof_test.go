package syncer_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/clachanfs/clachan/blocks/content"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A member that says what it cannot show makes nobody do anything: neither take
// another replica id, nor begin anew.
func TestWhatNoHeaderProvesChangesNothing(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "one")
	b.write("/g", "two")
	w.same()
	was, ours := a.Replica(), must(t, a.Opening)
	odd := func(r model.Replica, seq uint64) model.Mark {
		return model.Mark{Dot: model.Dot{Replica: r, Seq: seq}, Lo: seq, Hash: [16]byte{1}}
	}
	for what, lie := range map[string]struct {
		theirs model.Opening
		err    error
	}{
		"more of ours":         {model.Opening{K: ours.K.With(model.Dot{Replica: was, Seq: 99})}, nil},
		"another of ours":      {model.Opening{K: ours.K, Marks: []model.Mark{odd(was, 1)}}, ErrWait},
		"another of b's":       {model.Opening{K: ours.K, Marks: []model.Mark{odd(b.Replica(), 1), odd(b.Replica(), 99)}}, ErrWait},
		"more is forgotten":    {model.Opening{K: ours.K, Horizon: model.VV{{Replica: b.Replica(), Seq: 99}}}, ErrWait},
		"a header that is not": {model.Opening{K: ours.K, Proofs: [][]byte{{1, 2, 3}}}, model.ErrBatch},
		"a header of others":   {model.Opening{K: ours.K, Proofs: [][]byte{forged(t, a, was)}}, model.ErrBatch},
	} {
		tell, err := a.Meet(context.Background(), "liar", ours, lie.theirs)
		if !errors.Is(err, lie.err) {
			t.Errorf("%s: %v, want %v", what, err, lie.err)
		}
		if wait := lie.err == ErrWait && len(lie.theirs.Marks) > 0; wait != (len(tell.Headers) > 0) {
			t.Errorf("%s: shows %d headers", what, len(tell.Headers))
		}
		if a.Replica() != was || len(a.Alarms()) > 0 || must(t, a.Opening).Returning {
			t.Fatalf("%s: replica %v was %v, alarms %v", what, a.Replica(), was, a.Alarms())
		}
	}
	if err := a.CaughtUp(context.Background(), "liar", ours.K.With(model.Dot{Replica: was, Seq: 99})); !errors.Is(err, model.ErrBatch) {
		t.Errorf("a catch-up beyond what is done here: %v", err)
	}
	w.want("/f 644 one", "/g 644 two")
}

// Numbers that nobody has reached are not taken over: neither as forgotten, nor
// as known to an author.
func TestNumbersThatNobodyReachedAreNotTakenOver(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	w.same()
	w.part(true)
	ours := must(t, a.Opening)
	for what, horizon := range map[string]model.VV{
		"of nobody": {{Replica: 77, Seq: 1e9}},
		"of ours":   {{Replica: a.Replica(), Seq: 1e9}},
	} {
		_, _ = a.Meet(t.Context(), "liar", ours, model.Opening{Own: 5, K: ours.K, Horizon: horizon})
		if err := a.CaughtUp(t.Context(), "liar", ours.K); err != nil || len(a.Horizon()) > 0 {
			t.Errorf("forgotten %s: %v, %v is", what, err, a.Horizon())
		}
	}
	_, key, err := ed25519.GenerateKey(nil)
	a.must(err)
	seal := model.Seal{Folder: a.opts.ID, Key: [32]byte(a.opts.Key)}
	future := model.VV{{Replica: a.Replica(), Seq: 1<<64 - 1}}
	c := model.Change{ID: a.node("/f"), Lamport: 1, Version: &model.VersionChange{VV: future, Content: content.Content{}.Encode()}}
	h := model.Header{Replica: model.NewReplica(key.Public().(ed25519.PublicKey)), Lo: 1, Hi: 1, Deps: future, Author: "eve", Device: "box"}
	if err := a.Receive(t.Context(), "liar", seal.Sign(h, [][]byte{c.Encode()}, key)); !errors.Is(err, model.ErrBatch) {
		t.Errorf("a batch by who knows the future: %v", err)
	}
	a.write("/f", "goes on")
	a.cutNow()
}

// forged is a header of a replica that is not of who signed it.
func forged(t *testing.T, p *peer, r model.Replica) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	seal := model.Seal{Folder: p.opts.ID, Key: [32]byte(p.opts.Key)}
	return seal.Sign(model.Header{Replica: r, Lo: 1, Hi: 1}, [][]byte{{}}, key).Header
}

func must[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What a batch was is still shown when all that it said is superseded: two
// histories that part there are told apart.
func TestHistoriesThatPartWhereNothingLivesAreToldApart(t *testing.T) {
	w := newCrashable(t, 3)
	a, b, c := w.peers[0], w.peers[1], w.peers[2]
	a.write("/f", "0")
	w.same()
	old := a.copyOfDisk()
	a.write("/f", "1")
	w.same()
	b.write("/f", "2") // what a said last is dead
	w.same()
	w.part(true)
	a.restore(old)
	a.write("/g", "G")
	a.cutNow()
	a.mv("/g", "/h")
	a.cutNow()
	w.part(false)
	w.want("/f 644 2", "/h 644 G")
	for _, p := range []*peer{b, c} {
		if len(p.Alarms()) == 0 && len(a.Alarms()) == 0 {
			t.Error("nobody hears of it")
		}
	}
}
