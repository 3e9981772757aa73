package blocks

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// flip changes a byte in the middle of where p stands in a table of dir.
func flip(t *testing.T, fs vfs.FS, dir string, p []byte) {
	t.Helper()
	names, err := fs.List(dir)
	check(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := fs.OpenReadWrite(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		check(t, err)
		fi, err := f.Stat()
		check(t, err)
		all := make([]byte, fi.Size())
		if _, err := f.ReadAt(all, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if at := bytes.Index(all, p); at >= 0 {
			at += len(p) / 2
			_, err := f.WriteAt([]byte{all[at] ^ 1}, int64(at))
			check(t, errors.Join(err, f.Close()))
			return
		}
		check(t, f.Close())
	}
	t.Fatal("the block is in no table")
}

// mustHeal checks that id is damaged, and that putting it again mends it.
func mustHeal(t *testing.T, fs vfs.FS, d *Disk, id ID, p []byte) {
	t.Helper()
	s := d.Store(1, testKey)
	for range 2 {
		if got, err := s.Get(t.Context(), id, nil); !errors.Is(err, ErrDamaged) || got != nil {
			t.Fatalf("damaged block: %d bytes, %v", len(got), err)
		}
		if s.Has(id) {
			t.Fatal("a damaged block counts as here")
		}
	}
	check(t, d.Close())
	d = open(t, fs)
	s = d.Store(1, testKey)
	if s.Has(id) {
		t.Fatal("the damage was forgotten")
	}
	check(t, s.PutVerified(t.Context(), id, p))
	mustHave(t, s, id, p)
	check(t, s.Flush(t.Context()))
	mustHave(t, s, id, p)
	check(t, d.Close())
}

func TestADamagedPackLosesOneBlockAndHeals(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	s := d.Store(1, testKey)
	var ids []ID
	for i := range 40 {
		ids = append(ids, mustPut(t, s, random(uint64(i), 40_000)))
	}
	check(t, d.Close())
	bad := random(4, 40_000)
	flip(t, fs, "disk/blocks", bad)
	d = open(t, fs)
	s = d.Store(1, testKey)
	var reported []ID
	check(t, s.Check(t.Context(), func(id ID, err error) {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("report: %v", err)
		}
		reported = append(reported, id)
	}))
	if len(reported) != 1 || reported[0] != ids[4] {
		t.Errorf("reported %v, want %v", reported, ids[4])
	}
	for i, id := range ids {
		if i != 4 {
			mustHave(t, s, id, random(uint64(i), 40_000))
		}
	}
	mustHeal(t, fs, d, ids[4], bad)
}

// Pebble takes half a minute of a processor to say so of a large block.
func TestDamageIsFoundBeforePebbleLooksForTheBit(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	p := random(1, 200_000)
	id := mustPut(t, d.Store(1, testKey), p)
	for i := range uint64(9) {
		mustPut(t, d.Store(1, testKey), random(2+i, 200_000))
	}
	check(t, d.Close())
	flip(t, fs, "disk/blocks", p)
	d = open(t, fs)
	_, err := d.Store(1, testKey).Get(t.Context(), id, nil)
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "checksum of 200") {
		t.Errorf("not found by its first checksum: %v", err)
	}
	check(t, d.Close())
}

func TestWrongBytesUnderARightChecksumAreNotServed(t *testing.T) {
	p := random(1, 100_000)
	for name, plant := range map[string]func(*testing.T, *Store, location) location{
		"other bytes": func(t *testing.T, s *Store, loc location) location {
			return plantPack(t, s, random(2, 100_000), loc)
		},
		"not a frame": func(t *testing.T, s *Store, loc location) location {
			loc.flags |= flagZstd
			return plantPack(t, s, p, loc)
		},
		"a frame of more than a block": func(t *testing.T, s *Store, loc location) location {
			loc.flags |= flagZstd
			return plantPack(t, s, s.d.codec.enc.EncodeAll(make([]byte, 64<<20), nil), loc)
		},
		"shorter": func(t *testing.T, s *Store, loc location) location {
			loc.size--
			return loc
		},
		"no such block": func(_ *testing.T, _ *Store, loc location) location {
			loc.index += 1000
			return loc
		},
		"small row of another": func(t *testing.T, s *Store, loc location) location {
			check(t, s.d.meta.Set(smallKey(1, 77), append(append([]byte{0}, make([]byte, 32)...), "bad"...), pebble.NoSync))
			return location{flags: flagSmall, pack: 77, size: 3}
		},
		"broken small row": func(t *testing.T, s *Store, loc location) location {
			check(t, s.d.meta.Set(smallKey(1, 77), []byte{0xff}, pebble.NoSync))
			return location{flags: flagSmall, pack: 77, size: 3}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			d := open(t, fs)
			s := d.Store(1, testKey)
			id := mustPut(t, s, p)
			for i := range 3 { // enough for a pack
				mustPut(t, s, random(uint64(50+i), MaxBlock))
			}
			check(t, s.Flush(t.Context()))
			loc, err := s.locate(id)
			check(t, err)
			loc = plant(t, s, loc)
			check(t, d.meta.Set(blockKey(1, id), loc.append(nil), pebble.NoSync))
			mustHeal(t, fs, d, id, p)
		})
	}
}

// plantPack makes a pack of stored and returns loc pointing there.
func plantPack(t *testing.T, s *Store, stored []byte, loc location) location {
	t.Helper()
	w, err := s.d.newPackWriter(s.d.room.packs)
	check(t, err)
	loc.index, err = w.add(stored)
	check(t, err)
	loc.pack = w.pack
	check(t, w.ingest(t.Context()))
	check(t, s.commitPack(w, nil))
	return loc
}

func TestAForgottenBlockCanBePutAgain(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	p := random(1, 1000)
	id := mustPut(t, s, p)
	check(t, s.Flush(t.Context()))
	check(t, s.Forget(id))
	if s.Has(id) {
		t.Fatal("still here")
	}
	if _, err := s.Get(t.Context(), id, nil); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	check(t, s.Forget(id))
	mustPut(t, s, p)
	mustHave(t, s, id, p)
}

func TestLostPacksCountAsAbsent(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	s := d.Store(1, testKey)
	p, q := random(1, MaxBlock), []byte("small")
	big := mustPut(t, s, p)
	for i := range 3 {
		mustPut(t, s, random(uint64(50+i), MaxBlock))
	}
	check(t, s.Flush(t.Context()))
	small := mustPut(t, s, q)
	check(t, d.Close())
	check(t, fs.RemoveAll("disk/blocks"))
	d = closing(t, open(t, fs))
	s = d.Store(1, testKey)
	if s.Has(big) {
		t.Error("a block of a lost pack counts as here")
	}
	if _, err := s.Get(t.Context(), big, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	mustHave(t, s, small, q)
	n := 0
	check(t, s.Check(t.Context(), func(ID, error) { n++ }))
	if n != 4 {
		t.Errorf("%d blocks reported", n)
	}
	mustPut(t, s, p)
	check(t, s.Flush(t.Context()))
	mustHave(t, s, big, p)
}

func TestPacksWithoutMetaAreNotTouched(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	mustPut(t, d.Store(1, testKey), random(1, 400_000))
	check(t, d.Close())
	check(t, fs.RemoveAll("disk/meta"))
	before, err := fs.List("disk/blocks")
	check(t, err)
	if _, err := OpenDisk(fs, "disk", quiet); !errors.Is(err, ErrNoMeta) {
		t.Fatalf("open: %v", err)
	}
	after, err := fs.List("disk/blocks")
	check(t, err)
	if len(before) != len(after) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// What the disk could not read for a while is there again when it can, also
// where nobody else has it.
func TestATroubledDiskLosesNothing(t *testing.T) {
	mem := vfs.NewMem()
	d := open(t, mem)
	s := d.Store(1, testKey)
	p := random(1, 2<<20)
	var ids []ID
	for at := 0; at < len(p); at += 64 << 10 {
		ids = append(ids, mustPut(t, s, p[at:at+64<<10]))
	}
	check(t, d.Close())
	var ill atomic.Bool
	d = open(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if ill.Load() && op.Kind == errorfs.OpFileReadAt && strings.Contains(op.Path, "/blocks/") {
			return syscall.EIO
		}
		return nil
	})))
	s = d.Store(1, testKey)
	ill.Store(true)
	for _, id := range ids {
		if _, err := s.Get(t.Context(), id, nil); !errors.Is(err, ErrDamaged) || s.Has(id) {
			t.Fatalf("read from a disk that cannot: %v", err)
		}
	}
	ill.Store(false)
	for i, id := range ids {
		got, err := s.Get(t.Context(), id, nil)
		check(t, err)
		if !bytes.Equal(got, p[i*64<<10:(i+1)*64<<10]) || !s.Has(id) {
			t.Fatal("a block that can be read is damaged")
		}
	}
	check(t, d.Close())
}

// troubled is a store with one pack, of whose ten blocks the first two are
// named, on a disk whose packs cannot be read while it is ill. A sweep calls
// rewriting, if it is set, before it moves what is named.
type troubled struct {
	*Store
	ill       atomic.Bool
	rewriting func()
}

func newTroubled(t *testing.T) *troubled {
	t.Helper()
	mem := vfs.NewMem()
	d := open(t, mem)
	s := d.Store(1, testKey)
	var row []byte
	for seed := range uint64(10) {
		id := mustPut(t, s, seeded(seed))
		if seed < 2 {
			row = append(row, id[:]...)
		}
	}
	check(t, s.Flush(t.Context()))
	check(t, d.Meta().Set(rowKey(1, 0), row, pebble.Sync))
	check(t, d.Close())
	out := &troubled{}
	d = closing(t, open(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, tempSuffix) && out.rewriting != nil {
			out.rewriting()
		}
		if out.ill.Load() && op.Kind == errorfs.OpFileReadAt && strings.Contains(op.Path, "/blocks/") {
			return syscall.EIO
		}
		return nil
	}))))
	out.Store = d.Store(1, testKey)
	return out
}

// unread reads a block in vain.
func (s *troubled) unread(t *testing.T, seed uint64) {
	t.Helper()
	s.ill.Store(true)
	defer s.ill.Store(false)
	id := testKey.ID(seeded(seed))
	if _, err := s.Get(t.Context(), id, nil); !errors.Is(err, syscall.EIO) || s.Has(id) {
		t.Errorf("read from a disk that cannot: %v", err)
	}
}

// mustHaveNamed checks that what is named can be read. Pebble may be opening a table
// that it began to open when the disk could not be read, and then it fails once more.
func (s *troubled) mustHaveNamed(t *testing.T) {
	t.Helper()
	s.ill.Store(false)
	for seed := range uint64(2) {
		b, err := s.Get(t.Context(), testKey.ID(seeded(seed)), nil)
		for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
			b, err = s.Get(t.Context(), testKey.ID(seeded(seed)), nil)
		}
		if err != nil || !bytes.Equal(b, seeded(seed)) {
			t.Errorf("block %d: %v", seed, err)
		}
	}
}

// A sweep does not give back a pack while the disk cannot read what lives in it.
func TestASweepKeepsWhatTheDiskCannotRead(t *testing.T) {
	for name, rewriting := range map[string]func(s *troubled){
		"found by the sweep": nil,
		"found by a reader meanwhile": func(s *troubled) {
			for seed := range uint64(2) {
				_, _ = s.Get(t.Context(), testKey.ID(seeded(seed)), nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTroubled(t)
			s.ill.Store(true)
			if rewriting != nil {
				s.rewriting = func() { rewriting(s) }
			}
			got, err := s.Sweep(t.Context(), naming(s.d, 1))
			check(t, err)
			if got.Blocks != 8 || got.Packs != 0 {
				t.Errorf("swept %+v", got)
			}
			s.rewriting = nil
			s.mustHaveNamed(t)
			if got, err = s.Sweep(t.Context(), naming(s.d, 1)); err != nil || got.Rewritten != 1 {
				t.Errorf("swept %+v, %v", got, err)
			}
			s.mustHaveNamed(t)
		})
	}
}

// What a sweep can read it moves, whatever readers find of it at the same time.
func TestASweepMovesWhatAReaderCouldNotRead(t *testing.T) {
	for name, tt := range map[string]struct{ before, rewriting func(*testing.T, *troubled) }{
		"meanwhile": {
			before:    func(*testing.T, *troubled) {},
			rewriting: func(t *testing.T, s *troubled) { s.unread(t, 0); s.unread(t, 1) },
		},
		"before, and can meanwhile": {
			before:    func(t *testing.T, s *troubled) { s.unread(t, 1) },
			rewriting: func(t *testing.T, s *troubled) { s.mustHaveNamed(t) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTroubled(t)
			tt.before(t, s)
			s.rewriting = func() { tt.rewriting(t, s) }
			if got, err := s.Sweep(t.Context(), naming(s.d, 1)); err != nil || got.Rewritten != 1 {
				t.Errorf("swept %+v, %v", got, err)
			}
			for seed := range uint64(2) {
				if !s.Has(testKey.ID(seeded(seed))) {
					t.Errorf("block %d was read by the sweep, and is not there", seed)
				}
			}
			s.mustHaveNamed(t)
		})
	}
}

// A dead block that the disk reads again is dropped with its pack: what is put
// later must not be found where nothing is.
func TestASweepDropsTheDeadWhateverTheDiskSaysOfThem(t *testing.T) {
	s := newTroubled(t)
	p := seeded(5)
	id := testKey.ID(p)
	s.unread(t, 5)
	m, err := s.NewMarks(t.Context())
	check(t, err)
	found, err := s.locate(id)
	check(t, err)
	_, err = s.Get(t.Context(), id, nil) // between the look and the deletion
	check(t, err)
	if n, err := s.dropChunk(t.Context(), m, []place{{id, found}}); n != 1 || err != nil {
		t.Errorf("dropped %d, %v", n, err)
	}
	var n Swept
	check(t, s.dropPacks(t.Context(), m, &n))
	if n.Packs != 1 || s.Has(id) {
		t.Errorf("swept %+v; the block is there: %v", n, s.Has(id))
	}
	mustPut(t, s.Store, p)
	check(t, s.Flush(t.Context()))
	mustHave(t, s.Store, id, p)
}

// A pack stays while it cannot be told what has become of its blocks.
func TestASweepKeepsAPackWhoseRowsItCannotRead(t *testing.T) {
	s := newTroubled(t)
	id := testKey.ID(seeded(1))
	row, closer, err := s.d.meta.Get(blockKey(1, id))
	check(t, err)
	row = bytes.Clone(row)
	check(t, closer.Close())
	s.rewriting = func() {
		s.ill.Store(true)
		check(t, s.d.meta.Set(blockKey(1, id), []byte("not a location"), pebble.NoSync))
	}
	if got, err := s.Sweep(t.Context(), naming(s.d, 1)); err == nil || got.Packs != 0 {
		t.Errorf("swept %+v, %v", got, err)
	}
	s.rewriting = nil
	check(t, s.d.meta.Set(blockKey(1, id), row, pebble.NoSync))
	s.mustHaveNamed(t)
}
