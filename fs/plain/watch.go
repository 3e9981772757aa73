package plain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/syncthing/notify"
	"golang.org/x/sys/unix"
)

const (
	watched = notify.InCreate | notify.InMovedTo | notify.InMovedFrom | notify.InMoveSelf | notify.InDelete | notify.InDeleteSelf |
		notify.InModify | notify.InCloseWrite | notify.InAttrib
	lull       = 50 * time.Millisecond // without events: the kernel's queue is empty
	watchTries = 5                     // a tree that changes while it is gone through
)

type event = notify.EventInfo

// A watcher hears of changes below a directory.
//
// The library says nothing when the kernel's queue runs over, nor when its own does. But a
// queue that ran over was full, and what it was full of is heard without a lull between:
// so after a burst that is a quarter of it everything is looked at.
//
// It also knows directories by their paths, and does not listen to one at a path where it
// knew another. So what becomes of directories is followed here, and the watcher says when
// it must be started anew.
type watcher struct {
	dir   string
	c     chan event
	burst int

	mu    sync.Mutex        // guards the rest
	dirs  map[string]uint32 // what was heard of each path with a directory
	doubt map[string]bool   // of these, where one may have been and another is
}

// What is heard of a directory at a path.
const (
	hasCome = unix.IN_CREATE | unix.IN_MOVED_TO
	hasLeft = unix.IN_DELETE | unix.IN_MOVED_FROM
	maxDirs = 1 << 16 // paths that are followed
)

func newWatcher(dir string) *watcher {
	most := 16384
	if b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			most = n
		}
	}
	return &watcher{dir: dir, burst: max(16, most/4), c: make(chan event, max(16, most/2))}
}

// start begins to listen; the caller stops it. What cannot be read is not watched.
func (w *watcher) start() (err error) {
	w.mu.Lock()
	w.dirs, w.doubt = map[string]uint32{}, map[string]bool{}
	w.mu.Unlock()
	skip := func(name string) bool {
		if name == filepath.Join(w.dir, ours) {
			return true
		}
		var st unix.Stat_t
		return unix.Lstat(name, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR && unix.Access(name, unix.R_OK|unix.X_OK) != nil
	}
	for n := range watchTries {
		if n > 0 {
			time.Sleep(lull)
		}
		if err = notify.WatchWithFilter(filepath.Join(w.dir, "..."), w.c, skip, watched); err == nil {
			return nil
		}
		w.stop()
	}
	return fmt.Errorf("watch %s: %w", w.dir, err)
}

func (w *watcher) stop() { notify.Stop(w.c) }

// follow notes what becomes of a directory.
func (w *watcher) follow(path string, mask uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.dirs[path] | mask
	w.dirs[path] = was
	if mask&unix.IN_MOVED_TO != 0 || was&hasCome != 0 && was&hasLeft != 0 { // one may have been replaced
		w.doubt[path] = true
	}
}

// deaf tells whether something may be unheard of until the watcher is started anew.
func (w *watcher) deaf() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path := range w.doubt {
		if info, err := os.Lstat(path); err == nil && info.IsDir() {
			return true
		}
		delete(w.doubt, path)
	}
	return len(w.dirs) > maxDirs
}

// run tells which paths below the directory are touched until ctx ends; ".": all may have changed.
func (w *watcher) run(ctx context.Context, tell func(path string)) {
	quiet := time.NewTimer(lull)
	defer quiet.Stop()
	heard, last := 0, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-quiet.C:
			if heard >= w.burst {
				tell(".")
			}
			heard, last = 0, ""
			continue
		case e := <-w.c:
			if e.Path() != last || e.Event() != notify.InModify { // equal ones are one in the queue
				heard++
			}
			if len(w.c) == cap(w.c)-1 {
				heard += w.burst
			}
			last = e.Path()
			if x, ok := e.Sys().(*unix.InotifyEvent); ok && x.Mask&unix.IN_ISDIR != 0 && x.Mask&(hasCome|hasLeft) != 0 {
				w.follow(last, x.Mask)
			}
			quiet.Reset(lull)
			if rel, err := filepath.Rel(w.dir, e.Path()); err == nil && rel != ours && !strings.HasPrefix(rel, ours+"/") {
				tell(rel)
			}
		}
	}
}
