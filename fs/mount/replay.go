package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What others do wakes those who watch the mount, though the kernel's notifications do not: a thread does it once
// more through the mount, as a program here would. See the package comment.
//
// A watcher's queue holds 16,384 events by default. The budget is such that one who reads nothing for a minute while
// a large sync comes in loses none: beyond it, the last event of each directory stands for all.
const (
	eventsMax   = 32768 // that wait
	eventsBurst = 3072
	eventsRate  = 128 // a second
	eventsKept  = 256 // of the burst, for the last of each directory
	deathsBurst = 768 // beside these, of directories that the kernel knows: who watches one is to hear that it is gone
	deathsRate  = 16  // a second; each is three events
	lateMax     = 1024
	lateEvery   = 500 * time.Millisecond
)

// While more than eventsMany wait, a sync goes first: there is a pause after each until no more have come in for as
// long, or until many have waited for eventsHold, or there is soon no room for more.
const (
	eventsMany  = 64
	eventsTight = eventsMax / 2
	eventsPause = 50 * time.Millisecond
	eventsHold  = 2 * time.Second
)

// replayer is the queue to the one thread that wakes watchers, and what it is about to do.
type replayer struct {
	tid  atomic.Uint32       // of the thread, 0 while there is none
	act  atomic.Pointer[act] // the system call that it makes
	wake chan struct{}       // holds one token
	wait atomic.Int32        // events that were planned and are not told yet
	fed  atomic.Int64        // when the last were planned: a stamp

	mu     sync.Mutex // guards the rest
	queue  []event
	ghosts map[syncer.Place]int        // names that kernel and Folder see differently, until that is told
	graves map[syncer.Ino]syncer.Place // directories whose removal is not told yet
	late   map[syncer.Ino]event        // by directory: the last that was too much
}

func newReplayer() *replayer {
	return &replayer{wake: make(chan struct{}, 1), ghosts: map[syncer.Place]int{}, graves: map[syncer.Ino]syncer.Place{},
		late: map[syncer.Ino]event{}}
}

// admit takes in what was planned, before the kernel is told to look anew; and says what is too much.
func (r *replayer) admit(es []event) (in, much []event) {
	if len(es) == 0 {
		return nil, nil
	}
	r.fed.Store(stamp())
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range es {
		most := eventsMax
		if e.deed == removed && e.oldDir {
			most += deathsBurst
		}
		if int(r.wait.Load()) >= most {
			much = append(much, e)
			continue
		}
		in = append(in, e)
		r.wait.Add(1)
		if g := e.ghost(); g.Dir != 0 {
			r.ghosts[g]++
		}
		if e.deed == removed && e.oldDir {
			r.graves[e.old] = e.at
		}
	}
	return in, much
}

// postpone keeps the last event of a directory that somebody may be watching.
func (m *Mount) postpone(e event) {
	if e.at.Dir == 0 {
		e.at.Dir = m.folder.Parent(e.ino)
	}
	if !m.known(e.at.Dir) && (e.deed != moved || !m.known(e.from.Dir)) {
		return
	}
	r := m.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.late[e.at.Dir]; ok || len(r.late) < lateMax {
		r.late[e.at.Dir] = e
	}
}

// push hands over what the kernel has been told to look at.
func (r *replayer) push(es []event) {
	if len(es) == 0 {
		return
	}
	r.mu.Lock()
	r.queue = append(r.queue, es...)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *replayer) take() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	es := r.queue
	r.queue = nil
	return es
}

// done forgets an event.
func (r *replayer) done(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wait.Add(-1)
	if g := e.ghost(); g.Dir != 0 {
		if r.ghosts[g]--; r.ghosts[g] <= 0 {
			delete(r.ghosts, g)
		}
	}
	if e.deed == removed && r.graves[e.old] == e.at {
		delete(r.graves, e.old)
	}
}

// haunted tells whether the kernel must ask for a name each time: what it sees is about to be seen differently by
// the replaying thread.
func (r *replayer) haunted(dir syncer.Ino, name string) bool {
	if r.wait.Load() == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ghosts[syncer.Place{Dir: dir, Name: name}] > 0
}

// replayLoop is the replaying thread. It ends with ctx, after the system call that it is in.
func (m *Mount) replayLoop(ctx context.Context) error {
	runtime.LockOSThread() // for good: the kernel tells who calls by the thread
	r := m.replay
	r.tid.Store(uint32(unix.Gettid()))
	defer r.tid.Store(0)
	budget, deaths := rate.NewLimiter(eventsRate, eventsBurst), rate.NewLimiter(deathsRate, deathsBurst)
	var many time.Time // since when
	tick := time.NewTicker(lateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-tick.C:
			m.tellLate(ctx, budget)
		}
		for _, e := range r.take() {
			if ctx.Err() != nil {
				return nil
			}
			m.tellOne(e, budget, deaths)
			r.done(e)
			many = r.giveWay(ctx, many)
		}
	}
}

// giveWay pauses if a sync goes first. It takes and returns since when many wait: the zero time if few do.
func (r *replayer) giveWay(ctx context.Context, since time.Time) time.Time {
	n, now := r.wait.Load(), time.Now()
	if n <= eventsMany {
		return time.Time{}
	}
	if since.IsZero() {
		since = now
	}
	if syncFirst(n, now, since, timeOf(&r.fed)) {
		select {
		case <-ctx.Done():
		case <-time.After(eventsPause):
		}
	}
	return since
}

// syncFirst tells whether a sync goes before the events that wait: many have since then, and the last came at fed.
func syncFirst(wait int32, now, since, fed time.Time) bool {
	return wait > eventsMany && wait < eventsTight && now.Sub(since) < eventsHold && now.Sub(fed) < eventsPause
}

// tellOne tells an event, or keeps it for later if there were too many.
func (m *Mount) tellOne(e event, budget, deaths *rate.Limiter) {
	cost, kept := costs[e.deed], eventsKept
	if budget.Tokens() < float64(cost+kept) && e.deed == removed && e.oldDir && m.table.known(e.old) {
		budget, cost, kept = deaths, 1, 0
	}
	if budget.Tokens() < float64(cost+kept) {
		m.postpone(e)
		m.bury(e)
		return
	}
	way, ok := m.locate(&e)
	if !ok {
		return
	}
	budget.AllowN(time.Now(), cost)
	err := m.tell(e, way)
	switch {
	case err == nil:
		return
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM): // this user may not: others hear of the directory
		err = m.stir(e.at.Dir)
	}
	m.bury(e)
	m.log.Debug("watchers not woken", slog.String("name", e.at.Name), slog.Any("err", err))
}

// tellLate tells the last event of each directory that had too many.
func (m *Mount) tellLate(ctx context.Context, budget *rate.Limiter) {
	r := m.replay
	r.mu.Lock()
	late := r.late
	r.late = map[syncer.Ino]event{}
	r.mu.Unlock()
	for dir, e := range late {
		if ctx.Err() != nil {
			return
		}
		if !budget.AllowN(time.Now(), costs[e.deed]+costs[touched]) {
			r.mu.Lock()
			if _, ok := r.late[dir]; !ok {
				r.late[dir] = e
			}
			r.mu.Unlock()
			continue
		}
		way, ok := m.locate(&e)
		if !ok || m.tell(e, way) != nil {
			if err := m.stir(dir); err != nil {
				m.log.Debug("watchers not woken", slog.Uint64("dir", uint64(dir)), slog.Any("err", err))
			}
		}
	}
}

// locate finds the name by which an event is told, and says whether somebody may be watching it.
func (m *Mount) locate(e *event) (way []step, ok bool) {
	if e.deed == wrote || e.deed == touched {
		at, dirs, ok := m.folder.Named(e.ino)
		if e.ino == syncer.RootIno {
			return nil, e.deed == touched
		}
		if !ok || !m.known(at.Dir) && !m.table.known(e.ino) {
			return nil, false
		}
		e.at = at
		return steps(dirs), true
	}
	if !m.current(e.at, e.ino) {
		return nil, false // what came next is told by itself
	}
	return m.wayTo(e.at.Dir)
}

// known tells whether the kernel may know a directory, so that somebody may be watching it.
func (m *Mount) known(dir syncer.Ino) bool { return dir == syncer.RootIno || m.table.known(dir) }

// current tells whether a name still shows what an event says.
func (m *Mount) current(at syncer.Place, ino syncer.Ino) bool {
	a, err := m.folder.Lookup(at.Dir, at.Name)
	if err != nil {
		return ino == 0 && errors.Is(err, syncer.ErrNotExist)
	}
	return a.Ino == ino
}

// tell makes the system calls whose events an event is.
func (m *Mount) tell(e event, way []step) error {
	dir, err := m.openDir(way)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	switch e.deed {
	case removed:
		flags := 0
		if e.oldDir {
			flags = unix.AT_REMOVEDIR
		}
		return m.acting(&act{do: unlinks, at: e.at, old: e.old, oldDir: e.oldDir}, func() error {
			return unix.Unlinkat(dir, e.at.Name, flags)
		})
	case moved:
		return m.tellMoved(e, dir)
	case made:
		return m.tellMade(e, dir)
	case wrote:
		return m.tellWrote(e.at, e.ino, dir)
	}
	name := e.at.Name
	if e.ino == syncer.RootIno {
		name = "."
	}
	return m.acting(&act{do: sets, ino: e.ino}, func() error { return touch(dir, name, false) })
}

func (m *Mount) tellMoved(e event, to int) error {
	from := to
	if e.from.Dir != e.at.Dir {
		way, ok := m.wayTo(e.from.Dir)
		if !ok {
			return syncer.ErrNotExist
		}
		var err error
		if from, err = m.openDir(way); err != nil {
			return err
		}
		defer unix.Close(from)
	}
	// The kernel moves the only entry of a directory to where it is looked up, but not within a rename.
	for try := 0; ; try++ {
		err := m.move(e, from, to)
		if !errors.Is(err, syscall.ESTALE) || try == movesMax {
			return err
		}
	}
}

// movesMax is how often a move is tried: of a directory that others look up at the same time, where it went to.
const movesMax = 100

// move is a rename. The kernel moves the only entry of a directory to where it is looked up, but not within a rename
// from one directory to another: so that is done before.
func (m *Mount) move(e event, from, to int) error {
	a := &act{do: renames, at: e.at, from: e.from, ino: e.ino}
	err := m.acting(a, func() error {
		fd, err := unix.Openat(from, e.from.Name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		a.done.Store(true)
		return unix.Close(fd)
	})
	if err != nil {
		return err
	}
	a = &act{do: renames, at: e.at, from: e.from, ino: e.ino, old: e.old, oldDir: e.oldDir}
	return m.acting(a, func() error { return unix.Renameat2(from, e.from.Name, to, e.at.Name, 0) })
}

func (m *Mount) tellMade(e event, dir int) error {
	a, err := m.folder.Attr(e.ino)
	if err != nil {
		return err
	}
	if e.old != 0 {
		if a.Kind == model.File && !e.oldDir {
			return m.tellReplaced(e, dir)
		}
		flags := 0
		if e.oldDir {
			flags = unix.AT_REMOVEDIR
		}
		err := m.acting(&act{do: unlinks, at: e.at, ino: e.ino, old: e.old, oldDir: e.oldDir}, func() error {
			return unix.Unlinkat(dir, e.at.Name, flags)
		})
		if err != nil {
			return err
		}
	}
	return m.acting(&act{do: creates, at: e.at, ino: e.ino}, func() error {
		switch a.Kind {
		case model.Dir:
			return unix.Mkdirat(dir, e.at.Name, a.Mode&0o777)
		case model.Symlink:
			target, err := m.folder.Readlink(e.ino)
			if err != nil {
				return err
			}
			return unix.Symlinkat(target, dir, e.at.Name)
		case model.File:
			const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
			fd, err := unix.Openat(dir, e.at.Name, flags, a.Mode&0o777)
			if err != nil {
				return err
			}
			if a.Size > 0 {
				err = touchFile(fd)
			}
			return errors.Join(err, unix.Close(fd))
		}
		return syncer.ErrInvalid
	})
}

// tellReplaced tells of a file that was in use, so that its name has another with the new bytes: those who watch the
// name hear of the bytes, and those who watch or follow the file, that it is not what its name shows.
func (m *Mount) tellReplaced(e event, dir int) error {
	if m.table.known(e.old) { // whoever has let go of it meanwhile need not hear
		m.acting(&act{do: sets, at: e.at, ino: e.ino, old: e.old}, func() error { return touch(dir, e.at.Name, false) })
	}
	return m.tellWrote(e.at, e.ino, dir)
}

func (m *Mount) tellWrote(at syncer.Place, ino syncer.Ino, dir int) error {
	return m.acting(&act{do: sets, ino: ino}, func() error {
		fd, err := unix.Openat(dir, at.Name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil { // it is a link, or is being executed, or its owner may not write to it
			return touch(dir, at.Name, true)
		}
		return errors.Join(touchFile(fd), unix.Close(fd))
	})
}

// anyTime is not set anywhere.
var anyTime = unix.Timespec{Sec: 1}

// touch has watchers hear of new attributes or, with only mtime, of new bytes.
func touch(dir int, name string, mtime bool) error {
	ts := []unix.Timespec{anyTime, anyTime}
	if mtime {
		ts[0].Nsec = unix.UTIME_OMIT
	}
	return unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// touchFile has watchers hear that an open file was written to.
func touchFile(fd int) error {
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, anyTime}, unix.AT_EMPTY_PATH)
}

// stir has watchers of a directory hear that something is new in it.
func (m *Mount) stir(ino syncer.Ino) error {
	if !m.known(ino) {
		return nil
	}
	way, ok := m.wayTo(ino)
	if !ok {
		return nil
	}
	dir, err := m.openDir(way)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return m.acting(&act{do: sets, ino: ino}, func() error { return touch(dir, ".", false) })
}

// bury tells the kernel, as far as that goes without an event, that what was removed is gone.
func (m *Mount) bury(e event) {
	if e.deed == removed {
		m.notifyName(note{dir: e.at.Dir, name: e.at.Name, ino: e.old, gone: true, wasDir: e.oldDir})
	}
}

// A step is one directory on the way from the root. ghost: the Folder has it no more, though the kernel is to see it.
type step struct {
	syncer.Place
	ghost syncer.Ino
}

func steps(dirs []syncer.Place) []step {
	way := make([]step, len(dirs))
	for i, p := range dirs {
		way[i].Place = p
	}
	return way
}

// wayTo is the way to a directory, one that is about to be seen removed included.
func (m *Mount) wayTo(dir syncer.Ino) ([]step, bool) {
	var tail []step
	for dir != syncer.RootIno {
		if at, dirs, ok := m.folder.Named(dir); ok {
			return append(append(steps(dirs), step{Place: at}), tail...), true
		}
		m.replay.mu.Lock()
		at, ok := m.replay.graves[dir]
		m.replay.mu.Unlock()
		if !ok || len(tail) == lateMax {
			return nil, false
		}
		tail = append([]step{{at, dir}}, tail...)
		dir = at.Dir
	}
	return tail, true
}

// openDir goes from the root of the mount to a directory, step by step: no link is followed, nothing else that is
// mounted there is entered. What is open would keep the mount from being unmounted, so it is closed soon.
func (m *Mount) openDir(way []step) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(m.dir, flags, 0)
	if err != nil {
		return -1, err
	}
	if err := m.ours(fd); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	for _, s := range way {
		if s.ghost != 0 {
			m.replay.act.Store(&act{do: passes, at: s.Place, old: s.ghost, oldDir: true})
		}
		next, err := unix.Openat(fd, s.Name, flags, 0)
		m.replay.act.Store(nil)
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	if err := m.ours(fd); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// ours says why a directory is not one of this mount: somebody has mounted another there, or unmounted this.
func (m *Mount) ours(fd int) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st); err != nil {
		return err
	}
	if dev := fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor); m.at == nil || dev != m.at.dev {
		return fmt.Errorf("device %s is not that of the mount: %w", dev, syscall.EXDEV)
	}
	return nil
}

// acting makes a system call that handlers know by its thread and by what it is to do.
func (m *Mount) acting(a *act, call func() error) error {
	m.replay.act.Store(a)
	defer m.replay.act.Store(nil)
	err := call()
	if err == nil && !a.done.Load() {
		err = errUntold
	}
	return err
}

// errUntold says that the kernel found nothing to do.
var errUntold = errors.New("no event was made")
