package index

import (
	"maps"
	"slices"
	"time"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

// What one batch changes in a directory is shown together, once all the bytes it
// needs are here: its names and its files are a flip set. Until then the names
// wait like those whose own bytes are missing. A set that is too large, or waits
// for too long, splits: each then comes when it is ready. A database with its
// journals is a set of its own, and never splits; what came of it over gaps waits
// until these are known to be dead, since the last version of one file and an older
// one of the other may never have been there together.
//
// Sets are in memory; after a restart they are made anew of all that waits.

const (
	setFiles = 256
	setBytes = 16 << 20
	setAge   = 25 * time.Second // and up to 5 s more until somebody looks
	maxSets  = 1024             // further directories are shown as their files come
	atOnce   = 64               // sets that are looked at in one transaction
)

// A flipSet is what waits to be shown together.
type flipSet struct {
	since time.Time
	names set[nameKey]
	inos  map[Ino]arrived
	bytes int64
	over  model.VV // of a database, what came over gaps: what is missing there may be the rest of a state
}

func newFlipSet(since time.Time) *flipSet {
	return &flipSet{since: since, names: set[nameKey]{}, inos: map[Ino]arrived{}}
}

// arrived is the version of a file that has come.
type arrived struct {
	yes   bool
	v     model.Version
	alloc int64
}

// FlipTogether has what is joined from now on shown in sets.
func (t *Tx) FlipTogether() { t.together = true }

// Waits tells whether a file is shown only with others.
func (t *Tx) Waits(ino Ino) bool {
	_, ok := t.ix.setOf[ino]
	return ok
}

// setAt is the set that what happens to a name belongs to: that of its database,
// or without a name of its directory.
func (t *Tx) setAt(dir Ino, name string, ns names) Place {
	name = t.ix.fold(name)
	base, suffix := model.Database(name)
	if suffix != "" {
		return Place{dir, base}
	}
	for _, s := range model.Journals {
		if v, ok := ns[t.key(dir, name+s)]; ok && !v.id.IsZero() {
			return Place{dir, base}
		}
		if e, ok := t.Entry(dir, name+s); ok && e.Kind == model.File {
			return Place{dir, base}
		}
		if y, waits := t.ix.names[t.key(dir, name+s)]; waits && !y.Ours && !y.View.IsZero() {
			return Place{dir, base}
		}
	}
	return Place{Dir: dir}
}

// restOf adds to the set of a database what else of it waits, perhaps with its
// directory: there was no journal when it came; and what is there still, and waits
// where it goes. It tells whether something does.
func (t *Tx) restOf(p Place, x *flipSet) (waits bool) {
	for _, s := range append([]string{""}, model.Journals...) {
		k := t.key(p.Dir, p.Name+s)
		if y, drift := t.ix.names[k]; drift && !y.Ours {
			x.names[k] = struct{}{}
		}
		e, _ := t.Entry(p.Dir, p.Name+s)
		for _, ino := range []Ino{t.Ino(t.viewAt(p.Dir, p.Name+s).id), e.Ino} {
			if _, there := x.inos[ino]; there || ino == 0 {
				continue
			}
			if w, drift := t.Bytes(ino); drift && !w.Ours {
				waits = true
				x.inos[ino] = arrived{}
				if q := t.ix.sets[t.ix.setOf[ino]]; q != nil {
					x.inos[ino] = q.inos[ino]
				}
			}
		}
	}
	return waits
}

// holds tells whether a name waits for others.
func (t *Tx) holds(dir Ino, name string) bool {
	_, ok := t.ix.held[t.key(dir, name)]
	return ok
}

// placesOf returns the sets that a file belongs to.
func (t *Tx) placesOf(ino Ino, ns names) (out []Place) {
	r := t.Row(ino)
	id := r.ID
	if r.Node == nil || !r.Node.Live() {
		id = r.Of
	}
	for _, e := range t.claims(id) {
		dir := t.Ino(e.Parent)
		if dir == 0 {
			continue
		}
		if p := t.setAt(dir, e.Base, ns); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// gather puts names that have changed, and the files wanted since, into sets:
// where a file among them has bytes that are to be fetched.
func (t *Tx) gather(ns names) {
	made := map[Place]*flipSet{}
	waits := map[Place]bool{}
	fresh := t.fresh[t.gathered:]
	t.gathered = len(t.fresh)
	for _, ino := range fresh {
		if w, ok := t.Bytes(ino); !ok || w.Ours || t.Row(ino) == nil {
			continue
		}
		c, err := content.Decode(t.Wanted(ino).Content)
		if err != nil {
			continue
		}
		for _, p := range t.placesOf(ino, ns) {
			x := made[p]
			if x == nil {
				x = newFlipSet(time.Now())
				made[p] = x
			}
			x.inos[ino] = arrived{}
			x.bytes += c.Size
			waits[p] = waits[p] || c.Size > content.MaxInline || t.ix.sets[p] != nil
		}
	}
	for k := range ns {
		p := t.setAt(k.dir, k.name, ns)
		x := made[p]
		if x == nil && (t.ix.sets[p] != nil || p.Name != "") {
			x = newFlipSet(time.Now())
			made[p], waits[p] = x, t.ix.sets[p] != nil
		}
		if x != nil {
			x.names[k] = struct{}{}
		}
	}
	for p, x := range made {
		if p.Name != "" {
			x.over = t.over
			waits[p] = t.restOf(p, x) || len(t.over) > 0 || waits[p]
		}
		if waits[p] {
			t.addSet(p, x)
		}
	}
	for k, v := range ns { // a file that waits with a database waits at all of its names
		if p := t.ix.setOf[t.Ino(v.id)]; p.Name != "" {
			t.ix.sets[p].names[k] = struct{}{}
			t.ix.held[k] = p
		}
	}
}

// addSet makes a set, or adds to it. One that becomes too large splits.
func (t *Tx) addSet(p Place, x *flipSet) {
	old := t.ix.sets[p]
	if old == nil {
		old = newFlipSet(x.since)
	}
	maps.Copy(old.inos, x.inos)
	for k := range x.names {
		old.names[k] = struct{}{}
	}
	old.bytes += x.bytes
	old.over = old.over.Join(x.over)
	many := t.ix.sets[p] == nil && len(t.ix.sets) >= maxSets
	if p.Name == "" && (many || len(old.inos)+len(old.names) > 2*setFiles || len(old.inos) > setFiles || old.bytes > setBytes) {
		if t.ix.sets[p] == nil {
			return
		}
		t.ix.sets[p] = old
		t.split(p)
		for ino, a := range old.inos {
			if a.yes {
				t.fresh = append(t.fresh, ino) // asked for again
			}
		}
		t.gathered = len(t.fresh)
		return
	}
	t.ix.sets[p] = old
	for ino := range old.inos {
		switch q, other := t.ix.setOf[ino]; {
		case !other || q == p:
			t.ix.setOf[ino] = p
		case p.Name != "" && q.Name == "": // what is shown with its journal waits for nothing else
			delete(t.ix.sets[q].inos, ino)
			t.ix.setOf[ino] = p
		case p.Name != "": // it was moved, or has names in both
			t.merge(q, old, p)
		default:
			delete(old.inos, ino) // it has names in several: the first has it
		}
	}
	for k := range old.names {
		if p.Name == "" && t.ix.held[k].Name != "" { // a database has taken it since
			delete(old.names, k)
			continue
		}
		t.ix.held[k] = p
	}
}

// merge adds the set at q to another, x at p, that shares a file with it.
func (t *Tx) merge(q Place, x *flipSet, p Place) {
	o := t.ix.sets[q]
	delete(t.ix.sets, q)
	for ino, a := range o.inos {
		if _, there := x.inos[ino]; !there {
			x.inos[ino] = a
		}
		t.ix.setOf[ino] = p
	}
	for k := range o.names {
		x.names[k] = struct{}{}
	}
	x.over = x.over.Join(o.over)
}

// split lets go of a set: its names are shown as they become ready.
func (t *Tx) split(p Place) {
	x := t.ix.sets[p]
	delete(t.ix.sets, p)
	for ino := range x.inos {
		if t.ix.setOf[ino] == p {
			delete(t.ix.setOf, ino)
		}
	}
	for k := range x.names {
		if t.ix.held[k] == p {
			delete(t.ix.held, k)
			t.freed = append(t.freed, k)
		}
	}
}

// Arrive tells that a version of a file is here. It is shown, unless it
// waits for others; then all are shown with the last. ok is false if another
// version is wanted by now.
func (t *Tx) Arrive(ino Ino, v model.Version, alloc int64, busy func(Ino) bool) (ok bool) {
	t.settle()
	p, waits := t.ix.setOf[ino]
	if !waits {
		return t.Publish(ino, v, alloc, busy)
	}
	if !sameBytes(t.Wanted(ino), v) {
		return false
	}
	t.ix.sets[p].inos[ino] = arrived{true, v, alloc}
	t.complete(p, busy)
	return true
}

// complete shows a set if nothing of it is missing.
func (t *Tx) complete(p Place, busy func(Ino) bool) {
	x := t.ix.sets[p]
	if len(x.over) > 0 && !x.over.LE(t.ix.K()) {
		return
	}
	for ino, a := range x.inos {
		if w, drift := t.Bytes(ino); !drift || w.Ours {
			delete(x.inos, ino)
			delete(t.ix.setOf, ino)
		} else if !a.yes || !sameBytes(t.Wanted(ino), a.v) {
			return
		}
	}
	t.release(p, busy)
}

// release splits a set and shows what has come.
func (t *Tx) release(p Place, busy func(Ino) bool) {
	x := t.ix.sets[p]
	t.split(p)
	for ino, a := range x.inos {
		if a.yes && !t.Publish(ino, a.v, a.alloc, busy) {
			t.fresh = append(t.fresh, ino) // asked for again
		}
	}
	t.settle()
}

// Overdue splits what has waited for too long, and shows what is complete
// without having been told. It looks at some sets and says whether there are more
// that it has shown nothing of.
func (t *Tx) Overdue(busy func(Ino) bool) (more bool) {
	n := 0
	for p, x := range t.ix.sets {
		if n == atOnce {
			return true
		}
		t.complete(p, busy)
		if t.ix.sets[p] == x && p.Name == "" && time.Since(x.since) >= setAge {
			t.release(p, busy)
		}
		if t.ix.sets[p] != x {
			n++
		}
	}
	return false
}

// Regroup makes the sets anew that a restart has forgotten, and shows what waited
// for nothing else.
func (t *Tx) Regroup() {
	ns := names{}
	for k, y := range t.ix.names {
		if !y.Ours {
			ns[k] = viewed{y.View, y.Name}
		}
	}
	t.gathered = len(t.fresh)
	for ino, w := range t.ix.bytes {
		if !w.Ours {
			t.fresh = append(t.fresh, ino)
		}
	}
	if j := t.ix.Joined(); !j.LE(t.ix.K()) {
		t.over = j
	}
	t.gather(ns)
	t.vacated = true // all names that wait are tried
	t.settle()
}

// Sets tells whether something waits to be shown together; the holder of the
// apply lock may ask.
func (ix *Index) Sets() bool { return len(ix.sets) > 0 }
