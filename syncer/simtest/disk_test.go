package simtest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/clachanfs/clachan/blocks/crashfs"
)

// A disk is a filesystem in memory with faults. Every start of a machine puts
// another one over what the last has left.
type disk struct {
	*errorfs.FS
	mem     *crashfs.FS
	sized   bool // it says how large it is, and can be full
	writes  atomic.Int64
	crashed atomic.Bool
	logs    atomic.Bool // no log can be written
	onCrash func()      // before the power is gone
	count   func(string, int)

	mu      sync.Mutex // guards what follows
	r       *rand.Rand
	crashAt int64 // the power goes at this write, 0: does not
	percent int   // of unsynced data then survives
	left    *crashfs.FS
	eio     float64 // share of operations on tables that fail
	full    bool
	used    int64     // when full
	last    time.Time // something was to fail with a table:
	reads   int       // so many reads then,
	wrote   bool      // a write
}

const diskSize = 256 << 20

func newDisk(mem *crashfs.FS, r *rand.Rand, sized bool) *disk {
	d := &disk{mem: mem, r: r, sized: sized, count: func(string, int) {}}
	d.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(d.inject))
	return d
}

// inject comes before every operation.
func (d *disk) inject(op errorfs.Op) error {
	writes := op.Kind.ReadOrWrite() == errorfs.OpIsWrite
	if writes {
		n := d.writes.Add(1)
		d.mu.Lock()
		now := d.crashAt > 0 && n >= d.crashAt
		d.mu.Unlock()
		if now {
			d.crash()
		}
	}
	return d.fault(op)
}

// ReuseForWrite implements vfs.FS; errorfs forgets to watch the file.
func (d *disk) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(old, name, c)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(f, errorfs.InjectorFunc(func(op errorfs.Op) error {
		op.Path = name
		return d.inject(op)
	})), nil
}

// table tells whether a file is a table, of Pebble or yet to be given to it.
func table(path string) bool {
	return strings.HasSuffix(path, ".sst") || strings.HasSuffix(path, ".ing")
}

// readsMost is how many reads fail at one instant.
const readsMost = 50

// spare tells whether a failure must not be: tables are merged and written again
// at once until it works, which it never would while time stands still.
func (d *disk) spare(op errorfs.Op) bool {
	if !table(op.Path) {
		return false
	}
	if now := time.Now(); !now.Equal(d.last) {
		d.last, d.reads, d.wrote = now, 0, false
	}
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		d.reads++
		return d.reads > readsMost
	}
	again := d.wrote
	d.wrote = true
	return again
}

// simulated is what errors say that are faults of the world.
const simulated = "simulated"

func (d *disk) fault(op errorfs.Op) error {
	if d.logs.Load() && strings.HasSuffix(op.Path, ".log") && fails(op.Kind) {
		return fmt.Errorf("%s %s: %w", op.Path, simulated, syscall.EIO)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.eio > 0 && table(op.Path) && fails(op.Kind) && d.r.Float64() < d.eio && !d.spare(op) {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			d.count("reads failed", 1)
		} else {
			d.count("writes failed", 1)
		}
		return fmt.Errorf("%s %s: %w", op.Path, simulated, syscall.EIO)
	}
	if d.full && !strings.HasSuffix(op.Path, "ballast") {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpReuseForWrite:
			if d.used += 4096; d.used > diskSize && !d.spare(op) {
				d.count("writes to a full disk", 1)
				return syscall.ENOSPC
			}
		case errorfs.OpRemove:
			d.used -= 4096
		}
	}
	if d.full && op.Kind == errorfs.OpRemove && strings.HasSuffix(op.Path, "ballast") {
		d.count("ballast released", 1)
		d.used -= 8 << 20
	}
	return nil
}

// fails tells which operations an unwell disk fails.
func fails(k errorfs.OpKind) bool {
	switch k {
	case errorfs.OpFileRead, errorfs.OpFileReadAt, errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpCreate:
		return true
	}
	return false
}

// crash takes the power away: the machine goes on for a moment, on a disk that
// nobody will see again.
func (d *disk) crash() {
	if d.crashed.Swap(true) {
		return
	}
	d.onCrash()
	d.mu.Lock()
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: d.percent, RNG: rand.New(rand.NewPCG(d.r.Uint64(), d.r.Uint64()))}
	d.crashAt = 0
	d.mu.Unlock()
	left := d.mem.CrashClone(cfg)
	d.mu.Lock()
	d.left = left
	d.mu.Unlock()
}

// crashIn lets the power go at the n-th write from now.
func (d *disk) crashIn(n, percent int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashAt, d.percent = d.writes.Load()+int64(n), percent
}

func (d *disk) remains() *crashfs.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left
}

func (d *disk) setEIO(share float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.eio = share
}

// setFull lets others fill the disk, but for some writes, or give the space back.
func (d *disk) setFull(full bool, left int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full, d.used = full, diskSize-4096*int64(left)
}

// GetDiskUsage implements vfs.FS.
func (d *disk) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	if !d.sized {
		return d.FS.GetDiskUsage(path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	used := int64(32 << 20)
	if d.full {
		used = min(d.used, diskSize)
	}
	return vfs.DiskUsage{AvailBytes: uint64(diskSize - used), TotalBytes: diskSize, UsedBytes: uint64(used)}, nil
}

// flipMin is how large a table must be to have blocks in it that are worth a bit.
const flipMin = 4096

// flipBit changes a bit of a stored block, if a table of blocks is there; where
// is empty if there is none.
func flipBit(mem vfs.FS, dir string, r *rand.Rand) (where string, err error) {
	names, err := mem.List(dir)
	if err != nil {
		return "", err
	}
	var tables []string
	for _, n := range names {
		if st, err := mem.Stat(mem.PathJoin(dir, n)); err == nil && strings.HasSuffix(n, ".sst") && st.Size() >= flipMin {
			tables = append(tables, n)
		}
	}
	if len(tables) == 0 {
		return "", nil
	}
	slices.Sort(tables)
	path := mem.PathJoin(dir, tables[r.IntN(len(tables))])
	f, err := mem.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	at, one := int64(r.IntN(int(st.Size()*3/4))), make([]byte, 1) // the end describes the table
	if _, err := f.ReadAt(one, at); err != nil && err != io.EOF {
		return "", err
	}
	one[0] ^= 1 << r.IntN(8)
	_, err = f.WriteAt(one, at)
	return fmt.Sprintf("%s byte %d of %d", path, at, st.Size()), err
}
