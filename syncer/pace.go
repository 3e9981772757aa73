package syncer

import (
	"sync"
	"time"
)

const (
	quiet    = 100 * time.Millisecond // a directory without changes for so long is at rest
	longest  = 2 * time.Second        // under steady activity a cut comes at least so often
	forgetIn = time.Minute
)

// A pacer says when the changes of a directory are cut: at once if it was at
// rest, so that a lone edit travels without delay; else once it rests.
type pacer struct {
	mu   sync.Mutex // guards dirs
	dirs map[Ino]*pace
	kick chan struct{}
}

type pace struct {
	first, last, due time.Time
	pending          bool
	wake             time.Time // something waits in the directory, and may be due then; zero: nothing
}

func newPacer() *pacer { return &pacer{dirs: map[Ino]*pace{}, kick: make(chan struct{}, 1)} }

// note tells of a change in a directory. One that more will follow surely, like
// the making of a file that is to be written or has a temporary name, is lazy.
func (p *pacer) note(dir Ino, now time.Time, lazy bool) {
	p.mu.Lock()
	x := p.dirs[dir]
	if x == nil {
		x = &pace{}
		p.dirs[dir] = x
	}
	rested := now.Sub(x.last) > quiet
	if !x.pending {
		x.first, x.pending = now, true
		x.due = now.Add(quiet)
	}
	switch {
	case lazy:
	case rested:
		x.due, x.last = now, now
	default:
		x.due, x.last = now.Add(quiet), now
		if end := x.first.Add(longest); end.Before(x.due) {
			x.due = end
		}
	}
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// wake has a directory looked at when what waits in it may be due.
func (p *pacer) wake(dir Ino, at time.Time) {
	p.mu.Lock()
	x := p.dirs[dir]
	if x == nil {
		x = &pace{}
		p.dirs[dir] = x
	}
	x.wake = earlier(x.wake, at)
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// due takes the directories whose time has come, and says when the next is due;
// zero: none is waiting.
func (p *pacer) due(now time.Time, all bool) (dirs map[Ino]bool, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dirs = map[Ino]bool{}
	for dir, x := range p.dirs {
		if x.pending && (all || !x.due.After(now)) || !x.wake.IsZero() && !x.wake.After(now) {
			x.pending, x.wake = false, time.Time{}
			dirs[dir] = true
			continue
		}
		if x.pending {
			next = earlier(next, x.due)
		}
		if next = earlier(next, x.wake); !x.pending && x.wake.IsZero() && now.Sub(x.last) > forgetIn {
			delete(p.dirs, dir)
		}
	}
	return dirs, next
}

// A queue holds inodes, each once.
type queue struct {
	mu   sync.Mutex // guards in and list
	in   map[Ino]bool
	list []Ino
	kick chan struct{}
}

func newQueue() *queue { return &queue{in: map[Ino]bool{}, kick: make(chan struct{}, 1)} }

func (q *queue) add(ino Ino) {
	q.mu.Lock()
	if !q.in[ino] {
		q.in[ino] = true
		q.list = append(q.list, ino)
	}
	q.mu.Unlock()
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

func (q *queue) take() (Ino, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		q.list = nil
		return 0, false
	}
	ino := q.list[0]
	q.list = q.list[1:]
	delete(q.in, ino)
	return ino, true
}
