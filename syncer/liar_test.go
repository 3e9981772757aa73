package syncer_test

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/blocks/content"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A liar is a member that signs what it likes.
type liar struct {
	seal model.Seal
	key  ed25519.PrivateKey
	rep  model.Replica
	seq  uint64
	prev [32]byte
}

func newLiar(p *peer) *liar {
	pub, key, err := ed25519.GenerateKey(nil)
	p.must(err)
	return &liar{seal: model.Seal{Folder: p.opts.ID, Key: [32]byte(p.opts.Key)}, key: key, rep: model.NewReplica(pub)}
}

// batch is the next batch of the liar's, one change by who says to know deps.
func (l *liar) batch(deps model.VV, c model.Change) model.Batch {
	h := model.Header{Replica: l.rep, Lo: l.seq + 1, Hi: l.seq + 1, Prev: l.prev, Author: "eve", Device: "box"}
	h.Deps = deps.With(model.Dot{Replica: l.rep, Seq: l.seq})
	b := l.seal.Sign(h, [][]byte{c.Encode()}, l.key)
	l.seq++
	l.prev = model.HeaderHash(b.Header)
	return b
}

// over empties a file, over all that knows has.
func over(id model.ID, knows model.VV) model.Change {
	return model.Change{ID: id, Kind: model.File, Lamport: 1, Version: &model.VersionChange{VV: knows, Content: content.Content{}.Encode()}}
}

// born makes an empty file of the root.
func born(name string, lamport uint64) model.Change {
	c := over(model.BirthID(model.RootID, name, model.File, 0), nil)
	c.Lamport, c.Born = lamport, true
	c.Links = []model.LinkChange{{Key: model.PrimaryKey, Parent: model.RootID, Name: name}}
	return c
}

// meets lets a peer meet one that is somebody else and has what it has.
func (p *peer) meets(who string, say func(o *model.Opening)) {
	p.t.Helper()
	ours, err := p.Opening()
	p.must(err)
	theirs := model.Opening{Own: 5, K: ours.K, Marks: ours.Marks, Proofs: ours.Proofs}
	if say != nil {
		say(&theirs)
	}
	_, err = p.Meet(p.t.Context(), who, ours, theirs)
	p.must(err)
}

// Who says to know what others are yet to make is refused by all, whoever brings
// it: what they make then is seen.
func TestWhatIsYetToBeMadeIsNotSuperseded(t *testing.T) {
	w := newWorld(t, 3)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "F")
	b.write("/mine", "m")
	w.same()
	w.part(true)
	k := a.Knowledge()
	for what, lie := range map[string]model.VV{
		"more of b":   k.With(model.Dot{Replica: b.Replica(), Seq: k.Get(b.Replica()) + 1}),
		"much more":   {{Replica: b.Replica(), Seq: model.MaxSeq}},
		"more of a":   k.With(model.Dot{Replica: a.Replica(), Seq: k.Get(a.Replica()) + 1}),
		"of nobody":   {{Replica: 77, Seq: 1}},
		"out of ours": {{Replica: b.Replica(), Seq: 1<<64 - 1}},
	} {
		x := newLiar(a).batch(lie, over(a.node("/f"), lie))
		for _, p := range w.peers {
			if err := p.Receive(t.Context(), "eve", x); !errors.Is(err, model.ErrBatch) {
				t.Errorf("%s at %s: %v", what, p.name, err)
			}
		}
	}
	b.write("/f", "b's new")
	b.cutNow()
	a.write("/g", "a's")
	w.part(false)
	w.want("/f 644 b's new", "/g 644 a's", "/mine 644 m")
}

// A batch that is dead and gone is named by what lives: a header goes first that
// proves it, also in the middle of a session, and on from there.
func TestWhatProvesTheDeadGoesFirst(t *testing.T) {
	w := newWorld(t, 4)
	a, b, c, d := w.peers[0], w.peers[1], w.peers[2], w.peers[3]
	a.write("/f", "0")
	w.same()
	w.part(true)
	talk := func(p, q *peer) {
		w.talk.Lock()
		defer w.talk.Unlock()
		if w.meet(t.Context(), p, q) {
			w.send(t.Context(), p, q)
		}
	}
	talk(a, c)
	for i := range 3 {
		was := c.Knowledge()
		b.write("/f", fmt.Sprint("b's", i))
		b.cutNow()
		talk(b, a)
		a.write("/f", fmt.Sprint("a's", i))
		a.cutNow()
		alone, all := 0, 0
		for x, err := range a.Since(t.Context(), was, nil) {
			a.must(err)
			if all++; len(x.Body) == 0 {
				alone++
				continue
			}
			if err := c.Receive(t.Context(), "a", x); !errors.Is(err, model.ErrBatch) {
				t.Errorf("taken in without what proves it: %v", err)
			}
		}
		if alone != 1 || all != 2 {
			t.Errorf("%d of %d are headers alone", alone, all)
		}
		talk(a, c)
		if got := c.Knowledge(); !got.Equal(a.Knowledge()) {
			t.Errorf("c knows %v of %v", got, a.Knowledge())
		}
		talk(a, b)
	}
	talk(c, d)
	if got := d.Knowledge(); !got.Equal(a.Knowledge()) {
		t.Errorf("d knows %v of %v", got, a.Knowledge())
	}
	e := w.join()
	talk(d, e)
	w.part(false)
	w.want("/f 644 a's2")
}

// A catch-up says that what did not come is dead: that is believed of what was
// made, not of what is yet to be.
func TestWhatIsYetToBeMadeIsNotDead(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "F")
	b.write("/f2", "F")
	w.same()
	w.part(true)
	a.meets("eve", nil)
	k := a.Knowledge()
	for _, lie := range []model.Dot{{Replica: b.Replica(), Seq: 1e6}, {Replica: a.Replica(), Seq: 1e6}, {Replica: 77, Seq: 1}} {
		if err := a.CaughtUp(t.Context(), "eve", k.With(lie)); !errors.Is(err, model.ErrBatch) {
			t.Errorf("caught up to %v: %v", lie, err)
		}
	}
	if !a.Joined().Equal(k) {
		t.Errorf("knows %v, knew %v", a.Joined(), k)
	}
	b.write("/g", "G")
	b.cutNow()
	w.part(false)
	w.want("/f 644 F", "/f2 644 F", "/g 644 G")
}

// What was only said to a newcomer parts it from nobody: it and those who have
// others go on with each other.
func TestWhatIsOnlySaidToANewcomerHoldsNobodyUp(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	for i := range 150 {
		a.write("/f", fmt.Sprint(i))
		a.cutNow()
	}
	w.same()
	w.part(true)
	c := w.join()
	c.meets("eve", func(o *model.Opening) {
		*o = must(t, a.Opening)
		o.Own = 5
		o.Marks = []model.Mark{{Dot: model.Dot{Replica: a.Replica(), Seq: 5}, Lo: 5, Hash: [16]byte{0xff}}}
	})
	for x, err := range a.Since(t.Context(), nil, nil) {
		a.must(err)
		c.must(c.Receive(t.Context(), "eve", x))
	}
	if err := c.CaughtUp(t.Context(), "eve", a.Knowledge()); !errors.Is(err, ErrAnew) {
		t.Fatal(err)
	}
	c.must(c.Sync())
	c.Left("eve")
	c.write("/c", "c's own")
	w.part(false)
	w.want("/c 644 c's own", "/f 644 149")
}

// However many replicas somebody makes up, or writes as, others can say what they
// know.
func TestNobodyMakesKnowledgeTooLarge(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	w.same()
	w.part(true)
	r := rand.New(rand.NewPCG(1, 2))
	l := newLiar(a)
	for _, n := range []int{1, 6000} {
		var deps model.VV
		for range n {
			deps = append(deps, model.Dot{Replica: model.Replica(r.Uint64()), Seq: 1})
		}
		slices.SortFunc(deps, func(x, y model.Dot) int { return map[bool]int{true: -1, false: 1}[x.Replica < y.Replica] })
		if err := a.Receive(t.Context(), "eve", newLiar(a).batch(deps, over(model.ID{9}, nil))); !errors.Is(err, model.ErrBatch) {
			t.Errorf("who knows %d made-up replicas: %v", n, err)
		}
	}
	refused := 0
	for range 300 { // one at a time lives
		l.rep, l.seq, l.prev = model.NewReplica(l.key.Public().(ed25519.PublicKey)), 0, [32]byte{}
		k := a.Joined()
		if err := a.Receive(t.Context(), "eve", l.batch(k, over(a.node("/f"), k))); err != nil {
			if !errors.Is(err, model.ErrBatch) {
				t.Fatal(err)
			}
			refused++
		}
	}
	if n := len(a.Joined()); n > 260 || refused < 40 {
		t.Errorf("%d replicas, %d refused", n, refused)
	}
	a.write("/f", "goes on")
	w.part(false)
	w.want("/f 644 goes on")
}

// What is shown of a batch that is not here proves whose it is, and does no more.
func TestAHeaderAloneChangesNothing(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "F")
	w.same()
	w.part(true)
	b.write("/f", "of b")
	b.cutNow()
	tree, k := a.tree(), a.Joined()
	var last model.Batch
	for x, err := range b.Since(t.Context(), k, nil) {
		b.must(err)
		last = x
	}
	a.must(a.Receive(t.Context(), "eve", model.Batch{Header: last.Header}))
	bad := slices.Clone(last.Header)
	bad[len(bad)-1] ^= 1
	if err := a.Receive(t.Context(), "eve", model.Batch{Header: bad}); !errors.Is(err, model.ErrBatch) {
		t.Errorf("a header that nobody has signed: %v", err)
	}
	if a.tree() != tree || !a.Joined().Equal(k) {
		t.Errorf("knows %v, knew %v\n%s", a.Joined(), k, a.tree())
	}
	a.write("/f", "of a") // not knowing b's
	a.cutNow()
	for x, err := range a.Since(context.Background(), k, nil) {
		a.must(err)
		h, err := model.DecodeHeader(x.Header)
		if a.must(err); h.Replica == a.Replica() && !h.Deps.Equal(k) {
			t.Errorf("says to know %v, knows %v", h.Deps, k)
		}
	}
	w.part(false)
	if tree := w.same(); len(tree) == 0 {
		t.Error("nothing is left")
	} else {
		holds(t, tree, "of a", "of b")
	}
}

// Who writes as some replicas to one member and as others to another does not
// part the two: what each has taken in, the other takes from it.
func TestManyNamesPartNobody(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "F")
	w.same()
	w.part(true)
	l := newLiar(a)
	refused := 0
	for _, p := range w.peers {
		for i := range 70 {
			l.rep, l.seq, l.prev = model.NewReplica(l.key.Public().(ed25519.PublicKey)), 0, [32]byte{}
			err := p.Receive(t.Context(), "eve", l.batch(nil, model.Change{ID: model.ID{0: byte(i), 1: p.name[0], 15: byte(model.Dir)}, Kind: model.Dir, Lamport: 1,
				Links: []model.LinkChange{{Parent: model.RootID, Name: fmt.Sprint(p.name, i)}}, Version: &model.VersionChange{}}))
			if err != nil && !errors.Is(err, model.ErrBatch) {
				t.Fatal(err)
			} else if err != nil {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("there is no end")
	}
	b.write("/f", "goes on")
	b.cutNow()
	w.part(false)
	holds(t, w.same(), "goes on")
}

// However the clock of changes goes ahead, step by step, it stays where all can
// go on, and what one has taken in no other refuses, though the steps are gone.
func TestAClockThatRunsAheadPartsNobody(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "F")
	w.same()
	w.part(true)
	l, clock, refused := newLiar(a), uint64(1)<<40, 0
	for range 8 {
		k := a.Joined()
		c := over(a.node("/f"), k)
		c.Lamport = clock
		seq, prev := l.seq, l.prev
		switch err := a.Receive(t.Context(), "eve", l.batch(k, c)); {
		case errors.Is(err, model.ErrBatch):
			refused, l.seq, l.prev = refused+1, seq, prev
			clock = k.Latest()
		case err != nil:
			t.Fatal(err)
		default:
			clock += 1 << 39
		}
	}
	if refused == 0 {
		t.Error("there is no end")
	}
	a.write("/f", "goes on")
	a.mv("/f", "/g")
	a.cutNow()
	w.part(false)
	w.want("/g 644 goes on")
	b.mv("/g", "/h")
	w.want("/h 644 goes on")
}

// What a member shows without a body is bounded.
func TestHeadersThatAreShownAreBounded(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	a.write("/f", "F")
	a.cutNow()
	r := rand.New(rand.NewPCG(1, 2))
	var deps model.VV
	for range 4000 {
		deps = append(deps, model.Dot{Replica: model.Replica(r.Uint64()), Seq: model.MaxSeq})
	}
	slices.SortFunc(deps, func(x, y model.Dot) int { return map[bool]int{true: -1, false: 1}[x.Replica < y.Replica] })
	l := newLiar(a)
	show := func(seq uint64) {
		h := model.Header{Replica: l.rep, Lo: seq, Hi: seq, Author: "eve", Device: "box"}
		h.Deps = deps.With(model.Dot{Replica: l.rep, Seq: seq - 1})
		b := l.seal.Sign(h, [][]byte{{1}}, l.key)
		a.must(a.Receive(t.Context(), "eve", model.Batch{Header: b.Header}))
	}
	show(model.MaxSeq)
	for i := range 1000 {
		show(uint64(2*i + 1))
	}
	size := 0
	p := append(binary.BigEndian.AppendUint32(nil, 1), 'k')
	it, err := a.disk.Meta().NewIter(&pebble.IterOptions{LowerBound: p, UpperBound: append(p[:4:4], 'k'+1)})
	a.must(err)
	for ok := it.First(); ok; ok = it.Next() {
		size += len(it.Value())
	}
	a.must(it.Close())
	if size > 1<<20 {
		t.Errorf("%d MiB of headers nobody needs", size>>20)
	}
}

// Who removes what it made, and bears it anew at once, makes others forget what not
// all know to be removed. Who wrote meanwhile begins anew for that, and loses nothing.
func TestWhatIsBornAnewTooSoonLosesNothing(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "F")
	w.same()
	w.part(true)
	b.write("/f", "b's")
	b.write("/g", "G")
	b.cutNow()

	l := newLiar(a)
	z := born("z", 1)
	gone := model.Change{ID: z.ID, Kind: model.File, Lamport: 2, Gone: model.VV{{Replica: l.rep, Seq: 1}},
		Links: []model.LinkChange{{Key: model.PrimaryKey, Removed: true}}}
	anew := z
	anew.Lamport = 3
	for _, c := range []model.Change{z, gone, anew} {
		a.must(a.Receive(t.Context(), "eve", l.batch(a.Knowledge(), c)))
		a.must(a.Sync())
	}
	if len(a.Horizon()) == 0 {
		t.Fatal("nothing was forgotten")
	}
	w.part(false)
	w.want("/f 644 b's", "/g 644 G", "/z 644 ")
}

// removed is a world of two in which both know that a file was removed.
func removed(t *testing.T) (w *world, id model.ID) {
	w = newWorld(t, 2)
	w.members()
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "F")
	w.same()
	id = a.node("/f")
	b.rm("/f")
	w.same()
	w.ack()
	return w, id
}

// A member that sends one what comes after a batch, and another that batch too, does
// not part them: who has not got it cannot have forgotten what is in it, though it
// says to know it.
func TestWhatIsHeldBackIsNotForgottenByABirth(t *testing.T) {
	w, id := removed(t)
	a, b := w.peers[0], w.peers[1]
	w.part(true)
	l := newLiar(a)
	k := a.Knowledge()
	held := l.batch(k, model.Change{ID: id, Kind: model.File, Lamport: 9, Links: []model.LinkChange{{Key: 9, Parent: model.RootID, Name: "held back"}}})
	next := l.batch(k, born("z", 10))
	b.must(b.Receive(t.Context(), "eve", held))
	b.must(b.Receive(t.Context(), "eve", next))
	a.must(a.Receive(t.Context(), "eve", next))
	if n := a.collectNow(); n != 1 {
		t.Fatalf("%d nodes collected", n)
	}
	a.write("/f", "again")
	a.cutNow()
	w.part(false)
	w.want("/f 644 again", "/held back 644 again", "/z 644 ")
}

// Who says not to have had what all have told to have, where it makes something anew,
// is refused as one that did not know it is.
func TestWhoLacksWhatIsForgottenIsRefused(t *testing.T) {
	w, _ := removed(t)
	a, b := w.peers[0], w.peers[1]
	if n := a.collectNow(); n != 1 {
		t.Fatalf("%d nodes collected", n)
	}
	w.part(true)
	c := born("z", 10)
	c.Lacks = model.VV{{Replica: b.Replica(), Seq: 1}}
	if err := a.Receive(t.Context(), "eve", newLiar(a).batch(a.Knowledge(), c)); !errors.Is(err, ErrBehind) {
		t.Errorf("taken in: %v", err)
	}
	if c.Lacks = nil; a.Receive(t.Context(), "eve", newLiar(a).batch(a.Knowledge(), c)) != nil {
		t.Error("refused though it lacks nothing")
	}
}

// Who says of bytes of its own that they are those of somebody's version takes that
// neither from the history nor from what goes there.
func TestWhoRepeatsAVersionWithOtherBytesDestroysNone(t *testing.T) {
	for _, removed := range []bool{false, true} {
		t.Run(fmt.Sprint("removed ", removed), func(t *testing.T) {
			a := newWorld(t, 1).peers[0]
			a.write("/f", "a's text")
			a.cutNow()
			id := a.node("/f")
			orig := model.Dot{Replica: a.Replica(), Seq: a.Knowledge().Get(a.Replica())}
			if removed {
				a.rm("/f")
				a.cutNow()
			}
			k := a.Knowledge()
			l := newLiar(a)
			c := over(id, k)
			c.Lamport, c.Links = 9, []model.LinkChange{{Parent: model.RootID, Name: "f"}}
			c.Version.Orig = orig
			a.must(a.Receive(t.Context(), "eve", l.batch(k, c)))
			k = k.With(model.Dot{Replica: l.rep, Seq: 1})
			gone := model.Change{ID: id, Kind: model.File, Lamport: 10, Links: []model.LinkChange{{Removed: true}}, Gone: k}
			a.must(a.Receive(t.Context(), "eve", l.batch(k, gone)))
			if got := a.pasts(); !slices.Contains(got, "a's text") {
				t.Errorf("in the history is %q", got)
			}
		})
	}
}

// A version that is said to repeat somebody's, with other bytes, takes neither its
// place nor its name.
func TestWhoRepeatsAVersionWithOtherBytesHidesNone(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "base")
	w.settle()
	k := a.Knowledge()
	w.part(true)
	a.write("/f", "a's text")
	a.cutNow()
	orig := model.Dot{Replica: a.Replica(), Seq: a.Knowledge().Get(a.Replica())}
	mtime := a.stat("/f").Mtime
	b.write("/f", "b's text")
	b.cutNow()
	w.part(false)
	w.settle()
	for i, later := range []int64{1, 1e15} { // than a's, and than all
		l := newLiar(a)
		c := over(a.node("/f"), k)
		c.Lamport = uint64(9 + i)
		c.Version.Orig, c.Version.Mtime = orig, mtime+later
		c.Version.Content = content.Content{Size: 5, Inline: fmt.Appendf(nil, "liar%d", i)}.Encode()
		a.must(a.Receive(t.Context(), "eve", l.batch(a.Knowledge(), c)))
		w.settle()
		for _, text := range []string{"a's text", "b's text", fmt.Sprint("liar", i)} {
			if tree := w.same(); strings.Count(tree, text) != 1 {
				t.Errorf("%q is not shown once:\n%s", text, tree)
			}
		}
	}
	b.write("/f", "more")
	if tree := w.same(); strings.Count(tree, "a's text") != 1 {
		t.Errorf("a's text is gone with an edit of b's:\n%s", tree)
	}
}
