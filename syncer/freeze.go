package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
)

// Bytes are held still, chunked and stored without any lock. What cannot be read
// or stored is left out of the cut, and not tried again for a while; peers are
// asked for a block that is not here, and nobody waits for that.

const tryAgain = time.Minute // after bytes could not be read

// A frozen file is one whose bytes up to a layer are in the store.
type frozen struct {
	ino     Ino
	gen     uint64
	content string
	alloc   int64
	mtime   int64
	ctime   int64
	v       Version
	stale   bool  // freezing found nothing
	with    []Ino // the database that it was selected with
}

// A freeze is the files that were frozen, and those that could not be.
type freeze struct {
	mu     sync.Mutex // guards files and failed until all are done
	files  map[Ino]*frozen
	failed []failure
	err    error // of all
}

// A failure is why the bytes of a file cannot be cut.
type failure struct {
	ino Ino
	err error
}

// freezeAhead begins to freeze, and returns what waits for the end.
func (f *Folder) freezeAhead(ctx context.Context, inos map[Ino]dirtyFile) func() *freeze {
	z := &freeze{files: map[Ino]*frozen{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		z.err = f.freeze(context.WithValue(ctx, atHand{}, true), z, inos)
	}()
	return func() *freeze { <-done; return z }
}

// freeze holds the bytes of the inodes still, those of a database at one
// instant, and stores them; a few at once.
func (f *Folder) freeze(ctx context.Context, z *freeze, inos map[Ino]dirtyFile) error {
	twice := !f.alone()
	var g errgroup.Group
	g.SetLimit(freezing)
	for _, all := range together(inos) {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if f.rests(all) { // or it was opened while others were stored: selected again later
				xs, ino, err := f.freezeAll(ctx, all, inos, twice)
				z.add(xs, ino, err)
			}
			return nil
		})
	}
	g.Wait() // its functions return nil
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(z.files) == 0 {
		return nil
	}
	err := f.store.Flush(ctx)
	if errors.Is(err, ErrFull) {
		for _, ino := range sortedInos(z.files) {
			if z.files[ino].v.Content.Size > content.MaxInline {
				z.failed = append(z.failed, failure{ino, err})
				delete(z.files, ino)
			}
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("store blocks: %w", err)
	}
	return nil
}

// add takes in what was frozen together, or which could not be. The others need not wait
// for it.
func (z *freeze) add(xs []*frozen, ino Ino, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if err != nil {
		z.failed = append(z.failed, failure{ino, err})
		return
	}
	for _, x := range xs {
		z.files[x.ino] = x
	}
}

const freezing = 2 // files, or databases, that are read at once

// together are the inodes that are frozen at one instant each: databases, and
// files alone.
func together(inos map[Ino]dirtyFile) (out [][]Ino) {
	at := map[nameAt]int{}
	for _, ino := range sortedInos(inos) {
		group := inos[ino].group
		if group == (nameAt{}) {
			group.Dir = ino // alone
		}
		i, ok := at[group]
		if !ok {
			i = len(out)
			at[group], out = i, append(out, nil)
		}
		out[i] = append(out[i], ino)
	}
	return out
}

// freezeAll freezes inodes at one instant and stores them; none if they are being
// written to; twice: what stands in a file is stored as well. If it fails, it says at which.
func (f *Folder) freezeAll(ctx context.Context, all []Ino, inos map[Ino]dirtyFile, twice bool) (out []*frozen, bad Ino, err error) {
	layers, err := f.surf.Freeze(ctx, all...)
	defer func() {
		for _, l := range layers {
			if c, ok := l.(io.Closer); ok {
				c.Close() // it was only read
			}
		}
	}()
	if !f.rests(all) { // just now: half of what is being written may be in it
		return nil, 0, nil
	}
	if err != nil {
		return nil, all[0], err
	}
	var mtime int64 // of a database, one: so the same member's versions win
	for _, l := range layers {
		if l != nil {
			mtime = max(mtime, l.Mtime())
		}
	}
	for i, ino := range all {
		x, err := f.storeLayer(ctx, ino, inos[ino], layers[i], mtime, twice)
		if err != nil {
			return nil, ino, err
		}
		out = append(out, x)
	}
	return out, 0, nil
}

// rests tells whether files that are cut together may be cut now.
func (f *Folder) rests(inos []Ino) bool {
	var use Writing
	for _, ino := range inos {
		use = use.join(f.surf.Writing(ino))
	}
	yes, _ := use.due(time.Now())
	return yes
}

// weigh remembers which files could be frozen.
func (r *cutRun) weigh(z *freeze) {
	for _, x := range z.failed {
		r.fail(x.ino, x.err)
	}
	for ino := range z.files {
		r.f.forgive(ino)
	}
}

// fail leaves a file out of the run, which cannot be read or stored, and has it
// tried again after a while.
func (r *cutRun) fail(ino Ino, err error) {
	f, now := r.f, time.Now()
	again := now.Add(tryAgain)
	part := errors.Is(err, ErrNotExist) || errors.Is(err, ErrChanged) || errors.Is(err, context.Canceled) // it may just have been removed or written to, or another failed
	if part || errors.Is(err, ErrFull) {                                                                  // there may be room soon
		again = now.Add(longest)
	}
	r.left.inos[ino] = true
	f.mu.Lock()
	maps.DeleteFunc(f.failing, func(_ Ino, at time.Time) bool { return !now.Before(at) })
	f.failing[ino] = again
	f.mu.Unlock()
	if part {
		return
	}
	if !errors.Is(err, ErrFull) || !errors.Is(r.failed, ErrFull) { // said once
		f.log.Error("cut", "ino", ino, "err", err)
	}
	if r.failed == nil {
		r.failed = fmt.Errorf("cut inode %d: %w", ino, err)
	}
	if l := (*lacking)(nil); errors.As(err, &l) {
		select {
		case f.lacks <- lack{ino, l.id}:
		default: // asked for when it is tried again
		}
	}
}

// until is when a file may be tried again that could not be read or stored; zero:
// at any time.
func (f *Folder) until(ino Ino, now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := f.failing[ino]; now.Before(at) {
		return at
	}
	return time.Time{}
}

func (f *Folder) storeLayer(ctx context.Context, ino Ino, d dirtyFile, l Layer, mtime int64, twice bool) (*frozen, error) {
	if l == nil {
		return &frozen{ino: ino, gen: d.gen, stale: true, with: d.with}, nil
	}
	base := l.Base().Content
	var c content.Content
	var st content.Stat
	var err error
	to := f.blockStore()
	var places *blocks.Placing
	if x, ok := l.(inFile); ok {
		places = f.store.PlaceIn(x.File())
		if to = (placing{to, places, twice}); twice {
			f.double(l.Size())
		}
	}
	if base.Size == 0 {
		c, st, err = content.Write(ctx, to, f.o.Seed, cutMode(base, d.name), l, l.Size(), l.Holes())
	} else {
		places = nil // what it does not read it knows nothing of
		c, st, err = content.Edit(ctx, f.blockStore(), f.o.Seed, base, l.Dirty(), l, l.Size())
	}
	if err == nil && places != nil {
		err = places.Done()
	}
	if err != nil {
		return nil, err
	}
	x := &frozen{ino: ino, gen: l.Gen(), content: c.Encode(), alloc: st.Alloc, mtime: mtime, ctime: l.Ctime(), with: d.with}
	x.v = Version{Content: c, Mtime: x.mtime}
	return x, nil
}

// cutMode chooses how a file is cut, at its first cut and for good.
func cutMode(base content.Content, name string) content.Cut {
	switch strings.ToLower(path.Ext(name)) {
	case ".db", ".sqlite", ".sqlite3", ".qcow2", ".img", ".vdi", ".vmdk", ".raw":
		return content.Fixed
	}
	return base.Cut
}

// atHand marks a context in which blocks are read that are here, and peers are
// not waited for.
type atHand struct{}

// lacking is why something cannot be read at once: a block is not here, or
// damaged.
type lacking struct {
	id  blocks.ID
	err error
}

func (l *lacking) Error() string { return l.err.Error() }
func (l *lacking) Unwrap() error { return l.err }

// A lack is a block that the cut of a file lacked.
type lack struct {
	ino Ino
	id  blocks.ID
}

// runLender asks the peers for what cuts lack. What they give has the file tried
// again at once.
func (f *Folder) runLender(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(pullFiles)
	for {
		select {
		case <-ctx.Done():
			return cmp.Or(g.Wait(), ctx.Err())
		case l := <-f.lacks:
			g.Go(func() error {
				if f.fetchNow(ctx, l.id) == nil {
					f.retry(l.ino)
				}
				return nil
			})
		}
	}
}

// forgive lets a file be tried at any time.
func (f *Folder) forgive(ino Ino) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.failing, ino)
}

// retry has a file cut that has failed.
func (f *Folder) retry(ino Ino) {
	f.forgive(ino)
	if r, err := f.ix.Attr(ino); err == nil {
		f.pace.note(groupOf(ino, r), time.Now(), true)
	}
}

// fetchNow asks the peers for a block that somebody waits for.
func (f *Folder) fetchNow(ctx context.Context, id blocks.ID) error {
	ctx, cancel := context.WithTimeout(ctx, waitForIt)
	defer cancel()
	return f.o.Remote.Fetch(ctx, id, blocks.MaxBlock, Waiting)
}
