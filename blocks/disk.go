package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
)

// Disk is the block store of one data directory: two Pebble instances, the
// packs of all folders, and the ballast.
type Disk struct {
	fs          vfs.FS // for packs; Pebble has it with the ballast layer on top
	dir         string
	log         *slog.Logger
	fatal       func(string)
	lock        io.Closer
	room        *room
	meta        *pebble.DB
	blocks      *pebble.DB
	codec       *codec
	packOptions sstable.WriterOptions
	packReader  sstable.ReaderOptions // without a cache
	packSlabs   int                   // slabs of a full pack
	budget      *budget
	lastPack    atomic.Uint64
	turns       atomic.Uint64   // of Placings: the later, the more
	lost        map[uint64]bool // packs with a row that are gone; fixed at open
	format      int             // that this program writes
	beside      []string
	keep        chan struct{} // who has it gives packs back, or takes a checkpoint

	running atomic.Bool // Run takes from sealing
	sealing chan *Store
	stir    chan struct{} // the first block of a pack was put

	mu     sync.Mutex // guards stores, watch and small
	stores map[uint32]*Store
	watch  map[chan struct{}]bool
	small  map[uint32]smallState // what was found at open, for stores yet to come
}

// OpenDisk opens the data directory dir, and makes it if there is none. It
// removes what a crash has left over, and starts nothing.
func OpenDisk(fsys vfs.FS, dir string, o DiskOptions) (*Disk, error) {
	d, err := openDisk(fsys, dir, o)
	if err != nil {
		return nil, fmt.Errorf("open disk %s: %w", dir, err)
	}
	return d, nil
}

func openDisk(fsys vfs.FS, dir string, o DiskOptions) (_ *Disk, err error) {
	if err := makeDir(fsys, dir); err != nil {
		return nil, err
	}
	d := &Disk{
		fs: fsys, dir: dir,
		sealing: make(chan *Store, 16),
		stir:    make(chan struct{}, 1),
		keep:    make(chan struct{}, 1),
		stores:  map[uint32]*Store{},
		watch:   map[chan struct{}]bool{},
	}
	d.turns.Store(uint64(time.Now().UnixNano()))
	if d.lock, err = lockDir(fsys, dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.shut())
		}
	}()
	total := int64(0)
	if d.room, total, err = newRoom(fsys, dir); err != nil {
		return nil, err
	}
	o.defaults(total)
	d.log, d.fatal, d.beside, d.format = o.Log, o.Fatal, o.Beside, lastFormat(o.Steps)
	d.budget = newBudget(o.Pending)
	d.packSlabs = min(packSlabs, int(o.Pending/slabSize/2))
	if d.codec, err = newCodec(); err != nil {
		return nil, err
	}
	if err := d.openDBs(o); err != nil {
		return nil, err
	}
	if err := d.sweep(); err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	return d, d.room.restore()
}

func (d *Disk) openDBs(o DiskOptions) error {
	if err := d.resume(); err != nil {
		return err
	}
	format, err := d.checkFormat()
	if err != nil {
		return err
	}
	if format > 0 && format < d.format {
		if err := d.upgrade(format, o); err != nil {
			return fmt.Errorf("upgrade from format %d to %d: %w", format, d.format, err)
		}
	}
	if err := d.openMeta(o, pebbleFormat); err != nil {
		return err
	}
	if format == 0 {
		if err := d.writeFormat(); err != nil {
			return err
		}
	}
	return d.openBlocks(o, pebbleFormat)
}

func (d *Disk) openMeta(o DiskOptions, v pebble.FormatMajorVersion) (err error) {
	fs := vfs.OnDiskFull(quotaFS{d.fs}, d.room.release)
	mo := metaOptions(fs, o, listener(o.Log, "meta", d.room.stall))
	mo.FormatMajorVersion = v
	if d.meta, err = pebble.Open(d.fs.PathJoin(d.dir, "meta"), mo); err != nil {
		return fmt.Errorf("open meta: %w", err)
	}
	return nil
}

func (d *Disk) openBlocks(o DiskOptions, v pebble.FormatMajorVersion) (err error) {
	fs := vfs.OnDiskFull(quotaFS{d.fs}, d.room.release)
	bo := blockOptions(fs, o, listener(o.Log, "blocks", d.room.stall))
	bo.FormatMajorVersion = v
	if d.blocks, err = pebble.Open(d.fs.PathJoin(d.dir, "blocks"), bo); err != nil {
		return fmt.Errorf("open blocks: %w", err)
	}
	bo.EnsureDefaults()
	d.packReader = bo.MakeReaderOptions()
	d.packOptions = bo.MakeWriterOptions(6, d.blocks.TableFormat())
	return nil
}

// closeDBs closes the databases that are open.
func (d *Disk) closeDBs() error {
	var errs []error
	if d.blocks != nil {
		errs = append(errs, d.blocks.Close())
	}
	if d.meta != nil {
		errs = append(errs, d.meta.Close())
	}
	d.blocks, d.meta = nil, nil
	return errors.Join(errs...)
}

// Run does the work in the background until ctx is done: it seals packs that
// are full or old, folds small rows, and makes the ballast again. Failures are
// logged and tried again; a full disk is an ordinary day.
func (d *Disk) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	d.running.Store(true)
	defer d.running.Store(false)
	g.Go(func() error {
		for {
			select {
			case s := <-d.sealing:
				d.report(ctx, s.flush(ctx, false))
			case <-ctx.Done():
				return nil
			}
		}
	})
	g.Go(func() error {
		d.report(ctx, d.letGo(time.Now()))
		timer := time.NewTimer(tendBusy)
		defer timer.Stop()
		for {
			select {
			case now := <-timer.C:
				timer.Reset(d.tend(ctx, now))
			case <-d.stir:
				timer.Reset(tendBusy)
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// How often is looked at what is due, while blocks wait in memory and while none do.
const (
	tendBusy = time.Second
	tendIdle = 5 * time.Second
)

// tend does what is due at now, and returns when to look again.
func (d *Disk) tend(ctx context.Context, now time.Time) (wait time.Duration) {
	wait = tendIdle
	for _, s := range d.all() {
		if s.flushDue(now) {
			d.report(ctx, s.flush(ctx, true))
		}
		if s.foldDue(now) && d.room.check() == nil {
			d.report(ctx, s.fold(ctx))
		}
	}
	d.report(ctx, d.room.restore())
	d.Short()
	for _, s := range d.all() {
		if s.held() > 0 {
			wait = tendBusy
		}
	}
	return wait
}

func (d *Disk) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		d.log.Warn("background work on blocks", "err", err.Error())
	}
}

// flushDue reports whether blocks have waited in memory for too long.
func (s *Store) flushDue(now time.Time) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.open
	if len(s.queue) > 0 {
		p = s.queue[0]
	}
	return p != nil && now.Sub(p.born) >= packAge
}

// Store returns the blocks of folder, whose ids are made under key. A folder
// has one store: asking again returns the same.
func (d *Disk) Store(folder uint32, key Key) *Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.stores[folder]; s != nil {
		if s.key != key {
			panic(fmt.Sprintf("blocks: folder %d opened under two keys", folder))
		}
		return s
	}
	s := newStore(d, folder, key, d.small[folder])
	delete(d.small, folder)
	d.stores[folder] = s
	return s
}

// all returns the open stores in order of their folders.
func (d *Disk) all() []*Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.stores), func(a, b *Store) int { return cmp.Compare(a.folder, b.folder) })
}

// Meta returns the instance that is shared with the index. Every key begins
// with the number of a folder and a table byte; 'B', 'K' and 'S' are ours.
func (d *Disk) Meta() *pebble.DB { return d.meta }

// Sync makes everything committed to meta so far durable.
func (d *Disk) Sync() error {
	if err := d.meta.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync meta: %w", err)
	}
	return nil
}

// Grant returns nil when n bytes may be written to the filesystem by others
// than the stores, or ErrFull when that would leave less than the reserve.
func (d *Disk) Grant(n int64) error { return d.room.grant(n) }

// RoomForRows returns nil, or ErrFull when nothing but the ballast is left.
func (d *Disk) RoomForRows() error { return d.room.rows() }

// Short returns how many bytes must be given back before the reserve is in
// danger, and if there are any wakes those who watch.
func (d *Disk) Short() int64 {
	n := d.room.short()
	if n > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		for c := range d.watch {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
	return n
}

// WatchShort returns a channel that is sent to when the disk is found short.
func (d *Disk) WatchShort() (c <-chan struct{}, stop func()) {
	w := make(chan struct{}, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watch[w] = true
	return w, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.watch, w)
	}
}

// Reserve returns how many bytes are kept free.
func (d *Disk) Reserve() int64 { return d.room.reserve }

// Usage returns the size of the filesystem, what is left for us on it, and how
// much of it we take.
func (d *Disk) Usage() (total, free, store int64, err error) {
	total, free, err = d.room.usage()
	used := d.meta.Metrics().DiskSpaceUsage() + d.blocks.Metrics().DiskSpaceUsage()
	return total, free, int64(used), err
}

// Close flushes what is in memory and closes the disk. Run must have returned,
// and nothing may use the disk or its stores any more.
func (d *Disk) Close() error {
	var errs []error
	for _, s := range d.all() {
		errs = append(errs, s.Flush(context.Background()))
		s.discard()
	}
	errs = append(errs, d.Sync(), d.shut())
	return errors.Join(errs...)
}

// shut closes what is open.
func (d *Disk) shut() error {
	err := d.closeDBs()
	if d.codec != nil {
		d.codec.close()
	}
	return errors.Join(err, d.lock.Close())
}
