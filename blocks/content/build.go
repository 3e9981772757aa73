package content

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/blocks"
)

// builder makes list blocks of refs that come in order.
type builder struct {
	ctx    context.Context // of the call that builds
	st     Putter
	levels [MaxDepth + 1][]ref // refs of the list that is open at each level
	top    int                 // the highest level that has had a ref
	puts   int
	buf    []byte
}

// aligned reports whether a list begins here at every level below k, so that a
// whole list of the level above can be added.
func (b *builder) aligned(k uint8) bool {
	for _, refs := range b.levels[:k] {
		if len(refs) > 0 {
			return false
		}
	}
	return true
}

// add appends r at level k: 0 for data and holes.
func (b *builder) add(k uint8, r ref) error {
	refs := b.levels[k]
	if n := len(refs); n > 0 && k == 0 && r.hole() && refs[n-1].hole() {
		refs[n-1].size += r.size
		return nil
	}
	refs = append(refs, r)
	b.levels[k] = refs
	b.top = max(b.top, int(k))
	if cutAfter(len(refs), r) {
		return b.close(k)
	}
	return nil
}

// close ends the open list at level k and adds it to the level above.
func (b *builder) close(k uint8) error {
	if k == MaxDepth {
		return ErrTooBig
	}
	var r ref
	for _, x := range b.levels[k] {
		r.size += x.size
		r.alloc += x.alloc
	}
	b.buf = appendList(b.buf[:0], k+1, b.levels[k])
	id, err := b.st.Put(b.ctx, b.buf)
	if err != nil {
		return err
	}
	b.puts++
	b.levels[k] = b.levels[k][:0]
	r.id = id
	return b.add(k+1, r)
}

// finish closes all lists and returns the root and its level.
func (b *builder) finish() (ref, uint8, error) {
	for k := 0; k <= MaxDepth; k++ {
		refs := b.levels[k]
		if k == b.top && len(refs) == 1 {
			return refs[0], uint8(k), nil
		}
		if len(refs) > 0 {
			if err := b.close(uint8(k)); err != nil {
				return ref{}, 0, err
			}
		}
	}
	return ref{}, 0, ErrTooBig
}

// workers is how many blocks are hashed and stored at once.
const workers = 4

// writer puts data blocks, a few at once, and gives their refs to the builder
// in order.
type writer struct {
	build  builder
	group  *errgroup.Group
	ctx    context.Context // ends when a put fails
	queue  []*leaf
	puts   int
	placer Placer // nil: it does not matter where blocks stand
	off    int64  // of the next block, if there is a placer
}

// leaf is a ref whose block is being put.
type leaf struct {
	ref  ref
	err  error
	done chan struct{} // nil for a hole
}

func newWriter(ctx context.Context, st Putter) *writer {
	w := &writer{build: builder{ctx: ctx, st: st}}
	w.group, w.ctx = errgroup.WithContext(ctx)
	w.group.SetLimit(workers)
	return w
}

// data appends a block. P is copied.
func (w *writer) data(p []byte) error {
	buf := buffers.Get().(*[]byte)
	l := &leaf{ref: ref{size: int64(len(p)), alloc: int64(len(p))}, done: make(chan struct{})}
	b := append((*buf)[:0], p...)
	off := w.off
	w.off += int64(len(p))
	w.group.Go(func() error {
		defer close(l.done)
		defer buffers.Put(buf)
		l.ref.id, l.err = w.put(b, off)
		return l.err
	})
	w.puts++
	w.queue = append(w.queue, l)
	return w.settle(2 * workers)
}

func (w *writer) put(p []byte, off int64) (blocks.ID, error) {
	if w.placer != nil {
		return w.placer.PutAt(w.ctx, p, off)
	}
	return w.build.st.Put(w.ctx, p)
}

// hole appends a hole.
func (w *writer) hole(n int64) error {
	w.off += n
	w.queue = append(w.queue, &leaf{ref: ref{size: n}})
	return w.settle(2 * workers)
}

// settle hands refs to the builder until at most n are outstanding.
func (w *writer) settle(n int) error {
	for len(w.queue) > n {
		l := w.queue[0]
		w.queue = w.queue[1:]
		if l.done != nil {
			<-l.done
		}
		if l.err != nil {
			return l.err
		}
		if err := w.build.add(0, l.ref); err != nil {
			return err
		}
	}
	return nil
}

// finish returns the content of what has been appended.
func (w *writer) finish(size int64, cut Cut) (Content, Stat, error) {
	if err := w.settle(0); err != nil {
		return Content{}, Stat{}, err
	}
	r, depth, err := w.build.finish()
	if err != nil {
		return Content{}, Stat{}, err
	}
	if r.size != size {
		return Content{}, Stat{}, fmt.Errorf("cut %d bytes of %d", r.size, size)
	}
	c := Content{Size: size, Cut: cut, Root: r.id, Depth: depth}
	return c, Stat{Alloc: r.alloc, NewBlocks: w.puts + w.build.puts}, nil
}

// wait ends the puts that are under way.
func (w *writer) wait() { _ = w.group.Wait() } // their errors are those of the leaves

// single stores a file that is not cut.
func single(ctx context.Context, st Putter, cut Cut, p []byte) (_ Content, _ Stat, err error) {
	c := Content{Size: int64(len(p)), Cut: cut}
	s := Stat{Alloc: c.Size, Read: c.Size}
	switch {
	case c.Size <= MaxInline:
		if len(p) > 0 {
			c.Inline = p
		}
	case isZero(p):
		c.Root, s.Alloc = blocks.ID{}, 0
	default:
		if pl, ok := st.(Placer); ok {
			c.Root, err = pl.PutAt(ctx, p, 0)
		} else {
			c.Root, err = st.Put(ctx, p)
		}
		if err != nil {
			return Content{}, Stat{}, err
		}
		s.NewBlocks = 1
	}
	return c, s, nil
}
