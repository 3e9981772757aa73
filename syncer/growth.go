package syncer

import (
	"bytes"
	"context"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
)

// A file that somebody has open is shown anew under its names, as another inode: so
// he keeps what he opened. But one that is only read, and to which others have only
// added, goes on as the same: who follows a log reads on where he was.

// A growth says that one content is another and more.
type growth struct{ from, to string }

const growthsMax = 1024 // that are kept

// growth looks whether what has come for a file only adds to what it shows.
func (f *Folder) growth(ctx context.Context, p pulled) (g growth, ok bool, err error) {
	if f.surf == nil || f.surf.Busy(p.ino) != Read {
		return g, false, nil
	}
	was, err := f.Content(p.ino)
	if err != nil {
		return g, false, err
	}
	c, err := content.Decode(p.v.Content)
	if err != nil || was.Content.Size >= c.Size {
		return g, false, err
	}
	same, err := f.prefix(ctx, c, was.Content.Size)
	g = growth{was.Content.Encode(), p.v.Content}
	return g, same.Encode() == g.from, err
}

// busyIn is asked, with the folder locked, whether an inode must not be given what is
// wanted.
func (f *Folder) busyIn(t *index.Tx) func(Ino) bool {
	return func(ino Ino) bool {
		if f.surf == nil {
			return false
		}
		g := f.growths[ino]
		delete(f.growths, ino)
		switch f.surf.Busy(ino) {
		case Free:
			return false
		case Read:
			now := growth{t.Content(ino), t.Wanted(ino).Content}
			return now != g && !now.inline()
		}
		return true
	}
}

// inline tells whether a growth is one, where both stand in the rows.
func (g growth) inline() bool {
	from, err := content.Decode(g.from)
	if err != nil || from.Size > content.MaxInline {
		return false
	}
	to, err := content.Decode(g.to)
	return err == nil && to.Size <= content.MaxInline && bytes.HasPrefix(to.Inline, from.Inline)
}
