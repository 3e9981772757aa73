package syncer

import (
	"maps"
	"slices"
	"time"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// selection is what is cut at once, in one batch or a few.
type selection struct {
	names    map[nameAt]index.Drift
	inos     map[Ino]bool      // with bytes or attributes to cut
	dirty    map[Ino]dirtyFile // of them, those with bytes
	waits    map[Ino][]Ino     // files that are open for writing: the directories in which something waits for them
	later    map[Ino]bool      // directories in which something was written since, or is left: looked at again soon
	wakes    map[Ino]time.Time // directories in which something waits: when to look again; zero: when it is closed
	portions []portion         // all of it, in the order in which it was taken
	more     bool
	owes     bool // a database, which the next cut is to be of
	whole    bool // it is of a database: nothing else may come into its batch
	all      bool // somebody asked for all that may be cut
}

type nameAt = index.Place

type dirtyFile struct {
	gen   uint64 // newest layer, when it was selected
	name  string // if that is new
	group nameAt // the database it belongs to, if any
	with  []Ino  // all that is of that then, in order
}

// A portion of a selection is a batch of its own. What hangs together is in one.
type portion struct {
	names []nameAt
	inos  []Ino
}

func (p *portion) full() bool { return len(p.names) >= cutNames || len(p.inos) >= cutNames }

// split returns the portions as selections of their own.
func (s *selection) split() (out []*selection) {
	for _, p := range s.portions {
		if len(p.names)+len(p.inos) == 0 {
			continue
		}
		x := &selection{names: map[nameAt]index.Drift{}, inos: map[Ino]bool{}, dirty: map[Ino]dirtyFile{}, all: s.all}
		for _, k := range p.names {
			x.names[k] = s.names[k]
		}
		for _, ino := range p.inos {
			x.inos[ino] = true
			if d, ok := s.dirty[ino]; ok {
				x.dirty[ino] = d
			}
		}
		out = append(out, x)
	}
	return out
}

// without takes out what has been cut.
func (s *selection) without(cut *selection) {
	maps.DeleteFunc(s.names, func(k nameAt, _ index.Drift) bool { _, ok := cut.names[k]; return ok })
	maps.DeleteFunc(s.inos, func(ino Ino, _ bool) bool { return cut.inos[ino] })
}

func (s *selection) empty() bool { return len(s.names) == 0 && len(s.inos) == 0 }

// A selector chooses what is cut: dirty names and inodes, with everything
// related to them, since only together do they tell a move from a deletion;
// what hangs on a file that is being written to waits for it (open.go). With
// ready, bytes that are not among it wait too.
type selector struct {
	f      *Folder
	t      *index.Tx // reads only
	now    time.Time
	ready  map[Ino]*frozen
	left   left                // waits, for all of the run
	skip   map[nameAt]bool     // waits
	groups map[nameAt][]nameAt // databases, by their place
	dirs   bool                // what is being taken has the names of directories already
	*selection
}

// selectDrift chooses from the directories given, all if nil, without what the
// run has left; with owed a database before all else. The caller holds the apply
// lock.
func (f *Folder) selectDrift(dirs map[Ino]bool, l left, owed bool) (*selection, error) {
	t := f.ix.Begin()
	defer t.Abort()
	g := f.newSelector(t, nil, l)
	if g.all = dirs == nil; g.all {
		dirs = map[Ino]bool{}
		f.ix.DirtyDirs(func(dir Ino) bool { dirs[dir] = true; return true })
	}
	order := sortedInos(dirs)
	enough := owed && slices.ContainsFunc(order, func(dir Ino) bool { return !g.takeGroups(g.groupsIn(dir, func(nameAt) {}, func(Ino) {})) })
	for _, dir := range order {
		if enough = enough || !g.takeDir(dir); enough {
			break
		}
	}
	return g.selection, t.Err()
}

// reselect chooses what of a selection can still be cut now that its bytes are
// frozen. The caller holds the apply lock.
func (f *Folder) reselect(t *index.Tx, s *selection, ready map[Ino]*frozen, l left) *selection {
	g := f.newSelector(t, ready, l)
	g.all = s.all
	g.near(slices.Collect(maps.Keys(s.names)), slices.Collect(maps.Keys(s.inos)))
	for k := range s.names {
		g.take(k)
	}
	for ino := range s.inos {
		g.takeIno(ino)
	}
	return g.selection
}

func (f *Folder) newSelector(t *index.Tx, ready map[Ino]*frozen, l left) *selector {
	return &selector{f: f, t: t, now: time.Now(), ready: ready, left: l, skip: map[nameAt]bool{}, groups: map[nameAt][]nameAt{},
		selection: &selection{names: map[nameAt]index.Drift{}, inos: map[Ino]bool{}, dirty: map[Ino]dirtyFile{},
			waits: map[Ino][]Ino{}, later: map[Ino]bool{}, wakes: map[Ino]time.Time{}}}
}

// takeDir selects in one directory; false: it is enough for one cut.
func (g *selector) takeDir(dir Ino) bool {
	names, inos := g.groupsIn(dir, func(k nameAt) { g.open(); g.take(k) }, func(ino Ino) { g.open(); g.takeIno(ino) })
	if g.full() {
		g.more = true
		return false
	}
	return g.takeGroups(names, inos)
}

// groupsIn returns what is dirty of databases in a directory, until it is enough
// for one cut, and calls a function with what is of none.
func (g *selector) groupsIn(dir Ino, alone func(nameAt), aloneIno func(Ino)) (names []nameAt, inos []Ino) {
	g.dirtyIn(dir, func(k nameAt) bool {
		switch at := g.database(k); {
		case at == nameAt{}:
			alone(k)
		case !g.had(at, dir):
			names = append(names, k)
		}
		return !g.full()
	})
	if g.full() {
		return names, nil
	}
	g.f.ix.DirtyInos(dir, func(ino Ino) bool {
		switch all, at := g.group(ino); {
		case len(all) < 2:
			aloneIno(ino)
		case !g.had(at, dir):
			inos = append(inos, ino)
		}
		return !g.full()
	})
	return names, inos
}

const nearMost = 256 // dirty names of a directory that are read at once

// dirtyIn yields the dirty names of a directory, with the rows that they are judged by
// read.
func (g *selector) dirtyIn(dir Ino, yield func(nameAt) bool) {
	ks, more := make([]nameAt, 0, nearMost), true
	judge := func() {
		g.near(ks, nil)
		for i := 0; more && i < len(ks); i++ {
			more = yield(ks[i])
		}
		ks = ks[:0]
	}
	g.f.ix.DirtyIn(dir, func(k nameAt) bool {
		if ks = append(ks, k); len(ks) == nearMost {
			judge()
		}
		return more
	})
	judge()
}

// near reads what is under dirty names, and under those of the databases that they may
// belong to, and the rows of inodes.
func (g *selector) near(ks []nameAt, inos []Ino) {
	var names []nameAt
	for _, k := range ks {
		names = append(names, placesOf(databaseAt(k))...)
		if _, e, _ := g.f.ix.Dirty(k); e.Ino != 0 {
			inos = append(inos, e.Ino)
		}
	}
	g.t.Near(names, inos)
}

// full tells whether it is enough for one selection.
func (g *selector) full() bool {
	return g.whole || len(g.portions) == cutPortions && g.portions[cutPortions-1].full()
}

// open begins the next portion if the last is full: what is taken now hangs together with
// nothing in it.
func (g *selector) open() {
	if n := len(g.portions); n > 0 && g.portions[n-1].full() {
		g.portions = append(g.portions, portion{})
	}
}

// last is the portion to which is added what is taken.
func (g *selector) last() *portion {
	if len(g.portions) == 0 {
		g.portions = append(g.portions, portion{})
	}
	return &g.portions[len(g.portions)-1]
}

// takeIno selects an inode that is to be cut, with its dirty names. A new one
// comes with its name.
func (g *selector) takeIno(ino Ino) {
	w, ok := g.t.Bytes(ino)
	r := g.t.Inode(ino)
	if !ok || !w.Ours || r == nil || r.Node == nil && r.Of.IsZero() || r.Kind != model.Dir && r.Nlink == 0 || g.inos[ino] || g.wait(ino, r.Parent) {
		return
	}
	all, at := g.group(ino)
	var names []nameAt
	for _, s := range all {
		names = append(names, g.f.ix.DirtyAt(s)...)
	}
	if at != (nameAt{}) {
		names = append(names, g.groupAt(at)...)
	}
	for _, k := range names {
		if g.take(k); g.skip[k] {
			return
		}
	}
	g.addBytes(ino, "")
}

// take selects a name with all that it hangs together with.
func (g *selector) take(k nameAt) {
	if _, ok := g.names[k]; ok || g.skip[k] {
		return
	}
	all, waits := map[nameAt]bool{}, false
	bases := map[nameAt]bool{} // of databases among it
	g.dirs = false
	todo := []nameAt{k}
	for len(todo) > 0 {
		k := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, taken := g.names[k]; taken || all[k] {
			continue
		}
		y, e, dirty := g.f.ix.Dirty(k)
		if !dirty {
			continue
		}
		all[k] = true
		if g.groupAt(k) != nil {
			bases[databaseAt(k)] = true
		}
		waits = waits || g.skip[k] || g.leaves(k) || e.Ino != 0 && g.wait(e.Ino, k.Dir) || g.awaitsBackup(k)
		todo = g.related(k, y, e, todo, &waits)
	}
	if waits {
		g.lookAgain(all)
	} else if g.ready == nil && len(bases) > 0 {
		waits = !g.alone(bases)
	}
	for k := range all {
		if waits {
			g.skip[k] = true
			continue
		}
		y, e, _ := g.f.ix.Dirty(k)
		p := g.last()
		p.names = append(p.names, k)
		if g.names[k] = y; e.Ino != 0 {
			g.addBytes(e.Ino, k.Name)
		}
		for _, o := range g.groupAt(k) {
			if x, ok := g.t.Entry(o.Dir, o.Name); ok && x.Ino != e.Ino && x.Kind == model.File {
				g.addBytes(x.Ino, "")
			}
		}
	}
}

// lookAgain has all directories of names that hang together looked at when the
// one is in which something waits: its name may be gone by then, and the others
// hang together no more.
func (g *selector) lookAgain(all map[nameAt]bool) {
	dirs := map[Ino]bool{}
	for k := range all {
		dirs[k.Dir] = true
	}
	if len(dirs) == 1 {
		return
	}
	var at time.Time
	later := false
	for dir := range dirs {
		at = earlier(at, g.wakes[dir])
		later = later || g.later[dir]
	}
	for dir := range dirs {
		g.wakes[dir] = earlier(g.wakes[dir], at)
		if later {
			g.later[dir] = true
		}
	}
	for ino, of := range g.waits {
		if slices.ContainsFunc(of, func(dir Ino) bool { return dirs[dir] }) {
			g.waits[ino] = slices.AppendSeq(of, maps.Keys(dirs))
		}
	}
}

// leaves tells whether the run has left a name, and notes it again for whoever
// hangs together with it.
func (g *selector) leaves(k nameAt) bool {
	if g.left.names[k] {
		g.later[k.Dir] = true
	}
	return g.left.names[k]
}

// related appends the names that one name hangs together with: those of the
// node seen there, those of what is there now, those of its database, and that
// of a new directory it is in. Directories hang together all of them.
func (g *selector) related(k nameAt, y index.Drift, e index.Entry, todo []nameAt, waits *bool) []nameAt {
	ix := g.f.ix
	if !g.dirs && (y.SeenDir || e.Ino != 0 && e.Kind == model.Dir) {
		g.dirs = true
		ix.DirtyNamesOfDirs(func(k nameAt) bool {
			if _, taken := g.names[k]; !taken {
				todo = append(todo, k)
			}
			return true
		})
	}
	for _, o := range g.groupAt(k) {
		todo = append(todo, o)
		if x, ok := g.t.Entry(o.Dir, o.Name); ok && x.Ino != e.Ino && x.Kind == model.File {
			todo = append(todo, ix.DirtyAt(x.Ino)...) // by another of its names
			*waits = *waits || g.wait(x.Ino, k.Dir)
		}
	}
	if !y.Seen.IsZero() {
		todo = append(todo, ix.DirtySeen(y.Seen)...)
		if ino := g.t.Ino(y.Seen); ino != 0 && ino != e.Ino {
			at := ix.DirtyAt(ino)
			todo = append(todo, at...)
			*waits = *waits || g.wait(ino, k.Dir)
			if y.SeenDir && len(at) == 0 { // removed, and what was in it with it
				ix.DirtyIn(ino, func(k nameAt) bool { todo = append(todo, k); return true })
			}
		}
	}
	if e.Ino != 0 {
		if at := ix.DirtyAt(e.Ino); len(at) > 1 {
			todo = append(todo, at...)
		}
		if r := g.t.Row(e.Ino); r != nil && !r.ID.IsZero() {
			todo = append(todo, ix.DirtySeen(r.ID)...)
		}
		if _, at := g.group(e.Ino); at != (nameAt{}) { // by another of its names
			todo = append(todo, g.groupAt(at)...)
		}
	}
	if r := g.t.Row(k.Dir); r != nil && r.Node == nil {
		todo = append(todo, ix.DirtyAt(k.Dir)...)
	}
	return todo
}
