package syncer_test

import (
	"bytes"
	"context"
	"sync"

	"github.com/clachanfs/clachan/blocks/content"
	. "github.com/clachanfs/clachan/syncer"
)

// A memSurface holds written bytes in memory.
type memSurface struct {
	mu    sync.Mutex // guards what follows
	dirty map[Ino]*memLayer
	open  map[Ino]bool // for writing, until it is closed
	using map[Ino]Writing
	busy  map[Ino]bool
	flips []Flip
	calls sync.Mutex                       // held for froze and fails: one is called at a time
	froze func(Ino)                        // called after a Freeze, if set
	fails func(context.Context, Ino) error // asked by a Freeze, if set
	knows func(Ino)                        // called before a Rebase, if set
}

type memLayer struct {
	*bytes.Reader
	gen   uint64
	base  Version
	mtime int64
}

func (l *memLayer) Gen() uint64   { return l.gen }
func (l *memLayer) Base() Version { return l.base }
func (l *memLayer) Mtime() int64  { return l.mtime }
func (l *memLayer) Ctime() int64  { return l.mtime }
func (l *memLayer) Size() int64   { return l.Reader.Size() }
func (l *memLayer) Dirty() []content.Range {
	return []content.Range{{Len: max(l.Size(), l.base.Content.Size)}}
}
func (l *memLayer) Holes() []content.Range { return nil }

func (s *memSurface) Freeze(ctx context.Context, inos ...Ino) ([]Layer, error) {
	out := make([]Layer, len(inos))
	for _, ino := range inos {
		if s.fails == nil {
			break
		}
		s.calls.Lock()
		err := s.fails(ctx, ino)
		s.calls.Unlock()
		if err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	for i, ino := range inos {
		if l := s.dirty[ino]; l != nil {
			out[i] = l
		}
	}
	s.mu.Unlock()
	for _, ino := range inos {
		if s.froze != nil {
			s.calls.Lock()
			s.froze(ino)
			s.calls.Unlock()
		}
	}
	return out, nil
}

func (s *memSurface) Rebase(ino Ino, gen uint64, v Version) {
	if s.knows != nil {
		s.knows(ino)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.dirty[ino]; l != nil && l.gen <= gen {
		delete(s.dirty, ino)
	}
}

func (s *memSurface) Busy(ino Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty[ino] != nil || s.open[ino] || s.busy[ino]
}

func (s *memSurface) Writing(ino Ino) Writing {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.using[ino]
	w.Open = w.Open || s.open[ino]
	if w.Open && w.Wrote.IsZero() {
		w.Paged = true // until it is closed
	}
	return w
}

func (s *memSurface) Shown(flips []Flip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flips = append(s.flips, flips...)
}

// stall keeps a peer from cutting anything until release is called: it is at a file of its own.
func (p *peer) stall() (release func()) {
	p.t.Helper()
	at, end := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(at) })
	p.surf.calls.Lock()
	p.surf.froze = func(Ino) { begin(); <-end }
	p.surf.calls.Unlock()
	p.write("/stalled", "")
	<-at
	return sync.OnceFunc(func() { close(end) })
}
