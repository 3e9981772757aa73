package syncer

import (
	"container/list"
	"maps"
	"slices"
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

// made notes that a process has made a file: it knows what it will write there.
func (g *guard) made(p Proc, ino Ino) {
	if p != 0 {
		g.note(reading{p: p, ino: ino}, model.Dot{})
	}
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

// become tells which nodes are others now: files that were cut before they were
// renamed over those. Who knows the one knows the other.
func (g *guard) become(ids map[model.ID]model.ID) {
	if len(ids) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var know []readingOf
	for r, e := range g.by {
		if id, ok := ids[r.id]; ok {
			r.id = id
			know = append(know, readingOf{r, e.Value.(*readingOf).orig})
		}
	}
	for _, k := range know {
		if g.by[k.reading] == nil {
			g.put(k.reading, k.orig)
		}
	}
}

// pass makes those who made an inode know what is in its place now.
func (g *guard) pass(ino Ino, to reading) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range maps.Clone(g.fresh[ino]) {
		if to.p = p; g.by[to] == nil {
			g.put(to, model.Dot{})
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
	k := nameAt{Dir: dir, Name: name}
	if y, ok := t.Drift(dir, name); !ok || !y.Ours {
		delete(f.leftAt, k) // that is cut
	}
	f.mark(t, dir, name)
	f.seenBy(t, p, dir, name)
	f.seenIn(t, p, f.leftAt[k])
}

// noteLeft remembers what was at a name to which it was moved, and that is not cut.
func (f *Folder) noteLeft(k nameAt, id model.ID) {
	if id.IsZero() || len(f.ix.DirtySeen(id)) == 0 {
		return
	}
	if f.leftAt == nil || len(f.leftAt) >= maxAsides {
		f.leftAt = map[nameAt]model.ID{}
	}
	f.leftAt[k] = id
}

// seenBy lets a name that is not cut say no more than what a process has seen there.
// Who has seen more than the one before has not seen what that one put in its place.
func (f *Folder) seenBy(t *index.Tx, p Proc, dir Ino, name string) {
	y, ok := t.Drift(dir, name)
	if !ok || !y.Ours || y.Seen.IsZero() || y.SeenDir {
		return
	}
	if seen, stale := f.stale(p, y.Seen, 0, y.SeenOrig); stale && !t.Origin(seen).K.Has(y.SeenOrig) {
		y.SeenOrig = seen
		t.SetDrift(dir, name, &y)
	}
}

// replaces is for a file that goes because a process puts another in its place. Where
// it was moved there, and that is not cut yet, it is seen at the names it had. Where
// it was made and is not cut yet, its makers have made the one that others will see.
func (f *Folder) replaces(t *index.Tx, p Proc, old, now Ino) {
	id := t.Row(old).ID
	if id.IsZero() {
		f.guard.pass(old, readingAt(0, t.Row(now).ID, now))
		return
	}
	f.seenIn(t, p, id)
}

// puts is for a file that a process puts elsewhere.
func (f *Folder) puts(t *index.Tx, p Proc, ino Ino) {
	if r := t.Row(ino); r != nil {
		f.seenIn(t, p, r.ID)
	}
}

// seenIn is seenBy for all the names that a node had, and that are not cut.
func (f *Folder) seenIn(t *index.Tx, p Proc, id model.ID) {
	if id.IsZero() {
		return
	}
	for _, k := range slices.Clone(f.ix.DirtySeen(id)) {
		f.seenBy(t, p, k.Dir, k.Name)
	}
}

// overwrites is for a file whose bytes begin with a version that is perhaps older than
// the one shown: where it was moved, and that is not cut yet, no more of it was seen.
func (f *Folder) overwrites(t *index.Tx, ino Ino, base model.Dot) {
	id, shown := t.Row(ino).ID, t.ShownOrig(ino)
	if id.IsZero() || base == shown {
		return
	}
	for _, k := range slices.Clone(f.ix.DirtySeen(id)) {
		if y, ok := t.Drift(k.Dir, k.Name); ok && !y.Left && y.SeenOrig == shown {
			y.SeenOrig = base
			t.SetDrift(k.Dir, k.Name, &y)
		}
	}
}
