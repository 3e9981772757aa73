package syncer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// The puller drains their drift: it fetches the bytes of versions that others
// made, and shows each once all its blocks are here and verified.

const (
	pullFiles  = 16               // files fetched at once
	pullBlocks = 32               // blocks of one file asked for at once
	waitForIt  = 30 * time.Second // how long a reader waits for a block
	publishMax = 256              // files shown in one transaction
	retryIn    = 2 * time.Second
	unparkIn   = 10 * time.Second // what nobody had, or there was no room for, is asked for again so often at least
)

// pulled is a file whose wanted version is complete.
type pulled struct {
	ino     Ino
	id      model.ID // the node whose version it is
	v       model.Version
	alloc   int64
	release func() // of its blocks
}

// runPuller fetches and publishes.
func (f *Folder) runPuller(ctx context.Context) error {
	ready := make(chan pulled, publishMax)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.runPublisher(ctx, ready) })
	g.Go(func() error {
		tick := time.NewTicker(unparkIn)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
				f.unpark()
				f.unparkFull()
			}
		}
	})
	g.Go(func() error {
		slots := make(chan struct{}, pullFiles)
		for {
			ino, ok := f.wants.take()
			if !ok {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-f.wants.kick:
				}
				continue
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case slots <- struct{}{}:
			}
			g.Go(func() error {
				defer func() { <-slots }()
				f.pull(ctx, ino, ready)
				return nil
			})
		}
	})
	err := g.Wait()
	for len(ready) > 0 {
		(<-ready).release()
	}
	return err
}

// pull fetches the bytes of one file; it is tried again later if they are not
// to be had.
func (f *Folder) pull(ctx context.Context, ino Ino, ready chan<- pulled) {
	p, err := f.pullOne(ctx, ino)
	if err == nil && p.v.Dot != (model.Dot{}) {
		select {
		case ready <- p:
		case <-ctx.Done():
			p.release()
		}
		return
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	if errors.Is(err, ErrOffline) {
		f.mu.Lock()
		f.parked = append(f.parked, ino)
		f.mu.Unlock()
		return
	}
	if errors.Is(err, ErrFull) {
		f.parkFull(err, ino)
		return
	}
	f.log.Warn("fetch", "ino", ino, "err", err)
	time.AfterFunc(retryIn, func() { f.wants.add(ino) })
}

// unpark tries again what nobody had, now that somebody was heard of.
func (f *Folder) unpark() {
	f.mu.Lock()
	parked := f.parked
	f.parked = nil
	f.mu.Unlock()
	for _, ino := range parked {
		f.wants.add(ino)
	}
}

// parkFull keeps files whose bytes there is no room for. It is said once, until
// all bytes are here.
func (f *Folder) parkFull(err error, inos ...Ino) {
	f.mu.Lock()
	said := f.cramped
	f.cramped = true
	for _, ino := range inos {
		f.crammed[ino] = true
	}
	f.mu.Unlock()
	if !said {
		f.log.Warn("no room: what others write is fetched once there is", "err", err)
	}
}

// unparkFull tries again what there was no room for, if there is some. Asking
// wakes the expirer if there is not.
func (f *Folder) unparkFull() {
	f.mu.Lock()
	waits, said := len(f.crammed) > 0, f.cramped
	f.mu.Unlock()
	if !waits && said && f.complete() {
		f.mu.Lock()
		f.cramped = false
		f.mu.Unlock()
	}
	if !waits || f.Room() != nil {
		return
	}
	f.mu.Lock()
	inos := slices.Sorted(maps.Keys(f.crammed))
	clear(f.crammed)
	f.mu.Unlock()
	for _, ino := range inos {
		f.wants.add(ino)
	}
}

func (f *Folder) pullOne(ctx context.Context, ino Ino) (pulled, error) {
	var (
		w     index.Bytes
		drift bool
		v     model.Version
		id    model.ID
	)
	err := f.locked(func() error {
		if err := f.broken(); err != nil {
			return err
		}
		t := f.ix.Begin()
		defer t.Abort()
		w, drift = t.Bytes(ino)
		v, id = t.Wanted(ino), t.Owner(ino)
		return t.Err()
	})
	if err != nil {
		return pulled{}, err
	}
	if !drift || w.Ours || v.Dot == (model.Dot{}) {
		return pulled{}, nil
	}
	c, err := content.Decode(v.Content)
	if err != nil {
		return pulled{}, err
	}
	release, err := f.fetchAll(ctx, c, Normal, f.part(ino))
	if err != nil {
		f.forgetPart(ino)
		return pulled{}, err
	}
	alloc, err := content.Alloc(ctx, f.Blocks(), c)
	if err != nil {
		release()
	}
	return pulled{ino, id, v, alloc, release}, err
}

// fetchAll returns when all blocks of a content are here, and holds them. List
// blocks tell of further ones, so it looks again until nothing is missing.
func (f *Folder) fetchAll(ctx context.Context, c content.Content, class Class, p *part) (release func(), err error) {
	for {
		p.look()
		release := f.store.Hold()
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(pullBlocks)
		seen := map[blocks.ID]bool{}
		var room error
		complete, err := content.Missing(ctx, f.store, c, func(id blocks.ID, size int64) bool {
			if len(seen) == 0 {
				if room = f.Room(); room != nil { // nothing is asked for that could not be kept
					return false
				}
			}
			if !seen[id] {
				seen[id] = true
				p.lacks(size)
				g.Go(func() error { return p.got(size, f.o.Remote.Fetch(gctx, id, size, class)) })
			}
			return p.goesOn(gctx.Err() == nil && len(seen) < 1<<12)
		})
		p.looked(c.Size)
		if ferr := g.Wait(); err == nil && ferr == nil && complete {
			return release, nil
		} else if release(); ferr != nil {
			return nil, ferr
		}
		if err != nil {
			return nil, fmt.Errorf("find missing blocks: %w", err)
		}
		if room != nil {
			return nil, room
		}
	}
}

// runPublisher shows complete files, many in one transaction when many are.
func (f *Folder) runPublisher(ctx context.Context, ready <-chan pulled) error {
	for {
		var ps []pulled
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-ready:
			ps = append(ps, p)
		case <-f.overdue:
			if err := f.splitSets(); err != nil {
				f.log.Error("publish", "err", err)
			}
			continue
		}
		for more := true; more && len(ps) < publishMax; {
			select {
			case p := <-ready:
				ps = append(ps, p)
			default:
				more = false
			}
		}
		err := f.publish(ctx, ps)
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, ErrFull):
			inos := make([]Ino, len(ps))
			for i, p := range ps {
				inos[i] = p.ino
			}
			f.parkFull(err, inos...)
		default:
			f.log.Error("publish", "err", err)
			for _, p := range ps {
				time.AfterFunc(retryIn, func() { f.wants.add(p.ino) })
			}
		}
	}
}

func (f *Folder) publish(ctx context.Context, ps []pulled) error {
	defer func() {
		for _, p := range ps {
			p.release()
			f.forgetPart(p.ino)
		}
	}()
	if err := f.store.Flush(ctx); err != nil { // blocks before the rows that name them
		return err
	}
	var later []Ino
	err := f.update(func(t *index.Tx) error {
		for _, p := range ps {
			if !t.Arrive(p.ino, p.v, p.alloc, f.busy) {
				t.Keep(p.id, p.v)
				if w, drift := t.Bytes(p.ino); drift && !w.Ours {
					later = append(later, p.ino)
				}
			}
		}
		return t.Err()
	})
	for _, ino := range later { // something newer is wanted by now
		time.AfterFunc(quiet, func() { f.wants.add(ino) })
	}
	if err == nil && f.complete() {
		f.o.Remote.Announce(f.Knowledge())
	}
	return err
}

func (f *Folder) busy(ino Ino) bool { return f.surf != nil && f.surf.Busy(ino) }

// publishInline shows at once what needs no blocks.
func (f *Folder) publishInline(t *index.Tx) {
	for _, ino := range t.Fresh() {
		if t.Waits(ino) {
			continue
		}
		v := t.Wanted(ino)
		if c, err := content.Decode(v.Content); err == nil && c.Size <= content.MaxInline {
			t.Publish(ino, v, c.Size, f.busy)
		}
	}
}

// complete tells whether no bytes are wanted.
func (f *Folder) complete() bool {
	f.apply.Lock()
	defer f.apply.Unlock()
	return !f.ix.Wanting()
}

// Wanting tells whether bytes of current versions are not here.
func (f *Folder) Wanting() bool { return !f.complete() }

// A Lack is what is missing here of current versions.
type Lack struct {
	Blocks, Bytes int64 // of a file that is being fetched what is still to come
	Wanted, Shown int64 // sizes of these files, and of what is shown in their place
}

// Lack tells what is missing here.
func (f *Folder) Lack() (l Lack) {
	f.apply.Lock()
	defer f.apply.Unlock()
	t := f.ix.Begin()
	defer t.Abort()
	f.ix.AllBytes(func(ino Ino, w index.Bytes) {
		if w.Ours {
			return
		}
		c, err := content.Decode(t.Wanted(ino).Content)
		if err != nil {
			return
		}
		left := c.Size - min(c.Size, f.partHere(ino))
		l.Blocks += max(1, left>>17)
		l.Bytes += left
		l.Wanted += c.Size
		if r := t.Row(ino); r != nil && r.Nlink > 0 {
			l.Shown += r.Size
		}
	})
	return l
}

// Missing is how many blocks of current versions, and bytes, are not here.
func (f *Folder) Missing() (n, bytes int64) {
	l := f.Lack()
	return l.Blocks, l.Bytes
}

// Blocks reads blocks; one that is not here, or damaged, is asked of the peers
// for a reader who waits.
func (f *Folder) Blocks() content.Getter { return getter{f} }

func (f *Folder) blockStore() content.Store {
	return struct {
		content.Getter
		content.Putter
	}{getter{f}, f.store}
}

type waits struct{}

// Interruptible returns ctx, but that waiting for the peers ends with wait: as on any
// disk, what is here is read to its end.
func Interruptible(ctx, wait context.Context) context.Context {
	return context.WithValue(ctx, waits{}, wait)
}

type getter struct{ f *Folder }

// Get implements content.Getter.
func (g getter) Get(ctx context.Context, id blocks.ID, buf []byte) ([]byte, error) {
	p, err := g.f.store.Get(ctx, id, buf)
	if !errors.Is(err, blocks.ErrNotFound) && !errors.Is(err, blocks.ErrDamaged) {
		return p, err
	}
	if ctx.Value(atHand{}) != nil {
		return nil, &lacking{id, err}
	}
	wait := ctx
	if w, ok := ctx.Value(waits{}).(context.Context); ok {
		wait = w
	}
	if ferr := g.f.fetchNow(wait, id); ferr != nil {
		return nil, errors.Join(err, ferr)
	}
	return g.f.store.Get(ctx, id, buf)
}

// offline is the Remote of a folder that nobody else shares.
type offline struct{}

func (offline) Announce(model.VV)                                    {}
func (offline) Fetch(context.Context, blocks.ID, int64, Class) error { return ErrOffline }
