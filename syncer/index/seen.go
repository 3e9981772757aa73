package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/model"
)

// What a directory on disk shows of the folder: which inode and version of the tree
// stand at a name there, and what stat said of the file. Nothing of it is told to
// others. Under tableSeen:
//
//	n dir8 name          a Seen
//	i ino8               where an inode of the tree is seen: of each place dir8, length, name
//	f file8              and a file of the disk
//	m name               what is remembered of the directory as a whole
const (
	seenName = 'n'
	seenIno  = 'i'
	seenFile = 'f'
	seenMeta = 'm'
)

// A Seen is what stands at a name on disk. Ino is 0 for what is only of this
// machine. What was never said of the file, as its bytes are not cut yet, is the
// zero Orig.
type Seen struct {
	Ino  Ino
	Orig model.Dot // the version of a file
	Kind model.Kind
	File FileID
	Mode uint32 // as the disk has it, and below
	Size int64
	// ns since 1970:
	Mtime, Ctime int64
	// What the tree said when that was written: a disk may not be able to keep it.
	TreeMode  uint32
	TreeMtime int64
	Attrs     uint64 // a sum of the user.* attributes of a file
}

// A FileID tells files of a disk apart: a number that was freed is given again,
// at another time.
type FileID struct {
	Ino   uint64
	Btime int64 // ns since 1970; 0: the disk does not know
}

func (s Seen) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 96), uint64(s.Ino))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Orig.Replica))
	b = binary.AppendUvarint(b, s.Orig.Seq)
	b = append(b, byte(s.Kind))
	for _, v := range []uint64{s.File.Ino, uint64(s.File.Btime), uint64(s.Mode), uint64(s.Size), uint64(s.Mtime), uint64(s.Ctime),
		uint64(s.TreeMode), uint64(s.TreeMtime), s.Attrs} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func decodeSeen(b []byte) (s Seen, err error) {
	if len(b) < 18 {
		return s, errRow
	}
	s.Ino, s.Orig.Replica = Ino(binary.BigEndian.Uint64(b)), model.Replica(binary.BigEndian.Uint64(b[8:]))
	b = b[16:]
	var vs [10]uint64
	for i := range vs {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return s, errRow
		}
		vs[i], b = v, b[n:]
		if i == 0 {
			if len(b) == 0 {
				return s, errRow
			}
			s.Kind, b = model.Kind(b[0]), b[1:]
		}
	}
	s.Orig.Seq, s.File = vs[0], FileID{vs[1], int64(vs[2])}
	s.Mode, s.Size, s.Mtime, s.Ctime = uint32(vs[3]), int64(vs[4]), int64(vs[5]), int64(vs[6])
	s.TreeMode, s.TreeMtime, s.Attrs = uint32(vs[7]), int64(vs[8]), vs[9]
	return s, nil
}

// A Sight is all that is Seen of a folder. One goroutine at a time writes to it.
type Sight struct {
	db   *pebble.DB
	keys *keys
}

// Sight returns the rows of what is seen.
func (ix *Index) Sight() *Sight { return &Sight{ix.db, &ix.keys} }

func (s *Sight) key(by byte, rest ...any) []byte {
	b := append(s.keys.table(tableSeen), by)
	for _, r := range rest {
		switch r := r.(type) {
		case uint64:
			b = binary.BigEndian.AppendUint64(b, r)
		case Ino:
			b = binary.BigEndian.AppendUint64(b, uint64(r))
		case string:
			b = append(b, r...)
		}
	}
	return b
}

// Get returns what is seen at a name.
func (s *Sight) Get(at Place) (x Seen, ok bool, err error) { return s.get(at, nil) }

func (s *Sight) get(at Place, known near) (x Seen, ok bool, err error) {
	v, err := known.get(s.db, s.key(seenName, at.Dir, at.Name))
	if errors.Is(err, ErrNotFound) {
		return x, false, nil
	}
	if err != nil {
		return x, false, fmt.Errorf("read what is seen: %w", err)
	}
	x, err = decodeSeen(v)
	return x, true, err
}

// Set says what is seen at a name, not durably: see blocks.Disk.Sync. It is on the disk
// before, or what the disk loses in a power cut looks like a change of its user.
func (s *Sight) Set(at Place, x Seen) error { return s.SetAll([]Sighting{{at, x}}) }

// A Sighting is what is seen at a place.
type Sighting struct {
	At   Place
	Seen Seen
}

// SetAll is Set of many names, none of an inode or a file that another of them is of, or
// was.
func (s *Sight) SetAll(xs []Sighting) (err error) {
	var keys [][]byte
	for _, x := range xs {
		keys = append(keys, s.key(seenName, x.At.Dir, x.At.Name), s.key(seenIno, x.Seen.Ino), s.key(seenFile, x.Seen.File.Ino))
	}
	known, err := readNear(s.db, keys)
	b := s.db.NewBatch()
	for _, x := range xs {
		err = errors.Join(err, s.set(b, x.At, x.Seen, known))
	}
	return s.commit(b, err)
}

func (s *Sight) set(b *pebble.Batch, at Place, x Seen, known near) error {
	old, was, err := s.get(at, known)
	if err == nil {
		err = b.Set(s.key(seenName, at.Dir, at.Name), x.encode(), nil)
	}
	if was && old.Ino != x.Ino {
		err = errors.Join(err, s.move(b, s.key(seenIno, old.Ino), at, false, known))
	}
	if was && old.File.Ino != x.File.Ino {
		err = errors.Join(err, s.move(b, s.key(seenFile, old.File.Ino), at, false, known))
	}
	if !was || old.Ino != x.Ino {
		err = errors.Join(err, s.move(b, s.key(seenIno, x.Ino), at, true, known))
	}
	if !was || old.File.Ino != x.File.Ino {
		err = errors.Join(err, s.move(b, s.key(seenFile, x.File.Ino), at, true, known))
	}
	return err
}

// Delete says that nothing is seen at a name.
func (s *Sight) Delete(at Place) error {
	old, was, err := s.Get(at)
	if err != nil || !was {
		return err
	}
	b := s.db.NewBatch()
	return s.commit(b, errors.Join(b.Delete(s.key(seenName, at.Dir, at.Name), nil),
		s.move(b, s.key(seenIno, old.Ino), at, false, nil), s.move(b, s.key(seenFile, old.File.Ino), at, false, nil)))
}

// move puts a place into a list of places, or takes it out.
func (s *Sight) move(b *pebble.Batch, key []byte, at Place, in bool, known near) error {
	list, err := s.places(key, known)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p Place) bool { return p == at })
	if in {
		list = append(list, at)
	}
	if len(list) == 0 {
		return b.Delete(key, nil)
	}
	var v []byte
	for _, p := range list {
		v = binary.BigEndian.AppendUint64(v, uint64(p.Dir))
		v = binary.AppendUvarint(v, uint64(len(p.Name)))
		v = append(v, p.Name...)
	}
	return b.Set(key, v, nil)
}

func (s *Sight) commit(b *pebble.Batch, err error) error {
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return fmt.Errorf("note what is seen: %w", err)
	}
	return nil
}

// In calls yield with what is seen in a directory, by name.
func (s *Sight) In(dir Ino, yield func(name string, x Seen) bool) error {
	prefix := s.key(seenName, dir)
	return scan(s.db, prefix, after(prefix), func(k, v []byte) error {
		x, err := decodeSeen(v)
		if err != nil {
			return err
		}
		if !yield(string(k[len(prefix):]), x) {
			return errStop
		}
		return nil
	})
}

// Of returns where an inode of the tree is seen.
func (s *Sight) Of(ino Ino) ([]Place, error) { return s.places(s.key(seenIno, ino), nil) }

// At returns where a file of the disk was seen, by its number there.
func (s *Sight) At(file uint64) ([]Place, error) { return s.places(s.key(seenFile, file), nil) }

func (s *Sight) places(key []byte, known near) (out []Place, err error) {
	b, err := known.get(s.db, key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read where it is seen: %w", err)
	}
	for len(b) > 0 {
		if len(b) < 9 {
			return nil, errRow
		}
		n, w := binary.Uvarint(b[8:])
		if w <= 0 || uint64(len(b)) < 8+uint64(w)+n {
			return nil, errRow
		}
		end := 8 + w + int(n)
		out = append(out, Place{Ino(binary.BigEndian.Uint64(b)), string(b[8+w : end])})
		b = b[end:]
	}
	return out, nil
}

// Note returns what is remembered of the whole, nil if nothing is.
func (s *Sight) Note(name string) ([]byte, error) {
	v, err := get(s.db, s.key(seenMeta, name))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// SetNote remembers something of the whole, durably.
func (s *Sight) SetNote(name string, val []byte) error {
	if err := s.db.Set(s.key(seenMeta, name), val, pebble.Sync); err != nil {
		return fmt.Errorf("note what is seen: %w", err)
	}
	return nil
}

// Clear forgets all of it.
func (s *Sight) Clear() error {
	prefix := s.keys.table(tableSeen)
	if err := s.db.DeleteRange(prefix, after(prefix), pebble.Sync); err != nil {
		return fmt.Errorf("forget what is seen: %w", err)
	}
	return nil
}
