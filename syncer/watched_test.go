package syncer_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
)

// told collects what a peer tells, from its next start on.
type told struct {
	mu   sync.Mutex
	list []Change
}

func (p *peer) watched() *told {
	p.t.Helper()
	x := &told{}
	p.stop()
	p.opts.Tell = func(cs []Change) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.list = append(x.list, cs...)
	}
	p.start()
	return x
}

// lines says what was told since the last call, a file without words about it left out.
func (x *told) lines(p *peer) (out []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.list {
		r, ok := p.Describe(c)
		if !ok {
			continue
		}
		s := [...]string{"wrote", "renamed", "removed"}[c.Deed] + " " + r.Path
		if r.From != "" {
			s += " from " + r.From
		}
		if c.Here {
			s += " here"
		}
		s += " by " + r.By.Author
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	x.list = nil
	return out
}

// has waits until it was told.
func (x *told) has(p *peer, want ...string) {
	p.t.Helper()
	var all []string
	p.w.until(fmt.Sprintf("%s tells %q", p.name, want), func() bool {
		all = append(all, x.lines(p)...)
		return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(all, s) })
	})
}

func TestWhatHappensIsToldWhereItWasDoneAndWhereItArrives(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	atA, atB := a.watched(), b.watched()
	a.mkdir("/d")
	a.write("/d/f", strings.Repeat("x", 1<<14))
	w.same()
	atA.has(a, "wrote d here by ua", "wrote d/f here by ua")
	atB.has(b, "wrote d by ua", "wrote d/f by ua")
	b.write("/d/f", "changed")
	w.same()
	atB.has(b, "wrote d/f here by ub")
	atA.has(a, "wrote d/f by ub")
	a.mv("/d/f", "/g")
	w.same()
	atA.has(a, "renamed g from d/f here by ua")
	atB.has(b, "renamed g from d/f by ua")
	b.rm("/g")
	w.same()
	atB.has(b, "removed g here by ub")
	atA.has(a, "removed g by ub")
}

func TestWhatNobodyElseHasIsNamed(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/old", "old")
	w.same()
	w.part(true)
	seq := a.Knowledge().Get(a.Replica())
	a.mkdir("/d")
	a.write("/d/f", "1")
	a.write("/g", "1")
	a.cutNow()
	a.write("/g", "2")
	a.rm("/old")
	a.cutNow()
	files, paths, exact, err := a.Unheld(t.Context(), seq, 3)
	a.must(err)
	slices.Sort(paths)
	if files != 2 || !exact || !slices.Equal(paths, []string{"d/f", "g"}) {
		t.Errorf("%d files, %q, exact %t: directories and what was removed do not count", files, paths, exact)
	}
	if files, paths, _, err := a.Unheld(t.Context(), seq, 1); err != nil || files != 2 || len(paths) != 1 {
		t.Errorf("at most one path: %d files, %q, %v", files, paths, err)
	}
	if files, _, _, err := a.Unheld(t.Context(), a.Knowledge().Get(a.Replica()), 3); err != nil || files != 0 {
		t.Errorf("nothing is unheld: %d files, %v", files, err)
	}
}
