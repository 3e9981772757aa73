package blocks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	smallMax   = 1 << 20          // a pack up to this size is written as small rows
	packAge    = 5 * time.Second  // an open pack is flushed after so long
	foldBytes  = 8 << 20          // small rows are folded into a pack when they are more than this,
	foldAge    = 60 * time.Second // or older than this and at least foldMin,
	foldMin    = 512 << 10
	foldLatest = time.Hour // or older than this
	packBlocks = 1 << 16   // most blocks of a pack that is folded
	roomEach   = 1 << 20   // of a pack, for which room is asked
)

// Flush is the barrier between blocks and the metadata that names them: after
// it returns, any later commit to [Disk.Meta] that becomes durable implies that
// all blocks put before Flush was called are durable too.
func (s *Store) Flush(ctx context.Context) error {
	if err := s.flush(ctx, true); err != nil {
		return fmt.Errorf("flush blocks: %w", err)
	}
	return nil
}

// flush writes the queued packs, and the open one if all is true. What fails
// stays in memory and is tried again next time.
func (s *Store) flush(ctx context.Context, all bool) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	if all && s.open != nil {
		s.queue = append(s.queue, s.open)
		s.open = nil
	}
	packs := s.queue[:len(s.queue):len(s.queue)]
	s.mu.Unlock()
	for _, p := range packs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.write(ctx, p); err != nil {
			return err
		}
		s.settle(p)
	}
	return nil
}

// settle drops the first queued pack, which has been written, from memory.
func (s *Store) settle(p *pack) {
	s.mu.Lock()
	for _, e := range p.entries {
		if s.pending[e.id].pack == p {
			delete(s.pending, e.id)
		}
	}
	s.queue = s.queue[1:]
	if len(s.queue) == 0 {
		s.queue = nil
	}
	s.mu.Unlock()
	s.d.room.pending.Add(-p.bytes)
	p.release()
}

// write makes the blocks of p durable no later than any later commit to meta.
func (s *Store) write(ctx context.Context, p *pack) error {
	if len(p.entries) == 0 {
		return nil
	}
	if p.bytes <= smallMax {
		return s.writeSmall(p)
	}
	w, err := s.d.newPackWriter(s.d.room.packs)
	if err != nil {
		return err
	}
	moves := make([]move, 0, len(p.entries))
	for _, e := range p.entries {
		index, err := w.add(e.stored)
		if err != nil {
			return w.abort(err)
		}
		moves = append(moves, move{id: e.id, to: location{e.flags, w.pack, index, e.size}})
	}
	if err := w.ingest(ctx); err != nil {
		return err
	}
	return s.commitPack(w, moves)
}

// writeSmall puts the bytes beside their locations in one batch: the log of
// meta is one, so whatever is durable later has these before it.
func (s *Store) writeSmall(p *pack) error {
	b := s.d.meta.NewBatch()
	var bytes int64
	for _, e := range p.entries {
		value := append(append([]byte{e.flags}, e.id[:]...), e.stored...)
		loc := location{flags: e.flags | flagSmall, pack: s.seq, size: e.size}
		err := b.Set(smallKey(s.folder, s.seq), value, nil)
		if err == nil {
			err = b.Set(blockKey(s.folder, e.id), loc.append(nil), nil)
		}
		if err != nil {
			return errors.Join(err, b.Close())
		}
		s.seq++
		bytes += int64(len(value))
	}
	s.rows.Lock()
	err := b.Commit(pebble.NoSync)
	s.rows.Unlock()
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	s.d.room.written.Add(bytes)
	s.small.Add(bytes)
	s.smallSince.CompareAndSwap(0, time.Now().UnixNano())
	return nil
}

// move is a block's new place.
type move struct {
	id  ID
	to  location
	old uint64 // number of the small row it was in
}

// commitPack writes the rows of a pack that has been ingested.
func (s *Store) commitPack(w *packWriter, moves []move) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	return s.commitRows(w, moves, func(*pebble.Batch) error { return nil })
}

// commitRows commits the row of a pack, the places of its blocks, and what
// more adds, in one batch. The caller holds rows.
func (s *Store) commitRows(w *packWriter, moves []move, more func(*pebble.Batch) error) error {
	b := s.d.meta.NewBatch()
	now := time.Now().Unix()
	row := packRow{blocks: w.blocks, bytes: w.bytes, live: w.bytes, sealed: now, access: now}
	err := b.Set(packRowKey(s.folder, w.pack), row.append(nil), nil)
	for _, m := range moves {
		if err != nil {
			break
		}
		err = b.Set(blockKey(s.folder, m.id), m.to.append(nil), nil)
	}
	if err == nil {
		err = more(b)
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	return errors.Join(err, b.Close())
}

// packWriter writes one pack to a file and gives it to Pebble.
type packWriter struct {
	d      *Disk
	pack   uint64
	path   string
	w      *sstable.Writer
	blocks uint32
	bytes  uint64
	room   func() error // whether there is room for roomEach more
	asked  uint64       // bytes at which it is asked
}

func (d *Disk) newPackWriter(room func() error) (*packWriter, error) {
	w := &packWriter{d: d, pack: d.lastPack.Add(1), room: room}
	w.path = d.fs.PathJoin(d.dir, fmt.Sprintf("%016x%s", w.pack, tempSuffix))
	// Not through the layer that frees the ballast: that is for what Pebble
	// cannot do without, and this may fail.
	f, err := d.fs.Create(w.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, w.failed(err)
	}
	f = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: 4 << 20})
	w.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), d.packOptions)
	return w, nil
}

// add appends a block and returns its index.
func (w *packWriter) add(stored []byte) (uint32, error) {
	if w.bytes >= w.asked { // what fills the disk takes the room of Pebble too
		if err := w.room(); err != nil {
			return 0, err
		}
		w.asked += roomEach
	}
	index := w.blocks
	if err := w.w.Set(packKey(w.pack, index), stored); err != nil {
		return 0, err
	}
	w.blocks++
	w.bytes += uint64(len(stored))
	w.d.room.written.Add(int64(len(stored)))
	return index, nil
}

// ingest makes the pack durable.
func (w *packWriter) ingest(ctx context.Context) error {
	err := w.w.Close()
	if err == nil {
		err = w.d.blocks.Ingest(ctx, []string{w.path})
	}
	if err != nil {
		_ = w.d.fs.Remove(w.path)
		return w.failed(err)
	}
	return nil
}

// abort gives up the pack because of err.
func (w *packWriter) abort(err error) error {
	_ = w.w.Close()
	_ = w.d.fs.Remove(w.path)
	return w.failed(err)
}

func (w *packWriter) failed(err error) error {
	if isFull(err) {
		return fmt.Errorf("write pack: %w: %w", ErrFull, err)
	}
	return fmt.Errorf("write pack: %w", err)
}

// seal writes the full packs of s: in the background when that runs and is not
// behind, else now.
func (d *Disk) seal(ctx context.Context, s *Store) error {
	if d.running.Load() {
		select {
		case d.sealing <- s:
			return nil
		default:
		}
	}
	return s.flush(ctx, false)
}

// reclaim flushes the store with the most blocks in memory, to get memory back.
func (d *Disk) reclaim(ctx context.Context) error {
	free, changed := d.budget.state()
	if free {
		return nil
	}
	if s := d.fullest(); s != nil {
		err := s.flush(ctx, true)
		if errors.Is(err, ErrClosed) {
			return nil
		}
		return err
	}
	select { // all of it is on the way back
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Disk) fullest() *Store {
	var most int64
	var found *Store
	for _, s := range d.all() {
		if n := s.held(); n > most {
			most, found = n, s
		}
	}
	return found
}

// held returns how many slabs s holds in memory.
func (s *Store) held() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var n int
	for _, p := range s.queue {
		n += len(p.slabs)
	}
	if s.open != nil {
		n += len(s.open.slabs)
	}
	return int64(n)
}
