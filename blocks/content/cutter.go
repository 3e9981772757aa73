package content

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/chunker"
)

const (
	readAhead = 4 * Cell // of what will be needed anyway
	bufferMax = blocks.MaxBlock + 2*readAhead
)

var zeroCell [Cell]byte

// isZero reports whether p is all zero.
func isZero(p []byte) bool {
	for len(p) > Cell {
		if !bytes.Equal(p[:Cell], zeroCell[:]) {
			return false
		}
		p = p[Cell:]
	}
	return bytes.Equal(p, zeroCell[:len(p)])
}

func cellStart(off int64) int64 { return off &^ (Cell - 1) }
func cellEnd(off int64) int64   { return (off + Cell - 1) &^ (Cell - 1) }

// cutter cuts the bytes of a file into holes and chunks, from any boundary on.
// See the package comment for where the cuts are.
type cutter struct {
	src   io.ReaderAt
	size  int64
	fixed bool
	chunk *chunker.Chunker
	zeros func(ctx context.Context, off int64) (int64, error) // end of the zeros known at off
	eager int64                                               // up to here reading ahead is no waste

	pos  int64 // the boundary we stand at
	data int64 // the cells from pos up to here are known not to be holes
	skip int   // bytes of the chunk that was returned last
	buf  []byte

	pooled *[]byte // where buf is from
	lo     int     // buf[lo:] is what has been read from pos on, up to the end of a cell
	read   int64
}

// cutBuffers are those of cutters: many small files are cut one after the other.
var cutBuffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferMax); return &b }}

// release gives the buffer back; the cutter is not used again.
func (c *cutter) release() {
	if c.pooled != nil {
		cutBuffers.Put(c.pooled)
		c.pooled, c.buf = nil, nil
	}
}

// restart continues at the boundary pos. If pos is inside a cell, that cell is
// not a hole: cells that are end at boundaries of their own.
func (c *cutter) restart(pos int64) {
	c.pos, c.data, c.skip = pos, min(cellEnd(pos), c.size), 0
	c.buf, c.lo = c.buf[:0], 0
}

// next returns the next run: a hole of so many bytes, or a chunk, which is
// valid until the next call. It returns io.EOF at the end.
func (c *cutter) next(ctx context.Context) (hole int64, chunk []byte, err error) {
	c.drop(int64(c.skip))
	c.skip = 0
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	if c.pos == c.size {
		return 0, nil, io.EOF
	}
	if c.data <= c.pos {
		start := c.pos
		if err := c.skipHole(ctx); err != nil {
			return 0, nil, err
		}
		if c.pos > start {
			return c.pos - start, nil, nil
		}
		c.data = min(c.pos+Cell, c.size)
	}
	n, err := c.scan(ctx)
	if err != nil {
		return 0, nil, err
	}
	p := c.buf[c.lo : c.lo+n]
	if isZero(p) {
		c.drop(int64(n))
		return int64(n), nil, nil
	}
	c.skip = n
	return 0, p, nil
}

// scan returns the length of the chunk at pos. It ends where the chunker says,
// and before a hole.
func (c *cutter) scan(ctx context.Context) (int, error) {
	if !c.fixed {
		c.chunk.Reset()
	}
	for fed := 0; ; {
		if err := c.fill(ctx, c.data); err != nil {
			return 0, err
		}
		avail := int(c.data - c.pos)
		if c.fixed {
			return avail, nil
		}
		n, found := c.chunk.Next(c.buf[c.lo+fed : c.lo+avail])
		fed += n
		if found || c.data == c.size {
			return fed, nil
		}
		if end, err := c.holeCells(ctx, c.data); err != nil || end > c.data {
			return fed, err
		}
		c.data = min(c.data+Cell, c.size)
	}
}

// skipHole moves pos over all cells that are holes.
func (c *cutter) skipHole(ctx context.Context) error {
	for c.pos < c.size {
		end, err := c.holeCells(ctx, c.pos)
		if err != nil || end == c.pos {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c.drop(end - c.pos)
	}
	return nil
}

// holeCells returns the end of some cells from at on that are holes, or at if
// the first is not one.
func (c *cutter) holeCells(ctx context.Context, at int64) (int64, error) {
	end, err := c.zeros(ctx, at)
	if err != nil {
		return 0, err
	}
	if end >= c.size {
		return c.size, nil
	}
	if end = cellStart(end); end > at {
		return end, nil
	}
	end = min(at+Cell, c.size)
	if err := c.fill(ctx, end); err != nil {
		return 0, err
	}
	if isZero(c.buf[c.lo+int(at-c.pos) : c.lo+int(end-c.pos)]) {
		return end, nil
	}
	return at, nil
}

// drop moves pos by n.
func (c *cutter) drop(n int64) {
	c.pos += n
	if n < int64(len(c.buf)-c.lo) {
		c.lo += int(n)
	} else {
		c.buf, c.lo = c.buf[:0], 0
	}
}

// fill reads so that the buffer reaches to, which is the end of a cell.
func (c *cutter) fill(ctx context.Context, to int64) error {
	have := c.pos + int64(len(c.buf)-c.lo)
	if have >= to {
		return nil
	}
	to, err := c.further(ctx, have, to)
	if err != nil {
		return err
	}
	n := int(to - have)
	if cap(c.buf) == 0 {
		c.pooled = cutBuffers.Get().(*[]byte)
		c.buf = (*c.pooled)[:0]
	}
	if len(c.buf)+n > cap(c.buf) {
		c.buf = append(c.buf[:0], c.buf[c.lo:]...)
		c.lo = 0
	}
	p := c.buf[len(c.buf) : len(c.buf)+n]
	m, err := c.src.ReadAt(p, have)
	c.read += int64(m)
	if m < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	c.buf = c.buf[:len(c.buf)+n]
	return nil
}

// further returns how far to read when bytes from have up to to are needed.
func (c *cutter) further(ctx context.Context, have, to int64) (int64, error) {
	limit := min(cellStart(have)+readAhead, c.eager)
	for to < limit {
		zero, err := c.zeros(ctx, to)
		if err != nil {
			return 0, err
		}
		if zero > to {
			break
		}
		to = min(to+Cell, limit)
	}
	return min(max(to, cellEnd(to)), c.size), nil
}
