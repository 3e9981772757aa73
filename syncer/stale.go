package syncer

import (
	"container/list"
	"sync"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// A program that read a file, and writes it anew when others have changed it
// meanwhile, overwrites what it never saw. So the folder remembers which version
// each process opened last. Where one overwrites or replaces a file, that is the
// version its bytes began with; what others made of it since, the cut keeps as a
// conflict copy.

// A Proc is a process, however its surface tells them apart; 0: nobody knows.
type Proc uint64

// How many readings are remembered, and of these how many of one process: one
// that reads everything must not make the others' forgotten.
const (
	readings   = 4096
	readingsOf = 256
)

// A guard remembers who read what, the latest.
type guard struct {
	mu    sync.Mutex // guards the rest
	by    map[reading]*list.Element
	of    map[Proc]int // how many are of each
	order *list.List   // of *readingOf, the latest first
	fresh map[Ino]map[Proc]bool
}

// A reading is of a node, or of an inode as long as that has none.
type reading struct {
	p   Proc
	id  model.ID
	ino Ino
}

type readingOf struct {
	reading
	orig model.Dot
}

func newGuard() *guard {
	return &guard{by: map[reading]*list.Element{}, of: map[Proc]int{}, order: list.New(), fresh: map[Ino]map[Proc]bool{}}
}

func readingAt(p Proc, id model.ID, ino Ino) reading {
	if !id.IsZero() {
		ino = 0
	}
	return reading{p, id, ino}
}

// note remembers that a process knows a version.
func (g *guard) note(r reading, orig model.Dot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.put(r, orig)
}

func (g *guard) put(r reading, orig model.Dot) {
	if e := g.by[r]; e != nil {
		e.Value.(*readingOf).orig = orig
		g.order.MoveToFront(e)
		return
	}
	g.by[r] = g.order.PushFront(&readingOf{r, orig})
	if r.ino != 0 {
		if g.fresh[r.ino] == nil {
			g.fresh[r.ino] = map[Proc]bool{}
		}
		g.fresh[r.ino][r.p] = true
	}
	if g.of[r.p]++; g.of[r.p] > readingsOf {
		e := g.order.Back()
		for e.Value.(*readingOf).p != r.p {
			e = e.Prev()
		}
		g.drop(e)
	} else if len(g.by) > readings {
		g.drop(g.order.Back())
	}
}

func (g *guard) drop(e *list.Element) {
	r := g.order.Remove(e).(*readingOf).reading
	delete(g.by, r)
	if g.of[r.p]--; g.of[r.p] == 0 {
		delete(g.of, r.p)
	}
	if delete(g.fresh[r.ino], r.p); len(g.fresh[r.ino]) == 0 {
		delete(g.fresh, r.ino)
	}
}

// knows is the version that a process knows.
func (g *guard) knows(r reading) (model.Dot, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.by[r]; e != nil {
		return e.Value.(*readingOf).orig, true
	}
	return model.Dot{}, false
}

// born tells that an inode shows a node now: those who made its bytes know them.
func (g *guard) born(ino Ino, id model.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.fresh[ino] {
		old := g.by[reading{p: p, ino: ino}]
		orig := old.Value.(*readingOf).orig
		g.drop(old)
		if r := (reading{p: p, id: id}); g.by[r] == nil {
			g.put(r, orig)
		}
	}
}

// Opened tells that a process opens a file: reads, if what is there now is what
// it goes on from. If it does not read, and others have changed the file since
// it last did, stale is true and seen the version that it knows.
func (f *Folder) Opened(ino Ino, p Proc, reads bool) (seen model.Dot, stale bool) {
	if p == 0 {
		return model.Dot{}, false
	}
	id, shown, err := f.ix.Version(ino)
	if err != nil {
		return model.Dot{}, false
	}
	if reads {
		f.guard.note(readingAt(p, id, ino), shown)
		return model.Dot{}, false
	}
	return f.stale(p, id, ino, shown)
}

// stale tells whether others made the version shown after the process read the
// file, and which it knows.
func (f *Folder) stale(p Proc, id model.ID, ino Ino, shown model.Dot) (model.Dot, bool) {
	if p == 0 || shown == (model.Dot{}) || shown.Replica == f.ix.Replica() {
		return model.Dot{}, false
	}
	seen, ok := f.guard.knows(readingAt(p, id, ino))
	return seen, ok && seen != shown
}

// markFor is mark for what a process does: it has seen what it last read there.
func (f *Folder) markFor(t *index.Tx, p Proc, dir Ino, name string) {
	f.mark(t, dir, name)
	y, ok := t.Drift(dir, name)
	if !ok || y.Seen.IsZero() || y.SeenDir {
		return
	}
	if seen, stale := f.stale(p, y.Seen, 0, y.SeenOrig); stale {
		y.SeenOrig = seen
		t.SetDrift(dir, name, &y)
	}
}
