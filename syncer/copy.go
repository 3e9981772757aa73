package syncer

import (
	"context"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// ErrNoCopy says that bytes have to be copied.
var ErrNoCopy = errors.New("cannot share blocks")

// A Copy is a file that is about to name the blocks of another.
type Copy struct {
	f       *Folder
	from    Ino
	of      string // what that shows
	to      Ino
	was     string // what it shows before
	c       content.Content
	alloc   int64
	release func()
}

// Copy prepares that a new file, of which nothing is cut or staged, shows n bytes
// more, which another shows at the same place: so it must show what that does up to
// there. It is ErrNoCopy if this is not so. The caller calls Close.
func (f *Folder) Copy(ctx context.Context, from, to Ino, off, n int64) (c *Copy, err error) {
	release := f.store.Hold() // before it is known what is there
	defer func() {
		if err != nil {
			release()
			if !errors.Is(err, ErrNoCopy) {
				err = fmt.Errorf("copy content: %w", err)
			}
		}
	}()
	v, err := f.Content(from)
	if err != nil {
		return nil, err
	}
	was, err := f.Content(to)
	if err != nil {
		return nil, err
	}
	if n = min(n, v.Content.Size-off); was.Content.Size != off || n <= 0 || v.Content.Size <= content.MaxInline {
		return nil, ErrNoCopy
	}
	if off > 0 {
		same, err := f.prefix(ctx, v.Content, off)
		if err != nil {
			return nil, err
		}
		if same.Encode() != was.Content.Encode() {
			return nil, ErrNoCopy
		}
	}
	c = &Copy{f: f, from: from, of: v.Content.Encode(), to: to, was: was.Content.Encode(), release: release}
	if c.c, err = f.prefix(ctx, v.Content, off+n); err == nil {
		c.alloc, err = content.Alloc(ctx, f.Blocks(), c.c)
	}
	if err == nil && c.c.Size < v.Content.Size { // blocks before the row that names them
		err = f.store.Flush(ctx)
	}
	return c, err
}

// prefix is the content of the first size bytes of another.
func (f *Folder) prefix(ctx context.Context, c content.Content, size int64) (content.Content, error) {
	if size >= c.Size {
		return c, nil
	}
	p, _, err := content.Edit(ctx, f.blockStore(), f.o.Seed, c, nil, readerAt{ctx, content.NewReader(f.Blocks(), c)}, size)
	return p, err
}

type readerAt struct {
	ctx context.Context
	r   *content.Reader
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r.r.ReadAt(r.ctx, p, off) }

// Close lets go of the blocks.
func (c *Copy) Close() { c.release() }

// Commit has the file show the copy, to be cut. The surface sees to it that nothing
// is staged meanwhile.
func (c *Copy) Commit() (v Version, err error) {
	f := c.f
	var dir Ino
	err = f.change(func(t *index.Tx) error {
		r := t.Inode(c.to)
		if r == nil {
			return ErrNotExist
		}
		w, ok := t.Bytes(c.to)
		if r.Kind != model.File || r.Nlink == 0 || !r.ID.IsZero() || ok && (!w.Ours || w.Written) || t.Content(c.to) != c.was {
			return ErrNoCopy
		}
		if t.Row(c.from) == nil || t.Content(c.from) != c.of {
			return ErrNoCopy // its blocks may go
		}
		for _, k := range f.ix.DirtyAt(c.to) {
			if cutMode(content.Content{}, k.Name) != c.c.Cut { // for good
				return ErrNoCopy
			}
		}
		w.Ours, w.Kept = true, true
		now := f.o.Now().UnixNano()
		r.Shown = &index.Shown{Content: c.c.Encode(), Mtime: now}
		r.Size, r.Alloc, r.Mtime, r.Ctime = c.c.Size, c.alloc, now, now
		t.Changed(c.to)
		t.SetBytes(c.to, &w)
		dir = groupOf(c.to, r)
		v = Version{Content: c.c, Mtime: now}
		return t.Err()
	})
	if err == nil {
		f.noted(dir, "", f.unfinished(c.to))
	}
	return v, err
}
