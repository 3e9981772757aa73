package chunker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func randomBytes(tb testing.TB, seed uint64, n int) []byte {
	tb.Helper()
	p := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(p)
	return p
}

// plain is the definition the two-byte loop must agree with: one byte a step.
func plain(t *Table, p []byte) int {
	var h uint64
	for i, b := range p {
		if i == Max {
			return Max
		}
		if i < Min-window {
			continue
		}
		h = h<<1 + t.one[b]
		n := i + 1
		switch {
		case n <= Min:
		case n <= Avg && h&maskHard == 0, n > Avg && h&maskEasy == 0:
			return n
		}
	}
	return len(p)
}

func cuts(t *Table, p []byte) []int {
	var at []int
	for off := 0; off < len(p); {
		off += t.Cut(p[off:])
		at = append(at, off)
	}
	return at
}

func TestCutAgreesWithItsDefinition(t *testing.T) {
	for seed := range uint64(4) {
		tab := New(Seed{byte(seed)})
		p := randomBytes(t, seed, 4<<20)
		for off := 0; off < len(p); {
			n := tab.Cut(p[off:])
			if want := plain(tab, p[off:]); n != want {
				t.Fatalf("seed %d at %d: cut %d, want %d", seed, off, n, want)
			}
			off += n
		}
	}
}

func TestPiecesCutLikeTheWhole(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 1))
	tab := New(Seed{3})
	p := randomBytes(t, seed, 3<<20)
	var got []int
	c := tab.Chunker()
	for off := 0; off < len(p); {
		piece := p[off:min(len(p), off+1+r.IntN(100_000))]
		n, found := c.Next(piece)
		if !found && n != len(piece) {
			t.Fatalf("seed %d: no boundary, yet %d of %d consumed", seed, n, len(piece))
		}
		off += n
		if found || off == len(p) {
			got = append(got, off)
		}
	}
	if want := cuts(tab, p); !slices.Equal(got, want) {
		t.Fatalf("seed %d: cuts %v, want %v", seed, got, want)
	}
}

func TestSizesKeepTheirBounds(t *testing.T) {
	tab := New(Seed{9})
	for _, tt := range []struct {
		name string
		p    []byte
	}{
		{"random", randomBytes(t, 1, 32<<20)},
		{"zeros", make([]byte, 2<<20)},
		{"text", bytes.Repeat([]byte("the same line again and again\n"), 50_000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := cuts(tab, tt.p)
			last := 0
			for i, a := range at {
				if n := a - last; n > Max || (n < Min && i < len(at)-1) {
					t.Fatalf("chunk of %d bytes", n)
				}
				last = a
			}
			if tt.name == "random" {
				if mean := len(tt.p) / len(at); mean < Avg*3/4 || mean > Avg*5/4 {
					t.Errorf("mean chunk %d, want about %d", mean, Avg)
				}
			}
		})
	}
}

func TestInsertMovesFewCuts(t *testing.T) {
	tab := New(Seed{5})
	p := randomBytes(t, 11, 16<<20)
	for _, off := range []int{0, 5_000_000} {
		q := slices.Concat(p[:off], []byte{42}, p[off:])
		old := map[int]bool{}
		for _, a := range cuts(tab, p) {
			old[a] = true
		}
		fresh := 0
		for _, a := range cuts(tab, q) {
			if !old[a] && !old[a-1] {
				fresh++
			}
		}
		if fresh > 8 {
			t.Errorf("an insert at %d made %d new cuts", off, fresh)
		}
	}
}

func TestSeedsCutDifferently(t *testing.T) {
	p := randomBytes(t, 2, 8<<20)
	a, b := cuts(New(Seed{1}), p), cuts(New(Seed{2}), p)
	same := 0
	for _, x := range a {
		if slices.Contains(b, x) {
			same++
		}
	}
	if same > 3 { // the end is common
		t.Errorf("%d of %d cuts are the same under two seeds", same, len(a))
	}
}

// The cuts are part of the format: a change here changes every root.
func TestCutsStayWhatTheyWere(t *testing.T) {
	p := randomBytes(t, 0, 1<<20)
	got := fmt.Sprint(cuts(New(Seed{}), p))
	const want = "[151348 198099 338962 503313 636606 802333 1025462 1048576]"
	if got != want {
		t.Errorf("cuts %s, want %s", got, want)
	}
}

func BenchmarkCut(b *testing.B) {
	tab := New(Seed{1})
	p := randomBytes(b, 1, 16<<20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		cuts(tab, p)
	}
}
