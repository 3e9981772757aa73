package plain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
)

// names are those of a directory that are to be looked at.
type names struct {
	all bool
	set map[string]bool // which of these with all that is below it
}

// A list of things to look at, by directory.
type todo map[syncer.Ino]*names

func (t todo) of(dir syncer.Ino) *names {
	n := t[dir]
	if n == nil {
		n = &names{set: map[string]bool{}}
		t[dir] = n
	}
	return n
}

func (t todo) add(at syncer.Place, deep bool) {
	n := t.of(at.Dir)
	n.set[at.Name] = n.set[at.Name] || deep
}

// A loop is the one goroutine that compares directory and folder. Changes of the disk are
// taken in first, then what others have changed is written.
type loop struct {
	d       *Dir
	disk    todo                          // to be compared with what was seen
	tree    todo                          // and here the folder
	later   map[syncer.Place]time.Time    // to be added to disk then
	crossed map[syncer.Place]bool         // whose move met one of others, and was tried again
	again   map[syncer.Place]time.Time    // to be added to tree then
	gone    map[syncer.Place]time.Time    // not there, since
	blocked map[syncer.Ino][]syncer.Place // to be added to tree when the file was cut
	scanned time.Time                     // when all was looked at last
	whole   bool                          // all is to be looked at
	seconds []second
	listen  chan<- struct{}
	told    bool

	listened time.Time             // when the watcher began to listen
	took     time.Duration         // that
	mount    uint64                // what was there
	shifts   int                   // rows that were taken away
	ignoring map[syncer.Place]stat // files of patterns, as they were when all was looked at for them
}

// second is a directory that is looked at a second time, since it is new or has moved: what
// happened in it before it was watched there, nobody told of.
type second struct {
	dir syncer.Ino
	at  time.Time
}

func newLoop(d *Dir, listening chan<- struct{}) *loop {
	return &loop{d: d, disk: todo{}, tree: todo{}, later: map[syncer.Place]time.Time{}, crossed: map[syncer.Place]bool{}, again: map[syncer.Place]time.Time{}, gone: map[syncer.Place]time.Time{}, blocked: map[syncer.Ino][]syncer.Place{}, ignoring: map[syncer.Place]stat{},
		whole: true, listen: listening}
}

func (l *loop) run(ctx context.Context) error {
	d := l.d
	defer l.letListen()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.kick:
		case <-timer.C:
		}
		next, err := l.turn(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !l.told {
			l.told = true
			close(d.ready)
		}
		if away := errors.Is(err, ErrAway) || errors.Is(err, ErrForeign); err != nil && !away {
			if d.folder.Err() != nil {
				return d.folder.Err()
			}
			d.log.Error("compare directory and folder", "err", err)
			l.whole = true // what was left
			next = time.Now().Add(tryAgain)
		}
		timer.Reset(max(time.Millisecond, time.Until(next)))
	}
}

// letListen lets the watcher begin to tell, once.
func (l *loop) letListen() {
	if l.listen != nil {
		close(l.listen)
		l.listen = nil
	}
}

// turn does what there is to do, and says when to look again.
func (l *loop) turn(ctx context.Context) (next time.Time, err error) {
	d := l.d
	d.mu.Lock()
	scans := d.scans
	d.scans = nil
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		wait := err == nil && len(l.gone) > 0 && (d.held == nil || d.held.accepted) // what is gone is not taken in yet
		if wait {
			d.scans = append(d.scans, scans...)
		}
		d.mu.Unlock()
		for _, done := range scans {
			if !wait {
				done <- err
			}
		}
	}()
	if len(scans) > 0 {
		l.scanned = time.Time{}
	}
	r, err := openRoot(d.dir, d.mark)
	if err != nil {
		d.setState(err)
		l.whole = true // when it is there again
		d.mu.Lock()
		d.touched, d.flipped = nil, nil
		d.mu.Unlock()
		if l.listen == nil {
			d.watch.stop()
		}
		return time.Now().Add(lookAgain), err
	}
	defer r.Close()
	p := newPass(l, ctx, r)
	defer p.close()
	if d.Err() != nil || l.listen != nil || l.mount != r.mount { // it has come
		l.mount, l.whole = r.mount, true
		d.setState(nil)
		l.listenAgain()
		if err := p.tidy(); err != nil {
			d.log.Warn("files in the making not removed", "err", err)
		}
	}
	if !time.Now().Before(l.rewatchAt()) {
		l.listenAgain()
		l.whole = true
	}
	if err := p.gather(); err != nil {
		return time.Time{}, err
	}
	joining := !d.folder.Complete()
	if !joining && (l.whole || time.Since(l.scanned) > l.every()) {
		l.disk = todo{}
		l.disk.of(syncer.RootIno).all = true
		l.tree.of(syncer.RootIno).all = l.tree.of(syncer.RootIno).all || l.whole
		if err := p.takeAll(l.whole); err != nil {
			return time.Time{}, err
		}
		if err := p.standsNowhere(); err != nil {
			return time.Time{}, err
		}
		l.whole, l.scanned = false, time.Now()
	} else if !joining {
		if err := p.takeSome(); err != nil {
			return time.Time{}, err
		}
	}
	if err := p.giveSome(); err != nil {
		return time.Time{}, err
	}
	if d.first && !joining && len(l.later) == 0 {
		if err := d.sight.SetNote("first", []byte{1}); err != nil {
			return time.Time{}, err
		}
		d.first = false
	}
	return l.next(joining), nil
}

// every is how often all is looked at.
func (l *loop) every() time.Duration {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.unheard != nil {
		return pollScan
	}
	return wholeScan
}

// listenAgain watches the directory that is there now.
func (l *loop) listenAgain() {
	d := l.d
	if l.listen == nil {
		d.watch.stop()
	}
	begun := time.Now()
	err := d.watch.start()
	l.listened, l.took = time.Now(), time.Since(begun)
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w (raise it: sysctl fs.inotify.max_user_watches=1048576)", err)
	}
	if err == nil {
		err = elsewhere(d.dir)
	}
	if err != nil {
		d.log.Warn("changes are not heard of", "err", err)
	}
	d.mu.Lock()
	d.unheard = err
	d.mu.Unlock()
	l.letListen()
}

// rewatchAt is when to listen anew, which takes a while where there are many directories.
func (l *loop) rewatchAt() time.Time {
	if !l.d.watch.deaf() {
		return time.Now().Add(wholeScan)
	}
	return l.listened.Add(max(watchedIn, 20*l.took))
}

// elsewhere says whether others can write to a filesystem without this kernel knowing.
func elsewhere(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	switch st.Type {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC:
		return errors.New("it is on another machine")
	}
	return nil
}

// next is when there is something to do, if nothing happens.
func (l *loop) next(joining bool) time.Time {
	at := time.Now().Add(checkEvery)
	if joining {
		at = time.Now().Add(time.Second)
	}
	for _, m := range []map[syncer.Place]time.Time{l.later, l.again} {
		for _, t := range m {
			if t.Before(at) {
				at = t
			}
		}
	}
	last := time.Time{}
	for _, t := range l.gone {
		if t.After(last) {
			last = t
		}
	}
	if t := last.Add(goneFor); len(l.gone) > 0 && t.Before(at) {
		at = t
	}
	if t := l.rewatchAt(); t.Before(at) {
		at = t
	}
	if len(l.tree) > 0 || len(l.disk) > 0 && !joining {
		at = time.Now()
	}
	for _, s := range l.seconds {
		if s.at.Before(at) {
			at = s.at
		}
	}
	return at
}

// lookTwice has a directory looked at when it is surely watched: as all are that were there
// when the watcher began, if all is being gone through now.
func (l *loop) lookTwice(dir syncer.Ino) {
	if l.whole {
		return
	}
	l.seconds = append(l.seconds, second{dir, time.Now().Add(watchedIn)})
}
