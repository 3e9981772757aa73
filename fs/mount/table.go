package mount

import (
	"sync"
	"sync/atomic"

	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

const shards = 64

// table holds the inodes that the kernel knows, has open, or that are dirty. Each shard has its lock, the last in
// the order: it is taken under the Folder's.
type table struct {
	shards [shards]shard
}

type shard struct {
	mu    sync.Mutex // guards the rest, and what is in the nodes but not what live points to
	nodes map[syncer.Ino]*node
	dirty int // how many nodes are
}

// node is one inode.
type node struct {
	lookups uint64 // references of the kernel
	opens   int32  // open files, and operations that need the file to stay as it is
	writers int32  // of them, those that may write
	held    bool   // the Folder keeps the inode for us
	dirty   bool   // as live.file says
	buried  uint64 // how often the kernel was told that this directory is removed
	moved   bool   // a directory that the kernel may have listed with another ".."
	behind  bool   // others have changed the file, of which the kernel may not have been told yet
	misled  bool   // as live.misled was
	live    *live  // while opens > 0 or dirty
}

// live is the part of a node that has bytes.
type live struct {
	ino    syncer.Ino
	file   atomic.Pointer[staging.File] // nil until loaded
	base   atomic.Pointer[syncer.Version]
	rowGen atomic.Uint64             // generation that the Folder knows
	rows   atomic.Uint64             // rows given to the Folder
	frozen atomic.Uint64             // what rows was at the last Freeze
	noCaps atomic.Bool               // security.capability is known to be absent
	noPriv atomic.Bool               // suid and sgid are known to be off
	read   atomic.Bool               // atime was looked at
	behind atomic.Bool               // the kernel may believe in another size
	misled atomic.Bool               // it does, as its last append has shown
	shared atomic.Bool               // who has it open has made it name the blocks of another
	stale  atomic.Pointer[model.Dot] // the version that its writer knows, if others have changed the file since

	// Of those who write, in ns, 0 if never; a write is noted when it is done, so an fsync before it is not after it.
	begun, wrote, fsynced atomic.Int64
	paged                 atomic.Bool // pages of a mapping were written back since the last fsync or opening

	saving sync.Mutex // one save at a time; before mu
	rowSeq uint64     // staging.State.Seq of the last save; guarded by saving

	mu     sync.Mutex // makes load, begin and the row of a save happen one at a time; guards synced
	synced bool       // the last save was durable
}

func (t *table) shard(ino syncer.Ino) *shard { return &t.shards[uint64(ino)%shards] }

func (t *table) init() {
	for i := range t.shards {
		t.shards[i].nodes = map[syncer.Ino]*node{}
	}
}

// get returns the node, making it.
func (s *shard) get(ino syncer.Ino) *node {
	n := s.nodes[ino]
	if n == nil {
		n = &node{}
		s.nodes[ino] = n
	}
	return n
}

// lookup counts a reference of the kernel. The first holds the inode.
func (t *table) lookup(ino syncer.Ino, hold func(syncer.Ino)) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(ino)
	n.lookups++
	if !n.held {
		hold(ino)
	}
	n.held = true
}

// forget takes references of the kernel back. If they were the last, it says whether the inode was held and
// returns what is still staged for it.
func (t *table) forget(ino syncer.Ino, count uint64) (held bool, l *live) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	if n == nil {
		return false, nil
	}
	n.lookups -= min(count, n.lookups)
	if n.lookups > 0 || n.opens > 0 {
		return false, nil
	}
	held, n.held = n.held, false
	l = n.live
	s.trim(ino, n)
	return held, l
}

// trim drops what is not needed any more.
func (s *shard) trim(ino syncer.Ino, n *node) {
	if n.opens == 0 && !n.dirty {
		n.misled = n.live != nil && n.live.misled.Load()
		n.live = nil
	}
	if n.opens == 0 && !n.dirty && n.lookups == 0 && !n.held {
		delete(s.nodes, ino)
	}
}

// open registers an open file, before anything about its content is read. fresh tells that nobody else writes to it,
// and nothing written waits to be cut.
func (t *table) open(ino syncer.Ino, writes bool) (l *live, fresh bool) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(ino)
	n.opens++
	if n.live == nil {
		n.live = &live{ino: ino}
		n.live.behind.Store(n.misled)
		n.live.misled.Store(n.misled)
	}
	fresh = n.writers == 0 && !n.dirty
	if writes {
		n.writers++
		n.live.wrote.CompareAndSwap(0, stamp())
	}
	return n.live, fresh
}

// release undoes open. It says whether the last writer of a file that is to be cut is gone.
func (t *table) release(ino syncer.Ino, writes bool) (closed bool) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	if n == nil || n.opens == 0 {
		return false
	}
	n.opens--
	if writes {
		if n.writers--; n.writers == 0 {
			n.live.paged.Store(false) // all is written back
		}
	}
	if writes && n.writers == 0 {
		shared := n.live.shared.Swap(false)
		closed = n.dirty || shared
	}
	s.trim(ino, n)
	return closed
}

// peek returns the live part of an inode, if it has one.
func (t *table) peek(ino syncer.Ino) *live {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		return n.live
	}
	return nil
}

// bury notes that to the kernel a directory is dead for good: should it come back, that is another of the same number.
func (t *table) bury(ino syncer.Ino) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		n.buried++
	}
}

// generation tells apart what the kernel knows by one number.
func (t *table) generation(ino syncer.Ino) uint64 {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		return 1 + n.buried
	}
	return 1
}

// known says whether the kernel may know the inode.
func (t *table) known(ino syncer.Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	return n != nil && n.lookups > 0
}

// busy says whether a file is open or dirty. One that is not may have other bytes from now on.
func (t *table) busy(ino syncer.Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	if n == nil {
		return false
	}
	busy := n.opens > 0 || n.dirty
	n.behind = n.behind || !busy
	return busy
}

// behind says whether others have changed a file since it was last opened.
func (t *table) behind(ino syncer.Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	return n != nil && n.behind
}

// caughtUp notes that the kernel was told of it.
func (t *table) caughtUp(ino syncer.Ino) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		n.behind = false
	}
}

func (t *table) writers(ino syncer.Ino) int32 {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		return n.writers
	}
	return 0
}

// writing returns the live part of an inode that somebody has open for writing, nil if nobody has.
func (t *table) writing(ino syncer.Ino) *live {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil && n.writers > 0 {
		return n.live
	}
	return nil
}

// settle takes over from l whether it is dirty.
func (t *table) settle(ino syncer.Ino, l *live) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	if n == nil || n.live != l {
		return
	}
	f := l.file.Load()
	s.setDirty(n, f != nil && f.Dirty())
	s.trim(ino, n)
}

// adopt puts a recovered file into the table.
func (t *table) adopt(ino syncer.Ino, l *live) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(ino)
	n.live = l
	s.setDirty(n, true)
}

func (s *shard) setDirty(n *node, dirty bool) {
	if n.dirty != dirty {
		if n.dirty = dirty; dirty {
			s.dirty++
		} else {
			s.dirty--
		}
	}
}

// dirty lists the dirty files.
func (t *table) dirty() []*live {
	var out []*live
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		if s.dirty > 0 {
			for _, n := range s.nodes {
				if n.dirty && n.live != nil {
					out = append(out, n.live)
				}
			}
		}
		s.mu.Unlock()
	}
	return out
}

// written lists the inodes that somebody has open for writing.
func (t *table) written() []syncer.Ino {
	var out []syncer.Ino
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for ino, n := range s.nodes {
			if n.writers > 0 {
				out = append(out, ino)
			}
		}
		s.mu.Unlock()
	}
	return out
}

// unhold forgets what the kernel knew, and lists the inodes that were held.
func (t *table) unhold() []syncer.Ino {
	var held []syncer.Ino
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for ino, n := range s.nodes {
			if n.held {
				held = append(held, ino)
			}
			n.held, n.lookups, n.opens, n.writers = false, 0, 0, 0
			s.trim(ino, n)
		}
		s.mu.Unlock()
	}
	return held
}

// setMoved remembers that a directory has another parent.
func (t *table) setMoved(ino syncer.Ino) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		n.moved = true
	}
}

// takeMoved says whether a directory was moved since it was asked.
func (t *table) takeMoved(ino syncer.Ino) (moved bool) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		moved, n.moved = n.moved, false
	}
	return moved
}
