package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

const (
	cacheTime = time.Hour       // how long the kernel believes what it was told
	saveEvery = 4 * time.Second // how often files open for writing become durable: within 5 s
)

// ErrUnmounted says that somebody else unmounted.
var ErrUnmounted = errors.New("unmounted from outside")

// Mount is a folder shown as a filesystem.
type Mount struct {
	fuse.RawFileSystem // answers ENOSYS to what is not here

	folder  *syncer.Folder
	stage   *staging.Dir
	dir     string
	opts    Options
	log     *slog.Logger
	table   table
	note    *notifier
	replay  *replayer
	procs   procs
	bugs    bugs
	doomed  doomed
	atimes  atimes
	ops     ops
	server  *fuse.Server // set by Run before the first request
	at      *entry       // what is mounted; nil: not known
	ready   chan struct{}
	entries time.Duration   // how long the kernel believes in names
	closing atomic.Bool     // no more writes but of mapped pages
	life    context.Context // of requests
	abandon func()          // ends it
	closed  atomic.Bool     // no more staging
}

// New prepares a mount of folder at dir: stale mounts are cleared, and files that were not cut when the last mount
// ended are found again. Nothing is mounted until Run, but the Mount is a Surface at once.
func New(folder *syncer.Folder, dir string, o Options) (*Mount, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := clean(dir)
	if err != nil {
		return nil, err
	}
	if stale, err := isStale(dir); err != nil {
		return nil, err
	} else if !stale {
		if err := checkDir(dir, o.Aside); err != nil {
			return nil, err
		}
	}
	// What is in memory finds room on a small disk.
	stage, err := staging.Open(o.Staging, staging.Options{Grant: folder.Grant, Memory: min(staging.DefaultMemory, folder.Reserve())})
	if err != nil {
		return nil, err
	}
	m := &Mount{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		folder:        folder, stage: stage, dir: dir, opts: o, log: o.Log,
		note: newNotifier(), replay: newReplayer(), ready: make(chan struct{}),
	}
	if folder.Policy() == model.NamesBytes {
		m.entries = cacheTime
	}
	m.life, m.abandon = context.WithCancel(context.Background())
	m.table.init()
	if err := m.recover(); err != nil {
		stage.Close()
		return nil, fmt.Errorf("recover staged files: %w", err)
	}
	folder.SetSurface(m)
	return m, nil
}

// Ready is closed when the folder is mounted.
func (m *Mount) Ready() <-chan struct{} { return m.ready }

// Dir is the mountpoint.
func (m *Mount) Dir() string { return m.dir }

// Answers asks the mount through the kernel, as programs do. It lasts as long as the mount hangs. One that is unmounted or
// covered by another has nothing to answer.
func (m *Mount) Answers() error {
	dir, err := m.place()
	if dir == "" || errors.Is(err, ErrCovered) {
		return nil
	}
	var st unix.Statfs_t
	if err == nil {
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		return fmt.Errorf("statfs %s: %w", m.dir, err)
	}
	return nil
}

// String implements fuse.RawFileSystem.
func (m *Mount) String() string { return "clachan" }

// Run mounts and serves until ctx ends or somebody unmounts. It returns when no request is left and what was
// written is safe.
func (m *Mount) Run(ctx context.Context) error {
	// A dead mount stays until now: whoever works in it fails, and does not
	// write into the empty directory below.
	if err := errors.Join(ClearStale(m.dir), checkDir(m.dir, m.opts.Aside)); err != nil {
		return err
	}
	var strays *aside
	if m.opts.Aside {
		var err error
		if strays, err = m.putAside(); err != nil {
			return err
		}
	}
	server, err := fuse.NewServer(counted{m}, m.dir, m.opts.fuse(m))
	if err != nil {
		err = fmt.Errorf("mount %s: %w", m.dir, err)
		if os.Geteuid() != 0 {
			err = fmt.Errorf("%w; what it says is in the log of the daemon", err)
		}
		if strays != nil {
			err = errors.Join(err, strays.Close())
		}
		return err
	}
	if strays != nil {
		m.mounted(strays)
	}
	m.server = server
	if e, err := mountAt(m.dir); err == nil && e != nil {
		m.at = e
		m.readAhead(e.dev)
	}

	var g errgroup.Group
	work, stop := context.WithCancel(context.Background())
	replay, halt := context.WithCancel(work)
	defer halt()
	served := make(chan struct{})
	g.Go(func() error {
		defer close(served)
		server.Serve()
		return nil
	})
	g.Go(func() error { return m.notifyLoop(work) })
	g.Go(func() error { return m.saveLoop(work) })
	if !m.opts.ReadOnly {
		g.Go(func() error { return m.replayLoop(replay) })
	}
	for _, l := range m.table.dirty() {
		m.folder.Closed(l.ino) // recovered: nobody has them open
	}
	close(m.ready)

	select {
	case <-served:
		err = errors.Join(ErrUnmounted, m.detach()) // if only the connection was cut, a dead mount is left
	case <-ctx.Done():
		m.closing.Store(true)
		halt() // what it has open keeps the mount in use
		err = m.unmount(served)
	}
	stop()
	if errors.Is(err, ErrStuck) {
		// Serving goroutines are waiting for the kernel; the end of the process ends them.
		return errors.Join(err, m.finish())
	}
	return errors.Join(err, g.Wait(), m.finish())
}

// finish makes what is staged durable and lets the inodes go. What is dirty stays, to be cut.
func (m *Mount) finish() error {
	m.closing.Store(true)
	m.saveAtimes()
	err := m.saveAll()
	for _, ino := range m.table.unhold() {
		m.folder.Release(ino)
	}
	return err
}

// Close ends the Surface. It comes after the Folder's Run, which cuts what is staged when it ends.
func (m *Mount) Close() error {
	m.closed.Store(true)
	m.abandon()
	return m.stage.Close()
}

// readAhead asks for requests of a full megabyte; only root may.
func (m *Mount) readAhead(dev string) {
	if os.Geteuid() != 0 {
		return
	}
	name := filepath.Join("/sys/class/bdi", dev, "read_ahead_kb")
	if err := os.WriteFile(name, fmt.Appendln(nil, readAheadKiB), 0); err != nil {
		m.log.Debug("read-ahead not set", slog.Any("err", err))
	}
}

// saveLoop makes files that are open for writing durable every few seconds.
func (m *Mount) saveLoop(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		m.saveAtimes()
		files, gone := m.table.dirty(), m.doomed.take()
		for _, l := range files {
			if err := m.save(ctx, l, true); err != nil && ctx.Err() == nil {
				m.log.Error("staged file not saved", slog.Uint64("inode", uint64(l.ino)), slog.Any("err", err))
			}
		}
		if len(files)+len(gone) > 0 {
			if err := m.folder.Sync(); err != nil {
				m.log.Error("staged files not synced", slog.Any("err", err))
				m.doomed.add(gone)
				continue
			}
			m.unlink(gone)
		}
	}
}

// saveAll makes everything staged durable.
func (m *Mount) saveAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), saveWait)
	defer cancel()
	var err error
	for _, l := range m.table.dirty() {
		if e := m.save(ctx, l, true); e != nil && !errors.Is(e, syncer.ErrStale) {
			err = errors.Join(err, fmt.Errorf("save inode %d: %w", l.ino, e))
		}
	}
	gone := m.doomed.take()
	if serr := m.folder.Sync(); serr != nil {
		return errors.Join(err, serr)
	}
	m.unlink(gone)
	return err
}

// doomed are the staging files of inodes that are gone. They are deleted when that is durable: until then a crash brings
// the inodes back.
type doomed struct {
	mu    sync.Mutex // guards files
	files []string
}

func (d *doomed) add(files []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files = append(d.files, files...)
}

func (d *doomed) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := d.files
	d.files = nil
	return files
}

func (m *Mount) unlink(files []string) {
	for _, name := range files {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.log.Warn("staging file not removed", slog.Any("err", err))
		}
	}
}
