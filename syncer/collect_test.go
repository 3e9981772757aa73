package syncer_test

import (
	"context"
	"fmt"
	mrand "math/rand"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/clachanfs/clachan/syncer"
)

// members lets all peers count each other.
func (w *world) members() {
	for _, p := range w.peers {
		p.opts.Members = func() (out []string) {
			for _, q := range w.peers {
				if q != p {
					out = append(out, q.name)
				}
			}
			return out
		}
		p.again(p.opts.Remote)
	}
}

// ack lets everybody hear what everybody has.
func (w *world) ack() {
	for _, p := range w.peers {
		for _, q := range w.peers {
			if p != q {
				p.Acked(q.name, q.Knowledge(), 0)
			}
		}
	}
}

const soon = 48 * time.Hour // from now: today's removals count as old

func (p *peer) collectNow() int {
	p.t.Helper()
	n, err := p.Collect(context.Background(), time.Now().Add(soon))
	p.must(err)
	return n
}

// What was removed is forgotten once all know it: its rows and its changes go,
// the rows are still what the log says, a newcomer sees the same, and what is
// made in its place is the same everywhere, whoever has collected.
func TestWhatAllKnowToBeRemovedIsCollected(t *testing.T) {
	w := newWorld(t, 2)
	w.members()
	a, b := w.peers[0], w.peers[1]
	var third atomic.Bool // is a member, and has told nothing
	third.Store(true)
	a.opts.Members = func() []string {
		ms := []string{"b"}
		if third.Load() {
			ms = append(ms, "c")
		}
		return ms
	}
	a.again(a.opts.Remote)
	a.mkdir("/d")
	a.mkdir("/d/e")
	for i := range 20 {
		a.write(fmt.Sprint("/d/e/f", i), fmt.Sprint("f", i))
	}
	a.write("/stays", "here")
	x := a.stat("/stays")
	a.must(a.Setxattr(x.Ino, "user.gone", []byte("soon"), 0))
	_, err := a.Link(x.Ino, RootIno, "second")
	a.must(err)
	w.same()
	b.rm("/d")
	a.must(a.Unlink(RootIno, "second"))
	a.must(a.Removexattr(x.Ino, "user.gone"))
	tree := w.same()
	if n := a.collectNow(); n != 0 || len(a.Horizon()) > 0 {
		t.Errorf("%d nodes collected before all have told", n)
	}
	third.Store(false)
	w.ack()
	states := len(a.State())
	if n := a.collectNow(); n < 22 {
		t.Errorf("%d nodes collected", n)
	}
	if got := len(a.State()); got != states-22 {
		t.Errorf("%d nodes of %d are left", got, states)
	}
	if !a.Horizon().Equal(a.Knowledge()) || len(b.Horizon()) > 0 {
		t.Errorf("horizon %v, of b %v", a.Horizon(), b.Horizon())
	}
	if n, _, err := a.LogSize(); err != nil || n > 4 {
		t.Errorf("%d batches, %v", n, err)
	}
	if got := w.same(); got != tree {
		t.Errorf("was\n%s\nis\n%s", tree, got)
	}
	a.again(a.opts.Remote)
	if !a.Horizon().Equal(a.Knowledge()) {
		t.Errorf("horizon %v after a restart", a.Horizon())
	}
	b.mkdir("/d")
	b.write("/d/e", "now a file")
	a.write("/d2", "more")
	w.same()
	b.rm("/d")
	w.same()
	w.ack()
	b.collectNow()
	w.same()
}

// A newcomer gets from who has collected what is there, and nothing that was.
func TestANewcomerGetsNothingCollected(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	a.opts.Members = func() []string { return nil }
	a.again(a.opts.Remote)
	for i := range 10 {
		a.write(fmt.Sprint("/f", i), fmt.Sprint("f", i))
	}
	a.must(a.Cut(t.Context()))
	for i := range 3 { // less than half of a batch: its changes stay in the log
		a.rm(fmt.Sprint("/f", i))
	}
	a.must(a.Cut(t.Context()))
	if n := a.collectNow(); n != 3 {
		t.Errorf("%d collected", n)
	}
	w.join()
	if tree := w.same(); strings.Count(tree, "\n") != 6 {
		t.Errorf("tree\n%s", tree)
	}
}

// Users work on peers that collect at random moments; all show the same, and
// the rows are what the log says.
func TestRandomWorldsThatCollect(t *testing.T) {
	for i := range int64(*worlds) {
		s := *seed + i
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			r := mrand.New(mrand.NewSource(s))
			w := newWorld(t, 2+r.Intn(2))
			var log []string
			var us []*user
			w.members()
			for _, p := range w.peers {
				us = append(us, &user{peer: p, r: r, log: &log, names: []string{"a", "b", "c.txt"}, reads: map[Ino]string{}, writes: map[Ino]bool{}})
			}
			for range 40 + r.Intn(40) {
				u := us[r.Intn(len(us))]
				switch r.Intn(14) {
				case 0:
					w.part(true)
				case 1:
					w.part(false)
				case 2, 3:
					u.say("cut")
					u.must(u.Cut(context.Background()))
				case 4, 5:
					u.say("collect")
					if !w.cut.Load() {
						w.talk.Lock()
						w.ack()
						w.talk.Unlock()
					}
					u.collectNow()
				default:
					u.step()
				}
			}
			for _, u := range us {
				u.close()
			}
			w.part(false)
			w.same()
			w.ack()
			for _, u := range us {
				u.collectNow()
			}
			w.same()
			if t.Failed() {
				t.Log(strings.Join(log, "\n"))
			}
		})
	}
}

// What its name's next birth made forgotten, where it was not collected, does not
// come back at a newcomer: not that either which had been superseded before, and
// is still in the log.
func TestWhatABirthMadeForgottenComesBackNowhere(t *testing.T) {
	w := newWorld(t, 2)
	w.members()
	a, b := w.peers[0], w.peers[1]
	a.write("/x.db", "0")
	a.write("/x.db-wal", "0")
	w.same()
	stays, gone := b.edit("/x.db"), b.edit("/x.db-wal") // said in one batch
	stays.write(0, "1")
	gone.write(0, "1")
	stays.close()
	gone.close()
	w.same()
	a.write("/x.db-wal", "2")
	w.same()
	a.rm("/x.db-wal")
	w.same()
	w.ack()
	if n := a.collectNow(); n == 0 {
		t.Fatal("nothing collected")
	}
	a.write("/x.db-wal", "born anew")
	w.same()
	w.part(true)
	c := w.join()
	w.meet(t.Context(), c, b)
	w.send(t.Context(), b, c)
	w.until("the newcomer shows it all", func() bool { return c.tree() == b.tree() })
	w.part(false)
	w.same()
}

// Two who make a file at once forget nothing by it.
func TestTwoBirthsAtOnceForgetNothing(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	w.part(true)
	for _, p := range []*peer{a, b} {
		p.write("/f", p.name)
		p.must(p.Cut(t.Context()))
	}
	w.part(false)
	w.same()
	if h := a.Horizon().Join(b.Horizon()); len(h) > 0 {
		t.Errorf("horizon %v", h)
	}
}

// Directories that have been in each other are forgotten too, together.
func TestDirectoriesThatWereInEachOtherAreCollected(t *testing.T) {
	w := newWorld(t, 2)
	w.members()
	a := w.peers[0]
	a.mkdir("/stays")
	w.same()
	states := len(a.State())
	a.mkdir("/a")
	a.mkdir("/b")
	a.mkdir("/a/c")
	w.same()
	for _, m := range [][2]string{{"/b", "/a/b"}, {"/a/b", "/b"}, {"/a", "/b/a"}, {"/b/a/c", "/c"}, {"/b", "/c/b"}, {"/c", "/stays/c"}} {
		a.mv(m[0], m[1])
		w.same()
	}
	w.ack()
	if n := a.collectNow(); n != 0 {
		t.Errorf("%d collected of what lives", n)
	}
	a.rm("/stays/c")
	w.same()
	w.ack()
	a.collectNow()
	if got := len(a.State()); got != states {
		t.Errorf("%d nodes, had %d: %v", got, states, a.State())
	}
	w.same()
}
