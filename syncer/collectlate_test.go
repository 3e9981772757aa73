package syncer

import (
	"context"
	"time"

	"github.com/clachanfs/clachan/syncer/index"
)

// CollectLate collects what all know now, when meanwhile has run.
func (f *Folder) CollectLate(ctx context.Context, before time.Time, meanwhile func()) (int, error) {
	stable, life, _ := f.stable()
	meanwhile()
	c := &collection{f: f, stable: stable, life: life}
	err := c.run(ctx, before)
	return c.n, err
}

// CollectSeen collects dead directories as the rows were before meanwhile has
// run, by a look that is the newest or not.
func (f *Folder) CollectSeen(before time.Time, newest bool, meanwhile func()) (int, error) {
	stable, life, _ := f.stable()
	c := &collection{f: f, stable: stable, life: life}
	tombs, err := f.ix.Tombs(before, nil, 1<<20)
	if err != nil {
		return 0, err
	}
	dirs, err := c.drop(tombs, nil)
	if err != nil {
		return 0, err
	}
	w := f.watch(dirs, false)
	if err := f.ix.Places(w); err != nil {
		return 0, err
	}
	if !newest {
		f.watch(dirs, false)
	}
	meanwhile()
	c.n = 0
	_, err = c.drop(dirs, w)
	return c.n, err
}

// CollectBySome collects with a look at all rows for each so many tombs, again
// as long as something goes.
func (f *Folder) CollectBySome(before time.Time, some int) (int, error) {
	stable, life, _ := f.stable()
	c := &collection{f: f, stable: stable, life: life}
	for was := -1; was < c.n; {
		was = c.n
		for last := (*index.Tomb)(nil); ; {
			tombs, err := f.ix.Tombs(before, last, some)
			if err != nil {
				return c.n, err
			}
			if len(tombs) == 0 {
				break
			}
			last = &tombs[len(tombs)-1]
			dirs, err := c.drop(tombs, nil)
			if err != nil {
				return c.n, err
			}
			if len(dirs) == 0 {
				continue
			}
			w := f.watch(dirs, false)
			if err := f.ix.Places(w); err != nil {
				return c.n, err
			}
			if _, err := c.drop(dirs, w); err != nil {
				return c.n, err
			}
		}
	}
	return c.n, nil
}
