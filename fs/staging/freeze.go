package staging

import (
	"cmp"
	"context"
	"io"
	"math"
	"slices"
)

// frozenMax is how many frozen layers a file may have before Freeze gives out the last one again.
// More than one means that cuts failed; they will succeed or fail alike on what is frozen already.
const frozenMax = 8

// Layer is a view of a whole file as it was at a Freeze. Its reads use the context of the Freeze.
type Layer struct {
	f      *File
	ctx    context.Context
	layers []*layer
	src    Source
	last   *layer
}

// Freeze closes what was written so far to further writes, and returns a view of it, or nil if nothing is staged.
func (f *File) Freeze(ctx context.Context) *Layer { return FreezeAll(ctx, f)[0] }

// FreezeAll freezes files at one instant: no write to any of them falls between. A File may be nil.
func FreezeAll(ctx context.Context, files ...*File) []*Layer {
	order := slices.Clone(files)
	slices.SortFunc(order, func(a, b *File) int { return cmp.Compare(a.inode(), b.inode()) })
	for _, f := range slices.Compact(order) {
		if f != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
		}
	}
	out := make([]*Layer, len(files))
	for i, f := range files {
		if f != nil {
			out[i] = f.freeze(ctx)
		}
	}
	return out
}

func (f *File) inode() uint64 {
	if f == nil {
		return 0
	}
	return f.ino
}

// freeze is Freeze with f.mu held.
func (f *File) freeze(ctx context.Context) *Layer {
	n := len(f.layers)
	if n == 0 {
		return nil
	}
	if t := f.top(); t != nil {
		if n > frozenMax && !f.layers[n-1-frozenMax].part {
			n--
		} else {
			t.frozen, t.size, t.mtime, t.ctime = true, f.size, f.mtime, f.ctime
			f.seq++
		}
	}
	return &Layer{f: f, ctx: ctx, layers: append([]*layer(nil), f.layers[:n]...), src: f.src, last: f.layers[n-1]}
}

// Gen is the generation: what Rebase wants to know.
func (v *Layer) Gen() uint64 { return v.last.gen }

// Size is the size of the file when it was frozen.
func (v *Layer) Size() int64 { return v.last.size }

// Mtime is the mtime of the file when it was frozen.
func (v *Layer) Mtime() int64 { return v.last.mtime }

// Ctime is its ctime then.
func (v *Layer) Ctime() int64 { return v.last.ctime }

// ReadAt reads the file as frozen.
func (v *Layer) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= v.last.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), v.last.size-off))
	gaps, err := v.local(p[:n], off)
	if err != nil {
		return 0, err
	}
	if err := fill(v.ctx, v.src.Base, gaps); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// local fills p with what is in the view's layers at off, and returns what the base must add.
func (v *Layer) local(p []byte, off int64) ([]gap, error) {
	v.f.mu.RLock()
	defer v.f.mu.RUnlock()
	if !v.alive() {
		return nil, ErrDropped
	}
	return v.f.local(v.layers, p, off)
}

// alive says whether the layers of the view are still those of the file; f.mu is held.
func (v *Layer) alive() bool {
	return len(v.f.layers) >= len(v.layers) && v.f.layers[0] == v.layers[0]
}

// Dirty lists the ranges in which the file may differ from its base, in order, within the size of the file.
// What the file has grown by is among them.
func (v *Layer) Dirty() []Range {
	v.f.mu.RLock()
	defer v.f.mu.RUnlock()
	var s spans
	for _, l := range v.layers {
		l.data.runs(func(a, b int64) { s = s.add(a*blockSize, b*blockSize) })
		for _, z := range l.zero {
			s = s.add(z.a, z.b)
		}
	}
	s = s.add(v.src.Size, v.last.size)
	return s.ranges(v.last.size)
}

// Holes lists the ranges of the file that are zero and were never written, in order.
func (v *Layer) Holes() []Range {
	v.f.mu.RLock()
	defer v.f.mu.RUnlock()
	var s spans
	for off := int64(0); off < v.last.size; {
		who, end := locate(v.layers, off, v.last.size)
		if who == inZero {
			s = s.add(off, end)
		} else if who == inBase && end > v.src.Size {
			s = s.add(max(off, v.src.Size), end)
		}
		off = end
	}
	return s.ranges(v.last.size)
}

// Rebase drops the layers up to gen: src is the content that was cut from them.
func (f *File) Rebase(gen uint64, src Source) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.layers) && f.layers[n].frozen && f.layers[n].gen <= gen {
		n++
	}
	if n == 0 {
		return nil
	}
	dropped := f.layers[:n]
	f.layers = append([]*layer(nil), f.layers[n:]...)
	f.staged.Store(len(f.layers) > 0)
	f.src, f.base = src, nil
	f.epoch++
	f.seq++
	if len(f.layers) == 0 {
		f.size, f.alloc = src.Size, allocOf(src)
	} else {
		f.alloc = -1
	}
	return f.drop(dropped)
}

// Reset gives a file that has nothing staged another base, and says whether it could.
func (f *File) Reset(src Source) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.layers) > 0 {
		return false
	}
	f.src, f.base, f.size, f.alloc, f.mtime, f.ctime = src, nil, src.Size, allocOf(src), src.Mtime, src.Ctime
	f.epoch++
	f.seq++
	return true
}

// Discard drops everything staged: the inode is gone. The files that it returns are deleted by the caller, once it is
// durable that the inode is gone.
func (f *File) Discard() (files []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dropped := f.layers
	f.layers, f.size, f.alloc, f.base = nil, f.src.Size, allocOf(f.src), nil
	f.staged.Store(false)
	f.seq++
	for _, l := range dropped {
		if l.mem != nil {
			l.memDrop(f.dir, 0, math.MaxInt64)
			continue
		}
		f.dir.forget(l)
		files = append(files, l.name)
	}
	return files
}
