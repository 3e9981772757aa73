package blocks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Blocks that stand in files of a plain directory are not kept twice: rows say
// where they stand. What is read there is verified like all else, so a file that
// its user has changed is at worst one in which nothing stands any more.

// A Source reads the files that blocks stand in, by numbers of its own.
type Source interface {
	// ReadPart fills p with what stands in a file at off, as far as it goes. It
	// fails when the file cannot be read now.
	ReadPart(file uint64, p []byte, off int64) (int, error)
}

// SetSource says who reads the files that blocks stand in. Without it none do.
func (s *Store) SetSource(src Source) { s.source.Store(&src) }

// part says where a block stands in a file.
type part struct {
	file uint64
	off  int64
	size uint32
	turn uint64 // of the Placing that has found it there
}

const partLen = 8 + 4 + 8

func (p part) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(p.off))
	b = binary.BigEndian.AppendUint32(b, p.size)
	return binary.BigEndian.AppendUint64(b, p.turn)
}

func parsePart(file uint64, b []byte) (part, error) {
	if len(b) != partLen {
		return part{}, fmt.Errorf("part row %x: %w", b, errRow)
	}
	p := part{
		file: file,
		off:  int64(binary.BigEndian.Uint64(b)),
		size: binary.BigEndian.Uint32(b[8:]),
		turn: binary.BigEndian.Uint64(b[12:]),
	}
	if p.off < 0 || p.size > MaxBlock {
		return part{}, fmt.Errorf("part row %x: %w", b, errRow)
	}
	return p, nil
}

func partKey(folder uint32, id ID, file uint64) []byte {
	return binary.BigEndian.AppendUint64(append(tableKey(folder, tabParts), id[:]...), file)
}

func fileKey(folder uint32, file uint64, id ID) []byte {
	return append(binary.BigEndian.AppendUint64(tableKey(folder, tabFiles), file), id[:]...)
}

// A Placing notes which blocks stand in a file. It is safe for concurrent use.
type Placing struct {
	s    *Store
	file uint64
	turn uint64
}

// PlaceIn begins to note anew which blocks stand in a file, whose bytes are
// durable. What was known of it holds until Done.
func (s *Store) PlaceIn(file uint64) *Placing {
	return &Placing{s: s, file: file, turn: s.d.turns.Add(1)}
}

// Put says that data stands in the file at off, and returns its id.
func (p *Placing) Put(data []byte, off int64) (ID, error) {
	if len(data) > MaxBlock {
		return ID{}, fmt.Errorf("place block of %d bytes: %w", len(data), ErrTooBig)
	}
	id := p.s.ID(data)
	return id, p.Note(id, off, int64(len(data)))
}

// Note says that a block stands in the file at off. What a later Placing has noted
// of the block stays.
func (p *Placing) Note(id ID, off, size int64) error {
	s, at := p.s, part{off: off, size: uint32(size), turn: p.turn}
	s.rows.Lock()
	defer s.rows.Unlock()
	now, err := s.part(id, p.file)
	if err == nil && now.turn > p.turn {
		return nil
	}
	b := s.d.meta.NewBatch()
	if errors.Is(err, ErrNotFound) || err == nil {
		err = errors.Join(b.Set(partKey(s.folder, id, p.file), at.append(nil), nil),
			b.Set(fileKey(s.folder, p.file, id), binary.BigEndian.AppendUint64(nil, p.turn), nil))
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return fmt.Errorf("place block %s: %w", id, err)
	}
	return nil
}

// Done forgets what stood in the file before and was not found again.
func (p *Placing) Done() error { return p.s.unplace(p.file, p.turn) }

// Leave forgets all that stands in a file.
func (s *Store) Leave(file uint64) error { return s.unplace(file, math.MaxUint64) }

// unplace forgets what was found in a file before a turn.
func (s *Store) unplace(file, before uint64) error {
	var old []ID
	err := s.eachIn(file, func(id ID, turn uint64) error {
		if turn < before {
			old = append(old, id)
		}
		return nil
	})
	for some := range slices.Chunk(old, sweepChunk) {
		if err == nil {
			err = s.unplaceSome(file, some, func(p part) bool { return p.turn < before })
		}
	}
	if err != nil {
		return fmt.Errorf("forget blocks of file %d: %w", file, err)
	}
	return nil
}

// unplaceSome forgets that blocks stand in a file, where that is to go.
func (s *Store) unplaceSome(file uint64, ids []ID, goes func(part) bool) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	b := s.d.meta.NewBatch()
	for _, id := range ids {
		now, err := s.part(id, file)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil && goes(now) {
			err = errors.Join(b.Delete(partKey(s.folder, id, file), nil), b.Delete(fileKey(s.folder, file, id), nil))
		}
		if err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return errors.Join(b.Commit(pebble.NoSync), b.Close())
}

// LeaveAll forgets all that stands in any file.
func (s *Store) LeaveAll() error {
	s.rows.Lock()
	defer s.rows.Unlock()
	b := s.d.meta.NewBatch()
	for _, table := range []byte{tabParts, tabFiles} {
		if err := b.DeleteRange(tableKey(s.folder, table), tableKey(s.folder, table+1), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := errors.Join(b.Commit(pebble.Sync), b.Close()); err != nil {
		return fmt.Errorf("forget what stands in files: %w", err)
	}
	return nil
}

// Files yields the files in which something stands.
func (s *Store) Files(yield func(file uint64) error) (err error) {
	it, err := s.d.meta.NewIter(&pebble.IterOptions{LowerBound: tableKey(s.folder, tabFiles), UpperBound: tableKey(s.folder, tabFiles+1)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		if len(it.Key()) != 5+8+32 {
			return fmt.Errorf("file row %x: %w", it.Key(), errRow)
		}
		file := binary.BigEndian.Uint64(it.Key()[5:])
		if err := yield(file); err != nil {
			return err
		}
		ok = it.SeekGE(fileKey(s.folder, file+1, ID{}))
	}
	return it.Error()
}

// eachIn yields the blocks that stand in a file, and which turn has found them.
func (s *Store) eachIn(file uint64, yield func(ID, uint64) error) error {
	from := fileKey(s.folder, file, ID{})[:5+8]
	return scan(s.d.meta, from, binary.BigEndian.AppendUint64(tableKey(s.folder, tabFiles), file+1), func(k, v []byte) error {
		if len(k) != 5+8+32 || len(v) != 8 {
			return fmt.Errorf("file row %x: %w", k, errRow)
		}
		return yield(ID(k[5+8:]), binary.BigEndian.Uint64(v))
	})
}

// Keep stores what stands in a file that is about to go, but for what stands in
// another; 0: none. What cannot be read is not kept.
func (s *Store) Keep(ctx context.Context, file, but uint64) error {
	var ids []ID
	err := s.eachIn(file, func(id ID, _ uint64) error {
		if but == 0 || !s.Stands(id, but) {
			ids = append(ids, id)
		}
		return nil
	})
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for _, id := range ids {
		if err != nil {
			break
		}
		if s.stored(id) {
			continue
		}
		if p, ok := s.getPlaced(id, *buf); ok {
			err = s.put(ctx, id, p)
		}
	}
	if err != nil {
		return fmt.Errorf("keep blocks of file %d: %w", file, err)
	}
	return nil
}

// Stands reports whether a block stands in a file, as far as is known.
func (s *Store) Stands(id ID, file uint64) bool {
	_, err := s.part(id, file)
	return err == nil
}

// part returns where a block stands in a file.
func (s *Store) part(id ID, file uint64) (part, error) {
	v, closer, err := s.d.meta.Get(partKey(s.folder, id, file))
	if errors.Is(err, pebble.ErrNotFound) {
		return part{}, ErrNotFound
	}
	if err != nil {
		return part{}, err
	}
	p, err := parsePart(file, v)
	return p, errors.Join(err, closer.Close())
}

var errStop = errors.New("stop")

// parts returns some of the places where a block stands.
func (s *Store) parts(id ID, most int) (out []part, err error) {
	from := partKey(s.folder, id, 0)
	err = scan(s.d.meta, from, append(partKey(s.folder, id, 1<<64-1), 0), func(k, v []byte) error {
		if len(k) != 5+32+8 {
			return fmt.Errorf("part key %x: %w", k, errRow)
		}
		p, err := parsePart(binary.BigEndian.Uint64(k[5+32:]), v)
		if out = append(out, p); err == nil && len(out) == most {
			err = errStop
		}
		return err
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return out, err
}

// placed reports whether a block stands somewhere.
func (s *Store) placed(id ID) bool {
	if s.source.Load() == nil {
		return false
	}
	parts, err := s.parts(id, 1)
	return err == nil && len(parts) > 0
}

const triedParts = 16 // in so many files a block is looked for

// getPlaced reads a block where it stands.
func (s *Store) getPlaced(id ID, buf []byte) ([]byte, bool) {
	src := s.source.Load()
	if src == nil {
		return nil, false
	}
	parts, err := s.parts(id, triedParts)
	if err != nil {
		return nil, false
	}
	for _, p := range parts {
		out := slices.Grow(buf[:0], int(p.size))[:p.size]
		n, err := (*src).ReadPart(p.file, out, p.off)
		switch {
		case err != nil && !errors.Is(err, io.EOF): // not now
		case n == len(out) && s.ID(out) == id:
			return out, true
		default:
			if err := s.unplaceSome(p.file, []ID{id}, func(now part) bool { return now == p }); err != nil {
				s.d.log.Warn("forget where a block stood", "err", err.Error())
			}
		}
	}
	return nil, false
}
