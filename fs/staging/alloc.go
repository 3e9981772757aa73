package staging

import (
	"context"
	"fmt"
	"io"
)

// count adds n blocks to what is allocated, if that is known.
func (f *File) count(blocks int64) {
	if f.alloc >= 0 {
		f.alloc += blocks * blockSize
	}
}

// allocated counts the blocks from a up to b that are not holes. When that needs the holes of the base
// and they are not known, the count of the whole file is given up until Alloc is asked.
func (f *File) allocated(a, b int64) (n int64) {
	if f.alloc < 0 {
		return 0
	}
	last := int64(-1) // last block counted
	for off, end := a*blockSize, min(b*blockSize, f.size); off < end; {
		who, stop := locate(f.layers, off, end)
		from, to := max(off/blockSize, last+1), ceilBlock(stop)
		switch {
		case who >= 0:
		case who == inZero || off >= f.src.Size:
			from = to
		case f.src.dense():
			to = min(to, ceilBlock(f.src.Size))
		case f.base == nil:
			f.alloc = -1
			return 0
		default:
			for x := from; x < to; {
				in, e := f.base.at(x)
				if e = min(e, to); in {
					n += e - x
					last = e - 1
				}
				x = e
			}
			from = to
		}
		if from < to {
			n += to - from
			last = to - 1
		}
		off = stop
	}
	return n
}

// Alloc is how many bytes of the file are not in holes.
func (f *File) Alloc(ctx context.Context) (int64, error) {
	for {
		n, src, epoch, set := f.counted()
		if n >= 0 {
			return n, nil
		}
		var err error
		if src.Size > 0 && src.Alloc < 0 {
			if src.Alloc, err = src.Base.Alloc(ctx); err != nil {
				return 0, fmt.Errorf("count data of base: %w", err)
			}
		}
		if !src.dense() && set == nil {
			if set, err = dataBlocks(ctx, src); err != nil {
				return 0, err
			}
		}
		f.recount(epoch, src, set)
	}
}

func (f *File) counted() (alloc int64, src Source, epoch uint64, base *blockSet) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.alloc, f.src, f.epoch, f.base
}

// recount counts what is allocated, now that the holes of the base are known.
func (f *File) recount(epoch uint64, src Source, base *blockSet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.epoch != epoch || f.alloc >= 0 {
		return
	}
	f.src, f.base = src, base
	f.alloc = 0
	f.alloc = f.allocated(0, ceilBlock(f.size)) * blockSize
}

// dataBlocks asks a source for the blocks that are not holes.
func dataBlocks(ctx context.Context, src Source) (*blockSet, error) {
	s := &blockSet{}
	for off := int64(0); off < src.Size; {
		a, err := src.Base.SeekData(ctx, off)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("find data of base: %w", err)
		}
		b, err := src.Base.SeekHole(ctx, a)
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("find hole of base: %w", err)
		}
		if err == io.EOF || b <= a {
			b = src.Size
		}
		s.set(a/blockSize, ceilBlock(b))
		off = b
	}
	return s, nil
}
