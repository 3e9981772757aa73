package simtest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A screen is the surface of a machine: it stages written bytes in memory, in
// layers, as a mount does.
type screen struct {
	slow func() time.Duration // what a Freeze takes

	mu      sync.Mutex // guards what follows
	files   map[syncer.Ino]*staged
	handles map[syncer.Ino]int
	writers map[syncer.Ino]int
	opened  map[syncer.Ino]time.Time // for writing
	synced  map[syncer.Ino]time.Time // the last fsync
	mapped  map[syncer.Ino]bool      // some of what was written since are pages of a mapping
	stale   map[syncer.Ino]model.Dot // the version that its writer knows, if others have changed the file since
	seen    map[reading]map[*text]bool
	writes  map[syncer.Ino]int
	gone    map[syncer.Ino]bool           // without a name by the will of a user here
	at      map[syncer.Ino]map[place]bool // where those that are open have been
	gen     uint64
	flips   int // shown so far
}

// staged is a file with bytes that are not cut.
type staged struct {
	data    []byte // never changed, only replaced
	gen     uint64
	frozen  uint64 // a write after its Freeze opens a new layer
	base    syncer.Version
	mtime   int64
	written []span

	begun, wrote time.Time // the first write that is in no version, and the last
}

// A span is what one layer differs in.
type span struct {
	gen uint64
	content.Range
}

func newScreen(slow func() time.Duration) *screen {
	return &screen{slow: slow, synced: map[syncer.Ino]time.Time{}, mapped: map[syncer.Ino]bool{}, stale: map[syncer.Ino]model.Dot{},
		seen: map[reading]map[*text]bool{}, writes: map[syncer.Ino]int{}, gone: map[syncer.Ino]bool{}, at: map[syncer.Ino]map[place]bool{}, files: map[syncer.Ino]*staged{}, handles: map[syncer.Ino]int{}, writers: map[syncer.Ino]int{}, opened: map[syncer.Ino]time.Time{}}
}

type layer struct {
	*bytes.Reader
	gen   uint64
	base  syncer.Version
	mtime int64
	dirty []content.Range
}

func (l layer) Gen() uint64            { return l.gen }
func (l layer) Base() syncer.Version   { return l.base }
func (l layer) Mtime() int64           { return l.mtime }
func (l layer) Ctime() int64           { return l.mtime }
func (l layer) Dirty() []content.Range { return l.dirty }
func (l layer) Holes() []content.Range { return nil }

// Freeze implements syncer.Surface.
func (s *screen) Freeze(ctx context.Context, inos ...syncer.Ino) ([]syncer.Layer, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.slow()):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]syncer.Layer, len(inos))
	for i, ino := range inos {
		if f := s.files[ino]; f != nil {
			f.frozen = f.gen
			out[i] = layer{bytes.NewReader(f.data), f.gen, f.base, f.mtime, f.dirty()}
		}
	}
	return out, nil
}

// dirty merges what all layers differ in.
func (f *staged) dirty() (out []content.Range) {
	all := slices.Clone(f.written)
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.Off, b.Off) })
	for _, x := range all {
		if n := len(out); n > 0 && x.Off <= out[n-1].Off+out[n-1].Len {
			out[n-1].Len = max(out[n-1].Len, x.Off+x.Len-out[n-1].Off)
		} else if x.Len > 0 {
			out = append(out, x.Range)
		}
	}
	return out
}

// Rebase implements syncer.Surface.
func (s *screen) Rebase(ino syncer.Ino, gen uint64, v syncer.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[ino]
	delete(s.stale, ino)
	switch {
	case f == nil:
	case f.gen <= gen:
		delete(s.files, ino)
	default:
		f.base, f.begun = v, f.wrote
		f.written = slices.DeleteFunc(f.written, func(x span) bool { return x.gen <= gen })
	}
}

// Busy implements syncer.Surface.
func (s *screen) Busy(ino syncer.Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[ino] != nil || s.handles[ino] > 0
}

// Writing implements syncer.Surface.
func (s *screen) Writing(ino syncer.Ino) syncer.Writing {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := syncer.Writing{Open: s.writers[ino] > 0, Wrote: s.opened[ino], Synced: s.synced[ino], Paged: s.mapped[ino]}
	if f := s.files[ino]; f != nil {
		w.Begun, w.Wrote = f.begun, f.wrote
	}
	return w
}

// sync remembers an fsync.
func (s *screen) sync(ino syncer.Ino) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced[ino] = time.Now()
	delete(s.mapped, ino)
}

// know notes which version a writer knows who opens a file. Who opens it beside
// others says nothing of what they know.
func (s *screen) know(ino syncer.Ino, seen model.Dot, stale bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case stale:
		s.stale[ino] = seen
	case s.handles[ino] == 1 && s.files[ino] == nil:
		delete(s.stale, ino)
	}
}

// overwrite notes that a file is written to.
func (s *screen) overwrite(ino syncer.Ino, mapped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes[ino]++
	s.mapped[ino] = s.mapped[ino] || mapped
}

// written is how often a file was written to here.
func (s *screen) written(ino syncer.Ino) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes[ino]
}

// basis is the version that what is staged of a file lies over.
func (s *screen) basis(ino syncer.Ino, on model.Dot) model.Dot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, stale := s.stale[ino]; stale {
		return d
	}
	return on
}

// Shown implements syncer.Surface.
func (s *screen) Shown(flips []syncer.Flip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flips += len(flips)
	for _, x := range flips {
		s.isAt(x.New, place{x.Dir, x.Name})
	}
}

// flipped is how many changes that no user of this machine made were shown.
func (s *screen) flipped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flips
}

func (s *screen) open(ino syncer.Ino, writes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handles[ino]++
	if writes {
		s.writers[ino]++
		s.opened[ino] = time.Now()
	}
}

func (s *screen) close(ino syncer.Ino, writes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handles[ino]--; s.handles[ino] == 0 {
		delete(s.handles, ino)
		delete(s.at, ino)
	}
	if writes {
		if s.writers[ino]--; s.writers[ino] == 0 {
			delete(s.mapped, ino) // all is written back
			delete(s.writers, ino)
			delete(s.opened, ino)
		}
	}
}

// peek returns the staged bytes of a file.
func (s *screen) peek(ino syncer.Ino) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[ino]; f != nil {
		return f.data, true
	}
	return nil, false
}

// goes notes that a file has lost its last name by the will of a user here, or has got
// one.
func (s *screen) goes(ino syncer.Ino, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[ino] = gone
}

// strays tells whether there are bytes that are not cut in a file, though no user here
// has taken its last name.
func (s *screen) strays(ino syncer.Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[ino] != nil && !s.gone[ino]
}

// put stages bytes over what is there: data is all of the file, of which r is
// new. base is what a clean file shows.
func (s *screen) put(ino syncer.Ino, data []byte, r []content.Range, base syncer.Version, now int64) (gen uint64, on syncer.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[ino]
	if f == nil {
		s.gen++
		f = &staged{gen: s.gen, base: base}
		s.files[ino] = f
	} else if f.frozen == f.gen {
		s.gen++
		f.gen = s.gen
	}
	f.data, f.mtime, f.wrote = data, now, time.Now()
	if f.begun.IsZero() {
		f.begun = f.wrote
	}
	for _, x := range r {
		f.written = append(f.written, span{f.gen, x})
	}
	return f.gen, f.base
}

// adopt takes what was staged when the machine went down.
func (s *screen) adopt(ino syncer.Ino, d syncer.DirtyState, base syncer.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen = max(s.gen, d.Gen)
	all := content.Range{Len: max(int64(len(d.Data)), base.Content.Size)}
	s.files[ino] = &staged{data: d.Data, gen: d.Gen, base: base, mtime: d.Mtime, written: []span{{d.Gen, all}}}
}

// forget drops what was written to a file, unless that is open.
func (s *screen) forget(ino syncer.Ino) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handles[ino] == 0 {
		delete(s.files, ino)
	}
}
