package syncer

import (
	"context"
	"errors"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Mend fetches a block that is damaged here from who has it. It is ErrOffline
// if nobody that is connected does.
func (f *Folder) Mend(ctx context.Context, id blocks.ID, size int64) error {
	if err := f.Room(); err != nil {
		return err
	}
	return f.o.Remote.Fetch(ctx, id, size, Background)
}

// Lacking yields the paths of the files, and of versions in the history, of
// which blocks are damaged or lost here, until tell returns false. What is only
// on its way is not lost.
func (f *Folder) Lacking(ctx context.Context, tell func(path string, past bool) bool) error {
	whole := func(c content.Content) (bool, error) {
		ok, err := content.Missing(ctx, f.store, c, func(blocks.ID, int64) bool { return false })
		if errors.Is(err, blocks.ErrDamaged) || errors.Is(err, blocks.ErrNotFound) { // a list that was right when it was looked for
			return false, nil
		}
		return ok, err
	}
	stop := errors.New("enough")
	err := f.walk(ctx, func(ino Ino, path string, r *index.Row) error {
		if r.Kind != model.File || f.wanted(ino) {
			return ctx.Err()
		}
		v, err := f.Content(ino)
		if errors.Is(err, ErrNotExist) || errors.Is(err, ErrStale) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		ok, err := whole(v.Content)
		if err == nil && !ok && !tell(path, false) {
			err = stop
		}
		return err
	})
	if err == nil {
		perr := f.Pasts(func(p index.Past) bool {
			if p.Kind != model.File {
				return true
			}
			var c content.Content
			var ok bool
			if c, err = content.Decode(p.Content); err == nil {
				ok, err = whole(c)
			}
			return err == nil && (ok || tell(p.Path, true))
		})
		err = errors.Join(err, perr)
	}
	if errors.Is(err, stop) {
		return nil
	}
	return err
}
