package index

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

// BenchmarkWaiting tells what a file takes in memory while its bytes are still to
// come: 30,000 of them, in directories of 100 or all in one.
func BenchmarkWaiting(b *testing.B) {
	for _, each := range []int{100, 30_000} {
		b.Run(fmt.Sprint(each, " in a directory"), func(b *testing.B) {
			var total int64
			for b.Loop() {
				total += waitingBytes(b, 30_000, each)
			}
			b.ReportMetric(float64(total)/float64(b.N*30_000), "B/file")
		})
	}
}

// waitingBytes is what the mirrors of n waiting files take.
func waitingBytes(tb testing.TB, n, each int) int64 {
	v := someWait(tb, n, each)
	if err := v.db.Close(); err != nil { // else what it holds comes and goes
		tb.Fatal(err)
	}
	with := heap()
	ix := v.ix
	ix.names, ix.viewed, ix.blocked, ix.bytes, ix.sets, ix.setOf, ix.held = nil, nil, nil, nil, nil, nil, nil
	without := heap()
	runtime.KeepAlive(v)
	return with - without
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// someWait joins n files whose bytes are still to come.
func someWait(tb testing.TB, n, each int) *viewer {
	v, err := newViewed(model.NamesBytes, &viewMet{})
	if err != nil {
		tb.Fatal(err)
	}
	var all []model.Change
	add := func(parent model.ID, name string, k model.Kind, content string) model.ID {
		id, seq := model.BirthID(parent, name, k, 0), uint64(len(all)+1)
		all = append(all, model.Change{Dot: model.Dot{Replica: 1, Seq: seq}, ID: id, Kind: k, Lamport: seq, Born: true,
			Links: []model.LinkChange{{Parent: parent, Name: name}}, Version: &model.VersionChange{Content: content}})
		return id
	}
	var d model.ID
	for i := range n {
		if i%each == 0 {
			d = add(model.RootID, fmt.Sprint("directory ", i/each), model.Dir, "")
		}
		add(d, fmt.Sprintf("IMG_2026%06d.jpg", i), model.File, blockwise("odd"))
	}
	for len(all) > 0 {
		cs := all[:min(1000, len(all))]
		all = all[len(cs):]
		var deps model.VV
		s := say(model.Header{Replica: 1, Lo: cs[0].Dot.Seq, Hi: cs[len(cs)-1].Dot.Seq, Deps: deps.With(model.Dot{Replica: 1, Seq: cs[0].Dot.Seq - 1})}, cs)
		t := v.ix.Begin()
		t.FlipTogether()
		t.AddBatch(s.h, s.raw, s.changes)
		if err := t.Commit(); err != nil {
			tb.Fatal(err)
		}
	}
	if w := v.ix.Waiting(); w < 2*n {
		tb.Fatalf("%d wait", w)
	}
	return v
}

// What waits costs a bounded number of bytes each, which the package comment
// tells.
func TestAWaitingFileTakesLittleMemory(t *testing.T) {
	const n = 30_000
	if each := waitingBytes(t, n, 100) / n; each > 800 {
		t.Errorf("%d bytes for each file that waits", each)
	}
}
