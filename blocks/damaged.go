package blocks

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// maxDamaged is of how many damaged blocks is kept in mind which they are.
const maxDamaged = 1 << 12

// damaged is which blocks have been found damaged. Whether they still are is asked
// of their rows, so that who writes these need not know of it.
type damaged struct {
	mu      sync.Mutex // guards what follows
	ids     map[ID]bool
	counted bool // ids has all there are, or as many as it takes
	more    bool // than it takes
}

// note takes in a block, if there is room.
func (d *damaged) note(id ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.more = d.more || len(d.ids) >= maxDamaged && !d.ids[id]
	if len(d.ids) < maxDamaged {
		d.ids[id] = true
	}
	return !d.more
}

// list returns the ids, and whether there are more.
func (d *damaged) list() (ids []ID, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.ids {
		ids = append(ids, id)
	}
	return ids, d.more
}

// begin says that all are looked for, unless they have been.
func (d *damaged) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counted {
		return false
	}
	d.counted, d.more = true, false // unless some are forgotten meanwhile
	return true
}

// failed says that the look for all was cut short.
func (d *damaged) failed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counted = false
}

// forget drops what is well. Where there were more, they are to be looked for.
func (d *damaged) forget(ids []ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.ids, id)
	}
	d.counted = d.counted && (!d.more || len(d.ids) == maxDamaged)
}

// Damaged returns how many blocks are known to be damaged, or of which the pack is
// gone, and that are nowhere else here; not more than some thousands are counted.
// Of what was found before the disk was opened it is right after [Store.Survey].
func (s *Store) Damaged() (n int) {
	ids, more := s.damaged.list()
	var well []ID
	for _, id := range ids {
		loc, err := s.locate(id)
		if errors.Is(err, ErrNotFound) || err == nil && !s.wanting(id, loc) {
			well = append(well, id)
		}
	}
	s.damaged.forget(well)
	if n = len(ids) - len(well); more {
		n++
	}
	return n
}

// wanting reports whether a block that is said to be at loc can be read nowhere.
func (s *Store) wanting(id ID, loc location) bool {
	return !s.d.usable(loc) && !s.inMemory(id) && !s.placed(id)
}

// Survey looks through the rows for damaged blocks if that has not been done.
func (s *Store) Survey(ctx context.Context) error {
	select {
	case s.survey <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.survey }()
	s.Damaged() // forgets what is well
	if !s.damaged.begin() {
		return nil
	}
	err := s.eachLocation(ID{}, func(id ID, loc location) error {
		if err := ctx.Err(); err != nil || !s.wanting(id, loc) {
			return err
		}
		if !s.damaged.note(id) {
			return errStop
		}
		return nil
	})
	if err == nil || errors.Is(err, errStop) {
		return nil
	}
	s.damaged.failed()
	return fmt.Errorf("look for damaged blocks: %w", err)
}
