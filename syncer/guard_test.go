package syncer

import (
	"encoding/binary"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

// A process that reads everything does not make forgotten what others know, and
// keeps the latest of its own.
func TestGreedyReaderMakesNothingForgotten(t *testing.T) {
	g := newGuard()
	at := func(p Proc, i int) reading {
		var id model.ID
		binary.BigEndian.PutUint64(id[:], uint64(i+1))
		return readingAt(p, id, 0)
	}
	v := model.Dot{Replica: 1, Seq: 1}
	g.note(at(1, 0), v)
	for i := range 2 * readings {
		g.note(at(2, i), v)
	}
	if _, ok := g.knows(at(1, 0)); !ok {
		t.Error("what another process knows is forgotten")
	}
	if _, ok := g.knows(at(2, 2*readings-1)); !ok || len(g.by) != 1+readingsOf || g.of[2] != readingsOf {
		t.Errorf("%d readings are kept, %d of the greedy one", len(g.by), g.of[2])
	}
	for p := range Proc(2 * readings) {
		g.note(at(p+3, 1), v)
	}
	if len(g.by) != readings || g.order.Len() != readings {
		t.Errorf("%d readings are kept", len(g.by))
	}
}
