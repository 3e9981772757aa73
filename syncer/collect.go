package syncer

import (
	"context"
	"fmt"
	"time"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

const (
	tombDays    = 90  // what was removed is remembered for so long at least
	collectMax  = 256 // nodes looked at under one lock
	collectRuns = 64  // levels of directories collected at once
)

// Horizon is what a member must know for its changes to be joined as they are:
// who does not know all of it may hold what was collected here.
func (f *Folder) Horizon() model.VV { return f.ix.Horizon() }

// stable is what all members have told to be durable there, with all that they
// had said until then: of each the last ack that was known here in full. ok is
// false if one has told nothing. A member counts until it is removed, however
// long it is silent: what it says may come by way of others who have collected
// nothing.
func (f *Folder) stable() (k model.VV, ok bool) {
	if f.o.Members == nil {
		return nil, false
	}
	members := f.o.Members()
	f.mu.Lock()
	defer f.mu.Unlock()
	k = f.durable
	for _, id := range members {
		a, told := f.told[id]
		if !told {
			return nil, false
		}
		k = k.Meet(a.K)
	}
	return k, true
}

// saveAcks writes down what members have told.
func (f *Folder) saveAcks() error {
	f.mu.Lock()
	acks := map[string]index.Ack{}
	for p := range f.untold {
		if f.untold[p] {
			acks[p] = f.told[p]
		}
	}
	clear(f.untold)
	f.mu.Unlock()
	for p, a := range acks {
		if err := f.ix.SetAck(p, a); err != nil {
			return err
		}
	}
	return nil
}

// collect drops what was removed before a time and is known to all, leaves
// first.
func (f *Folder) collect(ctx context.Context, before time.Time) (n int, err error) {
	stable, ok := f.stable()
	if !ok || len(stable) == 0 {
		return 0, nil
	}
	for range collectRuns {
		k, dirs, err := f.collectOnce(ctx, stable, before)
		if n += k; err != nil || k == 0 || dirs == 0 {
			return n, err
		}
	}
	return n, nil
}

// collectOnce looks at each tomb once; dirs is how many of dead directories
// there were.
func (f *Folder) collectOnce(ctx context.Context, stable model.VV, before time.Time) (n, dirs int, err error) {
	var last *index.Tomb
	for ctx.Err() == nil {
		tombs, err := f.ix.Tombs(before, last, collectMax)
		if err != nil || len(tombs) == 0 {
			return n, dirs, err
		}
		last = &tombs[len(tombs)-1]
		k := 0
		f.apply.Lock()
		t := f.ix.Begin()
		k = t.Unplaced(tombs)
		t.Abort()
		f.apply.Unlock()
		if dirs += k; k > 0 {
			if err := f.ix.Places(); err != nil {
				return n, dirs, err
			}
		}
		err = f.update(func(t *index.Tx) error {
			n += t.Collect(stable, tombs)
			return t.Err()
		})
		if err != nil {
			return n, dirs, fmt.Errorf("collect: %w", err)
		}
	}
	return n, dirs, ctx.Err()
}

// Collect drops now what was removed before a time and is known to all members
// that count, as Run does each day with what was removed long ago.
func (f *Folder) Collect(ctx context.Context, before time.Time) (int, error) {
	return f.collect(ctx, before)
}
