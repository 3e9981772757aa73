package blocks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/blocks/crashfs"
)

// writerOf writes rows that name blocks, as the index does: each row only after
// a Flush that came after its blocks.
type writerOf struct {
	d      *Disk
	s      *Store
	folder uint32
	r      *rand.Rand

	mu     sync.Mutex // guards the two below
	rows   uint64
	synced uint64 // rows up to this are durable
}

func rowKey(folder uint32, n uint64) []byte {
	return binary.BigEndian.AppendUint64(tableKey(folder, 'x'), n)
}

// step writes a row, or does something else.
func (w *writerOf) step(ctx context.Context) error {
	switch w.r.IntN(10) {
	case 0:
		return w.s.fold(ctx)
	case 1, 2:
		w.mu.Lock()
		rows := w.rows
		w.mu.Unlock()
		if err := w.d.Sync(); err != nil {
			return err
		}
		w.mu.Lock()
		w.synced = max(w.synced, rows)
		w.mu.Unlock()
		return nil
	}
	var ids []byte
	for range 1 + w.r.IntN(4) {
		n := 500
		if w.r.IntN(3) == 0 {
			n = 100_000 + w.r.IntN(400_000)
		}
		id, err := w.s.Put(ctx, random(w.r.Uint64(), n))
		if err != nil {
			return err
		}
		ids = append(ids, id[:]...)
	}
	if err := w.s.Flush(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	n := w.rows
	w.mu.Unlock()
	if err := w.d.Meta().Set(rowKey(w.folder, n), ids, pebble.NoSync); err != nil {
		return err
	}
	w.mu.Lock()
	w.rows++
	w.mu.Unlock()
	return nil
}

// verifyCrash opens what a crash has left. All of the first synced rows must be
// there, and of every row that is, all blocks.
func verifyCrash(ctx context.Context, fs vfs.FS, dir string, synced map[uint32]uint64) error {
	d, err := OpenDisk(fs, dir, quiet)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if len(d.lost) > 0 {
		return fmt.Errorf("packs %v have rows but are gone", d.lost)
	}
	for folder, want := range synced {
		s := d.Store(folder, testKey)
		for n := uint64(0); ; n++ {
			v, closer, err := d.Meta().Get(rowKey(folder, n))
			if errors.Is(err, pebble.ErrNotFound) {
				if n < want {
					return fmt.Errorf("folder %d: row %d of %d synced is gone", folder, n, want)
				}
				break
			}
			if err != nil {
				return err
			}
			for ids := v; len(ids) > 0; ids = ids[32:] {
				if _, err := s.Get(ctx, ID(ids[:32]), nil); err != nil {
					return fmt.Errorf("folder %d row %d: %w", folder, n, err)
				}
			}
			if err := closer.Close(); err != nil {
				return err
			}
		}
	}
	there, err := d.packs()
	if err != nil {
		return err
	}
	known, err := d.scanMeta()
	for _, p := range there {
		if !known[p] {
			return fmt.Errorf("pack %d was not swept", p)
		}
	}
	return err
}

func TestARowNeverSurvivesItsBlocks(t *testing.T) {
	crashes := 5
	if testing.Short() {
		crashes = 4
	}
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			fs := crashfs.New()
			d := open(t, fs)
			ctx, cancel := context.WithCancel(t.Context())
			var g errgroup.Group
			g.Go(func() error { return d.Run(ctx) })
			var writers []*writerOf
			steps := make(chan struct{})
			for folder := uint32(1); folder <= 2; folder++ {
				w := &writerOf{d: d, folder: folder, s: d.Store(folder, testKey), r: rand.New(rand.NewPCG(seed, uint64(folder)))}
				writers = append(writers, w)
				g.Go(func() error {
					for range steps {
						if err := w.step(t.Context()); err != nil {
							return err
						}
					}
					return nil
				})
			}
			r := rand.New(rand.NewPCG(seed, 0))
			for crash := range crashes {
				for range r.IntN(12) {
					steps <- struct{}{}
				}
				synced := map[uint32]uint64{}
				for _, w := range writers {
					w.mu.Lock()
					synced[w.folder] = w.synced
					w.mu.Unlock()
				}
				clone := fs.CrashClone(vfs.CrashCloneCfg{
					UnsyncedDataPercent: r.IntN(101),
					RNG:                 rand.New(rand.NewPCG(seed, uint64(crash))),
				})
				if err := verifyCrash(t.Context(), clone, "disk", synced); err != nil {
					t.Errorf("seed %d crash %d: %v", seed, crash, err)
				}
			}
			close(steps)
			cancel()
			check(t, g.Wait())
			check(t, d.Close())
		})
	}
}

func TestWhatACrashLeavesIsSwept(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	s := d.Store(1, testKey)
	for i := range 4 {
		mustPut(t, s, random(uint64(i), MaxBlock))
	}
	check(t, s.Flush(t.Context()))
	// Ingested, but the crash came before the rows.
	for range 3 {
		w, err := d.newPackWriter(d.room.packs)
		check(t, err)
		_, err = w.add(random(9, 100_000))
		check(t, err)
		check(t, w.ingest(t.Context()))
	}
	check(t, d.Close())
	f, err := fs.Create("disk/00ff.ing", vfs.WriteCategoryUnspecified)
	check(t, err)
	check(t, f.Close())
	d = closing(t, open(t, fs))
	there, err := d.packs()
	check(t, err)
	if len(there) != 1 {
		t.Errorf("packs %v", there)
	}
	if _, err := fs.Stat("disk/00ff.ing"); err == nil {
		t.Error("the temporary file is there")
	}
	for i := range 4 {
		p := random(uint64(i), MaxBlock)
		mustHave(t, d.Store(1, testKey), testKey.ID(p), p)
	}
}

func TestACrashWhileDroppingLeavesNothing(t *testing.T) {
	const seed = 3
	fs := crashfs.New()
	d := open(t, fs)
	s := d.Store(1, testKey)
	for i := range 8 {
		mustPut(t, s, random(uint64(i), MaxBlock))
		if i%3 == 2 {
			check(t, s.Flush(t.Context()))
		}
	}
	check(t, d.Drop(1))
	for crash := range uint64(8) {
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, crash))})
		d := open(t, clone)
		if there, err := d.packs(); err != nil || len(there) > 0 || len(d.lost) > 0 {
			t.Errorf("seed %d crash %d: packs %v, lost %v, %v", seed, crash, there, d.lost, err)
		}
		check(t, d.Close())
	}
	check(t, d.Close())
}

// crashingAt returns a filesystem that is copied as a crash would leave it just
// before its n-th change, with so many percent of what was not synced, and the
// place of the copy.
func crashingAt(n, unsynced int, rng *rand.Rand) (vfs.FS, **crashfs.FS) {
	fs := crashfs.New()
	var clone *crashfs.FS
	var mu sync.Mutex // guards n and clone
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if n--; n == -1 {
			clone = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rng})
		}
		return nil
	})), &clone
}

// life makes a disk, uses every way to write, and drops a folder.
func life(ctx context.Context, fs vfs.FS) error {
	d, err := OpenDisk(fs, "a/disk", quiet)
	if err != nil {
		return err
	}
	row := func(s *Store, n uint64, sizes ...int) error {
		var ids []byte
		for i, size := range sizes {
			id, err := s.Put(ctx, random(n*100+uint64(i), size))
			if err != nil {
				return err
			}
			ids = append(ids, id[:]...)
		}
		return errors.Join(s.Flush(ctx), d.Meta().Set(rowKey(s.folder, n), ids, pebble.NoSync))
	}
	one, two := d.Store(1, testKey), d.Store(2, testKey)
	for i, do := range []func() error{
		func() error { return row(one, 0, 100, 2000) },
		func() error { return row(two, 0, MaxBlock, MaxBlock, MaxBlock) },
		func() error { return row(one, 1, MaxBlock, MaxBlock, MaxBlock, 100) },
		func() error { return one.fold(ctx) },
		d.Sync,
		func() error { return row(one, 2, 1000, 2000) },
		func() error { return d.Drop(2) },
		d.Close,
	} {
		if err := do(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func TestACrashAtAnyMomentCanBeOpened(t *testing.T) {
	const seed = 4
	stride := 3
	if testing.Short() {
		stride = 17
	}
	for n := 0; ; n += stride {
		fs, clone := crashingAt(n, 40, rand.New(rand.NewPCG(seed, uint64(n))))
		check(t, life(t.Context(), fs))
		if *clone == nil {
			if n < 50 {
				t.Errorf("only %d changes", n)
			}
			return
		}
		// What had been synced by then is not known here: only that what is
		// there is whole.
		if err := verifyCrash(t.Context(), *clone, "a/disk", map[uint32]uint64{1: 0}); err != nil {
			t.Errorf("seed %d, crash before change %d: %v", seed, n, err)
		}
	}
}

func TestADatabaseLeftUnmadeIsMadeAgain(t *testing.T) {
	for _, db := range []string{"meta", "blocks"} {
		for _, used := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/used=%v", db, used), func(t *testing.T) {
				fs := vfs.NewMem()
				d := open(t, fs)
				if used {
					for i := range 4 {
						mustPut(t, d.Store(1, testKey), random(uint64(i), MaxBlock))
					}
					check(t, d.meta.Flush())
				}
				check(t, d.Close())
				if !used { // as a crash leaves it
					if db == "meta" {
						check(t, fs.RemoveAll("disk/blocks"))
					}
					names, err := fs.List("disk/" + db)
					check(t, err)
					for _, name := range names {
						if strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".log") {
							check(t, fs.Remove("disk/"+db+"/"+name))
						}
					}
				}
				desc, err := pebble.Peek("disk/"+db, fs)
				check(t, err)
				check(t, fs.Remove(desc.ManifestFilename))
				d, err = OpenDisk(fs, "disk", quiet)
				if used {
					if err == nil {
						t.Error("a damaged database was made anew")
						check(t, d.Close())
					}
					return
				}
				check(t, err)
				check(t, d.Close())
			})
		}
	}
}

func TestAgedBlocksAreFlushedByRun(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	id := mustPut(t, s, []byte("aged"))
	d.tend(t.Context(), time.Now())
	if _, err := s.locate(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("flushed at once: %v", err)
	}
	d.tend(t.Context(), time.Now().Add(packAge))
	loc, err := s.locate(id)
	check(t, err)
	if loc.flags&flagSmall == 0 {
		t.Errorf("location %+v", loc)
	}
	d.tend(t.Context(), time.Now().Add(2*foldAge))
	if loc, err = s.locate(id); err != nil || loc.flags&flagSmall == 0 {
		t.Errorf("a pack of a few bytes: %+v, %v", loc, err)
	}
	for i := range 600 {
		mustPut(t, s, random(uint64(i), 1000))
	}
	d.tend(t.Context(), time.Now().Add(packAge))
	d.tend(t.Context(), time.Now().Add(2*foldAge))
	if loc, err = s.locate(id); err != nil || loc.flags&flagSmall != 0 {
		t.Errorf("not folded: %+v, %v", loc, err)
	}
	mustHave(t, s, id, []byte("aged"))
}
