package plain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/syncer"
)

const (
	settle     = time.Second      // a file that nobody has written to is at rest
	unclosed   = 30 * time.Second // one that a program has open for writing, and does not write to
	goneMost   = 10 * time.Second // in which more goes
	goneFor    = time.Second      // what is not there was removed; else it may be on its way
	watchedIn  = time.Second      // what is new
	roomAgain  = 30 * time.Second // for room on the disk
	soon       = 100 * time.Millisecond
	tryAgain   = 2 * time.Second
	lookAgain  = 5 * time.Second  // for a directory that is away
	checkEvery = 15 * time.Second // whether it is there
	wholeScan  = time.Hour        // what no event tells of: mappings, other machines' writes
	pollScan   = time.Minute      // where nothing can be watched
)

// Options are how a folder is shown.
type Options struct {
	Log *slog.Logger
	// New says that the directory may become this folder's, whatever is in it: it is taken in.
	New bool
}

// A Dir is a folder shown as a plain directory.
type Dir struct {
	folder *syncer.Folder
	sight  *syncer.Sight
	dir    string
	mark   []byte
	o      Options
	log    *slog.Logger
	watch  *watcher
	ready  chan struct{}
	kick   chan struct{}
	wrote  atomic.Int64 // files
	first  bool         // nothing was ever seen here: what is on disk and in the folder is the same, if it can be

	kept    atomic.Int64 // when the whole disk was synced last, ns since 1970
	keeps   atomic.Int64 // files that were synced one by one
	keepsAt atomic.Int64 // since, ns since 1970

	reading sync.Mutex // guards reads
	reads   *pass      // by which the cutter reads; nil: nothing is open

	mu       sync.Mutex // guards what follows
	touched  []string
	flipped  []syncer.Flip
	cut      []committed
	pending  map[syncer.Ino]*pending
	found    map[uint64]syncer.Ino // of these, by the number of the file
	troubles map[syncer.Place]trouble
	state    error // why nothing is synced; nil: it is
	unheard  error // why changes are heard of late
	held     *held
	asked    answer
	scans    []chan error // who waits for a scan
	gen      uint64
}

// pending is a file whose bytes are not cut yet.
type pending struct {
	gen  uint64
	was  stat         // when that was found
	at   syncer.Place // where it was found; zero: ask what is seen
	base syncer.Version
}

// committed is what Rebase tells.
type committed struct {
	ino syncer.Ino
	gen uint64
	v   syncer.Version
}

// A trouble is why a name is not as it should be.
type trouble struct {
	path, text string
	at         time.Time
}

// New prepares a directory to show a folder. It must bear the folder's mark, or get one.
// Nothing is read or written of it until Run, but the Dir is a Surface at once.
func New(folder *syncer.Folder, dir string, o Options) (*Dir, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		real = filepath.Clean(dir) // it may come
	}
	d := &Dir{folder: folder, sight: folder.Sight(), dir: real, o: o, log: o.Log, ready: make(chan struct{}), kick: make(chan struct{}, 1),
		pending: map[syncer.Ino]*pending{}, found: map[uint64]syncer.Ino{}, troubles: map[syncer.Place]trouble{}, gen: uint64(time.Now().UnixNano())}
	if d.mark, err = d.sight.Note("mark"); err != nil {
		return nil, err
	}
	if err := d.takePlace(); err != nil {
		return nil, err
	}
	d.watch = newWatcher(d.dir)
	done, err := d.sight.Note("first")
	if err != nil {
		return nil, err
	}
	d.first = done == nil
	err = folder.Staged(func(ino syncer.Ino, s syncer.DirtyState) bool { // found again by the first scan
		v, _ := folder.Content(ino)
		d.pending[ino] = &pending{gen: s.Gen, base: v}
		return true
	})
	for ino := range d.pending {
		at, e := d.sight.Of(ino)
		err = errors.Join(err, e)
		if e == nil && len(at) == 0 { // a crash while it was forgotten
			delete(d.pending, ino)
			err = errors.Join(err, folder.Clean(ino))
		}
		for _, k := range at {
			s, _, e := d.sight.Get(k)
			s.Ctime = 0
			err = errors.Join(err, e, d.sight.Set(k, s))
		}
	}
	if err != nil {
		return nil, err
	}
	folder.SetSurface(d)
	return d, nil
}

// takePlace sees to it that the directory is this folder's.
func (d *Dir) takePlace() error {
	is, err := readMark(d.dir)
	switch {
	case d.mark != nil && bytes.Equal(is, d.mark):
		return nil
	case d.mark != nil && !d.o.New:
		return nil // Run says what is wrong, and waits
	case err == nil:
		return fmt.Errorf("%w: %s has a mark of its own; if it is of a folder that was left, remove %s", ErrForeign, d.dir, filepath.Join(d.dir, ours))
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("take directory: %w", err)
	}
	if err := d.sight.Clear(); err != nil {
		return err
	}
	if err := d.folder.Store().LeaveAll(); err != nil {
		return err
	}
	mark := newMark(d.folder.ID())
	if err := d.sight.SetNote("mark", mark); err != nil { // a crash now leaves a directory that is away: New is asked again
		return err
	}
	d.mark = mark
	return setMark(d.dir, mark)
}

// Ready is closed when the directory was gone through for the first time, or is away.
func (d *Dir) Ready() <-chan struct{} { return d.ready }

// Run keeps folder and directory the same until ctx ends.
func (d *Dir) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	listening := make(chan struct{})
	g.Go(func() error {
		<-listening
		d.watch.run(ctx, d.hear)
		return nil
	})
	g.Go(func() error {
		defer d.watch.stop()
		l := newLoop(d, listening)
		return l.run(ctx)
	})
	return g.Wait()
}

// Scan returns when all that is on disk at the call has been compared with the folder.
func (d *Dir) Scan(ctx context.Context) error {
	done := make(chan error, 1)
	d.mu.Lock()
	d.scans = append(d.scans, done)
	d.mu.Unlock()
	d.wake()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-done:
		return err
	}
}

// hear notes what was touched.
func (d *Dir) hear(path string) {
	d.mu.Lock()
	if n := len(d.touched); n == 0 || d.touched[n-1] != path {
		d.touched = append(d.touched, path)
	}
	if len(d.touched) > maxTouched {
		d.touched = append(d.touched[:0], ".")
	}
	d.mu.Unlock()
	d.wake()
}

const maxTouched = 1 << 16 // beyond it all is looked at

func (d *Dir) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// trouble notes why a name is not as it should be.
func (d *Dir) trouble(at syncer.Place, path, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.troubles[at]; ok && old.text == text {
		return
	}
	if len(d.troubles) < maxTroubles {
		d.troubles[at] = trouble{path, text, time.Now()}
	}
	d.log.Warn("not synced", "path", path, "why", text)
}

const maxTroubles = 1000

func (d *Dir) fine(at syncer.Place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.troubles, at)
}

func (d *Dir) setState(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && (d.state == nil || d.state.Error() != err.Error()) {
		d.log.Warn("directory not synced", "err", err)
	}
	d.state = err
}

// Err is why nothing is synced at all, nil while it is.
func (d *Dir) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// A Notice is something that its user should hear of.
type Notice struct {
	At   time.Time
	Text string
}

const maxNotices = 8 // names told one by one

// Notices are what is not as it should be.
func (d *Dir) Notices() (out []Notice) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held != nil {
		out = append(out, Notice{d.held.since, d.held.String()})
	}
	if d.unheard != nil {
		out = append(out, Notice{Text: fmt.Sprintf("changes in %s are found once a minute only: %v", d.dir, d.unheard)})
	}
	var ts []trouble
	for _, t := range d.troubles {
		ts = append(ts, t)
	}
	slices.SortFunc(ts, func(a, b trouble) int { return a.at.Compare(b.at) })
	for i, t := range ts {
		if i == maxNotices {
			out = append(out, Notice{t.at, fmt.Sprintf("and %d more names that are not synced", len(ts)-i)})
			break
		}
		out = append(out, Notice{t.at, fmt.Sprintf("%s: %s", t.path, t.text)})
	}
	return out
}
