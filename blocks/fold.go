package blocks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// foldDue reports whether the small rows of s should become a pack.
func (s *Store) foldDue(now time.Time) bool {
	bytes, since := s.small.Load(), s.smallSince.Load()
	if since == 0 {
		return false
	}
	age := now.Sub(time.Unix(0, since))
	return bytes > foldBytes || age > foldAge && bytes >= foldMin || age > foldLatest
}

// fold moves the small rows into packs, so that meta stays small.
func (s *Store) fold(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	for {
		more, err := s.foldPack(ctx)
		if err != nil {
			return fmt.Errorf("fold small blocks: %w", err)
		}
		if !more {
			s.small.Store(0)
			s.smallSince.Store(0)
			return nil
		}
	}
}

// foldPack moves rows into one pack and reports whether there are more.
func (s *Store) foldPack(ctx context.Context) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	var w *packWriter
	var moves []move
	end, more, err := s.eachSmall(func(seq uint64, id ID, flags byte, stored []byte) (bool, error) {
		loc, err := s.locate(id)
		if errors.Is(err, ErrNotFound) || err == nil && (loc.flags&^flagUnread != flags|flagSmall || loc.pack != seq) {
			return true, nil // superseded or damaged: the row only goes
		}
		if err == nil && w == nil {
			w, err = s.d.newPackWriter(s.d.room.packs)
		}
		if err != nil {
			return false, err
		}
		index, err := w.add(stored)
		if err != nil {
			return false, err
		}
		moves = append(moves, move{id: id, old: seq, to: location{flags, w.pack, index, loc.size}})
		return w.bytes < packSlabs*slabSize && len(moves) < packBlocks, nil
	})
	if err != nil {
		if w != nil {
			err = w.abort(err)
		}
		return false, err
	}
	if w != nil {
		if err := w.ingest(ctx); err != nil {
			return false, err
		}
		err = s.commitFold(w, moves, end)
	} else if end > 0 {
		err = s.d.meta.DeleteRange(smallKey(s.folder, 0), smallKey(s.folder, end), pebble.NoSync)
	}
	return more, err
}

// eachSmall yields small rows in order until yield returns false. It returns
// the number after the last one yielded, and whether there are more.
func (s *Store) eachSmall(yield func(seq uint64, id ID, flags byte, stored []byte) (bool, error)) (end uint64, more bool, err error) {
	it, err := s.d.meta.NewIter(&pebble.IterOptions{
		LowerBound: smallKey(s.folder, 0),
		UpperBound: tableKey(s.folder, tabSmall+1),
	})
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		seq, err := parseSmallKey(it.Key())
		if err != nil {
			return 0, false, err
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return 0, false, err
		}
		flags, id, stored, err := parseSmall(v)
		if err != nil {
			return 0, false, err
		}
		goOn, err := yield(seq, id, flags, stored)
		if err != nil {
			return 0, false, err
		}
		end = seq + 1
		if !goOn {
			return end, true, nil
		}
	}
	return end, false, it.Error()
}

// commitFold points the blocks that are still where they were at the new pack,
// and deletes the rows before end.
func (s *Store) commitFold(w *packWriter, moves []move, end uint64) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	kept := moves[:0]
	for _, m := range moves {
		loc, err := s.locate(m.id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil && loc.flags&^flagUnread == m.to.flags|flagSmall && loc.pack == m.old {
			kept = append(kept, m)
		}
	}
	return s.commitRows(w, kept, func(b *pebble.Batch) error {
		return b.DeleteRange(smallKey(s.folder, 0), smallKey(s.folder, end), nil)
	})
}
