package blocks

import (
	"context"
	"errors"
	"fmt"
)

// scrubRows is of how many blocks the rows are read at once.
const scrubRows = 1 << 10

// A Verdict is what was found when a block was read: Err is nil if it is right.
type Verdict struct {
	ID   ID
	Size int64
	Err  error // ErrDamaged or ErrNotFound among others
}

// Scrub reads and verifies some of the blocks that have been flushed and are not
// known to be damaged, in the order of their ids from one on. It returns where
// to go on; done says that there are no more. Tell is called with each; its error
// ends Scrub, which then goes on with the same block.
func (s *Store) Scrub(ctx context.Context, from ID, tell func(Verdict) error) (next ID, done bool, err error) {
	next, done, err = s.scrub(ctx, from, tell)
	if err != nil {
		err = fmt.Errorf("scrub blocks: %w", err)
	}
	return next, done, err
}

func (s *Store) scrub(ctx context.Context, from ID, tell func(Verdict) error) (next ID, done bool, err error) {
	found, end, err := s.locations(blockKey(s.folder, from), scrubRows)
	if err != nil {
		return from, false, err
	}
	disk, err := s.fresh()
	if err != nil {
		return from, false, err
	}
	defer func() { err = errors.Join(err, disk.close()) }()
	buf := make([]byte, 0, MaxBlock)
	for _, m := range found {
		if !s.d.usable(m.to) {
			continue
		}
		_, err := s.getBy(ctx, m.id, buf, disk.read)
		switch {
		case ctx.Err() != nil:
			return m.id, false, ctx.Err()
		case errors.Is(err, ErrNotFound) && s.d.usable(m.to):
			continue // forgotten meanwhile
		case err != nil && !errors.Is(err, ErrDamaged):
			return m.id, false, err
		}
		if err := tell(Verdict{m.id, int64(m.to.size), err}); err != nil {
			return m.id, false, err
		}
	}
	if end == nil {
		return ID{}, true, nil
	}
	return ID(end[5:]), false, nil
}

// Known yields the blocks from one on that are known to be damaged, or of which the
// pack is gone. They are tried once more: the disk may read one again, or it stands
// in a file. The error of tell ends Known; next is the block it was told of.
func (s *Store) Known(ctx context.Context, from ID, tell func(Verdict) error) (next ID, err error) {
	buf := make([]byte, 0, MaxBlock)
	err = s.eachLocation(from, func(id ID, loc location) error {
		if s.d.usable(loc) {
			return ctx.Err()
		}
		next = id
		_, err := s.Get(ctx, id, buf)
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
			err = tell(Verdict{id, int64(loc.size), ErrDamaged})
		}
		return err
	})
	return next, err
}
