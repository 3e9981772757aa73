package peers

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/trust"
)

func pair(b *testing.B) (r *Remote, there, here *memFolder) {
	b.Helper()
	x, y := newDevice(b, "ana"), newDevice(b, "ben")
	g, fx := x.create("shared")
	_, fy := y.join(x.invite(g.ID, trust.Writer, 1))
	y.awaitOnline(g.ID, 1)
	return y.node.Remote(g.ID), fx, fy
}

// BenchmarkFetch is many blocks at once, as a pull of large files asks for.
func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{4 << 10, 128 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			r, there, _ := pair(b)
			rnd := rand.New(rand.NewPCG(1, 1))
			ids := make([]blocks.ID, 256)
			for i := range ids {
				ids[i] = there.put(randomBlock(rnd, size))
			}
			b.SetBytes(int64(size))
			b.ResetTimer()
			var wg sync.WaitGroup
			sem := make(chan struct{}, 32)
			for i := range b.N {
				sem <- struct{}{}
				wg.Go(func() {
					if err := r.fetch(b.Context(), r.at, ids[i%len(ids)], int64(size), Normal); err != nil {
						b.Error(err)
					}
					<-sem
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkWaiting is one block after the other, as a reader that waits asks.
func BenchmarkWaiting(b *testing.B) {
	r, there, _ := pair(b)
	id := there.put(randomBlock(rand.New(rand.NewPCG(1, 1)), 128<<10))
	b.SetBytes(128 << 10)
	for b.Loop() {
		if err := r.fetch(b.Context(), r.at, id, 128<<10, Waiting); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChange is the time a small change takes to a connected member.
func BenchmarkChange(b *testing.B) {
	_, there, here := pair(b)
	for b.Loop() {
		there.write(b, "x")
		here.awaitK(b, there.Knowledge())
	}
}
