package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/clachanfs/clachan/blocks/chunker"
)

// Edit returns the content of src, which has size bytes and differs from base
// only in dirty and, where it is longer than base, beyond its end; bytes beyond
// that end that are not dirty are zero. It reads the dirty ranges and as much
// around them as it takes until the cuts are those of base again, and uses all
// other blocks and lists of base as they are. The result is that of [Write].
func Edit(ctx context.Context, st Store, seed chunker.Seed, base Content, dirty []Range, src io.ReaderAt, size int64) (Content, Stat, error) {
	c, s, err := edit(ctx, st, seed, base, dirty, src, size)
	if err != nil {
		return Content{}, Stat{}, fmt.Errorf("edit content: %w", err)
	}
	return c, s, nil
}

func edit(ctx context.Context, st Store, seed chunker.Seed, base Content, dirty []Range, src io.ReaderAt, size int64) (Content, Stat, error) {
	if size < 0 || size > MaxSize {
		return Content{}, Stat{}, ErrTooBig
	}
	changed := normal(dirty, size)
	if size <= MaxSingle || base.Size <= MaxSingle { // nothing to go on with
		var holes []Range
		for off := min(base.Size, size); off < size; {
			end := changed.gapAt(off, size)
			holes = append(holes, Range{off, end - off})
			off = changed.endAt(end)
		}
		return write(ctx, st, seed, base.Cut, WithHoles(src, holes), size)
	}
	e := &editor{
		tree:  newTree(st, base),
		src:   src,
		size:  size,
		dirty: changed,
		cells: changed.cells(),
		cut:   newCutter(seed, base.Cut, src, size),
		w:     newWriter(ctx, st),
	}
	defer e.cut.release()
	defer e.w.wait()
	e.cut.zeros = e.zeros
	if size != base.Size {
		// All from the cell on in which the shorter one ends: its last chunk
		// was cut by the end of the file, and that cell was shorter.
		off := cellStart(min(size, base.Size))
		e.cells = normal(append(e.cells, Range{off, MaxSize + Cell - off}), MaxSize+Cell)
	}
	if err := e.run(ctx); err != nil {
		return Content{}, Stat{}, err
	}
	c, s, err := e.w.finish(size, base.Cut)
	s.Read = e.cut.read
	return c, s, err
}

// editor makes a new tree of an old one and what has changed.
type editor struct {
	tree  *tree
	src   io.ReaderAt
	size  int64
	dirty spans // bytes that have changed
	cells spans // cells that have, and all to the end if the size has
	cut   *cutter
	w     *writer
}

// run alternates between taking over what is old and cutting what is new.
func (e *editor) run(ctx context.Context) error {
	pos := int64(0)
	for i := 0; ; {
		from := e.size
		if i < len(e.cells) {
			var err error
			if from, err = e.restartAt(ctx, e.cells[i].Off); err != nil {
				return err
			}
		}
		if err := e.take(ctx, pos, from); err != nil {
			return err
		}
		if from == e.size {
			return nil
		}
		e.cut.restart(from)
		var err error
		if pos, i, err = e.recut(ctx, i); err != nil {
			return err
		}
	}
}

// recut cuts from where the cutter stands, before the i-th dirty cells, until
// the cuts are the old ones again. It returns where that is, and what is the
// next dirty range.
func (e *editor) recut(ctx context.Context, i int) (int64, int, error) {
	c := e.cut
	for {
		pos := c.pos + int64(c.skip)
		for i < len(e.cells) && e.cells[i].End() <= pos {
			i++
		}
		if pos == e.size {
			return pos, len(e.cells), nil
		}
		if i == len(e.cells) || e.cells[i].Off > pos {
			same, err := e.inStep(ctx, pos, i)
			if err != nil || same {
				return pos, i, err
			}
			c.eager = 0
		} else {
			c.eager = min(e.cells[i].End(), e.size)
		}
		if err := e.w.step(ctx, c); err != nil {
			return 0, 0, err
		}
	}
}

// inStep reports whether pos is an old boundary too, from which old refs can be
// taken before the i-th dirty cells matter.
func (e *editor) inStep(ctx context.Context, pos int64, i int) (bool, error) {
	_, start, err := e.tree.find(ctx, pos)
	if err != nil || start != pos {
		return false, err
	}
	if i == len(e.cells) {
		return true, nil
	}
	next, err := e.restartAt(ctx, e.cells[i].Off)
	return next > pos, err
}

// restartAt returns the last boundary that what follows off cannot have moved.
// Off is the start of a cell. The chunk before it counts too: it may have ended
// there because of a hole, or of the end of the file.
func (e *editor) restartAt(ctx context.Context, off int64) (int64, error) {
	if off == 0 {
		return 0, nil
	}
	if e.cut.fixed && off == e.tree.c.Size {
		return off, nil
	}
	at := off - 1
	if e.cut.fixed {
		at = off // every cell is cut by itself
	}
	r, start, err := e.tree.find(ctx, at)
	if err != nil {
		return 0, err
	}
	if e.cut.fixed && r.hole() {
		return off, nil
	}
	return start, nil
}

// take appends the old refs between two boundaries.
func (e *editor) take(ctx context.Context, from, to int64) error {
	if from >= to {
		return nil
	}
	if err := e.w.settle(0); err != nil {
		return err
	}
	c := e.tree.c
	return e.takeBelow(ctx, c.root(), c.Depth, 0, from, to)
}

// takeBelow appends what is below r, a ref at level that starts at off. Whole
// lists are taken where lists begin in the new tree too. The last list of a
// level has ended only because the file did, so it is taken only there.
func (e *editor) takeBelow(ctx context.Context, r ref, level uint8, off, from, to int64) error {
	end := off + r.size
	if end <= from || off >= to {
		return nil
	}
	b := &e.w.build
	whole := off >= from && end <= to
	if level == 0 {
		if !whole {
			if !r.hole() {
				return errors.New("boundary inside a block")
			}
			r.size = min(end, to) - max(off, from)
		}
		if !r.hole() {
			r.alloc = r.size
		}
		return b.add(0, r)
	}
	last := end == e.tree.c.Size
	if whole && level < e.tree.c.Depth && b.aligned(level) && (!last || end == e.size) {
		return b.add(level, r)
	}
	l, err := e.tree.load(ctx, r, level)
	if err != nil {
		return err
	}
	if whole && level == e.tree.c.Depth && b.aligned(level) && end == e.size {
		r.alloc = l.alloc()
		return b.add(level, r)
	}
	for i, child := range l.refs {
		if err := e.takeBelow(ctx, child, level-1, off+l.start(i), from, to); err != nil {
			return err
		}
	}
	return nil
}

// zeros returns the end of the zeros known at off: what src says, and where
// nothing has changed the holes of base and what lies beyond its end.
func (e *editor) zeros(ctx context.Context, off int64) (int64, error) {
	for off < e.size {
		end := zerosOf(e.src, off)
		if gap := e.dirty.gapAt(off, e.size); gap > off {
			if off >= e.tree.c.Size {
				end = max(end, gap)
			} else {
				r, start, err := e.tree.find(ctx, off)
				if err != nil {
					return 0, err
				}
				if r.hole() {
					end = max(end, min(start+r.size, gap))
				}
			}
		}
		if end <= off {
			break
		}
		off = end
	}
	return off, nil
}
