package blocks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/crashfs"
)

// naming marks the blocks that rows name, as the index does.
func naming(d *Disk, folder uint32) func(context.Context, *Marks) error {
	return func(_ context.Context, m *Marks) error {
		return scanTable(d.Meta(), folder, 'x', func(_, v []byte) error {
			for ids := v; len(ids) > 0; ids = ids[32:] {
				if _, _, err := m.Mark(ID(ids[:32])); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// seeded is the block of a seed, every seventh a small one.
func seeded(seed uint64) []byte {
	if seed%7 == 0 {
		return random(seed, 2000)
	}
	return random(seed, MaxBlock)
}

func TestASweepGivesBackWhatNothingNames(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	s := d.Store(1, testKey)
	name := func(n uint64, seeds ...uint64) {
		t.Helper()
		var ids []byte
		for _, seed := range seeds {
			id := mustPut(t, s, seeded(seed))
			ids = append(ids, id[:]...)
		}
		check(t, s.Flush(t.Context()))
		check(t, d.Meta().Set(rowKey(1, n), ids, pebble.NoSync))
	}
	name(0, 1, 2, 3, 4, 5, 6) // a pack that will be wholly dead
	name(1, 8, 9, 10, 11, 12) // one of which one block lives
	name(2, 15, 16, 17, 18)   // one that lives
	name(3, 7)                // small rows
	name(4, 14)               //
	name(1, 10)
	for _, n := range []uint64{0, 4} {
		check(t, d.Meta().Delete(rowKey(1, n), pebble.NoSync))
	}
	other := d.Store(2, testKey)
	for i := range uint64(4) {
		mustPut(t, other, random(i+100, MaxBlock))
	}
	check(t, other.Flush(t.Context()))

	got, err := s.Sweep(t.Context(), naming(d, 1))
	check(t, err)
	if got.Blocks != 6+4+1 || got.Packs != 2 || got.Rewritten != 1 || got.Bytes != 10*MaxBlock {
		t.Errorf("swept %+v", got)
	}
	verify := func() {
		t.Helper()
		for _, seed := range []uint64{1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 14} {
			if s.Has(testKey.ID(seeded(seed))) {
				t.Errorf("block %d is there", seed)
			}
		}
		for _, seed := range []uint64{7, 10, 15, 16, 17, 18} {
			mustHave(t, s, testKey.ID(seeded(seed)), seeded(seed))
		}
		for i := range uint64(4) {
			mustHave(t, other, testKey.ID(random(i+100, MaxBlock)), random(i+100, MaxBlock))
		}
		if there, err := d.packs(); err != nil || len(there) != 3 {
			t.Errorf("packs %v, %v", there, err)
		}
	}
	verify()
	if again, err := s.Sweep(t.Context(), naming(d, 1)); err != nil || again != (Swept{}) {
		t.Errorf("swept again %+v, %v", again, err)
	}
	check(t, s.fold(t.Context()))
	check(t, d.Close())
	d = closing(t, open(t, fs))
	s, other = d.Store(1, testKey), d.Store(2, testKey)
	there, err := d.packs()
	check(t, err)
	if len(there) != 4 { // with that of the small rows
		t.Errorf("packs %v", there)
	}
	mustHave(t, s, testKey.ID(seeded(7)), seeded(7))
}

// A block that was put, or found here, and is not named yet outlives a sweep if
// it is held, however the two meet.
func TestASweepSparesWhatIsHeld(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before bool // held before the sweep begins
		old    bool // the block was here, dead, before that
	}{{"put before", true, false}, {"found before", true, true}, {"put meanwhile", false, false}, {"found meanwhile", false, true}} {
		t.Run(tt.name, func(t *testing.T) {
			d := closing(t, open(t, vfs.NewMem()))
			s := d.Store(1, testKey)
			for i := range uint64(5) {
				mustPut(t, s, random(i, MaxBlock))
			}
			check(t, s.Flush(t.Context()))
			p := random(99, MaxBlock)
			if tt.old {
				p = random(3, MaxBlock)
			}
			var id ID
			write := func() func() {
				release := s.Hold()
				id = mustPut(t, s, p)
				check(t, s.Flush(t.Context()))
				return release
			}
			name := func() { check(t, d.Meta().Set(rowKey(1, 0), id[:], pebble.NoSync)) }
			var release func()
			if tt.before {
				release = write()
			}
			held := s.holders.cur
			done := make(chan error, 1)
			marking := make(chan struct{})
			go func() {
				_, err := s.Sweep(t.Context(), func(ctx context.Context, m *Marks) error {
					err := naming(d, 1)(ctx, m)
					close(marking)
					if !tt.before { // it comes when the rows have been read
						release = write()
					}
					return err
				})
				done <- err
			}()
			if tt.before {
				awaitTurn(t, s, held)
				select {
				case <-marking:
					t.Error("the sweep did not wait")
				default:
				}
				name()
				release()
			}
			check(t, <-done)
			mustHave(t, s, id, p)
			name()
			release()
			got, err := s.Sweep(t.Context(), naming(d, 1))
			check(t, err)
			mustHave(t, s, id, p)
			for i := range uint64(5) {
				if i != 3 && s.Has(testKey.ID(random(i, MaxBlock))) {
					t.Errorf("block %d is there after %+v", i, got)
				}
			}
		})
	}
}

// awaitTurn waits until a sweep no longer counts those who hold from now on.
func awaitTurn(t *testing.T, s *Store, held *generation) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.holders.mu.Lock()
		over := s.holders.cur != held
		s.holders.mu.Unlock()
		if over {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the sweep did not turn over those who hold")
		}
	}
}

func TestASweepThatCannotMarkDeletesNothing(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	id := mustPut(t, s, random(1, MaxBlock))
	check(t, s.Flush(t.Context()))
	wrong := errors.New("damaged list")
	if _, err := s.Sweep(t.Context(), func(context.Context, *Marks) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("sweep: %v", err)
	}
	mustHave(t, s, id, random(1, MaxBlock))
}

// A sweep makes room where there is too little for anything else.
func TestASweepMakesRoomOnAFullDisk(t *testing.T) {
	for _, tt := range []struct {
		name string
		free uint64 // beside the ballast, if that is there
		full func(*room)
		want error
	}{
		{"below the reserve", 3 * mib, func(*room) {}, nil},
		{"no room but the ballast", 1 * mib, func(*room) {}, ErrFull},
		{"the ballast is spent", 11 * mib, (*room).release, nil},
		{"a quota that does not show", 1 << 40, (*room).release, nil},
		{"the ballast is spent, and its room", 9 * mib, (*room).release, ErrFull},
		{"Pebble cannot write", 30 * mib, func(r *room) { r.stall(syscall.ENOSPC) }, ErrFull},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := diskOf(64*mib, 40*mib)
			d := closing(t, open(t, fs))
			s := d.Store(1, testKey)
			live := mustPut(t, s, random(0, MaxBlock))
			for seed := range uint64(29) {
				mustPut(t, s, random(1+seed, MaxBlock))
			}
			check(t, s.Flush(t.Context()))
			check(t, d.Meta().Set(rowKey(1, 0), live[:], pebble.Sync))
			fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: tt.free})
			tt.full(d.room)
			got, err := s.Sweep(t.Context(), naming(d, 1))
			if !errors.Is(err, tt.want) || (err == nil) != (got.Rewritten == 1) {
				t.Errorf("swept %+v, %v, want %v", got, err, tt.want)
			}
			mustHave(t, s, live, random(0, MaxBlock))
		})
	}
}

// limited is a filesystem that holds so many bytes, and tells what is left of
// them, unless it is a quota.
type limited struct {
	vfs.FS
	size  atomic.Int64
	quota bool
	t     *testing.T
}

func (l *limited) left() int64 {
	var used int64
	for _, n := range files(l.t, l.FS, "disk") {
		used += n
	}
	return l.size.Load() - used
}

func (l *limited) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if l.quota {
		return vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: 64 * mib}, nil
	}
	return vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: uint64(max(0, l.left()))}, nil
}

func (l *limited) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	return limitedFile{f, l, strings.HasSuffix(name, tempSuffix)}, err
}

// limitedFile meets the limit where it is a pack that is being written.
type limitedFile struct {
	vfs.File
	l    *limited
	pack bool
}

func (f limitedFile) Write(p []byte) (int, error) {
	if f.pack && f.l.left() < int64(len(p)) {
		return 0, syscall.EDQUOT
	}
	return f.File.Write(p)
}

// What is to be moved in all is more than there is room for: a sweep gives back
// what one pack leaves before it moves the next.
func TestASweepOfAFullDiskGoesPackByPack(t *testing.T) {
	for _, quota := range []bool{false, true} {
		t.Run(fmt.Sprintf("quota %v", quota), func(t *testing.T) {
			fs := &limited{FS: vfs.NewMem(), quota: quota, t: t}
			fs.size.Store(1 << 40)
			d := closing(t, open(t, fs))
			s := d.Store(1, testKey)
			const packs, each = 12, 4
			var row []byte
			for pack := range uint64(packs) {
				for i := range uint64(each) {
					id := mustPut(t, s, random(pack*each+i, MaxBlock))
					if i == 0 {
						row = append(row, id[:]...)
					}
				}
				check(t, s.Flush(t.Context()))
			}
			check(t, d.Meta().Set(rowKey(1, 0), row, pebble.Sync))
			if quota {
				d.room.release()
			}
			const free = 3 * mib // of the 6 MiB that live
			fs.size.Add(free - fs.left())
			d.room.asked.Store(0)
			swept := 0
			for range 20 { // Pebble may be slower to remove files than we are
				got, err := s.Sweep(t.Context(), naming(d, 1))
				swept += got.Rewritten
				if err == nil {
					break
				}
				if !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
				d.blocks.TestOnlyWaitForCleaning()
			}
			if swept != packs {
				t.Errorf("%d packs of %d swept", swept, packs)
			}
			for pack := range uint64(packs) {
				mustHave(t, s, testKey.ID(random(pack*each, MaxBlock)), random(pack*each, MaxBlock))
			}
		})
	}
}

// Writers name blocks, some of them again and again, and let them go; sweeps
// and folds run beside them. At each moment everything named is there.
func TestSweepsBesideWriters(t *testing.T) {
	const seed = 11
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	ctx, cancel := context.WithCancel(t.Context())
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Sweep(ctx, naming(d, 1)); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if err := s.fold(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	var writers sync.WaitGroup
	for w := range uint64(3) {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(seed, w))
			for i := range 150 {
				release := s.Hold()
				var ids []byte
				var want []uint64
				for range 1 + r.IntN(3) {
					n := r.Uint64N(20) // shared by all writers
					want = append(want, n)
					id, err := s.Put(ctx, random(n, 3000+int(n%4)*150_000))
					if err != nil {
						t.Error(err)
						return
					}
					ids = append(ids, id[:]...)
				}
				if err := s.Flush(ctx); err != nil {
					t.Error(err)
				}
				if err := d.Meta().Set(rowKey(1, w), ids, pebble.NoSync); err != nil {
					t.Error(err)
				}
				release()
				for _, n := range want {
					if _, err := s.Get(ctx, testKey.ID(random(n, 3000+int(n%4)*150_000)), nil); err != nil {
						t.Errorf("seed %d, writer %d, step %d: %v", seed, w, i, err)
					}
				}
			}
		})
	}
	writers.Wait()
	cancel()
	sweeper.Wait()
}

// sweptLife makes rows, lets some go and sweeps, again and again.
func sweptLife(ctx context.Context, fs vfs.FS) error {
	d, err := OpenDisk(fs, "a/disk", quiet)
	if err != nil {
		return err
	}
	s := d.Store(1, testKey)
	r := rand.New(rand.NewPCG(5, 5))
	for round := range uint64(3) {
		for n := range uint64(6) {
			var ids []byte
			for range 1 + r.IntN(4) {
				seed := r.Uint64N(30)
				id, err := s.Put(ctx, random(seed, 1000+int(seed%3)*200_000))
				if err != nil {
					return err
				}
				ids = append(ids, id[:]...)
			}
			if err := errors.Join(s.Flush(ctx), d.Meta().Set(rowKey(1, n), ids, pebble.NoSync)); err != nil {
				return err
			}
		}
		if err := errors.Join(d.Meta().Delete(rowKey(1, round), pebble.NoSync), d.Sync()); err != nil {
			return err
		}
		if _, err := s.Sweep(ctx, naming(d, 1)); err != nil {
			return err
		}
		if round == 1 {
			if err := s.fold(ctx); err != nil {
				return err
			}
		}
	}
	return d.Close()
}

func TestACrashInASweepLosesNothingNamed(t *testing.T) {
	const seed = 6
	stride := 7
	if testing.Short() || racing { // it is for what is on disk
		stride = 31
	}
	for n := 0; ; n += stride {
		fs, clone := crashingAt(n, n%2*40, rand.New(rand.NewPCG(seed, uint64(n))))
		check(t, sweptLife(t.Context(), fs))
		if *clone == nil {
			if n < 50 {
				t.Errorf("only %d changes", n)
			}
			return
		}
		if err := wholeRows(t.Context(), *clone); err != nil {
			t.Errorf("seed %d, crash before change %d: %v", seed, n, err)
		}
	}
}

// Packs go only once it is durable that nothing names them.
func TestACrashAfterASweepLosesNothingNamed(t *testing.T) {
	const seed = 7
	fs := crashfs.New()
	d, err := OpenDisk(fs, "a/disk", quiet)
	check(t, err)
	s := d.Store(1, testKey)
	for n := range uint64(4) {
		var ids []byte
		for i := range uint64(5) {
			id := mustPut(t, s, random(n*10+i, MaxBlock))
			ids = append(ids, id[:]...)
		}
		check(t, s.Flush(t.Context()))
		check(t, d.Meta().Set(rowKey(1, n), ids[:32], pebble.NoSync)) // the rest is dead
		if n == 3 {
			check(t, d.Meta().Delete(rowKey(1, n), pebble.NoSync))
		}
	}
	check(t, d.Sync())
	if got, err := s.Sweep(t.Context(), naming(d, 1)); err != nil || got.Packs != 4 || got.Rewritten != 3 {
		t.Errorf("swept %+v, %v", got, err)
	}
	for crash := range uint64(6) {
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(crash%2) * 50, RNG: rand.New(rand.NewPCG(seed, crash))})
		if err := wholeRows(t.Context(), clone); err != nil {
			t.Errorf("seed %d, crash %d: %v", seed, crash, err)
		}
	}
	check(t, d.Close())
}

// wholeRows checks that of each row that is there all blocks are, and that a
// further sweep leaves them.
func wholeRows(ctx context.Context, fs vfs.FS) error {
	d, err := OpenDisk(fs, "a/disk", quiet)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if len(d.lost) > 0 {
		return fmt.Errorf("packs %v have rows but are gone", d.lost)
	}
	s := d.Store(1, testKey)
	for _, when := range []string{"after the crash", "after a sweep"} {
		err := scanTable(d.Meta(), 1, 'x', func(k, v []byte) error {
			for ids := v; len(ids) > 0; ids = ids[32:] {
				if _, err := s.Get(ctx, ID(ids[:32]), nil); err != nil {
					return fmt.Errorf("row %x %s: %w", k, when, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := s.Sweep(ctx, naming(d, 1)); err != nil {
			return err
		}
	}
	return nil
}
