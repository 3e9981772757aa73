package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/clachanfs/clachan/blocks/chunker"
)

// Sparse is what a source may implement too, to say where its holes are:
// zeros that need not be read.
type Sparse interface {
	// Zeros returns the end of the zeros that are known to begin at off, or
	// off if none are.
	Zeros(off int64) int64
}

// WithHoles returns src with holes: it is all zero there.
func WithHoles(src io.ReaderAt, holes []Range) io.ReaderAt {
	return sparse{src, normal(holes, MaxSize)}
}

type sparse struct {
	io.ReaderAt
	holes spans
}

func (s sparse) Zeros(off int64) int64 {
	off = s.holes.endAt(off)
	if in, ok := s.ReaderAt.(Sparse); ok {
		return in.Zeros(off)
	}
	return off
}

// Write cuts the size bytes of src, stores the blocks, and returns what names
// them. Holes are ranges known to be zero, which are not read; the result is
// the same without them. A st that is a [Placer] is told where its blocks stand.
func Write(ctx context.Context, st Store, seed chunker.Seed, cut Cut, src io.ReaderAt, size int64, holes []Range) (Content, Stat, error) {
	if len(holes) > 0 {
		src = WithHoles(src, holes)
	}
	c, s, err := write(ctx, st, seed, cut, src, size)
	if err != nil {
		return Content{}, Stat{}, fmt.Errorf("write content: %w", err)
	}
	return c, s, nil
}

func write(ctx context.Context, st Store, seed chunker.Seed, cut Cut, src io.ReaderAt, size int64) (Content, Stat, error) {
	switch {
	case size < 0:
		return Content{}, Stat{}, errors.New("negative size")
	case size > MaxSize:
		return Content{}, Stat{}, ErrTooBig
	case cut != Chunked && cut != Fixed:
		return Content{}, Stat{}, errors.New("unknown cut")
	case size <= MaxSingle:
		p := make([]byte, size)
		if n, err := src.ReadAt(p, 0); n < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return Content{}, Stat{}, err
		}
		return single(ctx, st, cut, p)
	}
	c := newCutter(seed, cut, src, size)
	defer c.release()
	c.eager = size
	w := newWriter(ctx, st)
	w.placer, _ = st.(Placer)
	defer w.wait()
	c.restart(0)
	for {
		err := w.step(ctx, c)
		if err == io.EOF {
			break
		}
		if err != nil {
			return Content{}, Stat{}, err
		}
	}
	out, s, err := w.finish(size, cut)
	s.Read = c.read
	return out, s, err
}

func newCutter(seed chunker.Seed, cut Cut, src io.ReaderAt, size int64) *cutter {
	c := &cutter{src: src, size: size, fixed: cut == Fixed}
	if !c.fixed {
		c.chunk = chunker.New(seed).Chunker()
	}
	c.zeros = func(_ context.Context, off int64) (int64, error) { return zerosOf(src, off), nil }
	return c
}

// zerosOf asks src for its zeros at off.
func zerosOf(src io.ReaderAt, off int64) int64 {
	if s, ok := src.(Sparse); ok {
		return max(off, s.Zeros(off))
	}
	return off
}

// step appends the next run of c.
func (w *writer) step(ctx context.Context, c *cutter) error {
	hole, chunk, err := c.next(ctx)
	switch {
	case err != nil:
		return err
	case hole > 0:
		return w.hole(hole)
	}
	return w.data(chunk)
}

// spans are ranges in order that neither overlap nor touch.
type spans []Range

// normal makes spans of ranges, cut off at size.
func normal(ranges []Range, size int64) spans {
	in := make([]Range, 0, len(ranges))
	for _, r := range ranges {
		off := max(r.Off, 0)
		if end := min(r.End(), size); r.Len > 0 && (end > off || r.End() < r.Off) {
			if r.End() < r.Off { // overflow
				end = size
			}
			if end > off {
				in = append(in, Range{off, end - off})
			}
		}
	}
	slices.SortFunc(in, func(a, b Range) int {
		switch {
		case a.Off < b.Off:
			return -1
		case a.Off > b.Off:
			return 1
		}
		return 0
	})
	out := in[:0]
	for _, r := range in {
		if n := len(out); n > 0 && r.Off <= out[n-1].End() {
			out[n-1].Len = max(out[n-1].Len, r.End()-out[n-1].Off)
			continue
		}
		out = append(out, r)
	}
	return spans(out)
}

// after returns the index of the first range that ends after off.
func (s spans) after(off int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].End() > off })
}

// endAt returns the end of the range that off is in, or off.
func (s spans) endAt(off int64) int64 {
	if i := s.after(off); i < len(s) && s[i].Off <= off {
		return s[i].End()
	}
	return off
}

// gapAt returns the end of the gap that off is in, at most limit, or off if it
// is in a range.
func (s spans) gapAt(off, limit int64) int64 {
	i := s.after(off)
	if i == len(s) {
		return max(off, limit)
	}
	return max(off, min(s[i].Off, limit))
}

// cells grows the ranges to whole cells.
func (s spans) cells() spans {
	out := make([]Range, len(s))
	for i, r := range s {
		out[i].Off = cellStart(r.Off)
		out[i].Len = cellEnd(r.End()) - out[i].Off
	}
	return normal(out, MaxSize+Cell)
}
