package blocks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/blake3"
)

// Store is the blocks of one folder. It is safe for concurrent use.
type Store struct {
	d       *Disk
	folder  uint32
	key     Key
	hashers sync.Pool // of *blake3.Hasher under key

	mu      sync.RWMutex // guards the packs in memory; held for memory only
	open    *pack        // takes blocks; nil if none
	queue   []*pack      // full or being flushed, oldest first
	pending map[ID]slot  // the blocks of open and queue
	closed  bool

	turn chan struct{} // holds one token while packs are flushed or folded
	seq  uint64        // number of the next small row; whose turn it is

	// gc orders who finds a block here (shared) against who deletes it, and
	// guards marks.
	gc      sync.RWMutex
	marks   *Marks // of the sweep that runs
	holders holders

	source atomic.Pointer[Source] // reads the files that blocks stand in; nil: none do

	rows sync.Mutex // orders changes of location rows that depend on what they replace

	damaged damaged
	survey  chan struct{} // who has it looks for damaged blocks

	small      atomic.Int64 // bytes in small rows
	smallSince atomic.Int64 // when the oldest of them was written, Unix ns; 0: none
	garbage    atomic.Int64 // bytes in packs that the last sweep found dead and left
}

// slot is where a block in memory is.
type slot struct {
	pack *pack
	i    int
}

func newStore(d *Disk, folder uint32, key Key, st smallState) *Store {
	s := &Store{
		d: d, folder: folder, key: key,
		pending: map[ID]slot{},
		turn:    make(chan struct{}, 1),
		damaged: damaged{ids: map[ID]bool{}},
		survey:  make(chan struct{}, 1),
		seq:     st.next,
		holders: holders{cur: newGeneration()},
	}
	s.hashers.New = func() any { return key.hasher() }
	s.small.Store(st.bytes)
	if st.bytes > 0 {
		s.smallSince.Store(time.Now().UnixNano())
	}
	return s
}

// Key returns the key of the folder's ids.
func (s *Store) Key() Key { return s.key }

// ID returns the id that p has in this store.
func (s *Store) ID(p []byte) ID {
	var id ID
	h := s.hashers.Get().(*blake3.Hasher)
	h.Reset()
	_, _ = h.Write(p)
	h.Sum(id[:0])
	s.hashers.Put(h)
	return id
}

// Put stores data, unless it is there already, and returns its id. It can be
// read at once; [Store.Flush] makes it last. Data is copied.
func (s *Store) Put(ctx context.Context, data []byte) (ID, error) {
	if len(data) > MaxBlock {
		return ID{}, fmt.Errorf("put block of %d bytes: %w", len(data), ErrTooBig)
	}
	id := s.ID(data)
	if err := s.put(ctx, id, data); err != nil {
		return ID{}, fmt.Errorf("put block: %w", err)
	}
	return id, nil
}

// PutVerified stores data that somebody else says is the block id. It returns
// ErrDamaged if it is not.
func (s *Store) PutVerified(ctx context.Context, id ID, data []byte) error {
	if len(data) > MaxBlock {
		return fmt.Errorf("put block of %d bytes: %w", len(data), ErrTooBig)
	}
	if s.ID(data) != id {
		return fmt.Errorf("put block %s: %w", id, ErrDamaged)
	}
	if err := s.put(ctx, id, data); err != nil {
		return fmt.Errorf("put block %s: %w", id, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, id ID, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.stored(id) {
		return nil
	}
	if err := s.d.room.check(); err != nil {
		return err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	e := entry{id: id, size: uint32(len(data))}
	e.stored, e.flags = s.d.codec.encode(data, *buf)
	for {
		placed, full, err := s.place(e)
		if err != nil {
			return err
		}
		if full {
			// The block is held whatever becomes of the packs before it: a
			// failure shows at Flush, or when the budget is spent.
			err = s.d.seal(ctx, s)
		}
		if placed {
			return nil
		}
		if err == nil && !full {
			err = s.d.reclaim(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// place adds e to the open pack, or finds that it needs memory first. If full,
// a pack waits to be sealed.
func (s *Store) place(e entry) (placed, full bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, false, ErrClosed
	}
	if _, ok := s.pending[e.id]; ok {
		return true, false, nil
	}
	if s.open != nil && !s.open.fits(len(e.stored)) && len(s.open.slabs) >= s.d.packSlabs {
		s.queue = append(s.queue, s.open)
		s.open, full = nil, true
	}
	if s.open == nil {
		s.open = newPack(s.d.budget)
		select {
		case s.d.stir <- struct{}{}:
		default:
		}
	}
	if !s.open.fits(len(e.stored)) && !s.open.grow() {
		return false, full, nil
	}
	s.open.add(e)
	s.d.room.pending.Add(int64(len(e.stored)))
	s.pending[e.id] = slot{s.open, len(s.open.entries) - 1}
	return true, full, nil
}

// Has reports whether the block is here and not known to be damaged, be it in a
// file that it stands in.
func (s *Store) Has(id ID) bool { return s.stored(id) || s.placed(id) }

// stored is Has of what is kept here.
func (s *Store) stored(id ID) bool {
	if s.inMemory(id) {
		return true
	}
	s.gc.RLock()
	defer s.gc.RUnlock()
	loc, err := s.locate(id)
	ok := err == nil && s.d.usable(loc)
	if ok && s.marks != nil {
		s.marks.touch(loc)
	}
	return ok
}

func (s *Store) inMemory(id ID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.pending[id]
	return ok
}

// usable reports whether there is something to read at loc.
func (d *Disk) usable(loc location) bool {
	return loc.flags&(flagDamaged|flagUnread) == 0 && (loc.flags&flagSmall != 0 || !d.lost[loc.pack])
}

// locate reads the location row of a block.
func (s *Store) locate(id ID) (location, error) {
	v, closer, err := s.d.meta.Get(blockKey(s.folder, id))
	if errors.Is(err, pebble.ErrNotFound) {
		return location{}, ErrNotFound
	}
	if err != nil {
		return location{}, err
	}
	loc, err := parseLocation(v)
	return loc, errors.Join(err, closer.Close())
}

// Get appends the bytes of a block to buf[:0]. They have been verified. It
// returns ErrNotFound if the block is not here, and ErrDamaged if it is but
// cannot be read right; then [Store.Has] is false until it is put again.
func (s *Store) Get(ctx context.Context, id ID, buf []byte) ([]byte, error) {
	return s.getBy(ctx, id, buf, s.read)
}

// A reader reads and verifies what is stored at a location.
type reader func(id ID, at location, buf []byte) ([]byte, error)

// getBy is Get by way of read.
func (s *Store) getBy(ctx context.Context, id ID, buf []byte, read reader) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out, err := s.get(id, buf, read)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		if p, ok := s.getPlaced(id, buf); ok {
			if errors.Is(err, ErrDamaged) {
				_ = s.put(ctx, id, p) // else it is when it is asked for again
			}
			return p, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("get block %s: %w", id, err)
	}
	return out, nil
}

func (s *Store) get(id ID, buf []byte, read reader) ([]byte, error) {
	if out, ok, err := s.getPending(id, buf); ok {
		return out, err
	}
	loc, err := s.locate(id)
	for err == nil {
		if loc.flags&flagDamaged != 0 {
			return nil, ErrDamaged
		}
		if loc.flags&flagSmall == 0 && s.d.lost[loc.pack] {
			return nil, ErrNotFound
		}
		var out []byte
		out, err = read(id, loc, buf)
		if err == nil {
			return out, s.mended(id, loc)
		}
		// It may have been moved between the two reads.
		moved, lerr := s.locate(id)
		if lerr == nil && moved == loc {
			return nil, s.failed(id, loc, err)
		}
		loc, err = moved, lerr
	}
	return nil, err
}

// getPending reads a block that is in memory.
func (s *Store) getPending(id ID, buf []byte) ([]byte, bool, error) {
	s.mu.RLock()
	at, ok := s.pending[id]
	var e entry
	if ok {
		at.pack.refs.Add(1)
		e = at.pack.entries[at.i]
	}
	s.mu.RUnlock()
	if !ok {
		return nil, false, nil
	}
	defer at.pack.release()
	out, err := s.verify(id, e.flags, e.size, e.stored, buf)
	return out, true, err
}

// read is the reader for most: through the caches.
func (s *Store) read(id ID, loc location, buf []byte) ([]byte, error) {
	db, key := s.d.blocks, packKey(loc.pack, loc.index)
	if loc.flags&flagSmall != 0 {
		db, key = s.d.meta, smallKey(s.folder, loc.pack)
	}
	v, closer, err := db.Get(key)
	if err != nil {
		return nil, err
	}
	if loc.flags&flagSmall != 0 {
		if _, _, v, err = parseSmall(v); err != nil {
			return nil, errors.Join(err, closer.Close())
		}
	}
	out, err := s.verify(id, loc.flags, loc.size, v, buf)
	if err = errors.Join(err, closer.Close()); err != nil {
		return nil, err
	}
	return out, nil
}

// verify returns the plain bytes of a block if they are the right ones.
func (s *Store) verify(id ID, flags byte, size uint32, stored, buf []byte) ([]byte, error) {
	out, err := s.d.codec.decode(flags, stored, slices.Grow(buf[:0], int(size)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if uint32(len(out)) != size || s.ID(out) != id {
		return nil, ErrDamaged
	}
	return out, nil
}

// mended forgets that the disk could not read a block: now it can.
func (s *Store) mended(id ID, loc location) error {
	if loc.flags&flagUnread == 0 {
		return nil
	}
	good := loc
	good.flags &^= flagUnread
	return s.replace(id, loc, &good)
}

// failed tells a damaged block, and one that the disk cannot read now, from other
// trouble, and remembers it.
func (s *Store) failed(id ID, loc location, err error) error {
	switch {
	case errors.Is(err, ErrDamaged):
	case errors.Is(err, pebble.ErrNotFound), errors.Is(err, errRow),
		pebble.IsCorruptionError(err), errors.Is(err, syscall.EIO):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	default:
		return err
	}
	mark, what := byte(flagDamaged), "damaged block"
	if errors.Is(err, syscall.EIO) {
		mark, what = flagUnread, "the disk cannot read a block"
	}
	if loc.flags&mark != 0 {
		return err // known
	}
	s.d.log.Error(what, "folder", s.folder, "block", id, "pack", loc.pack, "err", err.Error())
	bad := loc
	bad.flags |= mark
	err = errors.Join(err, s.replace(id, loc, &bad))
	s.damaged.note(id) // after its row
	return err
}

// replace changes the location row of a block if it is still old; nil deletes it.
func (s *Store) replace(id ID, old location, to *location) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	now, err := s.locate(id)
	if errors.Is(err, ErrNotFound) || err == nil && now != old {
		return nil
	}
	if err != nil {
		return err
	}
	if to == nil {
		return s.d.meta.Delete(blockKey(s.folder, id), pebble.NoSync)
	}
	return s.d.meta.Set(blockKey(s.folder, id), to.append(nil), pebble.NoSync)
}

// Forget drops the location of a block, so that it is fetched again.
func (s *Store) Forget(id ID) error {
	loc, err := s.locate(id)
	if err == nil {
		err = s.replace(id, loc, nil)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("forget block %s: %w", id, err)
	}
	return nil
}
