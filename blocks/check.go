package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

const checkRows = 1 << 15 // locations sorted at once

// Check reads and verifies every block that has been flushed, and reports the
// damaged ones. It goes on after them.
func (s *Store) Check(ctx context.Context, report func(ID, error)) error {
	if err := s.check(ctx, report); err != nil {
		return fmt.Errorf("check blocks: %w", err)
	}
	return nil
}

func (s *Store) check(ctx context.Context, report func(ID, error)) error {
	from := tableKey(s.folder, tabBlocks)
	buf := make([]byte, 0, MaxBlock)
	for {
		found, next, err := s.locations(from, checkRows)
		if err != nil {
			return err
		}
		slices.SortFunc(found, func(a, b move) int {
			return cmp.Or(cmp.Compare(a.to.pack, b.to.pack), cmp.Compare(a.to.index, b.to.index))
		})
		if err := s.checkSome(ctx, found, buf, report); err != nil {
			return err
		}
		if next == nil {
			return nil
		}
		from = next
	}
}

func (s *Store) checkSome(ctx context.Context, found []move, buf []byte, report func(ID, error)) (err error) {
	disk, err := s.fresh()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.close()) }()
	for _, m := range found {
		_, err := s.getBy(ctx, m.id, buf, disk.read)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrNotFound) && s.d.usable(m.to):
			// forgotten meanwhile
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrNotFound):
			report(m.id, err)
		case err != nil:
			return err
		}
	}
	return nil
}

// locations reads rows from key on. Next is where to go on, nil at the end.
func (s *Store) locations(from []byte, most int) (found []move, next []byte, err error) {
	it, err := s.d.meta.NewIter(&pebble.IterOptions{
		LowerBound: from,
		UpperBound: tableKey(s.folder, tabBlocks+1),
	})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if len(found) == most {
			return found, slices.Clone(it.Key()), nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, err
		}
		loc, err := parseLocation(v)
		if err != nil {
			return nil, nil, err
		}
		m := move{to: loc}
		if copy(m.id[:], it.Key()[5:]) != len(m.id) {
			return nil, nil, fmt.Errorf("block key %x: %w", it.Key(), errRow)
		}
		found = append(found, m)
	}
	return found, nil, it.Error()
}
