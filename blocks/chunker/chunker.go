package chunker

import (
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// The sizes of chunks, in bytes. They are part of the format: peers that cut
// with other figures get other blocks from the same bytes.
const (
	Min = 32 << 10
	Avg = 128 << 10
	Max = 512 << 10
)

const (
	window   = 64 // bytes the hash depends on
	maskHard = (1<<19 - 1) << 44
	maskEasy = (1<<15 - 1) << 48
	context  = "clachan 2026 chunker gear table v1"
)

// Seed makes the cuts of one folder differ from those of another.
type Seed [32]byte

// Table is the gear table of a seed. It is immutable and may be shared.
type Table struct {
	one [256]uint64 // gear values
	two [256]uint64 // gear values shifted by one, for the first of two bytes
}

// New derives the table of seed.
func New(seed Seed) *Table {
	h := blake3.NewDeriveKey(context)
	_, _ = h.Write(seed[:])
	var raw [256 * 8]byte
	_, _ = h.Digest().Read(raw[:])
	t := new(Table)
	for i := range t.one {
		t.one[i] = binary.LittleEndian.Uint64(raw[i*8:])
		t.two[i] = t.one[i] << 1
	}
	return t
}

// Cut returns the length of the first chunk of p: where the first boundary is,
// or all of p if there is none.
func (t *Table) Cut(p []byte) int {
	c := Chunker{t: t}
	n, _ := c.Next(p)
	return n
}

// Chunker finds boundaries in bytes that come in pieces.
type Chunker struct {
	t *Table
	n int    // bytes since the last boundary
	h uint64 // rolling hash, begun window bytes before Min
}

// Chunker returns a chunker that stands at a boundary.
func (t *Table) Chunker() *Chunker { return &Chunker{t: t} }

// Reset forgets what has been seen since the last boundary.
func (c *Chunker) Reset() { c.n, c.h = 0, 0 }

// Next consumes p up to the next boundary. It returns how many bytes belong to
// the chunk and whether the boundary was reached; if not, all of p was
// consumed and the chunk goes on in the bytes that follow.
func (c *Chunker) Next(p []byte) (n int, found bool) {
	if skip := Min - window - c.n; skip > 0 {
		if skip >= len(p) {
			c.n += len(p)
			return len(p), false
		}
		n, c.n = skip, c.n+skip
	}
	for _, z := range [...]struct {
		end  int
		mask uint64
	}{{Min, 0}, {Avg, maskHard}, {Max, maskEasy}} {
		end := min(n+z.end-c.n, len(p))
		if end <= n {
			continue
		}
		m, hit := c.roll(p[n:end], z.mask, z.end > Min)
		n, c.n = n+m, c.n+m
		if hit {
			c.Reset()
			return n, true
		}
	}
	if c.n == Max {
		c.Reset()
		return n, true
	}
	return n, false
}

// roll moves the hash over p until its bits under mask are all zero, two bytes
// a step: the first is added shifted, so that one shift serves both and the
// hash after it is that of a single step, doubled.
func (c *Chunker) roll(p []byte, mask uint64, cut bool) (int, bool) {
	t, h := c.t, c.h
	if !cut {
		for _, b := range p {
			h = h<<1 + t.one[b]
		}
		c.h = h
		return len(p), false
	}
	mask2 := mask << 1
	i := 0
	for ; i+2 <= len(p); i += 2 {
		h = h<<2 + t.two[p[i]]
		if h&mask2 == 0 {
			return i + 1, true
		}
		h += t.one[p[i+1]]
		if h&mask == 0 {
			return i + 2, true
		}
	}
	if i < len(p) {
		h = h<<1 + t.one[p[i]]
		if h&mask == 0 {
			return i + 1, true
		}
	}
	c.h = h
	return len(p), false
}
