package index

import (
	"strings"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

// Databases of before do not say which changes made a node anew: they are right as
// they are, also once they hear of such a change. What the log has not is no birth.
func TestRowsOfBeforeLackBirths(t *testing.T) {
	v, err := newViewed(model.NamesBytes, &viewMet{})
	if err != nil {
		t.Fatal(err)
	}
	birth := func(r model.Replica) said {
		d := model.Dot{Replica: r, Seq: 1}
		c := model.Change{Dot: d, ID: model.BirthID(model.RootID, "f", model.File, 0), Kind: model.File, Lamport: 1, Born: true,
			Links:   []model.LinkChange{{Key: model.PrimaryKey, Parent: model.RootID, Name: "f"}},
			Version: &model.VersionChange{Content: inline("F")}}
		return say(model.Header{Replica: r, Lo: 1, Hi: 1}, []model.Change{c})
	}
	first, second := birth(8), birth(9)
	for i, x := range []struct {
		births []model.Dot
		joins  *said
		faults int
	}{
		{nil, &first, 0},
		{nil, nil, 0},
		{nil, &second, 0},
		{[]model.Dot{{Replica: 8, Seq: 2}}, nil, 1},
	} {
		tx := v.ix.Begin()
		if x.joins != nil {
			tx.AddBatch(x.joins.h, x.joins.raw, x.joins.changes)
			for _, ino := range tx.Fresh() {
				tx.Publish(ino, tx.Wanted(ino), 0, func(Ino) bool { return false })
			}
		}
		if r := tx.rowOf(first.changes[0].ID); x.joins == nil {
			r.Node.Births = x.births
			tx.Changed(tx.Ino(first.changes[0].ID))
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		n := 0
		report := func(err error) {
			if strings.Contains(err.Error(), "by the log") {
				n++
			}
		}
		if err := v.ix.Check(report); err != nil || n != x.faults {
			t.Errorf("%d: %d faults, %v", i, n, err)
		}
	}
}
