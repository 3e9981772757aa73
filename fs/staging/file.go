package staging

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
)

// Base is committed content.
type Base interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	SeekData(ctx context.Context, off int64) (int64, error)
	SeekHole(ctx context.Context, off int64) (int64, error)
	Alloc(ctx context.Context) (int64, error) // bytes that are not in holes
}

// Source is the base of a File with what is known of it.
type Source struct {
	Base         Base // may be nil when Size is 0
	Size         int64
	Alloc        int64 // bytes that are not in holes; negative: ask Base
	Mtime, Ctime int64
}

// dense says that the source has no holes worth asking for.
func (s Source) dense() bool { return s.Alloc >= s.Size }

// File is the bytes of one inode: what was written here, over the committed content.
type File struct {
	dir *Dir
	ino uint64

	save   sync.Mutex  // one Persist at a time
	staged atomic.Bool // there are layers; written with mu held

	mu     sync.RWMutex // guards the rest
	src    Source
	epoch  uint64   // moves with src
	layers []*layer // the last is written to unless it is frozen
	size   int64
	mtime  int64
	ctime  int64
	seq    uint64    // moves with every change
	alloc  int64     // bytes not in holes, or -1: not known
	base   *blockSet // blocks of src that are data, when it has holes and they were needed
}

// New returns the file of an inode that has nothing staged.
func (d *Dir) New(ino uint64, src Source) *File {
	return &File{dir: d, ino: ino, src: src, size: src.Size, mtime: src.Mtime, ctime: src.Ctime, alloc: allocOf(src)}
}

func allocOf(src Source) int64 {
	if src.Size > 0 && src.Alloc < 0 {
		return -1
	}
	return ceilBlock(min(src.Alloc, src.Size)) * blockSize
}

// Info is what stat needs of a file.
type Info struct {
	Size, Mtime, Ctime int64
	Gen                uint64 // generation open for writing, 0 if none is
	Seq                uint64 // moves with every change
	Dirty              bool
}

// Info returns size and times as they are now.
func (f *File) Info() Info {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.info()
}

func (f *File) info() Info {
	i := Info{Size: f.size, Mtime: f.mtime, Ctime: f.ctime, Seq: f.seq, Dirty: len(f.layers) > 0}
	if t := f.top(); t != nil {
		i.Gen = t.gen
	}
	return i
}

// Dirty says whether anything is staged. It takes no lock: those who ask may
// hold some that a slow write must not.
func (f *File) Dirty() bool { return f.staged.Load() }

// Gen is the generation open for writing, 0 if none is.
func (f *File) Gen() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if t := f.top(); t != nil {
		return t.gen
	}
	return 0
}

// top is the layer open for writing, or nil.
func (f *File) top() *layer {
	if n := len(f.layers); n > 0 && !f.layers[n-1].frozen {
		return f.layers[n-1]
	}
	return nil
}

// Begin makes sure that a layer is open for writing, and returns the state of the file. It is fresh when the
// layer was opened by this call: the caller persists the state before it writes, so that the layer is found
// again after a crash.
func (f *File) Begin() (st State, fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.top() == nil {
		f.layers = append(f.layers, &layer{gen: f.dir.nextGen(0), mem: map[int64][]byte{}})
		f.staged.Store(true)
		f.seq++
		fresh = true
	}
	return f.state(), fresh
}

// Cancel takes back a Begin that opened generation gen, if nothing was written since.
func (f *File) Cancel(gen uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.top()
	if t == nil || t.gen != gen || t.data.n > 0 || len(t.zero) > 0 || t.mem == nil {
		return
	}
	n := len(f.layers) - 1
	if n == 0 && f.size != f.src.Size || n > 0 && f.size != f.layers[n-1].size {
		return
	}
	f.layers = f.layers[:n]
	f.staged.Store(n > 0)
	f.seq++
}

// SetTimes sets the times that the next version will carry; nil leaves one alone.
func (f *File) SetTimes(mtime, ctime *int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if mtime != nil {
		f.mtime = *mtime
	}
	if ctime != nil {
		f.ctime = *ctime
	}
	f.seq++
}

// gap is a part of a buffer that the base has to fill.
type gap struct {
	p   []byte
	off int64
}

// local fills p with what is in layers at off, and returns what the base must add.
func (f *File) local(layers []*layer, p []byte, off int64) (gaps []gap, err error) {
	for len(p) > 0 {
		who, end := locate(layers, off, off+int64(len(p)))
		n := end - off
		switch {
		case who >= 0:
			if err := layers[who].readAt(f.dir, p[:n], off); err != nil {
				return nil, err
			}
		case who == inZero || off >= f.src.Size:
			clear(p[:n])
		default:
			gaps = append(gaps, gap{p[:n], off})
		}
		p, off = p[n:], end
	}
	return gaps, nil
}

// fill reads the gaps from the base. No lock is held: base bytes never change.
func fill(ctx context.Context, base Base, gaps []gap) error {
	for _, g := range gaps {
		n := 0
		for n < len(g.p) {
			k, err := base.ReadAt(ctx, g.p[n:], g.off+int64(n))
			n += k
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if k == 0 {
				return fmt.Errorf("read base at %d: %w", g.off+int64(n), io.ErrNoProgress)
			}
		}
		clear(g.p[n:])
	}
	return nil
}

// ReadAt reads what the file holds now. It returns io.EOF like io.ReaderAt.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, gaps, base, err := f.plan(p, off)
	if err != nil {
		return 0, err
	}
	if err := fill(ctx, base, gaps); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// plan fills p with what is staged at off, and returns what the base must add.
func (f *File) plan(p []byte, off int64) (n int, gaps []gap, base Base, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off < 0 || off >= f.size {
		return 0, nil, nil, io.EOF
	}
	n = int(min(int64(len(p)), f.size-off))
	gaps, err = f.local(f.layers, p[:n], off)
	return n, gaps, f.src.Base, err
}

// prepare makes the bytes for a write of p at off: p with the rest of its first and last block, where they
// are not in layer t yet. It returns the parts to write in order, and what the base must add to them first.
func (f *File) prepare(t *layer, p []byte, off int64) (parts []gap, gaps []gap, err error) {
	end := off + int64(len(p))
	size := max(f.size, end)
	edge := func(b int64) error {
		buf := make([]byte, min(blockSize, size-b*blockSize))
		g, err := f.local(f.layers, buf, b*blockSize)
		gaps = append(gaps, g...)
		parts = append(parts, gap{buf, b * blockSize})
		return err
	}
	rest := p
	if first := off / blockSize; off%blockSize != 0 && !t.data.has(first) {
		if err := edge(first); err != nil {
			return nil, nil, err
		}
		rest = p[min(int64(len(p)), (first+1)*blockSize-off):]
	}
	var tail *int64
	if last := end / blockSize; len(rest) > 0 && end%blockSize != 0 && end < f.size && !t.data.has(last) {
		tail = &last
		rest = rest[:max(0, int64(len(rest))-end%blockSize)]
	}
	if len(rest) > 0 {
		at := off
		if len(parts) > 0 {
			at = (off/blockSize + 1) * blockSize
		}
		parts = append(parts, gap{rest, at})
	}
	if tail != nil {
		if err := edge(*tail); err != nil {
			return nil, nil, err
		}
	}
	return parts, gaps, nil
}

// Write writes p at off into generation gen, as far as the largest size allows; now becomes mtime and ctime. After an
// error the file is as it was before, except that a part of p at its start may have been written: n says how much.
func (f *File) Write(ctx context.Context, gen uint64, p []byte, off, now int64) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if off < 0 || off >= MaxSize {
		return 0, ErrTooBig
	}
	p = p[:min(int64(len(p)), MaxSize-off)]
	var parts []gap
	err = f.change(ctx, gen, func(t *layer) (gaps []gap, err error) {
		if err := f.grow(t, int64(len(p))); err != nil {
			return nil, err
		}
		parts, gaps, err = f.prepare(t, p, off)
		return gaps, err
	}, func(t *layer) error {
		n, err = f.put(t, p, parts, off)
		if n > 0 {
			f.mtime, f.ctime = now, now
		}
		return err
	})
	return n, err
}

// put writes the prepared parts of p at off.
func (f *File) put(t *layer, p []byte, parts []gap, off int64) (n int, err error) {
	end := off + int64(len(p))
	for _, part := range parts {
		a, b := part.off, part.off+int64(len(part.p))
		// Where a part is an edge block, p goes over what was copied up.
		if lo, hi := max(a, off), min(b, end); lo < hi && &part.p[lo-a] != &p[lo-off] {
			copy(part.p[lo-a:hi-a], p[lo-off:hi-off])
		}
		was := f.allocated(a/blockSize, ceilBlock(b))
		if err := t.write(f.dir, part.p, a); err != nil {
			if t.mem == nil {
				err = joinResize(err, t.resize(f.dir, f.size))
			}
			return n, err
		}
		n = int(min(b, end) - off)
		f.size = max(f.size, off+int64(n))
		f.count(f.allocated(a/blockSize, ceilBlock(b)) - was)
	}
	return n, nil
}

func joinResize(err, err2 error) error {
	if err2 != nil {
		return fmt.Errorf("%w (and %w)", err, err2)
	}
	return err
}

// change runs a change of generation gen: plan under the lock, the base bytes it asks for without, then apply
// under the lock if nothing moved meanwhile.
func (f *File) change(ctx context.Context, gen uint64, plan func(*layer) ([]gap, error), apply func(*layer) error) error {
	for {
		gaps, seq, base, err := f.try(gen, plan, apply)
		if err != nil || len(gaps) == 0 {
			return err
		}
		if err := fill(ctx, base, gaps); err != nil {
			return err
		}
		if done, err := f.apply(seq, gen, apply); done {
			return err
		}
	}
}

// try plans a change, and applies it if nothing of the base is needed.
func (f *File) try(gen uint64, plan func(*layer) ([]gap, error), apply func(*layer) error) (gaps []gap, seq uint64, base Base, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.top()
	if t == nil || t.gen != gen {
		return nil, 0, nil, ErrFrozen
	}
	if gaps, err = plan(t); err == nil && len(gaps) == 0 {
		err = f.run(t, apply)
	}
	return gaps, f.seq, f.src.Base, err
}

// apply applies a change that was planned when the file was at seq, unless it has moved.
func (f *File) apply(seq, gen uint64, apply func(*layer) error) (done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seq != seq {
		return false, nil
	}
	return true, f.run(f.top(), apply)
}

// run applies a change; f.mu is held. Of one that panics it is not known how far it came: what it wrote is counted
// anew when somebody asks.
func (f *File) run(t *layer, apply func(*layer) error) error {
	alloc, whole := f.alloc, false
	defer func() {
		if !whole && alloc >= 0 {
			f.alloc = -1
		}
	}()
	f.seq++
	err := apply(t)
	whole = true
	return err
}

// grow makes room for n more bytes in t: it stays in memory or moves to its file.
func (f *File) grow(t *layer, n int64) error {
	if err := f.dir.grant(n); err != nil {
		return err
	}
	if t.mem == nil {
		return nil
	}
	// The edges of a write may be copied up: count them too.
	n = ceilBlock(n+2*blockSize) * blockSize
	if t.held+n <= smallMax+3*blockSize && f.dir.used.Load()+n <= f.dir.memory {
		return nil
	}
	return t.spill(f.dir, f.ino, f.size, f.ctime)
}

// Truncate sets the size.
func (f *File) Truncate(ctx context.Context, gen uint64, size, now int64) error {
	if size < 0 || size > MaxSize {
		return ErrTooBig
	}
	return f.change(ctx, gen, func(*layer) ([]gap, error) { return nil, nil }, func(t *layer) error {
		was, lo := int64(0), size/blockSize
		if size < f.size {
			was = f.allocated(lo, ceilBlock(f.size))
		}
		if err := t.resize(f.dir, size); err != nil {
			return err
		}
		shrunk := size < f.size
		if shrunk {
			t.zero = t.zero.add(size, forever)
		}
		f.size, f.mtime, f.ctime = size, now, now
		if shrunk {
			f.count(f.allocated(lo, ceilBlock(size)) - was)
		}
		return nil
	})
}

// zerosMax is how many zero ranges a layer keeps before short ones are written as zeros instead.
const (
	zerosMax  = 4096
	zerosLong = 1 << 20
)

// crowded says that a layer has so many zero ranges that n bytes more are written as zeros.
func (t *layer) crowded(n int64) bool { return t != nil && len(t.zero) >= zerosMax && n < zerosLong }

// Covers says whether bytes staged last lie over others, from off up to end: once they are dropped, a crash must not
// bring those back.
func (f *File) Covers(off, end int64) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	t := f.top()
	if t == nil || len(f.layers) == 1 && off >= f.src.Size {
		return false
	}
	in, e := t.data.at(off / blockSize)
	return in || e < ceilBlock(min(end, f.size))
}

// Hide makes what lies below the staged bytes read zero, in n bytes at off within the file. It comes before Zero, which
// drops staged bytes: once they are gone, what was below them must be known to be zero, also after a crash. So the state
// is kept in between.
func (f *File) Hide(ctx context.Context, gen uint64, off, n, now int64) error {
	if off < 0 || n <= 0 || off > MaxSize-n {
		return ErrTooBig
	}
	return f.change(ctx, gen, func(*layer) ([]gap, error) { return nil, nil }, func(t *layer) error {
		b := min(off+n, f.size)
		if off >= b || t.crowded(n) {
			return nil
		}
		lo, hi := off/blockSize, ceilBlock(b)
		was := f.allocated(lo, hi)
		t.zero = t.zero.add(off, b)
		f.count(f.allocated(lo, hi) - was)
		f.mtime, f.ctime = now, now
		return nil
	})
}

// Zero makes n bytes at off read zero, as a hole. With keep the size stays, else the file grows to hold them.
func (f *File) Zero(ctx context.Context, gen uint64, off, n int64, keep bool, now int64) error {
	if off < 0 || n <= 0 || off > MaxSize-n {
		return ErrTooBig
	}
	f.mu.RLock()
	many := f.top().crowded(n)
	end := off + n
	if keep {
		end = min(end, f.size)
	}
	f.mu.RUnlock()
	if many {
		if off >= end {
			return nil
		}
		_, err := f.Write(ctx, gen, make([]byte, end-off), off, now)
		return err
	}
	return f.change(ctx, gen, func(*layer) ([]gap, error) { return nil, nil }, func(t *layer) error {
		b := off + n
		if keep {
			b = min(b, f.size)
		}
		if b > f.size {
			if err := t.resize(f.dir, b); err != nil {
				return err
			}
			f.size = b
		}
		f.mtime, f.ctime = now, now
		if off >= b {
			return nil
		}
		lo, hi := off/blockSize, ceilBlock(b)
		was := f.allocated(lo, hi)
		if err := t.zeroData(f.dir, off, b); err != nil {
			return err
		}
		if b == f.size {
			b = hi * blockSize // if the file grows, its last block does not come back as data
		}
		t.zero = t.zero.add(off, b)
		f.count(f.allocated(lo, hi) - was)
		return nil
	})
}

// Allocate makes sure that there is room for n bytes at off, and grows the file to hold them unless keep.
// Nothing is set aside: what a block will cost is known when it is written. What lies beyond the end must fit now.
// The times move in any case.
func (f *File) Allocate(ctx context.Context, gen uint64, off, n int64, keep bool, now int64) error {
	if off < 0 || n <= 0 || off > MaxSize-n {
		return ErrTooBig
	}
	if err := f.dir.grant(max(0, off+n-max(off, f.Info().Size))); err != nil {
		return err
	}
	return f.change(ctx, gen, func(*layer) ([]gap, error) { return nil, nil }, func(t *layer) error {
		if !keep && off+n > f.size {
			if err := t.resize(f.dir, off+n); err != nil {
				return err
			}
			f.size = off + n
		}
		f.mtime, f.ctime = now, now
		return nil
	})
}

// drop forgets layers and deletes their files; f.mu is held.
func (f *File) drop(layers []*layer) error {
	var err error
	for _, l := range layers {
		if l.mem != nil {
			l.memDrop(f.dir, 0, math.MaxInt64)
			continue
		}
		if e := f.dir.drop(l); e != nil && err == nil {
			err = e
		}
	}
	return err
}
