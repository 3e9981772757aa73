package index

import (
	"fmt"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

// BenchmarkManySets joins directories of three files each, all of whose bytes are
// still to come, and then shows them as they come: the time for each file must
// not grow with their number.
func BenchmarkManySets(b *testing.B) {
	for _, dirs := range []int{250, 1000, 4000} {
		b.Run(fmt.Sprint(3*dirs, " files"), func(b *testing.B) {
			for b.Loop() {
				manySets(b, dirs)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*3*dirs), "µs/file")
		})
	}
}

func manySets(b *testing.B, dirs int) {
	v, err := newViewed(model.NamesBytes, &viewMet{})
	if err != nil {
		b.Fatal(err)
	}
	defer v.db.Close()
	var all []model.Change
	add := func(parent model.ID, name string, k model.Kind, content string) model.ID {
		id := model.BirthID(parent, name, k, 0)
		all = append(all, model.Change{Dot: model.Dot{Replica: 1, Seq: uint64(len(all) + 1)}, ID: id, Kind: k, Lamport: uint64(len(all) + 1), Born: true,
			Links: []model.LinkChange{{Parent: parent, Name: name}}, Version: &model.VersionChange{Content: content}})
		return id
	}
	for i := range dirs {
		d := add(model.RootID, fmt.Sprint("d", i), model.Dir, "")
		for j := range 3 {
			add(d, fmt.Sprint("f", j), model.File, blockwise("odd"))
		}
	}
	var wanted []Ino
	for len(all) > 0 {
		cs := all[:min(1000, len(all))]
		all = all[len(cs):]
		var deps model.VV
		s := say(model.Header{Replica: 1, Lo: cs[0].Dot.Seq, Hi: cs[len(cs)-1].Dot.Seq, Deps: deps.With(model.Dot{Replica: 1, Seq: cs[0].Dot.Seq - 1})}, cs)
		t := v.ix.Begin()
		t.FlipTogether()
		t.AddBatch(s.h, s.raw, s.changes)
		wanted = append(wanted, t.Fresh()...)
		if err := t.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	for len(wanted) > 0 {
		some := wanted[:min(256, len(wanted))]
		wanted = wanted[len(some):]
		t := v.ix.Begin()
		for _, ino := range some {
			t.Arrive(ino, t.Wanted(ino), 0, func(Ino) bool { return false })
		}
		if err := t.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if v.ix.Waiting() > 0 {
		b.Fatalf("%d still wait", v.ix.Waiting())
	}
}
