package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/clachanfs/clachan/blocks"
)

// Reader reads the bytes of a content. It is safe for concurrent use.
type Reader struct{ tree *tree }

// NewReader returns a reader of c, whose blocks are in st.
func NewReader(st Getter, c Content) *Reader { return &Reader{newTree(st, c)} }

// Size returns the size of the file.
func (r *Reader) Size() int64 { return r.tree.c.Size }

// ReadAt reads like [io.ReaderAt].
func (r *Reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read content: negative offset")
	}
	n, err := r.readAt(ctx, p, off)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read content at %d: %w", off+int64(n), err)
	}
	return n, err
}

func (r *Reader) readAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	c := r.tree.c
	if c.Size <= MaxInline {
		if off < c.Size {
			n = copy(p, c.Inline[off:])
		}
	} else {
		for n < len(p) && off < c.Size {
			m, err := r.readRef(ctx, p[n:], off)
			if err != nil {
				return n, err
			}
			n, off = n+m, off+int64(m)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readRef reads from the ref that off is in.
func (r *Reader) readRef(ctx context.Context, p []byte, off int64) (int, error) {
	ref, start, err := r.tree.find(ctx, off)
	if err != nil {
		return 0, err
	}
	if rest := start + ref.size - off; rest < int64(len(p)) {
		p = p[:rest]
	}
	if ref.hole() {
		clear(p)
		return len(p), nil
	}
	if off == start && int64(len(p)) == ref.size { // no copy
		b, err := r.block(ctx, ref, p[:0:len(p)])
		if err != nil {
			return 0, err
		}
		if len(b) > 0 && &b[0] != &p[0] {
			copy(p, b)
		}
		return len(p), nil
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	b, err := r.block(ctx, ref, *buf)
	if err != nil {
		return 0, err
	}
	return copy(p, b[off-start:]), nil
}

func (r *Reader) block(ctx context.Context, ref ref, buf []byte) ([]byte, error) {
	b, err := r.tree.st.Get(ctx, ref.id, buf)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != ref.size {
		return nil, fmt.Errorf("block %s: %w: %d bytes, not %d", ref.id, ErrMalformed, len(b), ref.size)
	}
	return b, nil
}

// SeekData returns the first offset from off on that is not in a hole, or
// io.EOF if there is none.
func (r *Reader) SeekData(ctx context.Context, off int64) (int64, error) {
	return r.seek(ctx, off, false)
}

// SeekHole returns the first offset from off on that is in a hole; there is
// one at the end of the file. It returns io.EOF if off is not in the file.
func (r *Reader) SeekHole(ctx context.Context, off int64) (int64, error) {
	return r.seek(ctx, off, true)
}

func (r *Reader) seek(ctx context.Context, off int64, hole bool) (int64, error) {
	c := r.tree.c
	if off < 0 || off >= c.Size {
		return 0, io.EOF
	}
	found := int64(-1)
	switch {
	case c.Size > MaxInline:
		root := c.root()
		if c.Depth == 0 && !root.hole() {
			root.alloc = root.size
		}
		var err error
		if found, err = r.seekBelow(ctx, root, c.Depth, 0, off, hole); err != nil {
			return 0, fmt.Errorf("seek content: %w", err)
		}
	case !hole:
		found = off
	}
	if found >= 0 {
		return found, nil
	}
	if hole {
		return c.Size, nil
	}
	return 0, io.EOF
}

// seekBelow looks below n, a ref at level that starts at start, and returns -1
// if there is nothing from off on.
func (r *Reader) seekBelow(ctx context.Context, n ref, level uint8, start, off int64, hole bool) (int64, error) {
	end := start + n.size
	if end <= off {
		return -1, nil
	}
	if level == 0 {
		if n.hole() == hole {
			return max(start, off), nil
		}
		return -1, nil
	}
	if level < r.tree.c.Depth && (hole && n.alloc == n.size || !hole && n.alloc == 0) {
		return -1, nil
	}
	l, err := r.tree.load(ctx, n, level)
	if err != nil {
		return 0, err
	}
	for i, child := range l.refs {
		found, err := r.seekBelow(ctx, child, level-1, start+l.start(i), off, hole)
		if err != nil || found >= 0 {
			return found, err
		}
	}
	return -1, nil
}

// Holder is a store that knows what it has.
type Holder interface {
	Getter
	Has(id blocks.ID) bool
}

// seenLists bounds what a walk remembers.
const seenLists = 1 << 14

// Missing yields the blocks of c that are not in st, as far as the list blocks
// that are tell. A list block that is missing is yielded itself, with
// [MaxList] for its size, which is not known. A block may be yielded more than
// once. Complete means that the walk has seen everything and missed nothing.
func Missing(ctx context.Context, st Holder, c Content, yield func(id blocks.ID, size int64) bool) (complete bool, err error) {
	if c.Size <= MaxInline || c.hole() {
		return true, nil
	}
	m := &missing{st: st, tree: newTree(st, c), yield: yield, seen: map[blocks.ID]bool{}, complete: true}
	if _, err := m.walk(ctx, c.root(), c.Depth); err != nil {
		return false, fmt.Errorf("missing blocks: %w", err)
	}
	return m.complete, nil
}

type missing struct {
	st       Holder
	tree     *tree
	yield    func(blocks.ID, int64) bool
	seen     map[blocks.ID]bool // lists: what is below them need not be looked at twice
	complete bool
}

// walk reports whether to go on.
func (m *missing) walk(ctx context.Context, r ref, level uint8) (bool, error) {
	if level == 0 {
		if r.hole() || m.st.Has(r.id) {
			return true, nil
		}
		m.complete = false
		return m.yield(r.id, r.size), nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if m.seen[r.id] {
		return true, nil
	}
	if !m.st.Has(r.id) {
		m.complete = false
		return m.yield(r.id, MaxList), nil
	}
	l, err := m.tree.load(ctx, r, level)
	if errors.Is(err, blocks.ErrNotFound) || errors.Is(err, blocks.ErrDamaged) {
		m.complete = false
		return m.yield(r.id, MaxList), nil
	}
	if err != nil {
		return false, err
	}
	if len(m.seen) < seenLists {
		m.seen[r.id] = true
	}
	for _, child := range l.refs {
		if on, err := m.walk(ctx, child, level-1); err != nil || !on {
			return on, err
		}
	}
	return true, nil
}

// Marker is told which blocks are named, and says which of them are news.
type Marker interface {
	Mark(id blocks.ID) (size int64, fresh bool, err error)
}

// Mark tells m of all blocks of c that are here, and returns the size of those
// that were news. Below a list that is not, it does not look.
func Mark(ctx context.Context, st Getter, c Content, m Marker) (size int64, err error) {
	if c.Size <= MaxInline || c.hole() {
		return 0, nil
	}
	if size, err = mark(ctx, newTree(st, c), c.root(), c.Depth, m); err != nil {
		return size, fmt.Errorf("mark blocks: %w", err)
	}
	return size, nil
}

func mark(ctx context.Context, t *tree, r ref, level uint8, m Marker) (int64, error) {
	size, fresh, err := m.Mark(r.id)
	if err != nil || !fresh {
		return 0, err
	}
	if level == 0 {
		return size, nil
	}
	if err := ctx.Err(); err != nil {
		return size, err
	}
	l, err := t.load(ctx, r, level)
	if errors.Is(err, blocks.ErrNotFound) || errors.Is(err, ErrMalformed) {
		return size, nil // nothing below it can be read
	}
	if err != nil {
		return size, err
	}
	for _, child := range l.refs {
		if child.hole() {
			continue
		}
		n, err := mark(ctx, t, child, level-1, m)
		if size += n; err != nil {
			return size, err
		}
	}
	return size, nil
}

// Data yields the data blocks of c, and where they stand. Those that a list
// repeats are yielded again.
func Data(ctx context.Context, st Getter, c Content, yield func(id blocks.ID, off, size int64) error) error {
	if c.Size <= MaxInline {
		return nil
	}
	if err := data(ctx, newTree(st, c), c.root(), c.Depth, 0, yield); err != nil {
		return fmt.Errorf("data blocks: %w", err)
	}
	return nil
}

func data(ctx context.Context, t *tree, r ref, level uint8, off int64, yield func(blocks.ID, int64, int64) error) error {
	if r.hole() {
		return nil
	}
	if level == 0 {
		return yield(r.id, off, r.size)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l, err := t.load(ctx, r, level)
	if err != nil {
		return err
	}
	for i, child := range l.refs {
		if err := data(ctx, t, child, level-1, off+l.start(i), yield); err != nil {
			return err
		}
	}
	return nil
}
