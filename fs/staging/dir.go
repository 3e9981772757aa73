package staging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/blocks/content"
)

// Range is Len bytes at Off.
type Range = content.Range

const (
	// smallMax is how much one layer keeps in memory, and how large a file may be to be whole in its State.
	smallMax = 64 << 10
	// MaxSize is the largest file: what the sparse files of ext4 can hold.
	MaxSize = 1<<44 - blockSize
	// bootFile names the boot in which the directory was last used.
	bootFile = "boot"
)

var (
	// ErrFrozen says that the generation written to is closed: Begin again.
	ErrFrozen = errors.New("staging: layer is frozen")
	// ErrTooBig says that a file would grow beyond MaxSize.
	ErrTooBig = errors.New("staging: file too large")
	// ErrDropped says that the bytes of a Layer are gone because it was rebased.
	ErrDropped = errors.New("staging: layer was dropped")
	// ErrNoHoles says that the directory is on a filesystem that does not tell data from holes.
	ErrNoHoles = errors.New("staging: filesystem does not report holes (SEEK_DATA) at 4 KiB")
)

// DefaultMemory is enough for what programs write in small files between two cuts.
const DefaultMemory = 64 << 20

// Options bound what staging uses.
type Options struct {
	Memory int64               // bytes of all layers in memory; 0 means DefaultMemory
	Files  int                 // staging files kept open; 0 means 256
	Grant  func(n int64) error // called before n bytes are written; its error refuses the write
}

// Dir is the staging directory of one folder.
type Dir struct {
	path     string
	memory   int64
	grant    func(int64) error
	used     atomic.Int64  // bytes of layers in memory
	gen      atomic.Uint64 // last generation given out
	sameBoot bool
	boot     []byte              // the id of this boot
	found    map[uint64][]uint64 // files there at the start, by inode: generations; read only after Open

	mu   sync.Mutex // guards the rest
	open map[*layer]*handle
	idle []*handle // unused ones, the longest unused first
	max  int
}

// handle is an open staging file.
type handle struct {
	l    *layer
	f    *os.File
	refs int
	dead bool // close when refs is 0
}

// Open prepares the directory at path, making it if needed.
func Open(path string, o Options) (*Dir, error) {
	d := &Dir{path: path, memory: o.Memory, max: o.Files, grant: o.Grant, open: map[*layer]*handle{}, found: map[uint64][]uint64{}}
	if d.memory <= 0 {
		d.memory = DefaultMemory
	}
	if d.max <= 0 {
		d.max = 256
	}
	if d.grant == nil {
		d.grant = func(int64) error { return nil }
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	if err := d.checkHoles(); err != nil {
		return nil, err
	}
	if err := d.checkBoot(); err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	if err := d.scan(); err != nil {
		return nil, fmt.Errorf("open staging: %w", err)
	}
	return d, nil
}

// checkHoles makes sure that what recovery depends on works here.
func (d *Dir) checkHoles() error {
	f, err := os.CreateTemp(d.path, "probe.*.tmp")
	if err != nil {
		return fmt.Errorf("open staging: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const at = 1 << 20
	if err := f.Truncate(4 * at); err != nil {
		return fmt.Errorf("open staging: %w", err)
	}
	if _, err := f.WriteAt(make([]byte, blockSize), at); err != nil {
		return fmt.Errorf("open staging: %w", err)
	}
	a, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if err != nil || a != at {
		return fmt.Errorf("%w: %s", ErrNoHoles, d.path)
	}
	b, err := unix.Seek(int(f.Fd()), a, unix.SEEK_HOLE)
	if err != nil || b != at+blockSize {
		return fmt.Errorf("%w: %s", ErrNoHoles, d.path)
	}
	return nil
}

// checkBoot finds out whether the machine was booted since the directory was last used.
func (d *Dir) checkBoot() error {
	now, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	name := filepath.Join(d.path, bootFile)
	last, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.sameBoot = string(last) == string(now)
	d.boot = now
	return nil
}

// markBoot remembers this boot, once what the last one left is recovered: until
// then its unsynced sizes are not to be trusted, however often that is tried.
func (d *Dir) markBoot() error {
	if d.sameBoot {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(d.path, bootFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(d.boot)
	return errors.Join(err, f.Sync(), f.Close())
}

// scan lists the staging files and removes what was never finished.
func (d *Dir) scan() error {
	names, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range names {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(d.path, e.Name())); err != nil {
				return err
			}
			continue
		}
		ino, gen, ok := parseName(e.Name())
		if !ok {
			continue
		}
		d.found[ino] = append(d.found[ino], gen)
		d.gen.Store(max(d.gen.Load(), gen))
	}
	return nil
}

// Sweep deletes the files found by Open that belong to no inode for which known is true.
func (d *Dir) Sweep(known func(ino uint64) bool) error {
	for ino, gens := range d.found {
		if known(ino) {
			continue
		}
		for _, g := range gens {
			if err := os.Remove(d.name(ino, g)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("sweep staging: %w", err)
			}
		}
	}
	if err := d.markBoot(); err != nil {
		return fmt.Errorf("sweep staging: %w", err)
	}
	return nil
}

func (d *Dir) name(ino, gen uint64) string {
	return filepath.Join(d.path, strconv.FormatUint(ino, 10)+"."+strconv.FormatUint(gen, 10))
}

func parseName(s string) (ino, gen uint64, ok bool) {
	a, b, found := strings.Cut(s, ".")
	if !found {
		return 0, 0, false
	}
	ino, err1 := strconv.ParseUint(a, 10, 64)
	gen, err2 := strconv.ParseUint(b, 10, 64)
	return ino, gen, err1 == nil && err2 == nil
}

// nextGen gives out a generation above all that were ever seen here.
func (d *Dir) nextGen(atLeast uint64) uint64 {
	for {
		g := d.gen.Load()
		n := max(g, atLeast) + 1
		if d.gen.CompareAndSwap(g, n) {
			return n
		}
	}
}

// sync makes the names of new files durable.
func (d *Dir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// use returns the open file of l; the caller must call done.
func (d *Dir) use(l *layer) (h *handle, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h = d.open[l]; h == nil {
		f, err := os.OpenFile(l.name, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		h = &handle{l: l, f: f}
		d.open[l] = h
	} else if h.refs == 0 {
		for i := range d.idle {
			if d.idle[i] == h {
				d.idle = append(d.idle[:i], d.idle[i+1:]...)
				break
			}
		}
	}
	h.refs++
	return h, nil
}

// done gives a handle back. The file stays open while few are.
func (d *Dir) done(h *handle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.refs--; h.refs > 0 {
		return
	}
	if h.dead {
		h.f.Close()
		return
	}
	d.idle = append(d.idle, h)
	for len(d.open) > d.max && len(d.idle) > 0 {
		old := d.idle[0]
		d.idle = d.idle[1:]
		delete(d.open, old.l)
		old.f.Close()
	}
}

// adopt makes f the open file of l.
func (d *Dir) adopt(l *layer, f *os.File) {
	d.mu.Lock()
	h := &handle{l: l, f: f, refs: 1}
	d.open[l] = h
	d.mu.Unlock()
	d.done(h)
}

// drop closes and deletes the file of l.
func (d *Dir) drop(l *layer) error {
	d.forget(l)
	if err := os.Remove(l.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("drop staging file: %w", err)
	}
	return nil
}

// forget closes the file of l.
func (d *Dir) forget(l *layer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.open[l]; h != nil {
		delete(d.open, l)
		if h.dead = true; h.refs == 0 {
			for i := range d.idle {
				if d.idle[i] == h {
					d.idle = append(d.idle[:i], d.idle[i+1:]...)
					break
				}
			}
			h.f.Close()
		}
	}
}

// Close closes the files kept open. Nothing is deleted: it is all there at the next Open.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for l, h := range d.open {
		delete(d.open, l)
		if h.dead = true; h.refs == 0 {
			err = errors.Join(err, h.f.Close())
		}
	}
	d.idle = nil
	return err
}
