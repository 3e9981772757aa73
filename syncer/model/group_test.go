package model

import (
	"fmt"
	"runtime"
	"testing"
)

// besieged are n claims on a name, and n entries that have for their own what the
// first of its losers would be called.
func besieged(n int) (es []*Entry) {
	by := Label{"eve", "box"}
	claim := func(what, base string, i int) {
		id := BirthID(RootID, fmt.Sprint(what, i), File, 0)
		es = append(es, &Entry{ID: id, Kind: File, Parent: RootID, Base: base, Stamp: Stamp{uint64(i), 1}, By: by})
	}
	for i := range n {
		claim("claimant", "x", i)
		claim("squatter", ConflictName("x", by, 0, i), i)
	}
	return es
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Who squats on the names of losers costs no more than the names.
func TestAvoidedNamesAreHeldOnceForAllLosers(t *testing.T) {
	const n = 1000
	cost := func(n int) uint64 {
		es := besieged(n)
		return allocated(func() { Assign(es, Bytes, func(string) bool { return false }) })
	}
	if few, many := cost(n), cost(4*n); many > 6*few {
		t.Errorf("names of %d take %d bytes, those of %d take %d", n, few, 4*n, many)
	}
	es := besieged(n)
	Assign(es, Bytes, func(string) bool { return false })
	for _, e := range es {
		if loser := e.Name != e.Base; loser && len(e.Over) != n || !loser && e.Over != nil {
			t.Fatalf("%s, which is %s, had to avoid %d names", e.Base, e.Name, len(e.Over))
		}
	}
}
