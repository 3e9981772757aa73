package blocks

import (
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk has the files of a plain directory.
type disk map[uint64][]byte

var errAway = errors.New("away")

func (f disk) ReadPart(file uint64, p []byte, off int64) (int, error) {
	b, ok := f[file]
	if !ok {
		return 0, errAway
	}
	if off > int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// place says that the blocks of a file stand in it.
func (f disk) place(tb testing.TB, s *Store, file uint64, blocks ...[]byte) (ids []ID) {
	tb.Helper()
	p := s.PlaceIn(file)
	f[file] = nil
	for _, b := range blocks {
		id, err := p.Put(b, int64(len(f[file])))
		check(tb, err)
		ids, f[file] = append(ids, id), append(f[file], b...)
	}
	check(tb, p.Done())
	return ids
}

func stored(tb testing.TB, s *Store) (n int) {
	tb.Helper()
	check(tb, s.Flush(tb.Context()))
	check(tb, s.eachLocation(ID{}, func(ID, location) error { n++; return nil }))
	return n
}

func TestBlocksAreReadWhereTheyStand(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	s, f := d.Store(1, testKey), disk{}
	s.SetSource(f)
	one, two := random(1, 100_000), random(2, 5000)
	ids := f.place(t, s, 7, one, two, nil)
	f.place(t, s, 8, two)
	mustHave(t, s, ids[0], one)
	mustHave(t, s, ids[1], two)
	if n := stored(t, s); n != 0 {
		t.Errorf("%d blocks are stored too", n)
	}
	check(t, d.Sync())
	check(t, d.Close())
	d = closing(t, open(t, fs))
	s = d.Store(1, testKey)
	if s.Has(ids[0]) {
		t.Error("a block is here that nobody can read")
	}
	s.SetSource(f)
	mustHave(t, s, ids[0], one)
	check(t, s.Leave(7))
	if s.Has(ids[0]) {
		t.Error("a block stands in a file that is gone")
	}
	mustHave(t, s, ids[1], two) // in the other file
	check(t, d.Drop(1))
	check(t, scanTable(d.Meta(), 1, tabParts, func(k, _ []byte) error { t.Errorf("row %x is left", k); return nil }))
	check(t, scanTable(d.Meta(), 1, tabFiles, func(k, _ []byte) error { t.Errorf("row %x is left", k); return nil }))
}

func TestAFileThatChangedHasOnlyWhatIsStillThere(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s, f := d.Store(1, testKey), disk{}
	s.SetSource(f)
	a, b, c := random(1, 9000), random(2, 9000), random(3, 9000)
	ids := f.place(t, s, 7, a, b, c)
	had := f[7]
	delete(f, 7) // its disk is away
	if _, err := s.Get(t.Context(), ids[0], nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("read what is away: %v", err)
	}
	f[7] = append([]byte{}, had...)
	mustHave(t, s, ids[0], a)
	f[7][9000]++           // in the second
	f[7] = f[7][:9000+100] // and the third is cut off
	for i, id := range ids[1:] {
		if _, err := s.Get(t.Context(), id, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("read block %d of before: %v", i+1, err)
		}
		if s.Has(id) {
			t.Errorf("block %d is here still", i+1)
		}
	}
	mustHave(t, s, ids[0], a)
	if err := s.PutVerified(t.Context(), ids[1], b); err != nil { // from others
		t.Fatal(err)
	}
	mustHave(t, s, ids[1], b)
	now := f.place(t, s, 7, c, a) // taken in again
	mustHave(t, s, now[0], c)
	mustHave(t, s, ids[0], a)
}

func TestWhatAFileHadIsForgottenWhenItWasFoundAnew(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s, f := d.Store(1, testKey), disk{}
	s.SetSource(f)
	var many [][]byte
	for i := range uint64(2 * sweepChunk) {
		many = append(many, random(i, 10))
	}
	ids := f.place(t, s, 7, many...)
	slow := s.PlaceIn(7) // began before, and ends after
	f.place(t, s, 7, many[5], random(9999, 10))
	check(t, slow.Done())
	for i, id := range ids {
		if s.Has(id) != (i == 5) {
			t.Fatalf("block %d is here: %v", i, s.Has(id))
		}
	}
	var in []uint64
	check(t, s.Files(func(file uint64) error { in = append(in, file); return nil }))
	if !s.Stands(ids[5], 7) || s.Stands(ids[4], 7) || len(in) != 1 || in[0] != 7 {
		t.Error("it is not said what stands where")
	}
}

func TestWhatIsKeptOutlivesItsFile(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s, f := d.Store(1, testKey), disk{}
	s.SetSource(f)
	a, b, c := random(1, 9000), random(2, 9000), random(3, 9000)
	ids := f.place(t, s, 7, a, b, c)
	f[7][2*9000+1]++ // its user is writing to it
	f.place(t, s, 8, b)
	check(t, s.Keep(t.Context(), 7, 8))
	delete(f, 8)
	check(t, s.Leave(8))
	delete(f, 7)
	check(t, s.Leave(7))
	mustHave(t, s, ids[0], a)
	if s.Has(ids[1]) || s.Has(ids[2]) {
		t.Error("blocks are here that nobody wanted, or that were overwritten")
	}
}

// A block that stands in a file and is not named by anything that needs it stored goes
// with a sweep, and is read from the file.
func TestASweepDropsWhatStandsInAFile(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s, f := d.Store(1, testKey), disk{}
	s.SetSource(f)
	a, b := random(1, MaxBlock), random(2, MaxBlock)
	mustPut(t, s, a)
	kept := mustPut(t, s, b)
	check(t, s.Flush(t.Context()))
	check(t, d.Meta().Set(rowKey(1, 0), kept[:], pebble.NoSync))
	ids := f.place(t, s, 7, a, b)
	got, err := s.Sweep(t.Context(), naming(d, 1))
	check(t, err)
	if got.Blocks != 1 || stored(t, s) != 1 {
		t.Errorf("swept %+v", got)
	}
	mustHave(t, s, ids[0], a)
	mustHave(t, s, ids[1], b)
}
