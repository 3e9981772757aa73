package index

import "github.com/clachanfs/clachan/syncer/model"

// dirty finds the drift of ours by what it hangs together with, so that a cut
// costs what it cuts and not all that is dirty. It is a mirror of the y and w
// rows that are ours.
type dirty struct {
	names map[Place]Entry // what the tree has under a dirty name; zero: nothing that replicates
	in    map[Ino]set[Place]
	at    map[Ino][]Place      // under which the tree has an inode
	seen  map[model.ID][]Place // under which a node was seen
	dirs  set[Place]           // that show a directory, or did
	group map[Ino]Ino          // of an inode with a w row: the directory whose changes it goes with
	inos  map[Ino]set[Ino]     // by group
}

type set[T comparable] map[T]struct{}

// A Place is a name of a directory.
type Place struct {
	Dir  Ino
	Name string
}

func newDirty() dirty {
	return dirty{names: map[Place]Entry{}, in: map[Ino]set[Place]{}, at: map[Ino][]Place{}, seen: map[model.ID][]Place{},
		dirs: set[Place]{}, group: map[Ino]Ino{}, inos: map[Ino]set[Ino]{}}
}

// add takes in a y row of ours.
func (d *dirty) add(k Place, y Drift, e Entry) {
	if !e.Kind.Replicates() {
		e = Entry{}
	}
	if d.in[k.Dir] == nil {
		d.in[k.Dir] = set[Place]{}
	}
	d.names[k] = e
	d.in[k.Dir][k] = struct{}{}
	if !y.Seen.IsZero() {
		d.seen[y.Seen] = append(d.seen[y.Seen], k)
	}
	if e.Ino != 0 {
		d.at[e.Ino] = append(d.at[e.Ino], k)
	}
	if y.SeenDir || e.Ino != 0 && e.Kind == model.Dir {
		d.dirs[k] = struct{}{}
	}
}

// drop forgets a y row.
func (d *dirty) drop(k Place, y Drift) {
	e, ok := d.names[k]
	if !ok {
		return
	}
	delete(d.names, k)
	delete(d.dirs, k)
	if delete(d.in[k.Dir], k); len(d.in[k.Dir]) == 0 {
		delete(d.in, k.Dir)
	}
	without(d.seen, y.Seen, k)
	without(d.at, e.Ino, k)
}

func without[K comparable](m map[K][]Place, key K, k Place) {
	ks := m[key]
	for i := range ks {
		if ks[i] == k {
			ks[i] = ks[len(ks)-1]
			ks = ks[:len(ks)-1]
			break
		}
	}
	if len(ks) == 0 {
		delete(m, key)
	} else {
		m[key] = ks
	}
}

// assign puts an inode with a w row of ours into a group, 0: into none. It tells
// whether it was in another.
func (d *dirty) assign(ino, group Ino) (moved bool) {
	old, ok := d.group[ino]
	if ok && old == group {
		return false
	}
	if ok {
		if delete(d.inos[old], ino); len(d.inos[old]) == 0 {
			delete(d.inos, old)
		}
		delete(d.group, ino)
	}
	if group == 0 {
		return false
	}
	if d.inos[group] == nil {
		d.inos[group] = set[Ino]{}
	}
	d.inos[group][ino] = struct{}{}
	d.group[ino] = group
	return ok
}

// groupOf is the directory whose rest an inode's changes wait for.
func groupOf(ino Ino, r *Row) Ino {
	if r != nil && r.Parent != 0 {
		return r.Parent
	}
	return ino
}

// What follows is for the holder of the apply lock.

// DirtyDirs yields the directories in which something is dirty.
func (ix *Index) DirtyDirs(yield func(Ino) bool) {
	for dir := range ix.dirty.in {
		if !yield(dir) {
			return
		}
	}
	for dir := range ix.dirty.inos {
		if _, again := ix.dirty.in[dir]; !again && !yield(dir) {
			return
		}
	}
}

// DirtyIn yields the dirty names of a directory.
func (ix *Index) DirtyIn(dir Ino, yield func(Place) bool) {
	for k := range ix.dirty.in[dir] {
		if !yield(k) {
			return
		}
	}
}

// DirtyInos yields the inodes with bytes or attributes to cut that go with a
// directory.
func (ix *Index) DirtyInos(dir Ino, yield func(Ino) bool) {
	for ino := range ix.dirty.inos[dir] {
		if !yield(ino) {
			return
		}
	}
}

// Dirty returns the drift of a name if it is ours, and what the tree has there.
func (ix *Index) Dirty(k Place) (Drift, Entry, bool) {
	e, ok := ix.dirty.names[k]
	return ix.names[nameKey{k.Dir, k.Name}], e, ok
}

// DirtyAt returns the dirty names under which the tree has an inode.
func (ix *Index) DirtyAt(ino Ino) []Place { return ix.dirty.at[ino] }

// DirtySeen returns the dirty names under which a node was seen.
func (ix *Index) DirtySeen(id model.ID) []Place { return ix.dirty.seen[id] }

// DirtyNamesOfDirs yields the dirty names that show a directory, or did.
func (ix *Index) DirtyNamesOfDirs(yield func(Place) bool) {
	for k := range ix.dirty.dirs {
		if !yield(k) {
			return
		}
	}
}

// Waiting is the number of names and inodes that others have changed and that
// are not shown yet: their bytes are to come, or those of what is shown with them.
func (ix *Index) Waiting() int { return ix.wanting + len(ix.names) - len(ix.dirty.names) }

// Pending is the number of names and inodes that are to be cut.
func (ix *Index) Pending() int {
	n := len(ix.dirty.names) + len(ix.dirty.group)
	for ino := range ix.orphans {
		if _, ok := ix.dirty.group[ino]; ok {
			n--
		}
	}
	return n
}
