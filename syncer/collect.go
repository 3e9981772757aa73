package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

const (
	tombDays        = 90      // what was removed is remembered for so long at least
	collectMax      = 256     // nodes looked at under one lock
	collectDirs     = 1 << 16 // dead directories looked for in the rows at once
	collectRuns     = 64      // levels of directories collected at once
	collectTogether = 1 << 12 // directories that are in each other, dropped under one lock
)

// Horizon is what a member must know for its changes to be joined as they are:
// who does not know all of it may hold what was collected here.
func (f *Folder) Horizon() model.VV { return f.ix.Horizon() }

// stable is what all members have told, in this life, to be durable there, with all
// that they had said until then: of each the last ack that was known here in full.
// ok is false if one has told nothing. A member counts until it is removed, however
// long it is silent: what it says may come by way of others who have collected
// nothing.
func (f *Folder) stable() (k model.VV, life uint64, ok bool) {
	if f.o.Members == nil {
		return nil, 0, false
	}
	members := f.o.Members()
	f.mu.Lock()
	defer f.mu.Unlock()
	k = f.durable
	for _, id := range members {
		a, told := f.told[id]
		if !told {
			return nil, 0, false
		}
		k = k.Meet(a.K)
	}
	return k, f.lives, true
}

// hear takes what members have told, of which all is known here by now: what a
// peer told before it was durable here too it may not tell again. The caller
// holds mu.
func (f *Folder) hear() {
	for p, k := range f.early {
		if k.LE(f.durable) {
			f.untold[p] = f.untold[p] || !k.Equal(f.told[p].K)
			f.told[p] = index.Ack{K: k, Seen: f.o.Now()}
			delete(f.early, p)
		}
	}
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

// A collection drops what was removed before a time and is known to all, leaves
// first.
type collection struct {
	f      *Folder
	stable model.VV // known to all
	life   uint64   // as long as this one lasts
	n      int      // dropped so far
}

// collect looks at each tomb once, and then at dead directories level by level,
// so long as that goes on. A member that has begun anew, or is not complete, has
// nothing that is known to all.
func (f *Folder) collect(ctx context.Context, before time.Time) (int, error) {
	stable, life, ok := f.stable()
	if !ok || len(stable) == 0 {
		return 0, nil
	}
	c := &collection{f: f, stable: stable, life: life}
	err := c.run(ctx, before)
	f.watch(nil, false)
	if errors.Is(err, ErrAnew) {
		err = nil
	}
	return c.n, err
}

func (c *collection) run(ctx context.Context, before time.Time) error {
	var dead []index.Tomb
	for last := (*index.Tomb)(nil); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		tombs, err := c.f.ix.Tombs(before, last, collectMax)
		if err != nil {
			return fmt.Errorf("collect: %w", err)
		}
		if len(tombs) == 0 {
			return c.dirs(ctx, dead)
		}
		last = &tombs[len(tombs)-1]
		dirs, err := c.drop(tombs, nil)
		if err != nil {
			return err
		}
		if dead = append(dead, dirs...); len(dead) >= collectDirs {
			if err := c.dirs(ctx, dead); err != nil {
				return err
			}
			dead = nil
		}
	}
}

// dirs drops dead directories: all rows are gone through once for each level, and
// once more for those that are in each other.
func (c *collection) dirs(ctx context.Context, dead []index.Tomb) error {
	for level, was := 0, -1; level < collectRuns && len(dead) > 0 && len(dead) != was; level++ {
		w := c.f.watch(dead, false)
		if err := c.f.ix.Places(w); err != nil {
			return err
		}
		was = len(dead)
		var left []index.Tomb
		for some := range slices.Chunk(dead, collectMax) {
			if err := ctx.Err(); err != nil {
				return err
			}
			dirs, err := c.drop(some, w)
			if err != nil {
				return err
			}
			left = append(left, dirs...)
		}
		dead = left
	}
	return c.together(ctx, dead[:min(len(dead), collectTogether)])
}

// together drops dead directories that are or were in each other.
func (c *collection) together(ctx context.Context, dead []index.Tomb) error {
	if len(dead) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	w := c.f.watch(dead, true)
	if err := c.f.ix.Places(w); err != nil {
		return err
	}
	return c.update(func(t *index.Tx) { c.n += t.CollectTogether(c.stable, dead, w) })
}

// update drops something, unless this member has begun anew meanwhile.
func (c *collection) update(drop func(t *index.Tx)) error {
	err := c.f.update(func(t *index.Tx) error {
		if c.f.life() != c.life || c.f.ix.Incomplete() {
			return ErrAnew
		}
		drop(t)
		return t.Err()
	})
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	return nil
}

// drop drops what it can of some tombs; dirs are the dead directories that stay.
func (c *collection) drop(tombs []index.Tomb, w *index.Watch) (dirs []index.Tomb, err error) {
	n := 0
	err = c.update(func(t *index.Tx) { n, dirs = t.Collect(c.stable, tombs, w) })
	if err == nil {
		c.n += n
	}
	return dirs, err
}

// watch begins to look what is in dead directories, or ends it.
func (f *Folder) watch(dirs []index.Tomb, together bool) *index.Watch {
	f.apply.Lock()
	defer f.apply.Unlock()
	return f.ix.Watch(dirs, together)
}

// life counts how often this member has begun anew.
func (f *Folder) life() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lives
}

// Collect drops now what was removed before a time and is known to all members
// that count, as Run does each day with what was removed long ago.
func (f *Folder) Collect(ctx context.Context, before time.Time) (int, error) {
	return f.collect(ctx, before)
}
