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

// Note says that a block stands in the file at off.
func (p *Placing) Note(id ID, off, size int64) error {
	b := p.s.d.meta.NewBatch()
	at := part{off: off, size: uint32(size), turn: p.turn}
	err := b.Set(partKey(p.s.folder, id, p.file), at.append(nil), nil)
	if err == nil {
		err = b.Set(fileKey(p.s.folder, p.file, id), binary.BigEndian.AppendUint64(nil, p.turn), nil)
	}
	if err == nil {
		p.s.rows.Lock()
		err = b.Commit(pebble.NoSync)
		p.s.rows.Unlock()
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
		v, closer, err := s.d.meta.Get(partKey(s.folder, id, file))
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err == nil {
			var now part
			now, err = parsePart(file, v)
			if err = errors.Join(err, closer.Close()); err == nil && goes(now) {
				err = errors.Join(b.Delete(partKey(s.folder, id, file), nil), b.Delete(fileKey(s.folder, file, id), nil))
			}
		}
		if err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return errors.Join(b.Commit(pebble.NoSync), b.Close())
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

// Keep stores what stands in a file that is about to go, but for what is not
// wanted. What cannot be read is not kept.
func (s *Store) Keep(ctx context.Context, file uint64, wanted func(ID) bool) error {
	var ids []ID
	err := s.eachIn(file, func(id ID, _ uint64) error {
		if wanted(id) {
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
	_, closer, err := s.d.meta.Get(partKey(s.folder, id, file))
	return err == nil && closer.Close() == nil
}

// Places reports whether anything stands in a file.
func (s *Store) Places(file uint64) bool {
	some := false
	err := s.eachIn(file, func(ID, uint64) error { some = true; return errStop })
	return some && (err == nil || errors.Is(err, errStop))
}

var errStop = errors.New("stop")

// parts returns where a block stands.
func (s *Store) parts(id ID) (out []part, err error) {
	from := partKey(s.folder, id, 0)
	err = scan(s.d.meta, from, append(partKey(s.folder, id, 1<<64-1), 0), func(k, v []byte) error {
		if len(k) != 5+32+8 {
			return fmt.Errorf("part key %x: %w", k, errRow)
		}
		p, err := parsePart(binary.BigEndian.Uint64(k[5+32:]), v)
		out = append(out, p)
		return err
	})
	return out, err
}

// placed reports whether a block stands somewhere.
func (s *Store) placed(id ID) bool {
	if s.source.Load() == nil {
		return false
	}
	parts, err := s.parts(id)
	return err == nil && len(parts) > 0
}

// getPlaced reads a block where it stands.
func (s *Store) getPlaced(id ID, buf []byte) ([]byte, bool) {
	src := s.source.Load()
	if src == nil {
		return nil, false
	}
	parts, err := s.parts(id)
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
