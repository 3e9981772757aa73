package mount

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/syncer"
)

// notesMax bounds the keys that wait. What is beyond is told as "anything in this directory".
const notesMax = 1 << 18

// A note is one thing that the kernel must look at anew.
type note struct {
	dir    syncer.Ino // of the name; 0: about an inode
	name   string
	ino    syncer.Ino // the inode, or what the name showed
	gone   bool       // the name is gone
	wasDir bool       // of gone: what it showed was a directory
	attrs  bool       // only the attributes of the inode
}

// notifier is the queue to the one goroutine that notifies the kernel.
type notifier struct {
	wake chan struct{} // holds one token

	mu    sync.Mutex // guards the rest
	notes []note
	seen  map[note]bool
	dirs  map[syncer.Ino]bool // overflowed: all their names
	told  []event             // for the replaying thread, once the notes are done
}

func newNotifier() *notifier {
	return &notifier{wake: make(chan struct{}, 1), seen: map[note]bool{}, dirs: map[syncer.Ino]bool{}}
}

// flip queues what changes of the tree mean to the kernel, and after that to watchers.
func (q *notifier) flip(flips []syncer.Flip, es []event) {
	told := map[syncer.Place]bool{} // the kernel learns by that what is gone
	for _, e := range es {
		told[e.ghost()] = true
	}
	defer q.ring()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range flips {
		q.flipOne(f, told[syncer.Place{Dir: f.Dir, Name: f.Name}])
	}
	q.told = append(q.told, es...)
}

func (q *notifier) flipOne(f syncer.Flip, told bool) {
	if f.Content != 0 {
		q.add(note{ino: f.Content, attrs: f.Attrs})
	}
	if f.Dir == 0 {
		return
	}
	q.add(note{dir: f.Dir, name: f.Name, ino: f.Old, gone: f.Old != 0 && f.New == 0 && !told, wasDir: f.OldDir})
	for _, ino := range []syncer.Ino{f.Old, f.New} {
		if ino != 0 && ino != f.Content {
			q.add(note{ino: ino, attrs: true})
		}
	}
}

// inode queues that an inode changed: its attributes only, or its bytes too.
func (q *notifier) inode(ino syncer.Ino, attrs bool) {
	q.mu.Lock()
	q.add(note{ino: ino, attrs: attrs})
	q.mu.Unlock()
	q.ring()
}

// add queues a note. The caller holds mu.
func (q *notifier) add(n note) {
	switch {
	case q.seen[n]:
	case len(q.notes) < notesMax || n.dir == 0 || n.dir == syncer.RootIno:
		q.seen[n] = true
		q.notes = append(q.notes, n)
	default:
		q.dirs[n.dir] = true
	}
}

func (q *notifier) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (q *notifier) take() ([]note, map[syncer.Ino]bool, []event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	notes, dirs, told := q.notes, q.dirs, q.told
	q.notes, q.seen, q.dirs, q.told = nil, map[note]bool{}, map[syncer.Ino]bool{}, nil
	return notes, dirs, told
}

// notifyLoop is the notifier goroutine.
func (m *Mount) notifyLoop(ctx context.Context) error {
	var late []lateNote
	for {
		var due <-chan time.Time
		if len(late) > 0 {
			due = time.After(time.Until(slices.MinFunc(late, func(a, b lateNote) int { return a.at.Compare(b.at) }).at))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-due:
			late = m.notifyLate(late)
		case <-m.note.wake:
			late = append(late, m.notifyAll(ctx)...)
		}
	}
}

// notifyAll tells what waits, and then has watchers told. It returns what is to be told again.
func (m *Mount) notifyAll(ctx context.Context) (late []lateNote) {
	notes, dirs, told := m.note.take()
	changed := map[syncer.Ino]bool{}
	inode := func(n note) {
		if !m.notifyInode(n) {
			late = append(late, lateNote{note: n, wait: lateFirst})
		}
	}
	for _, n := range notes {
		if ctx.Err() != nil {
			return nil
		}
		if n.dir != 0 {
			m.notifyName(n)
			changed[n.dir] = true
		} else {
			inode(n)
		}
	}
	for dir := range dirs {
		m.notifyTree(dir)
		changed[dir] = true
	}
	// Times and links of the directories, and their cached listings.
	for dir := range changed {
		inode(note{ino: dir})
	}
	m.replay.push(told)
	at := time.Now().Add(lateFirst) // of all: they are told together
	for i := range late {
		late[i].at = at
	}
	return late
}

// A lateNote is about an inode that the table knows and the kernel does not: not yet, if a reply that names it is on
// its way with attributes of before; or not any more, if its FORGET is. So it is told again for a while.
type lateNote struct {
	note
	wait time.Duration // since it was told
	at   time.Time     // when to tell it again
}

const lateFirst, lateLast = time.Millisecond, time.Second // waits

// notifyLate tells again what is due, and returns what is left.
func (m *Mount) notifyLate(late []lateNote) (left []lateNote) {
	for now := time.Now(); len(late) > 0; late = late[1:] {
		l := late[0]
		if l.at.After(now) {
			left = append(left, l)
		} else if !m.notifyInode(l.note) && l.wait < lateLast {
			l.wait *= 4
			l.at = now.Add(l.wait)
			left = append(left, l)
		}
	}
	return left
}

// notifyName drops a name of a directory.
func (m *Mount) notifyName(n note) {
	if n.dir != syncer.RootIno && !m.table.known(n.dir) {
		return
	}
	if n.gone && m.lost(n.ino) {
		if n.wasDir {
			m.table.bury(n.ino)
		}
		if m.server.DeleteNotify(uint64(n.dir), uint64(n.ino), n.name).Ok() {
			return
		}
	}
	m.server.EntryNotify(uint64(n.dir), n.name)
}

// lost tells whether an inode has no name left. What was only moved must not be dead to the kernel.
func (m *Mount) lost(ino syncer.Ino) bool {
	a, err := m.folder.Attr(ino)
	return gone(err) || err == nil && a.Nlink == 0
}

// notifyInode drops pages and attributes of an inode. It says whether the kernel knows what the table does.
func (m *Mount) notifyInode(n note) bool {
	off := int64(0)
	if n.attrs {
		off = -1
	} else {
		m.reload(n.ino)
	}
	if n.ino != syncer.RootIno && !m.table.known(n.ino) {
		return true
	}
	return m.server.InodeNotify(uint64(n.ino), off, 0) != fuse.ENOENT
}

// notifyTree drops all names below a directory that had too many changes to list: by dropping its own name, which
// takes the kernel's whole subtree with it.
func (m *Mount) notifyTree(dir syncer.Ino) {
	parent := m.folder.Parent(dir)
	var name string
	err := m.folder.List(parent, 0, func(e syncer.Entry) bool {
		if e.Attr.Ino == dir {
			name = e.Name
		}
		return name == ""
	})
	if err == nil && name != "" {
		m.server.EntryNotify(uint64(parent), name)
	}
}
