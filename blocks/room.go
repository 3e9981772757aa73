package blocks

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

const (
	reserveMin = 8 << 20
	reserveMax = 512 << 20
	unlimited  = 1 << 50 // the size of a filesystem that does not tell
	statAge    = time.Second
	statMargin = 64 << 20 // nearer to the reserve than this, every question asks the filesystem
	stallTime  = 5 * time.Second
)

// room knows how much space there is, and keeps the ballast.
//
// Twice the reserve is kept: once as the ballast, a preallocated file that is
// removed when a write of Pebble meets a full disk, since Pebble does not
// survive that; once as free space, below which we take no blocks in. What has
// been taken in counts as written, and a pack ends when half of the free reserve
// is gone, whoever took it. Rows may still be written until only the ballast is
// left: they tell of removals; and nearly so long the packs of a sweep, which
// give back more than they take.
type room struct {
	fs      vfs.FS // without the layer that calls release
	dir     string
	ballast string
	reserve int64
	known   bool // the filesystem tells its usage

	free    atomic.Int64 // as last told
	asked   atomic.Int64 // when, Unix ns
	written atomic.Int64 // bytes granted, and written to packs and small rows, since
	pending atomic.Int64 // bytes of blocks that are in memory still
	stalled atomic.Int64 // until when Pebble is known to be in trouble, Unix ns

	spent atomic.Bool // the ballast was released and is not back

	mu   sync.Mutex // guards held
	held int64      // bytes of the ballast, 0 when it has been released
}

func newRoom(fs vfs.FS, dir string) (*room, int64, error) {
	r := &room{fs: fs, dir: dir, ballast: fs.PathJoin(dir, "ballast")}
	total := int64(unlimited)
	switch u, err := fs.GetDiskUsage(dir); {
	case err == nil:
		r.known, total = true, int64(u.TotalBytes)
	case !errors.Is(err, vfs.ErrUnsupported):
		return nil, 0, fmt.Errorf("disk usage: %w", err)
	}
	r.reserve = max(reserveMin, min(reserveMax, total/50))
	if fi, err := fs.Stat(r.ballast); err == nil {
		r.held = fi.Size()
	}
	return r, total, nil
}

// check returns ErrFull when there is less room than the reserve, beside what
// is in memory still.
func (r *room) check() error { return r.grant(0) }

// grant is check for n bytes more, which it counts as written.
func (r *room) grant(n int64) error {
	err := r.above(2*r.reserve + r.pending.Load() + n)
	if err == nil {
		r.written.Add(n)
	}
	return err
}

// packs returns ErrFull when a pack that is being written should end.
func (r *room) packs() error { return r.above(r.reserve + r.reserve/2) }

// rewrites is packs for what a sweep moves, which makes the room that others, and
// the ballast, wait for: it goes on while what is written before it asks again
// leaves the ballast alone.
func (r *room) rewrites() error { return r.left(r.reserve + 2*roomEach) }

// rows returns ErrFull when there is no room beside the ballast, or for it.
func (r *room) rows() error { return r.above(r.reserve + 1) }

// above returns ErrFull when less is left, with the ballast, than mark, or when
// the ballast is spent: a quota does not show in the free space.
func (r *room) above(mark int64) error {
	if r.known && r.spent.Load() {
		return fmt.Errorf("the ballast is spent: %w", ErrFull)
	}
	return r.left(mark)
}

// left is above as the filesystem and Pebble say, whatever became of the ballast.
func (r *room) left(mark int64) error {
	now := time.Now().UnixNano()
	if now < r.stalled.Load() {
		return fmt.Errorf("database cannot write: %w", ErrFull)
	}
	if !r.known {
		return nil
	}
	age := now - r.asked.Load()
	if left := r.free.Load() - r.written.Load(); age < int64(statAge) && left > mark+statMargin {
		return nil
	}
	free, err := r.ask(now)
	if err != nil {
		return err
	}
	r.mu.Lock()
	held := r.held
	r.mu.Unlock()
	if free+held < mark {
		return ErrFull
	}
	return nil
}

func (r *room) ask(now int64) (int64, error) {
	u, err := r.fs.GetDiskUsage(r.dir)
	if err != nil {
		return 0, fmt.Errorf("disk usage: %w", err)
	}
	r.written.Store(0)
	r.free.Store(int64(u.AvailBytes))
	r.asked.Store(now)
	return int64(u.AvailBytes), nil
}

// short returns how many bytes are missing to the mark at which history is let
// go of: half a reserve above the one at which writes fail.
func (r *room) short() int64 {
	now := time.Now().UnixNano()
	if now < r.stalled.Load() {
		return r.reserve
	}
	if !r.known {
		return 0
	}
	mark := 2*r.reserve + r.reserve/2
	left := r.free.Load() - r.written.Load()
	if age := now - r.asked.Load(); age >= int64(statAge) || left < mark+statMargin+r.pending.Load() {
		var err error
		if left, err = r.ask(now); err != nil {
			return 0 // check will say
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, mark-left-r.held+r.pending.Load())
}

// stall is called when background work of Pebble fails.
func (r *room) stall(err error) {
	if isFull(err) {
		r.stalled.Store(time.Now().Add(stallTime).UnixNano())
	}
}

// isFull reports whether err says that the disk is full.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// release gives the ballast back to the filesystem. It is called by the layer
// below Pebble while all its writes wait.
func (r *room) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held > 0 && r.fs.Remove(r.ballast) == nil {
		r.held = 0
		r.spent.Store(true)
	}
	r.asked.Store(0)
}

// restore makes the ballast again if there is room for it, and then some. Its
// space is taken without the lock: release must never wait for the disk.
func (r *room) restore() error {
	if !r.known {
		return nil
	}
	r.mu.Lock()
	held := r.held
	r.mu.Unlock()
	if held >= r.reserve {
		return nil
	}
	u, err := r.fs.GetDiskUsage(r.dir)
	if err != nil {
		return fmt.Errorf("disk usage: %w", err)
	}
	if int64(u.AvailBytes)+held < 2*r.reserve+r.reserve/2 {
		return nil
	}
	if err := r.fill(); err != nil {
		_ = r.fs.Remove(r.ballast)
		if isFull(err) {
			return nil
		}
		return fmt.Errorf("make ballast: %w", err)
	}
	r.mu.Lock()
	r.held = r.reserve
	r.spent.Store(false)
	r.mu.Unlock()
	return nil
}

func (r *room) fill() (err error) {
	f, err := r.fs.Create(r.ballast, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if fd := f.Fd(); fd != vfs.InvalidFd {
		err := unix.Fallocate(int(fd), 0, 0, r.reserve)
		if err == nil {
			return f.Sync()
		}
		if !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.ENOSYS) {
			return err
		}
	}
	// Zeros might not take the space they stand for.
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{}), r.reserve); err != nil {
		return err
	}
	return f.Sync()
}

// usage returns the size of the filesystem and what is left for us on it.
func (r *room) usage() (total, free int64, err error) {
	if !r.known {
		return unlimited, unlimited, nil
	}
	u, err := r.fs.GetDiskUsage(r.dir)
	if err != nil {
		return 0, 0, fmt.Errorf("disk usage: %w", err)
	}
	r.mu.Lock()
	held := r.held
	r.mu.Unlock()
	return int64(u.TotalBytes), max(0, int64(u.AvailBytes)+held-2*r.reserve), nil
}
