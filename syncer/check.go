package syncer

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Check rebuilds the rows from the log and compares, and looks whether the
// blocks of all that is shown are here. report is called with each fault.
func (f *Folder) Check(ctx context.Context, report func(error)) error {
	f.apply.Lock()
	err := f.ix.Check(report)
	f.apply.Unlock()
	if err != nil {
		return err
	}
	if err := f.checkPasts(ctx, report); err != nil {
		return err
	}
	return f.walk(ctx, func(ino Ino, _ string, r *index.Row) error {
		if r.Kind != model.File {
			return ctx.Err()
		}
		if f.wanted(ino) {
			return ctx.Err() // still on its way
		}
		v, err := f.Content(ino)
		if err != nil {
			report(fmt.Errorf("inode %d: %w", ino, err))
			return nil
		}
		complete, err := content.Missing(ctx, tried{ctx, f.store}, v.Content, func(blocks.ID, int64) bool { return false })
		switch {
		case err != nil:
			report(fmt.Errorf("inode %d: %w", ino, err))
		case !complete:
			report(fmt.Errorf("inode %d: blocks are missing", ino))
		}
		return ctx.Err()
	})
}

// tried is a store that is asked again for what the disk could not read once.
type tried struct {
	ctx context.Context
	*blocks.Store
}

// Has implements content.Holder.
func (s tried) Has(id blocks.ID) bool {
	if s.Store.Has(id) {
		return true
	}
	_, err := s.Get(s.ctx, id, nil)
	return err == nil
}

// checkPasts looks whether the blocks of the history are here.
func (f *Folder) checkPasts(ctx context.Context, report func(error)) error {
	var failed error
	err := f.Pasts(func(p index.Past) bool {
		if p.Kind != model.File {
			return true
		}
		c, err := content.Decode(p.Content)
		complete := false
		if err == nil {
			complete, err = content.Missing(ctx, tried{ctx, f.store}, c, func(blocks.ID, int64) bool { return false })
		}
		if failed = ctx.Err(); failed != nil {
			return false
		}
		if _, gone := f.ix.Past(index.PastKey{Time: p.Time, ID: p.ID}); errors.Is(gone, index.ErrNotFound) {
			return true // let go of meanwhile
		}
		switch {
		case err != nil:
			report(fmt.Errorf("history of %s: %w", p.Path, err))
		case !complete:
			report(fmt.Errorf("history of %s: blocks of version %v are missing", p.Path, p.Orig))
		}
		return true
	})
	return errors.Join(err, failed)
}

func (f *Folder) wanted(ino Ino) bool {
	f.apply.Lock()
	defer f.apply.Unlock()
	return f.ix.Wants(ino)
}

// walk calls fn with every inode that has a name, once a name, and the path of it.
func (f *Folder) walk(ctx context.Context, fn func(ino Ino, name string, r *index.Row) error) error {
	type dir struct {
		ino  Ino
		path string
	}
	todo := []dir{{RootIno, ""}}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for cookie := uint64(0); ; { // in pages: no iterator is held while fn works
			var page []index.Entry
			err := f.ix.Page(d.ino, cookie, func(c uint64, e index.Entry) bool {
				if len(page) >= 1000 && c != cookie {
					return false
				}
				cookie = c
				page = append(page, e)
				return true
			})
			if err != nil {
				return err
			}
			for _, x := range page {
				r, err := f.ix.Attr(x.Ino)
				if err != nil {
					continue
				}
				name := path.Join(d.path, x.Name)
				if r.Kind == model.Dir {
					todo = append(todo, dir{x.Ino, name})
				}
				if err := fn(x.Ino, name, r); err != nil {
					return err
				}
			}
			if len(page) < 1000 {
				break
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
