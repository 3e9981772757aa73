package staging

import (
	"math/bits"
	"slices"
	"sort"
)

const (
	blockSize = 4096
	wordBits  = 64
	// chunkBlocks is how many blocks one chunk of a blockSet covers: 16 MiB of file in 512 bytes.
	chunkBlocks = 64 * wordBits
)

// ceilBlock is the number of blocks that hold n bytes, which is also the first block after byte n-1.
func ceilBlock(n int64) int64 {
	if n > forever-blockSize {
		return forever / blockSize
	}
	return (n + blockSize - 1) / blockSize
}

type chunk struct {
	first int64 // block number of bit 0
	bits  [chunkBlocks / wordBits]uint64
}

// blockSet is a set of block numbers: bitmaps in sorted chunks, so that it is small for a sparse file
// and quick for a large one written at random.
type blockSet struct {
	chunks []*chunk
	n      int64 // blocks in the set
}

// find returns the index of the first chunk that ends after block b.
func (s *blockSet) find(b int64) int {
	return sort.Search(len(s.chunks), func(i int) bool { return s.chunks[i].first+chunkBlocks > b })
}

func (s *blockSet) has(b int64) bool {
	in, _ := s.at(b)
	return in
}

// at says whether b is in the set, and up to where that surely stays so.
func (s *blockSet) at(b int64) (in bool, end int64) {
	i := s.find(b)
	if i == len(s.chunks) {
		return false, forever / blockSize
	}
	c := s.chunks[i]
	if b < c.first {
		return false, c.first
	}
	k := b - c.first
	w, flip := c.bits[k/wordBits], uint64(0)
	if w>>(k%wordBits)&1 == 1 {
		in, flip = true, ^uint64(0)
	}
	// Runs are followed to the end of the chunk; callers join runs that touch.
	w = (w ^ flip) >> (k % wordBits) << (k % wordBits)
	for j := k / wordBits; ; {
		if w != 0 {
			return in, c.first + j*wordBits + int64(bits.TrailingZeros64(w))
		}
		if j++; j == int64(len(c.bits)) {
			return in, c.first + chunkBlocks
		}
		w = c.bits[j] ^ flip
	}
}

// set adds the blocks from a up to b.
func (s *blockSet) set(a, b int64) {
	for a < b {
		first := a / chunkBlocks * chunkBlocks
		i := s.find(a)
		if i == len(s.chunks) || s.chunks[i].first != first {
			s.chunks = slices.Insert(s.chunks, i, &chunk{first: first})
		}
		end := min(b, first+chunkBlocks)
		s.each(i, a, end, func(w *uint64, mask uint64) {
			s.n += int64(bits.OnesCount64(mask &^ *w))
			*w |= mask
		})
		a = end
	}
}

// clear removes the blocks from a up to b.
func (s *blockSet) clear(a, b int64) {
	i := s.find(a)
	j := i
	for ; j < len(s.chunks) && s.chunks[j].first < b; j++ {
		c := s.chunks[j]
		s.each(j, max(a, c.first), min(b, c.first+chunkBlocks), func(w *uint64, mask uint64) {
			s.n -= int64(bits.OnesCount64(mask & *w))
			*w &^= mask
		})
	}
	kept := i
	for k := i; k < j; k++ {
		if c := s.chunks[k]; c.bits != [chunkBlocks / wordBits]uint64{} {
			s.chunks[kept] = c
			kept++
		}
	}
	s.chunks = slices.Delete(s.chunks, kept, j)
}

// each calls fn for every word of chunk i that has bits between the blocks a and b.
func (s *blockSet) each(i int, a, b int64, fn func(w *uint64, mask uint64)) {
	c := s.chunks[i]
	for k := a - c.first; k < b-c.first; {
		j, lo := k/wordBits, k%wordBits
		n := min(wordBits-lo, b-c.first-k)
		mask := ^uint64(0)
		if n < wordBits {
			mask = (1<<n - 1) << lo
		}
		fn(&c.bits[j], mask)
		k += n
	}
}

// runs calls fn for every maximal run of blocks in the set, in order.
func (s *blockSet) runs(fn func(a, b int64)) {
	var start, end int64 = -1, -1
	for _, c := range s.chunks {
		for b := c.first; b < c.first+chunkBlocks; {
			in, e := s.at(b)
			if in && b == end {
				end = e
			} else if in {
				if start >= 0 {
					fn(start, end)
				}
				start, end = b, e
			}
			b = e
		}
	}
	if start >= 0 {
		fn(start, end)
	}
}
