package index

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/syncer/model"
)

// BenchmarkOpening reads what a peer is told of histories of 4,096 batches each:
// 2.5 ms for each, too long for the apply lock.
func BenchmarkOpening(b *testing.B) {
	for _, reps := range []int{1, 10} {
		b.Run(fmt.Sprint(reps, " replicas"), func(b *testing.B) {
			db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem(), Logger: quiet{}})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			ix, err := Open(db, 1, "", 0, 0)
			if err != nil {
				b.Fatal(err)
			}
			t := ix.Begin()
			r := rand.New(rand.NewPCG(1, 2))
			for i := range reps {
				for _, m := range chain(r, model.Replica(i+1), 1, 4096*5/2) {
					t.mark(t.number(m.Dot.Replica), m, make([]byte, 200))
					t.setRep(Rep{ID: m.Dot.Replica, Hi: m.Dot.Seq, Known: m.Dot.Seq})
				}
			}
			if err := t.Commit(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s := ix.Snapshot()
				marks, _, err := s.Marks()
				if err != nil || len(marks) == 0 {
					b.Fatal(err)
				}
				if _, err := s.Tips(marks); err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
