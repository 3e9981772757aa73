package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/clachanfs/clachan/blocks"
)

// The cutter drains our drift: it turns what the user did into signed changes.
// First what is due is selected, enough for a few batches. Of each bytes are frozen,
// chunked and stored without any lock, then the tree is compared with the view under
// the apply lock and the difference logged; at last all is synced and announced.

const (
	cutNames    = 400 // names that one batch is filled to; what is related to the last comes along
	cutPortions = 4   // batches that are selected, and synced, at once
)

// runCutter cuts what is due.
func (f *Folder) runCutter(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var asked chan error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-f.pace.kick:
		case asked = <-f.cuts:
		}
		dirs, next := f.pace.due(time.Now(), asked != nil)
		var err error
		if asked != nil {
			var failed error
			failed, err = f.cutAll(ctx)
			asked <- cmp.Or(err, failed)
		} else if len(dirs) > 0 {
			_, err = f.cut(ctx, dirs)
		}
		if err != nil && ctx.Err() == nil {
			f.log.Error("cut", "err", err)
			for dir := range dirs { // tried again
				f.pace.note(dir, time.Now().Add(longest), true)
			}
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// Cut cuts everything that is closed or rests, now, and returns when it is
// durable and announced. A file that cannot be read or stored holds up nothing
// else: it is tried again later, and the first such is what is returned. Run must
// be running.
func (f *Folder) Cut(ctx context.Context) error {
	return f.patiently(ctx, func() error {
		done := make(chan error, 1)
		select {
		case f.cuts <- done:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// patiently repeats a cut that lacked a block as long as peers give what it
// lacked.
func (f *Folder) patiently(ctx context.Context, cut func() error) error {
	asked := map[blocks.ID]bool{}
	for {
		err := cut()
		var l *lacking
		if !errors.As(err, &l) || asked[l.id] {
			return err
		}
		asked[l.id] = true
		if ferr := f.fetchNow(ctx, l.id); ferr != nil {
			return errors.Join(err, ferr)
		}
	}
}

// cutLast cuts what there is as Run ends.
func (f *Folder) cutLast(ctx context.Context) error {
	return f.patiently(ctx, func() error {
		failed, err := f.cutAll(ctx)
		return cmp.Or(err, failed)
	})
}

func (f *Folder) cutAll(ctx context.Context) (failed, err error) { return f.cut(ctx, nil) }

// A cutRun is one run of the cutter, which goes on without what could not be cut.
type cutRun struct {
	f      *Folder
	left   left
	failed error // of the first file that could not be read or stored
}

// left is what was selected and could not be cut: it has been noted again; and which
// databases the run has cut, or, if false, has seen to wait.
type left struct {
	names map[nameAt]bool
	inos  map[Ino]bool
	had   map[nameAt]bool
}

// add takes in what was selected and not cut.
func (l left) add(selected, cut *selection) {
	for k := range selected.names {
		if _, ok := cut.names[k]; !ok {
			l.names[k] = true
		}
	}
	for ino := range selected.inos {
		if !cut.inos[ino] {
			l.inos[ino] = true
		}
	}
}

// cut cuts the directories given, all if nil, in as many batches as it takes.
// Each cuts something, or leaves all that was selected for it: what cannot be cut
// stops nothing else. failed is why the first file was left that could not be
// read or stored.
func (f *Folder) cut(ctx context.Context, dirs map[Ino]bool) (failed, err error) {
	if f.o.ReadOnly {
		return nil, nil
	}
	r := &cutRun{f: f, left: left{map[nameAt]bool{}, map[Ino]bool{}, map[nameAt]bool{}}}
	for more, owes := true, false; more; {
		s, err := r.choose(dirs, owes)
		if err != nil || s.empty() {
			return r.failed, err
		}
		more, owes = s.more, s.owes
		if err := r.round(ctx, s); err != nil {
			return r.failed, err
		}
	}
	return r.failed, nil
}

// choose selects what the next batches are about, a database if one is owed.
func (r *cutRun) choose(dirs map[Ino]bool, owed bool) (*selection, error) {
	f := r.f
	if err := f.broken(); err != nil {
		return nil, err
	}
	s := &selection{}
	err := f.locked(func() (err error) {
		if !f.ix.Incomplete() { // first it must be known what is ours
			s, err = f.selectDrift(dirs, r.left, owed)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("select: %w", err)
	}
	f.await(s)
	return s, nil
}

// round cuts what was selected, portion by portion: while one is logged the bytes of the next
// are stored. Blocks are held until rows name them, and those of what was written over
// until the surface reads the next.
func (r *cutRun) round(ctx context.Context, s *selection) (err error) {
	f := r.f
	defer f.store.Hold()()
	var done []*frozen
	defer func() {
		if err == nil || len(done) > 0 {
			err = cmp.Or(err, r.settle(done))
		}
	}()
	portions := s.split()
	next := f.freezeAhead(ctx, portions[0].dirty)
	for i, s := range portions {
		now := next()
		if now.err != nil {
			return now.err
		}
		r.weigh(now)
		if i+1 < len(portions) {
			next = f.freezeAhead(ctx, portions[i+1].dirty)
		}
		cut, some, err := f.applyCut(s, now.files, r.left)
		if err != nil {
			next() // nobody is left behind
			return err
		}
		for _, x := range some {
			x.content = "" // it has been logged, and v is left
		}
		done = append(done, some...)
		r.left.add(s, cut)
		for _, later := range portions[i+1:] { // from which a move has taken something along
			later.without(cut)
		}
	}
	return nil
}

// settle makes durable what was cut, and has the surface go on from there.
func (r *cutRun) settle(done []*frozen) error {
	if err := r.f.Sync(); err != nil {
		return err
	}
	for _, x := range done {
		r.f.surf.Rebase(x.ino, x.gen, x.v)
	}
	return nil
}
