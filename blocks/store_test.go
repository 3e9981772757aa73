package blocks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
)

var testKey = Key{1, 2, 3}

var quiet = DiskOptions{Log: slog.New(slog.DiscardHandler), MetaCache: 8 << 20, BlockCache: 4 << 20, MemTable: 1 << 20}

func open(tb testing.TB, fs vfs.FS) *Disk {
	tb.Helper()
	d, err := OpenDisk(fs, "disk", quiet)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func closing(tb testing.TB, d *Disk) *Disk {
	tb.Helper()
	tb.Cleanup(func() { check(tb, d.Close()) })
	return d
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func random(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(p)
	return p
}

func mustPut(tb testing.TB, s *Store, p []byte) ID {
	tb.Helper()
	id, err := s.Put(tb.Context(), p)
	check(tb, err)
	return id
}

func mustHave(tb testing.TB, s *Store, id ID, want []byte) {
	tb.Helper()
	if !s.Has(id) {
		tb.Fatalf("block %v is not here", id)
	}
	got, err := s.Get(tb.Context(), id, nil)
	check(tb, err)
	if !bytes.Equal(got, want) {
		tb.Fatalf("block %v: other bytes", id)
	}
}

// stages are the places a block can be in.
var stages = []struct {
	name string
	move func(testing.TB, *Store)
}{
	{"in memory", func(testing.TB, *Store) {}},
	{"in a small row", func(tb testing.TB, s *Store) { check(tb, s.Flush(tb.Context())) }},
	{"folded", func(tb testing.TB, s *Store) {
		check(tb, s.Flush(tb.Context()))
		check(tb, s.fold(tb.Context()))
	}},
	{"in a pack", func(tb testing.TB, s *Store) {
		mustPut(tb, s, random(1, MaxBlock))
		mustPut(tb, s, random(2, MaxBlock))
		mustPut(tb, s, random(3, MaxBlock))
		check(tb, s.Flush(tb.Context()))
	}},
}

func TestBlocksComeBackFromWhereverTheyAre(t *testing.T) {
	kinds := map[string][]byte{
		"empty":    {},
		"tiny":     []byte("x"),
		"random":   random(9, 100_000),
		"text":     bytes.Repeat([]byte("all the same "), 20_000),
		"largest":  random(10, MaxBlock),
		"zeros":    make([]byte, MaxBlock),
		"in parts": append(random(11, 50_000), make([]byte, 50_000)...),
	}
	for _, stage := range stages {
		t.Run(stage.name, func(t *testing.T) {
			d := closing(t, open(t, vfs.NewMem()))
			s := d.Store(3, testKey)
			ids := map[string]ID{}
			for name, p := range kinds {
				if name == "largest" && stage.name != "in a pack" {
					continue
				}
				ids[name] = mustPut(t, s, p)
				if want := testKey.ID(p); ids[name] != want {
					t.Fatalf("id %v, want %v", ids[name], want)
				}
			}
			stage.move(t, s)
			for name, id := range ids {
				mustHave(t, s, id, kinds[name])
			}
			if d.Store(4, Key{}).Has(ids["tiny"]) {
				t.Error("another folder has it")
			}
			if _, err := s.Get(t.Context(), ID{1}, nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("a block nobody put: %v", err)
			}
		})
	}
}

func TestBlocksAreThereAfterReopening(t *testing.T) {
	for _, stage := range stages {
		t.Run(stage.name, func(t *testing.T) {
			fs := vfs.NewMem()
			d := open(t, fs)
			s := d.Store(1, testKey)
			p := random(7, 200_000)
			id := mustPut(t, s, p)
			stage.move(t, s)
			check(t, d.Close())
			d = closing(t, open(t, fs))
			s = d.Store(1, testKey)
			mustHave(t, s, id, p)
			if len(d.lost) > 0 {
				t.Errorf("lost packs %v", d.lost)
			}
			// The rows go on where they were.
			q := random(8, 1000)
			id2 := mustPut(t, s, q)
			check(t, s.Flush(t.Context()))
			mustHave(t, s, id, p)
			mustHave(t, s, id2, q)
		})
	}
}

func TestABlockIsStoredOnce(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	p := random(1, 600_000)[:MaxBlock]
	for range 3 {
		for i := range 4 {
			mustPut(t, s, p[i:])
		}
		check(t, s.Flush(t.Context()))
	}
	packs, err := d.packsOf(1)
	check(t, err)
	if len(packs) != 1 {
		t.Errorf("packs %v", packs)
	}
}

func TestSizesAreBounded(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	p := make([]byte, MaxBlock+1)
	if _, err := s.Put(t.Context(), p); !errors.Is(err, ErrTooBig) {
		t.Errorf("put: %v", err)
	}
	if err := s.PutVerified(t.Context(), testKey.ID(p), p); !errors.Is(err, ErrTooBig) {
		t.Errorf("put verified: %v", err)
	}
}

func TestBlocksOfPeersAreVerified(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	p := random(1, 1000)
	if err := s.PutVerified(t.Context(), ID{5}, p); !errors.Is(err, ErrDamaged) {
		t.Errorf("wrong id: %v", err)
	}
	if s.Has(ID{5}) || s.Has(testKey.ID(p)) {
		t.Error("it was stored")
	}
	check(t, s.PutVerified(t.Context(), testKey.ID(p), p))
	mustHave(t, s, testKey.ID(p), p)
}

func TestGetReusesTheBuffer(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	for _, p := range [][]byte{random(1, 70_000), bytes.Repeat([]byte("ab"), 35_000)} {
		id := mustPut(t, s, p)
		check(t, s.Flush(t.Context()))
		buf := make([]byte, 5, MaxBlock)
		got, err := s.Get(t.Context(), id, buf)
		check(t, err)
		if !bytes.Equal(got, p) || &got[0] != &buf[:1][0] {
			t.Errorf("%d bytes, not in the buffer", len(got))
		}
	}
}

func TestAllAtOnce(t *testing.T) {
	const seed, workers, rounds = 1, 8, 40
	fs := vfs.NewMem()
	o := quiet
	o.Pending = 4 << 20
	d, err := OpenDisk(fs, "disk", o)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var run errgroup.Group
	run.Go(func() error { return d.Run(ctx) })
	var mu sync.Mutex
	put := map[ID][]byte{}
	var g errgroup.Group
	for w := range workers {
		g.Go(func() error {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			s := d.Store(uint32(1+w%3), testKey)
			for range rounds {
				p := random(uint64(w%3)<<16|uint64(r.IntN(200)), 1000+r.IntN(2)*200_000)
				id, err := s.Put(ctx, p)
				if err != nil {
					return err
				}
				mu.Lock()
				put[id] = p
				mu.Unlock()
				switch r.IntN(8) {
				case 0:
					err = s.Flush(ctx)
				case 1:
					err = s.fold(ctx)
				}
				if err != nil {
					return err
				}
				got, err := s.Get(ctx, id, nil)
				if err != nil || !bytes.Equal(got, p) {
					return fmt.Errorf("get: other bytes or %w", err)
				}
			}
			return nil
		})
	}
	check(t, g.Wait())
	cancel()
	check(t, run.Wait())
	check(t, d.Close())
	if d.budget.free != 4 {
		t.Errorf("%d slabs of 4 came back", d.budget.free)
	}
	d = closing(t, open(t, fs))
	for id, p := range put {
		found := false
		for folder := range uint32(3) {
			if s := d.Store(folder+1, testKey); s.Has(id) {
				found = true
				mustHave(t, s, id, p)
			}
		}
		if !found {
			t.Errorf("seed %d: block %v is gone", seed, id)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	o := quiet
	o.Pending = 4 << 20
	d, err := OpenDisk(vfs.NewMem(), "disk", o)
	check(t, err)
	closing(t, d)
	// More folders than there are slabs, each with a little, and no Run.
	for i := range 40 {
		s := d.Store(uint32(i+1), testKey)
		mustPut(t, s, random(uint64(i), 10_000))
	}
	var held int64
	for _, s := range d.all() {
		held += s.held()
	}
	if held > 4 {
		t.Errorf("%d slabs held", held)
	}
	s := d.Store(1, testKey)
	for i := range 40 {
		mustPut(t, s, random(uint64(100+i), 300_000))
	}
	for i := range 40 {
		mustHave(t, d.Store(uint32(i+1), testKey), testKey.ID(random(uint64(i), 10_000)), random(uint64(i), 10_000))
		mustHave(t, s, testKey.ID(random(uint64(100+i), 300_000)), random(uint64(100+i), 300_000))
	}
}

func TestDroppingAFolderGivesItsSpaceBack(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	var ids [3]ID
	p := random(4, 400_000)
	for i := range ids {
		s := d.Store(uint32(i+1), testKey)
		for j := range 10 {
			mustPut(t, s, random(uint64(1000*i+j), 400_000))
		}
		ids[i] = mustPut(t, s, p)
		check(t, s.Flush(t.Context()))
		mustPut(t, s, []byte("small"))
		check(t, s.Flush(t.Context()))
	}
	_, _, before, err := d.Usage()
	check(t, err)
	gone := d.Store(2, testKey)
	mustPut(t, gone, []byte("pending"))
	check(t, d.Drop(2))
	if _, err := gone.Put(t.Context(), []byte("more")); !errors.Is(err, ErrClosed) {
		t.Errorf("put after drop: %v", err)
	}
	d.blocks.TestOnlyWaitForCleaning()
	_, _, after, err := d.Usage()
	check(t, err)
	if before-after < 4_000_000 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	for range 2 {
		for i, id := range ids {
			s := d.Store(uint32(i+1), testKey)
			if i == 1 {
				if s.Has(id) || s.Has(testKey.ID([]byte("small"))) {
					t.Error("the folder has blocks still")
				}
				continue
			}
			mustHave(t, s, id, p)
			mustHave(t, s, testKey.ID([]byte("small")), []byte("small"))
		}
		check(t, d.Close())
		d = open(t, fs)
	}
	check(t, d.Close())
}

func TestFoldingKeepsWhatIsStillThere(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	a, b := mustPut(t, s, []byte("a")), mustPut(t, s, []byte("b"))
	check(t, s.Flush(t.Context()))
	check(t, s.Forget(a))
	check(t, s.fold(t.Context()))
	if s.Has(a) {
		t.Error("a forgotten block came back")
	}
	mustHave(t, s, b, []byte("b"))
	n := 0
	_, _, err := s.eachSmall(func(uint64, ID, byte, []byte) (bool, error) { n++; return true, nil })
	check(t, err)
	if n > 0 || s.small.Load() != 0 {
		t.Errorf("%d small rows left, %d bytes", n, s.small.Load())
	}
	if loc, err := s.locate(b); err != nil || loc.flags&flagSmall != 0 {
		t.Errorf("location %+v, %v", loc, err)
	}
}

func TestOtherRowsOfMetaAreLeftAlone(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	for folder := range uint32(4) {
		for _, table := range []byte{'A', 'C', 'L', 'R', 'T', 'n', 'y'} {
			check(t, d.Meta().Set(append(tableKey(folder, table), "row"...), []byte("v"), pebble.NoSync))
		}
	}
	s := d.Store(2, testKey)
	id := mustPut(t, s, []byte("x"))
	check(t, d.Close())
	d = closing(t, open(t, fs))
	mustHave(t, d.Store(2, testKey), id, []byte("x"))
	check(t, d.Drop(2))
	for _, table := range []byte{'A', 'C', 'L', 'R', 'T', 'n', 'y'} {
		v, closer, err := d.Meta().Get(append(tableKey(2, table), "row"...))
		check(t, err)
		if string(v) != "v" {
			t.Errorf("table %c: %q", table, v)
		}
		check(t, closer.Close())
	}
}
