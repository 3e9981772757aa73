package staging

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
)

func blocksOf(fi os.FileInfo) int64 { return fi.Sys().(*syscall.Stat_t).Blocks }

// Both sets against a plain array of bools.
func TestSetsHoldWhatWasAdded(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	const n = 3 * chunkBlocks
	for range 20 {
		var b blockSet
		var s spans
		want := make([]bool, n)
		for range 60 {
			x, y := int64(r.IntN(n)), int64(r.IntN(n))
			if r.IntN(2) == 0 {
				y = x + int64(r.IntN(200))
			}
			x, y = min(x, y), min(max(x, y), n)
			add := r.IntN(3) > 0
			for i := x; i < y; i++ {
				want[i] = add
			}
			if add {
				b.set(x, y)
				s = s.add(x, y)
			} else {
				b.clear(x, y)
				s = s.sub(x, y)
			}
			checkSets(t, &b, s, want)
		}
	}
}

func checkSets(t *testing.T, b *blockSet, s spans, want []bool) {
	t.Helper()
	count := int64(0)
	for i, w := range want {
		if w {
			count++
		}
		in, end := b.at(int64(i))
		in2, end2 := s.at(int64(i))
		if in != w || in2 != w || end <= int64(i) || end2 <= int64(i) {
			t.Fatalf("at %d: blocks %v to %d, spans %v to %d, want %v", i, in, end, in2, end2, w)
		}
		if e := min(int64(len(want)), end) - 1; want[e] != w {
			t.Fatalf("at %d: run to %d is too long", i, end)
		}
	}
	var runs spans
	b.runs(func(x, y int64) { runs = append(runs, span{x, y}) })
	if b.n != count || len(runs) != len(s) {
		t.Fatalf("%d blocks, want %d; runs %v, spans %v", b.n, count, runs, s)
	}
	for i := range s {
		if s[i] != runs[i] {
			t.Fatalf("runs %v, spans %v", runs, s)
		}
	}
}
