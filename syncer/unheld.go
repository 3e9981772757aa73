package syncer

import (
	"context"
	"crypto/ed25519"

	"github.com/clachanfs/clachan/syncer/model"
)

// maxUnheld bounds how many changes are read to say what is here only.
const maxUnheld = 4096

// Unheld is which files, by at most max paths, the changes made here after seq are
// about, and how many: what was removed is none of them. Of very many changes the
// oldest are read, and exact is false.
func (f *Folder) Unheld(ctx context.Context, seq uint64, max int) (files uint64, paths []string, exact bool, err error) {
	ids, exact, err := f.unheldNodes(ctx, seq)
	if err != nil {
		return 0, nil, false, err
	}
	err = f.locked(func() error {
		t := f.ix.Begin()
		defer t.Abort()
		for _, id := range ids {
			ino := t.Ino(id)
			r := t.Row(ino)
			if r == nil || r.Kind == model.Dir {
				continue
			}
			at, ok := t.Named(ino)
			if !ok {
				continue
			}
			files++
			if p, ok := pathTo(t, at); ok && len(paths) < max {
				paths = append(paths, p)
			}
		}
		return t.Err()
	})
	return files, paths, exact, err
}

// unheldNodes lists the nodes that our changes after seq are about.
func (f *Folder) unheldNodes(ctx context.Context, seq uint64) (ids []model.ID, exact bool, err error) {
	own := f.ix.Replica()
	f.apply.Lock()
	s := f.ix.Snapshot()
	f.apply.Unlock()
	defer s.Close()
	seen, read := map[model.ID]bool{}, 0
	for b, err := range s.Since(s.K.Without(model.Dot{Replica: own, Seq: seq + 1}), s.K) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, false, err
		}
		h, changes, err := f.seal.Verify(b, func(ed25519.PublicKey) error { return nil })
		if err != nil {
			return nil, false, err
		}
		if h.Replica != own {
			continue
		}
		for _, c := range changes {
			if c.Dot.Seq > seq && !seen[c.ID] {
				seen[c.ID] = true
				ids = append(ids, c.ID)
			}
		}
		if read += len(changes); read > maxUnheld {
			return ids, false, nil
		}
	}
	return ids, true, nil
}
