package blocks

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

const mib = 1 << 20

// diskOf returns a filesystem that says it has total bytes, free of them free.
func diskOf(total, free uint64) *vfs.MemFS {
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: total, AvailBytes: free})
	return fs
}

func TestTheReserveGrowsWithTheDisk(t *testing.T) {
	for _, tt := range []struct{ total, want int64 }{
		{16 * mib, 8 * mib},
		{64 * mib, 8 * mib},
		{1 << 30, 1 << 30 / 50},
		{1 << 40, 512 * mib},
	} {
		r, total, err := newRoom(diskOf(uint64(tt.total), 0), "")
		check(t, err)
		if r.reserve != tt.want || total != tt.total {
			t.Errorf("disk of %d: reserve %d of %d, want %d", tt.total, r.reserve, total, tt.want)
		}
	}
	r, _, err := newRoom(vfs.NewMem(), "")
	check(t, err)
	if err := r.check(); err != nil {
		t.Errorf("a filesystem that does not tell: %v", err)
	}
}

func TestPutsEndAtTheReserve(t *testing.T) {
	fs := diskOf(64*mib, 40*mib)
	d := closing(t, open(t, fs))
	s := d.Store(1, testKey)
	if fi, err := fs.Stat("disk/ballast"); err != nil || fi.Size() != 8*mib {
		t.Fatalf("ballast: %v", err)
	}
	old := mustPut(t, s, random(1, 1000))
	for _, tt := range []struct {
		free       uint64
		want, rows error
	}{{9 * mib, nil, nil}, {8*mib - 1, ErrFull, nil}, {2, ErrFull, nil}, {0, ErrFull, ErrFull}, {20 * mib, nil, nil}} {
		fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: tt.free})
		if err := d.Grant(0); !errors.Is(err, tt.want) {
			t.Errorf("free %d: room %v, want %v", tt.free, err, tt.want)
		}
		if err := d.RoomForRows(); !errors.Is(err, tt.rows) {
			t.Errorf("free %d: room for rows %v, want %v", tt.free, err, tt.rows)
		}
		if _, err := s.Put(t.Context(), random(tt.free, 1000)); !errors.Is(err, tt.want) {
			t.Errorf("free %d: put %v, want %v", tt.free, err, tt.want)
		}
		// What is here stays here, and is not put again.
		mustPut(t, s, random(1, 1000))
		mustHave(t, s, old, random(1, 1000))
		_, free, _, err := d.Usage()
		check(t, err)
		if (free > 0) != (tt.want == nil) {
			t.Errorf("free %d: usage says %d", tt.free, free)
		}
	}
}

func TestASmallFullDiskCanBeOpened(t *testing.T) {
	fs := diskOf(64*mib, 0)
	d := closing(t, open(t, fs))
	if _, err := fs.Stat("disk/ballast"); err == nil {
		t.Error("a ballast was made where there is no room")
	}
	if err := d.Grant(0); !errors.Is(err, ErrFull) {
		t.Errorf("room: %v", err)
	}
}

func TestPebbleSurvivesAFullDiskByTheBallast(t *testing.T) {
	for _, no := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		t.Run(no.Error(), func(t *testing.T) { testBallast(t, no) })
	}
}

func testBallast(t *testing.T, no syscall.Errno) {
	mem := diskOf(64*mib, 40*mib)
	var full atomic.Bool // until the ballast goes
	var hits atomic.Int64
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpRemove:
			if strings.HasSuffix(op.Path, "ballast") {
				full.Store(false)
			}
		case errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpCreate:
			if full.Load() && strings.Contains(op.Path, "meta") {
				hits.Add(1)
				return no
			}
		}
		return nil
	}))
	d := closing(t, open(t, fs))
	s := d.Store(1, testKey)
	id := mustPut(t, s, []byte("block"))
	full.Store(true)
	check(t, s.Flush(t.Context()))
	check(t, d.Sync())
	if hits.Load() == 0 {
		t.Fatal("nothing was written")
	}
	if _, err := mem.Stat("disk/ballast"); err == nil {
		t.Fatal("the ballast is still there")
	}
	if err := d.Grant(0); !errors.Is(err, ErrFull) {
		t.Errorf("room without the ballast, where a quota is used up: %v", err)
	}
	mem.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: 12 * mib})
	if err := d.Grant(0); !errors.Is(err, ErrFull) {
		t.Errorf("room without the ballast: %v", err)
	}
	check(t, d.room.restore())
	if _, err := mem.Stat("disk/ballast"); err == nil {
		t.Error("the ballast was made again too early")
	}
	mem.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: 30 * mib})
	check(t, d.room.restore())
	if _, err := mem.Stat("disk/ballast"); err != nil {
		t.Errorf("the ballast is gone for good: %v", err)
	}
	check(t, d.Grant(0))
	mustHave(t, s, id, []byte("block"))
}

func TestAPackThatDoesNotFitIsTriedAgain(t *testing.T) {
	mem := diskOf(64*mib, 40*mib)
	var full atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, tempSuffix) {
			return syscall.ENOSPC
		}
		return nil
	}))
	d := closing(t, open(t, fs))
	s := d.Store(1, testKey)
	var ids []ID
	for i := range 4 {
		ids = append(ids, mustPut(t, s, random(uint64(i), 500_000)))
	}
	full.Store(true)
	if err := s.Flush(t.Context()); !errors.Is(err, ErrFull) {
		t.Fatalf("flush: %v", err)
	}
	for i, id := range ids {
		mustHave(t, s, id, random(uint64(i), 500_000))
	}
	names, err := mem.List("disk")
	check(t, err)
	if got := fmt.Sprint(names); strings.Contains(got, tempSuffix) || !strings.Contains(got, "ballast") {
		t.Errorf("files %v", got)
	}
	full.Store(false)
	check(t, s.Flush(t.Context()))
	for i, id := range ids {
		mustHave(t, s, id, random(uint64(i), 500_000))
		if _, err := s.locate(id); err != nil {
			t.Error(err)
		}
	}
}

func TestMemoryFullOfWhatCannotBeWrittenRefusesMore(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, tempSuffix) {
			return syscall.ENOSPC
		}
		return nil
	}))
	o := quiet
	o.Pending = 4 << 20
	d, err := OpenDisk(fs, "disk", o)
	check(t, err)
	closing(t, d)
	s := d.Store(1, testKey)
	full.Store(true)
	var ids []ID
	for i := uint64(0); ; i++ {
		id, err := s.Put(t.Context(), random(i, MaxBlock))
		if errors.Is(err, ErrFull) {
			break
		}
		check(t, err)
		ids = append(ids, id)
		if len(ids) > 20 {
			t.Fatal("memory has no bound")
		}
	}
	full.Store(false)
	mustPut(t, s, random(1000, MaxBlock))
	for i, id := range ids {
		mustHave(t, s, id, random(uint64(i), MaxBlock))
	}
}

func TestADirectoryIsOpenedOnce(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "real": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			dir := fs.PathJoin(t.TempDir(), "disk")
			d, err := OpenDisk(fs, dir, quiet)
			check(t, err)
			if _, err := OpenDisk(fs, dir, quiet); !errors.Is(err, ErrLocked) {
				t.Errorf("second open: %v", err)
			}
			check(t, d.Close())
			d, err = OpenDisk(fs, dir, quiet)
			check(t, err)
			check(t, d.Close())
		})
	}
}

// files returns the sizes of all files below dir but locks.
func files(t *testing.T, fs vfs.FS, dir string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	names, err := fs.List(dir)
	check(t, err)
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		fi, err := fs.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted since
		}
		check(t, err)
		switch {
		case fi.IsDir():
			maps.Copy(out, files(t, fs, path))
		case name != "LOCK":
			out[path] = fi.Size()
		}
	}
	return out
}

func TestANewerFormatIsRefusedAndNotTouched(t *testing.T) {
	for name, age := range map[string]func(*testing.T, vfs.FS, *Disk){
		"ours": func(t *testing.T, _ vfs.FS, d *Disk) {
			check(t, d.meta.Set(formatKey, []byte{Format + 1}, pebble.Sync))
			check(t, d.Close())
		},
		"Pebble's": func(t *testing.T, fs vfs.FS, d *Disk) {
			check(t, d.Close())
			names, err := fs.List("disk/meta")
			check(t, err)
			for _, name := range names {
				if strings.HasPrefix(name, "marker.format-version.") {
					check(t, fs.Rename("disk/meta/"+name, "disk/meta/marker.format-version.000099.999"))
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			d := open(t, fs)
			mustPut(t, d.Store(1, testKey), random(1, 500_000))
			age(t, fs, d)
			before := files(t, fs, "disk")
			if _, err := OpenDisk(fs, "disk", quiet); !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("open: %v", err)
			}
			if after := files(t, fs, "disk"); !maps.Equal(before, after) {
				t.Errorf("before %v, after %v", before, after)
			}
		})
	}
}

func TestARealDirectoryKeepsBlocks(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDisk(vfs.Default, dir, quiet)
	check(t, err)
	s := d.Store(1, testKey)
	p := random(1, MaxBlock)
	id := mustPut(t, s, p)
	for i := range 4 {
		mustPut(t, s, random(uint64(10+i), MaxBlock))
	}
	check(t, d.Close())
	if fi, err := vfs.Default.Stat(dir + "/ballast"); err != nil || fi.Size() != d.Reserve() {
		t.Errorf("ballast: %v, reserve %d", err, d.Reserve())
	}
	d, err = OpenDisk(vfs.Default, dir, quiet)
	check(t, err)
	mustHave(t, d.Store(1, testKey), id, p)
	total, free, store, err := d.Usage()
	if err != nil || total <= 0 || free <= 0 || free > total || store < 2*mib {
		t.Errorf("usage %d %d %d %v", total, free, store, err)
	}
	check(t, d.Close())
}

func BenchmarkPut(b *testing.B) {
	for _, kind := range []string{"random", "text", "known"} {
		b.Run(kind, func(b *testing.B) {
			d, err := OpenDisk(vfs.Default, b.TempDir(), quiet)
			check(b, err)
			s := d.Store(1, testKey)
			p := random(1, 128<<10)
			if kind == "text" {
				for i := range p {
					p[i] = "etaoin shrdlu"[p[i]%13]
				}
			}
			b.SetBytes(int64(len(p)))
			for i := 0; b.Loop(); i++ {
				if kind != "known" {
					p[0], p[1], p[2] = byte(i), byte(i>>8), byte(i>>16)
				}
				mustPut(b, s, p)
			}
			check(b, s.Flush(b.Context()))
			check(b, d.Close())
		})
	}
}

func BenchmarkGet(b *testing.B) {
	d, err := OpenDisk(vfs.Default, b.TempDir(), DiskOptions{Log: quiet.Log})
	check(b, err)
	s := d.Store(1, testKey)
	var ids []ID
	for i := range 100 {
		ids = append(ids, mustPut(b, s, random(uint64(i), 128<<10)))
	}
	check(b, s.Flush(b.Context()))
	buf := make([]byte, 0, MaxBlock)
	b.SetBytes(128 << 10)
	for i := 0; b.Loop(); i++ {
		_, err := s.Get(b.Context(), ids[i%len(ids)], buf)
		check(b, err)
	}
	check(b, d.Close())
}

func TestWhatIsInMemoryHasRoomOnTheDisk(t *testing.T) {
	fs := diskOf(64*mib, 40*mib)
	d := closing(t, open(t, fs))
	s := d.Store(1, testKey)
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: 11 * mib})
	n := 0
	for ; n < 100; n++ {
		if _, err := s.Put(t.Context(), random(uint64(n), 100_000)); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if want := int(3*mib/100_000) + 1; n != want {
		t.Errorf("%d blocks taken in, %d fit above the reserve", n, want)
	}
	check(t, s.Flush(t.Context()))
	check(t, d.Grant(0)) // the usage is as before: the disk says what is written
	if n := d.room.pending.Load(); n != 0 {
		t.Errorf("%d bytes in memory that is empty", n)
	}
}

func TestAPackEndsBeforeTheRoomOfPebble(t *testing.T) {
	fs := diskOf(64*mib, 40*mib)
	d := closing(t, open(t, fs))
	s := d.Store(1, testKey)
	var ids []ID
	for i := range 50 {
		ids = append(ids, mustPut(t, s, random(uint64(i), 100_000)))
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: 3 * mib}) // others were faster
	if err := s.Flush(t.Context()); !errors.Is(err, ErrFull) {
		t.Fatalf("flush: %v", err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: 30 * mib})
	check(t, s.Flush(t.Context()))
	for i, id := range ids {
		mustHave(t, s, id, random(uint64(i), 100_000))
	}
}

// Packs made by folds and sweeps pass the figure of the filesystem no further
// than those of new blocks.
func TestAFastPackAsksTheFilesystemInTime(t *testing.T) {
	fs := diskOf(64*mib, 40*mib)
	d := closing(t, open(t, fs))
	const above = 4 * mib // of which the figure of before may be trusted
	mark := d.room.reserve + d.room.reserve/2
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: uint64(mark + statMargin + above)})
	_, err := d.room.ask(time.Now().Add(time.Hour).UnixNano()) // it does not age
	check(t, err)
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: 1 * mib})
	w, err := d.newPackWriter(d.room.packs)
	check(t, err)
	for p := random(1, 100_000); err == nil && w.bytes < 2*above; {
		_, err = w.add(p)
	}
	if !errors.Is(err, ErrFull) || w.bytes > above+2*roomEach {
		t.Errorf("%d bytes written, %v", w.bytes, err)
	}
	_ = w.abort(nil)
}

func TestWhatIsWrittenIsCountedOnce(t *testing.T) {
	fs := diskOf(64*mib, 1<<40)
	d := closing(t, open(t, fs))
	s := d.Store(1, testKey)
	_, err := d.room.ask(time.Now().Add(time.Hour).UnixNano()) // only once
	check(t, err)
	for _, n := range []int{2 * smallMax, smallMax / 2} { // a pack, small rows
		d.room.written.Store(0)
		for at := 0; at < n; at += MaxBlock {
			mustPut(t, s, random(uint64(n+at/MaxBlock), MaxBlock))
		}
		check(t, s.Flush(t.Context()))
		if got := d.room.written.Load(); got < int64(n) || got > int64(n)+100 {
			t.Errorf("%d bytes written count as %d", n, got)
		}
		if got := d.room.pending.Load(); got != 0 {
			t.Errorf("%d bytes in memory that is empty", got)
		}
	}
	d.room.written.Store(0)
	check(t, s.fold(t.Context()))
	if got := d.room.written.Load(); got != smallMax/2 {
		t.Errorf("%d bytes folded count as %d", smallMax/2, got)
	}
}

// A disk that cannot be written any more ends the process: who goes on would take for
// kept what is not. It is not a panic, which the handler of a request recovers from.
func TestADiskThatCannotBeWrittenIsTheEnd(t *testing.T) {
	var ill atomic.Bool
	ended := make(chan string, 1)
	o := quiet
	o.Fatal = func(msg string) {
		select {
		case ended <- msg:
		default:
		}
		select {} // as after the end of the process
	}
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if ill.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EROFS
		}
		return nil
	}))
	d, err := OpenDisk(fs, "disk", o)
	check(t, err)
	ill.Store(true)
	go func() {
		defer func() { recover() }()
		_ = d.Sync()
		ended <- "it went on"
	}()
	select {
	case msg := <-ended:
		if !strings.Contains(msg, "read-only file system") {
			t.Error(msg)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}
