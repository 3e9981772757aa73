package content

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"

	"github.com/clachanfs/clachan/blocks"
)

// Getter gives verified blocks: a store, or one that asks others too. The
// block is appended to buf[:0].
type Getter interface {
	Get(ctx context.Context, id blocks.ID, buf []byte) ([]byte, error)
}

// Putter takes blocks.
type Putter interface {
	Put(ctx context.Context, p []byte) (blocks.ID, error)
}

// A Placer is a Putter that is told where data blocks stand in what is cut.
type Placer interface {
	PutAt(ctx context.Context, p []byte, off int64) (blocks.ID, error)
}

// Store is both a Getter and a Putter.
type Store interface {
	Getter
	Putter
}

// cachedLists is how many list blocks a tree keeps decoded: enough for the
// levels of a few places at once.
const cachedLists = 24

// buffers hold one block.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, blocks.MaxBlock)
	return &b
}}

// tree reads the list blocks of a content. It is safe for concurrent use.
type tree struct {
	st Getter
	c  Content

	mu    sync.Mutex // guards the two below
	lists map[blocks.ID]*list
	order []blocks.ID // of lists, oldest first
}

func newTree(st Getter, c Content) *tree {
	return &tree{st: st, c: c, lists: make(map[blocks.ID]*list)}
}

// load returns the list block that r names.
func (t *tree) load(ctx context.Context, r ref, level uint8) (*list, error) {
	t.mu.Lock()
	l := t.lists[r.id]
	t.mu.Unlock()
	if l == nil || l.level != level || l.ends[len(l.ends)-1] != r.size {
		var err error
		if l, err = t.fetch(ctx, r, level); err != nil {
			return nil, err
		}
	}
	// The alloc of the root stands nowhere.
	if level < t.c.Depth && l.alloc() != r.alloc {
		return nil, fmt.Errorf("list %s: %w: allocation", r.id, ErrMalformed)
	}
	return l, nil
}

func (t *tree) fetch(ctx context.Context, r ref, level uint8) (*list, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	b, err := t.st.Get(ctx, r.id, *buf)
	if err != nil {
		return nil, err
	}
	l, err := decodeList(b, level, r.size)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lists[r.id] == nil {
		t.order = append(t.order, r.id)
	}
	t.lists[r.id] = l
	if len(t.order) > cachedLists {
		delete(t.lists, t.order[0])
		t.order = append(t.order[:0], t.order[1:]...)
	}
	return l, nil
}

// find returns the data ref or hole at off, and where it starts.
func (t *tree) find(ctx context.Context, off int64) (ref, int64, error) {
	r, start := t.c.root(), int64(0)
	for level := t.c.Depth; level > 0; level-- {
		l, err := t.load(ctx, r, level)
		if err != nil {
			return ref{}, 0, err
		}
		i := sort.Search(len(l.ends), func(i int) bool { return l.ends[i] > off-start })
		if i == len(l.ends) {
			return ref{}, 0, errors.New("offset beyond the end")
		}
		r, start = l.refs[i], start+l.start(i)
	}
	return r, start, nil
}

// alloc returns how many bytes of the content are not holes.
func (t *tree) alloc(ctx context.Context) (int64, error) {
	switch {
	case t.c.Size <= MaxInline:
		return t.c.Size, nil
	case t.c.hole():
		return 0, nil
	case t.c.Depth == 0:
		return t.c.Size, nil
	}
	l, err := t.load(ctx, t.c.root(), t.c.Depth)
	if err != nil {
		return 0, err
	}
	return l.alloc(), nil
}

// Alloc returns how many bytes of c are not holes. It reads one list block.
func Alloc(ctx context.Context, st Getter, c Content) (int64, error) {
	n, err := newTree(st, c).alloc(ctx)
	if err != nil {
		return 0, fmt.Errorf("content allocation: %w", err)
	}
	return n, nil
}
