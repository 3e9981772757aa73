package simtest

import (
	"slices"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// bounded checks that what was removed is forgotten once it is long ago and known
// to all, and that the log and the history do not grow by it (I11). A member that
// tells nothing true, or whose disk was copied, may hold it up.
func (w *world) bounded() {
	if w.evil != nil || w.copied {
		return
	}
	w.say("years pass")
	w.pass(1)                // history grows old by the days that somebody has seen, and this one is
	for _, m := range w.ms { // past all that clocks have been at
		m.skew.Add(int64(60 * 365 * 24 * time.Hour))
	}
	w.oracle.had = nil
	for range 2 {
		time.Sleep(20 * time.Second) // what each has is told
		synctest.Wait()
		for _, m := range w.ms {
			w.tidy(m)
		}
	}
	w.pass(historyDays)
	for _, m := range w.ms {
		w.spare(m)
	}
	w.together()
}

// historyDays is for how long versions are kept that are gone, and some more.
const historyDays = 33

// A holding is what the rows of a machine hold.
type holding struct {
	nodes map[model.ID]*model.Node
	alive map[model.ID]bool
	dots  map[model.Dot]bool // cited
}

func (m *machine) holding() (h holding) {
	h = holding{map[model.ID]*model.Node{}, map[model.ID]bool{}, map[model.Dot]bool{}}
	m.rows(func(ix *index.Index, db *pebble.DB) {
		t := ix.Begin()
		defer t.Abort()
		ids := []byte{0, 0, 0, 1, 'i'}
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: ids, UpperBound: append(slices.Clone(ids[:4]), 'i'+1)})
		if err != nil {
			m.w.fail("I11", "%s: %v", m.name, err)
		}
		defer it.Close()
		for ok := it.First(); ok; ok = it.Next() {
			id := model.ID(it.Key()[len(ids):])
			n := t.Node(id)
			h.nodes[id], h.alive[id] = n, t.Alive(id) || id == model.RootID
			if n != nil {
				n.Dots(func(d model.Dot) { h.dots[d] = true })
			}
		}
	})
	return h
}

// spare checks that a machine holds no node that is dead, and in which nothing is
// or was that it must hold; no batch of which nothing is cited; no history.
func (w *world) spare(m *machine) {
	h := m.holding()
	needed := map[model.ID]bool{}
	var need func(id model.ID)
	need = func(id model.ID) {
		if n := h.nodes[id]; !needed[id] && n != nil {
			needed[id] = true
			for _, l := range n.Links {
				for _, at := range l.Hist {
					need(at.Parent)
				}
			}
		}
	}
	living := 0
	for id, yes := range h.alive {
		if yes {
			living++
			need(id)
		}
	}
	left := 0
	for id, n := range h.nodes {
		if n != nil && !h.alive[id] && !needed[id] {
			left++
			w.say("%s still has %v", m.name, n)
		}
	}
	batches, _, err := m.f.LogSize()
	if err != nil {
		w.fail("I11", "%s: %v", m.name, err)
	}
	past := len(w.past(m))
	w.say("%s has %d nodes, %d living, %d of no use; %d batches for %d changes, %d versions of the past", m.name, len(h.nodes), living, left, batches, len(h.dots), past)
	replicas := len(m.f.Joined())
	switch {
	case left > 0:
		w.fail("I11", "%s has %d dead nodes that all know to be dead, beside %d living", m.name, left, living)
	case batches > len(h.dots)+replicas:
		w.fail("I11", "%s has %d batches in its log, and cites %d changes of %d replicas", m.name, batches, len(h.dots), replicas)
	case past > 0 && !m.jumped: // what went there in the future is not old yet
		w.fail("I11", "%s has %d versions of the past after %d days", m.name, past, historyDays)
	}
}
