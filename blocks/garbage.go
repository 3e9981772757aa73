package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// A sweep deletes the blocks that nothing names. It marks what is named, in one
// state of the rows that name blocks, and then drops the rest, from packs that
// were there before. What is put during a sweep is in later packs; what is found
// to be there already is marked by whoever finds it. That leaves what was put
// or found before the sweep and is not named yet: see [Store.Hold].

const (
	sweepChunk   = 256     // location rows deleted under one lock
	rewriteMax   = 64      // packs rewritten by one sweep
	rewriteGroup = 1 << 14 // blocks whose places are held at once while they are moved
)

// Swept is what a sweep did.
type Swept struct {
	Blocks    int   // deleted
	Packs     int   // given back, those rewritten included
	Rewritten int   // packs of which more than half was dead
	Bytes     int64 // stored bytes of these packs, less what was written again
}

// bitmap has a bit for each block of some packs.
type bitmap map[uint64][]uint64

func (m bitmap) set(pack uint64, i uint32) (fresh bool) {
	w := m[pack]
	if int(i/64) >= len(w) {
		return false
	}
	fresh = w[i/64]&(1<<(i%64)) == 0
	w[i/64] |= 1 << (i % 64)
	return fresh
}

func (m bitmap) has(pack uint64, i uint32) bool {
	w := m[pack]
	return int(i/64) < len(w) && w[i/64]&(1<<(i%64)) != 0
}

// Marks is which blocks of a store are named, as far as it was told.
type Marks struct {
	s *Store

	mu      sync.Mutex // guards what follows; a leaf
	packs   map[uint64]packRow
	walked  bitmap           // by Mark
	touched bitmap           // by who found the block here
	small   map[uint64]uint8 // the same of small rows: 1 walked, 2 touched
	end     uint64           // small rows from here on are not looked at
}

// NewMarks returns marks of nothing, of the packs there are.
func (s *Store) NewMarks(ctx context.Context) (*Marks, error) {
	m := &Marks{s: s, walked: bitmap{}, touched: bitmap{}, small: map[uint64]uint8{}}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	m.end = s.seq
	var err error
	if m.packs, err = s.packRows(); err != nil {
		return nil, fmt.Errorf("read pack table: %w", err)
	}
	for p, row := range m.packs {
		m.walked[p] = make([]uint64, (row.blocks+63)/64)
		m.touched[p] = make([]uint64, (row.blocks+63)/64)
	}
	return m, nil
}

// Mark says that a block is named. It returns its size if that is known, and
// whether it is news: then what is below a list is to be marked too. Of a block
// that is not here it is not; of one in memory, or in a pack made since, always.
func (m *Marks) Mark(id ID) (size int64, fresh bool, err error) {
	if m.s.inMemory(id) {
		return 0, true, nil
	}
	loc, err := m.s.locate(id)
	if errors.Is(err, ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case loc.flags&flagSmall == 0:
		if m.walked[loc.pack] == nil {
			return int64(loc.size), true, nil
		}
		fresh = m.walked.set(loc.pack, loc.index)
	default:
		fresh = m.small[loc.pack]&1 == 0
		m.small[loc.pack] |= 1
	}
	return int64(loc.size), fresh, nil
}

// touch says that somebody found a block here.
func (m *Marks) touch(loc location) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if loc.flags&flagSmall != 0 {
		m.small[loc.pack] |= 2
		return
	}
	m.touched.set(loc.pack, loc.index)
}

// dead tells whether nobody named a block that was there when the marks began.
func (m *Marks) dead(loc location) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if loc.flags&flagSmall != 0 {
		return loc.pack < m.end && m.small[loc.pack] == 0
	}
	if _, there := m.packs[loc.pack]; !there {
		return false
	}
	return !m.walked.has(loc.pack, loc.index) && !m.touched.has(loc.pack, loc.index)
}

// live counts the named blocks of a pack.
func (m *Marks) live(pack uint64) (n uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, t := m.walked[pack], m.touched[pack]
	for i := range w {
		n += uint32(bits.OnesCount64(w[i] | t[i]))
	}
	return n
}

// holders counts those who hold, for a sweep to wait for.
type holders struct {
	mu  sync.Mutex // guards cur and its count; a leaf
	cur *generation
}

type generation struct {
	n    int
	over bool          // nobody joins it any more
	done chan struct{} // closed when all of it have released
}

func newGeneration() *generation { return &generation{done: make(chan struct{})} }

// Hold keeps a sweep from deleting blocks that are put, or found by
// [Store.Has], from now on, until release is called: by then a committed row
// names them, or they are given up. It may be called more than once.
func (s *Store) Hold() (release func()) {
	h := &s.holders
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.cur
	g.n++
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if g.n--; g.n == 0 && g.over {
			close(g.done)
		}
	})
}

// turnOver begins a new generation and returns when the old one has released.
func (h *holders) turnOver(ctx context.Context) error {
	h.mu.Lock()
	g := h.cur
	h.cur = newGeneration()
	if g.over = true; g.n == 0 {
		close(g.done)
	}
	h.mu.Unlock()
	select {
	case <-g.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sweep deletes all blocks that mark does not name. mark is called when all who
// held have released; it must take the state of the rows that name blocks, and
// mark all of these, with those below lists. One sweep runs at a time.
func (s *Store) Sweep(ctx context.Context, mark func(context.Context, *Marks) error) (Swept, error) {
	n, err := s.sweep(ctx, mark)
	if err != nil {
		return n, fmt.Errorf("sweep blocks: %w", err)
	}
	return n, nil
}

func (s *Store) sweep(ctx context.Context, mark func(context.Context, *Marks) error) (n Swept, err error) {
	m, err := s.NewMarks(ctx)
	if err != nil {
		return n, err
	}
	s.gc.Lock()
	if s.marks != nil {
		s.gc.Unlock()
		return n, errors.New("another sweep runs")
	}
	s.marks = m
	s.gc.Unlock()
	defer func() {
		s.gc.Lock()
		s.marks = nil
		s.gc.Unlock()
	}()
	if err := s.holders.turnOver(ctx); err != nil {
		return n, err
	}
	if err := mark(ctx, m); err != nil {
		return n, err
	}
	if n.Blocks, err = s.dropDead(ctx, m); err != nil {
		return n, err
	}
	if err := s.dropPacks(ctx, m, &n); err != nil {
		return n, err
	}
	if err := s.rewrite(ctx, m, &n); err != nil {
		return n, err
	}
	return n, s.countGarbage(m)
}

// packRows returns the rows of the packs of s.
func (s *Store) packRows() (map[uint64]packRow, error) {
	out := map[uint64]packRow{}
	err := scanTable(s.d.meta, s.folder, tabPacks, func(k, v []byte) error {
		p, err := parsePackRowKey(k)
		if err == nil {
			out[p], err = parsePackRow(v)
		}
		return err
	})
	return out, err
}

// eachLocation yields the places of the blocks of s, by id, from one on.
func (s *Store) eachLocation(from ID, yield func(ID, location) error) error {
	return scan(s.d.meta, blockKey(s.folder, from), tableKey(s.folder, tabBlocks+1), func(k, v []byte) error {
		loc, err := parseLocation(v)
		if err == nil && len(k) != 5+32 {
			err = errRow
		}
		if err != nil {
			return err
		}
		return yield(ID(k[5:]), loc)
	})
}

func scanTable(db *pebble.DB, folder uint32, table byte, yield func(k, v []byte) error) error {
	return scan(db, tableKey(folder, table), tableKey(folder, table+1), yield)
}

func scan(db *pebble.DB, from, to []byte, yield func(k, v []byte) error) (err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = yield(it.Key(), v)
		}
		if err != nil {
			return err
		}
	}
	return it.Error()
}

// dropDead deletes the rows of dead blocks.
func (s *Store) dropDead(ctx context.Context, m *Marks) (n int, err error) {
	var chunk []place
	flush := func() error {
		k, err := s.dropChunk(ctx, m, chunk)
		n += k
		chunk = chunk[:0]
		return err
	}
	err = s.eachLocation(ID{}, func(id ID, loc location) error {
		if m.dead(loc) {
			chunk = append(chunk, place{id, loc})
		}
		if len(chunk) < sweepChunk {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return n, err
}

// place is where a block is.
type place struct {
	id ID
	location
}

// dropChunk deletes the rows of blocks that are still dead and where they were.
func (s *Store) dropChunk(ctx context.Context, m *Marks, chunk []place) (n int, err error) {
	if err := s.takeTurn(ctx); err != nil {
		return 0, err
	}
	defer func() { <-s.turn }()
	s.gc.Lock()
	defer s.gc.Unlock()
	s.rows.Lock()
	defer s.rows.Unlock()
	b := s.d.meta.NewBatch()
	for _, p := range chunk {
		now, err := s.locate(p.id)
		if errors.Is(err, ErrNotFound) || err == nil && (!now.at(p.location) || !m.dead(now)) {
			continue
		}
		if err == nil {
			err = b.Delete(blockKey(s.folder, p.id), nil)
		}
		if err == nil && p.flags&flagSmall != 0 {
			err = b.Delete(smallKey(s.folder, p.pack), nil)
		}
		if err != nil {
			return n, errors.Join(err, b.Close())
		}
		n++
	}
	if n > 0 {
		err = b.Commit(pebble.NoSync)
	}
	return n, errors.Join(err, b.Close())
}

// takeTurn makes the caller the one who writes packs.
func (s *Store) takeTurn(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		<-s.turn
		return ErrClosed
	}
	return nil
}

// dropPacks gives back the packs without live blocks: first their rows, then,
// when it is durable that nothing names them, the packs.
func (s *Store) dropPacks(ctx context.Context, m *Marks, n *Swept) error {
	var dead []uint64
	for p, row := range m.packs {
		if m.live(p) == 0 {
			dead = append(dead, p)
			n.Bytes += int64(row.bytes)
		}
	}
	n.Packs += len(dead)
	return s.givePacks(ctx, dead, s.d.meta.NewBatch())
}

// givePacks commits b without the rows of packs, durably, and then excises these.
func (s *Store) givePacks(ctx context.Context, packs []uint64, b *pebble.Batch) error {
	var err error
	for _, p := range packs {
		err = errors.Join(err, b.Delete(packRowKey(s.folder, p), nil))
	}
	if err == nil && len(packs) > 0 {
		err = b.Commit(pebble.Sync)
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	slices.Sort(packs)
	return s.d.excise(ctx, packs)
}

// rewrite moves the live blocks of packs that are mostly dead together, and
// gives these packs back.
func (s *Store) rewrite(ctx context.Context, m *Marks, n *Swept) error {
	var some []uint64
	for p, row := range m.packs {
		if live := m.live(p); live > 0 && uint64(live)*10 <= uint64(row.blocks)*4 {
			some = append(some, p)
		}
	}
	slices.Sort(some)
	some = some[:min(len(some), rewriteMax)]
	for len(some) > 0 {
		group := map[uint64]bool{}
		for blocks := 0; len(some) > 0 && (len(group) == 0 || blocks < rewriteGroup); some = some[1:] {
			group[some[0]] = true
			blocks += int(m.live(some[0]))
		}
		if err := s.rewriteGroup(ctx, m, group, n); err != nil {
			return err
		}
	}
	return nil
}

// rewriteGroup moves the blocks of some packs, in the order in which they are,
// and gives the packs back as soon as they are empty: there may be little room.
// One with a block that the disk cannot read now leaves the group: it may hold
// the only copy.
func (s *Store) rewriteGroup(ctx context.Context, m *Marks, group map[uint64]bool, n *Swept) error {
	var places []place
	err := s.eachLocation(ID{}, func(id ID, loc location) error {
		if loc.flags&(flagSmall|flagDamaged) == 0 && group[loc.pack] {
			places = append(places, place{id, loc})
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.pack, b.pack), cmp.Compare(a.index, b.index))
	})
	for {
		var empty []uint64
		for p := range group {
			if len(places) == 0 || p < places[0].pack {
				delete(group, p)
				empty = append(empty, p)
				n.Bytes += int64(m.packs[p].bytes)
			}
		}
		n.Packs += len(empty)
		n.Rewritten += len(empty)
		if err := s.givePacks(ctx, empty, s.d.meta.NewBatch()); err != nil || len(places) == 0 {
			return err
		}
		k, written, err := s.rewritePack(ctx, places, group)
		if err != nil {
			return err
		}
		n.Bytes -= written
		places = places[k:]
	}
}

// rewritePack moves the first blocks into one new pack and returns how many. When
// there is no room for new blocks it takes those of one pack only, so that what
// they leave can be given back before more is written.
func (s *Store) rewritePack(ctx context.Context, places []place, group map[uint64]bool) (k int, written int64, err error) {
	if err := s.takeTurn(ctx); err != nil {
		return 0, 0, err
	}
	defer func() { <-s.turn }()
	w, err := s.d.newPackWriter(s.d.room.rewrites)
	if err != nil {
		return 0, 0, err
	}
	var moved []place
	var to []move
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for ; k < len(places) && w.bytes < packSlabs*slabSize; k++ {
		if err := ctx.Err(); err != nil {
			return 0, 0, w.abort(err)
		}
		p := places[k]
		if k > 0 && p.pack != places[k-1].pack && s.d.room.check() != nil {
			break
		}
		index, err := s.copyTo(w, p, *buf)
		if errors.Is(err, syscall.EIO) {
			delete(group, p.pack)
			continue
		}
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
			continue // it is known as such now
		}
		if err != nil {
			return 0, 0, w.abort(err)
		}
		moved = append(moved, p)
		to = append(to, move{id: p.id, to: location{p.flags &^ flagUnread, w.pack, index, p.size}})
	}
	if len(to) == 0 {
		_ = w.abort(nil)
		return k, 0, nil
	}
	if err := w.ingest(ctx); err != nil {
		return 0, 0, err
	}
	return k, int64(w.bytes), s.commitMoved(w, moved, to)
}

// copyTo appends a block as it is stored, once it is verified, to a pack.
func (s *Store) copyTo(w *packWriter, p place, buf []byte) (index uint32, err error) {
	v, closer, err := s.d.blocks.Get(packKey(p.pack, p.index))
	if err == nil {
		if _, err = s.verify(p.id, p.flags, p.size, v, buf); err == nil {
			if index, err = w.add(v); err != nil {
				return 0, errors.Join(err, closer.Close())
			}
		}
		err = errors.Join(err, closer.Close())
	}
	if err == nil {
		return index, nil
	}
	now, lerr := s.locate(p.id)
	switch {
	case lerr != nil: // ErrNotFound if it has been forgotten
		return 0, lerr
	case !now.at(p.location):
		return 0, ErrNotFound // it has been moved
	}
	return 0, s.failed(p.id, now, err)
}

// commitMoved points the blocks that are still where they were at the new pack,
// also those that a reader could not read meanwhile: they have been read now.
func (s *Store) commitMoved(w *packWriter, moved []place, to []move) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	kept := to[:0]
	for i, p := range moved {
		now, err := s.locate(p.id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil && now.at(p.location) {
			kept = append(kept, to[i])
		}
	}
	return s.commitRows(w, kept, func(*pebble.Batch) error { return nil })
}
