package syncer_test

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// touch cuts so many changes of /f.
func (p *peer) touch(n int) {
	p.t.Helper()
	a, err := p.Attr(p.ino("/f"))
	p.must(err)
	for i := range n {
		mtime := a.Mtime + int64(i) + 1
		_, err := p.SetAttr(a.Ino, Set{Mtime: &mtime})
		p.must(err)
		p.cutNow()
	}
}

// What a member was only told it does not tell as its own, where it is asked what is
// near the end of what another has.
func TestAMemberTellsNoLieOn(t *testing.T) {
	w := newWorld(t, 3)
	a, b, c := w.peers[0], w.peers[1], w.peers[2]
	a.write("/f", "f")
	w.same()
	w.part(true)
	w.talk.Lock()
	if !w.meet(t.Context(), a, c) {
		t.Fatal("they do not meet")
	}
	for range 200 {
		a.touch(1)
		w.send(t.Context(), a, c)
	}
	w.talk.Unlock()
	a.touch(index.KeptMarks + 100)
	a.must(a.Sync())
	c.must(c.Sync())
	has := c.Joined().Get(a.Replica())
	b.meets("eve", func(o *model.Opening) {
		*o = must(t, a.Opening)
		o.Own = 5
		o.Marks = []model.Mark{{Dot: model.Dot{Replica: a.Replica(), Seq: has - 127}, Lo: has - 127, Hash: [16]byte{0xff}}}
	})
	for x, err := range a.Since(t.Context(), b.Knowledge(), nil) {
		a.must(err)
		b.must(b.Receive(t.Context(), "eve", x))
	}
	b.must(b.CaughtUp(t.Context(), "eve", a.Knowledge()))
	b.must(b.Sync())
	b.Left("eve")
	w.talk.Lock()
	defer w.talk.Unlock()
	for range 6 {
		if w.meet(t.Context(), b, c) {
			return
		}
	}
	t.Error("two honest members never meet")
}

// Of a replica's far past its owner keeps few marks, and takes none from others.
func TestAnOwnerBelievesNoLieAboutItself(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "f")
	for i := range 20 {
		a.write(fmt.Sprint("/g", i), "g")
		a.cutNow()
	}
	w.same()
	w.part(true)
	a.touch(2*index.KeptMarks + 10)
	a.must(a.Sync())
	was := a.Replica()
	l := newLiar(a)
	x := l.batch(a.Joined(), over(model.ID{9}, nil))
	for s := uint64(3); s < 20; s++ {
		ours := must(t, a.Opening)
		theirs := model.Opening{Own: l.rep, K: ours.K, Marks: []model.Mark{{Dot: model.Dot{Replica: was, Seq: s}, Lo: s, Hash: [16]byte{0, 0, byte(s)}}}}
		if _, err := a.Meet(t.Context(), "eve", ours, theirs); err != nil {
			continue // not thinned
		}
		a.must(a.Receive(t.Context(), "eve", model.Batch{Header: x.Header}))
		a.must(a.CaughtUp(t.Context(), "eve", a.Knowledge().With(model.Dot{Replica: l.rep, Seq: l.seq})))
		a.must(a.Sync())
		x = l.batch(a.Joined(), over(model.ID{9}, nil))
	}
	a.must(a.Sync())
	a.Left("eve")
	w.talk2(b, a)
	if a.Replica() != was {
		t.Error("an honest owner that was never restored begins anew: ", a.Alarms())
	}
}

// However many replicas there are, or headers of which a liar has made large ones,
// who was restored is shown that.
func TestARestoredMemberIsShownThatInACrowd(t *testing.T) {
	for _, tt := range []struct {
		name  string
		crowd func(w *world)
	}{{"many replicas", manyReplicas}, {"large headers", largeHeaders}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newCrashable(t, 3)
			a := w.peers[0]
			a.write("/f", "f")
			w.same()
			tt.crowd(w)
			a.must(a.Rekey())
			a.write("/y", "1")
			w.same()
			old := a.copyOfDisk()
			a.write("/z", "later")
			w.same()
			w.part(true)
			was := a.Replica()
			a.restore(old)
			w.part(false)
			w.same()
			if a.Replica() == was {
				t.Error("it goes on as it was")
			}
			holds(t, a.tree(), "later")
		})
	}
}

func manyReplicas(w *world) {
	for i := range 82 {
		for j, p := range w.peers {
			p.must(p.Rekey())
			p.write(fmt.Sprint("/x", j), fmt.Sprint(i))
			p.cutNow()
		}
		w.same()
	}
}

func largeHeaders(w *world) {
	b := w.peers[1]
	r := rand.New(rand.NewPCG(1, 2))
	var deps model.VV
	for range 4000 {
		deps = append(deps, model.Dot{Replica: model.Replica(r.Uint64()), Seq: model.MaxSeq})
	}
	slices.SortFunc(deps, func(x, y model.Dot) int { return map[bool]int{true: -1, false: 1}[x.Replica < y.Replica] })
	l := newLiar(b)
	for range 40 {
		l.rep = model.NewReplica(l.key.Public().(ed25519.PublicKey))
		h := model.Header{Replica: l.rep, Lo: 2, Hi: 2, Author: "eve", Device: "box"}
		h.Deps = deps.With(model.Dot{Replica: l.rep, Seq: 1})
		x := l.seal.Sign(h, [][]byte{{1}}, l.key)
		b.must(b.Receive(w.t.Context(), "eve", model.Batch{Header: x.Header}))
	}
}
