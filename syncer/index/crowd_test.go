package index

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

// Who squats on the names of losers costs no more than the names.
func TestACrowdHoldsAvoidedNamesOnce(t *testing.T) {
	v, err := newViewed(model.NamesBytes, &viewMet{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.db.Close()
	tx := v.ix.Begin()
	defer tx.Abort()
	cost := func(n int) uint64 {
		root, by := tx.Ino(model.RootID), model.Label{Author: "eve", Device: "box"}
		x := &crowd{read: true}
		c := &crowds{dir: root, by: map[string]*crowd{"x": x}, holds: map[string]string{}, wants: map[string]set[string]{}, vacated: set[string]{}}
		single := names{}
		for i := range n {
			id := model.BirthID(model.RootID, fmt.Sprint(i), model.File, 0)
			x.entries = append(x.entries, &model.Entry{ID: id, Kind: model.File, Parent: model.RootID, Base: "x", By: by})
			name := model.ConflictName("x", by, 0, i)
			single[nameKey{root, name}] = viewed{model.BirthID(model.RootID, name, model.File, 0), name}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tx.assign(c, "x", x, single)
		runtime.ReadMemStats(&after)
		if len(x.losers) != n-1 || len(c.wants) != 2*n-1 {
			t.Fatalf("%d losers, %d names that they have or had to avoid", len(x.losers), len(c.wants))
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	const n = 1000
	if few, many := cost(n), cost(4*n); many > 6*few {
		t.Errorf("names of %d take %d bytes, those of %d take %d", n, few, 4*n, many)
	}
}
