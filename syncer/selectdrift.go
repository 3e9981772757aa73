package syncer

import (
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// selectDrift chooses what is cut: the dirty names and inodes of the
// directories given (all if nil), with everything related to them, since only
// together do they tell a move from a deletion; what hangs on a file that is
// open for writing waits for it. With ready, bytes that are not among it wait
// too. The caller holds the apply lock.
func (f *Folder) selectDrift(dirs map[Ino]bool, ready map[Ino]*frozen) selection {
	g := f.relate(ready)
	s := selection{names: map[nameAt]index.Drift{}, inos: map[Ino]bool{}, dirty: map[Ino]dirtyFile{}}
	for k := range g.names {
		if dirs != nil && !dirs[k.dir] {
			continue
		}
		if len(s.names) >= cutNames {
			s.more = true
			break
		}
		g.take(k, &s)
	}
	for ino, w := range g.bytes {
		if g.unborn[ino] { // comes with its name
			continue
		}
		if dirs != nil && !dirs[g.group[ino]] {
			continue
		}
		if len(s.inos) >= cutNames {
			s.more = true
			break
		}
		if g.blocked[ino] {
			continue
		}
		s.inos[ino] = true
		if w.Written {
			s.dirty[ino] = dirtyFile{gen: w.Gen}
		}
		for _, k := range g.at[ino] {
			g.take(k, &s)
		}
	}
	return s
}

// relations are the dirty names and how they hang together.
type relations struct {
	names   map[nameAt]index.Drift
	bytes   map[Ino]index.Bytes
	tree    map[nameAt]index.Entry
	seen    map[model.ID][]nameAt // names under which a node was seen
	at      map[Ino][]nameAt      // dirty names under which the tree has an inode
	in      map[Ino][]nameAt      // dirty names in a directory
	dirs    []nameAt              // dirty names that show a directory, or did: one cut has them all
	id      map[Ino]model.ID
	ino     map[model.ID]Ino
	unborn  map[Ino]bool
	group   map[Ino]Ino
	blocked map[Ino]bool
	skip    map[nameAt]bool
}

func (f *Folder) relate(ready map[Ino]*frozen) *relations {
	g := &relations{names: map[nameAt]index.Drift{}, bytes: map[Ino]index.Bytes{}, tree: map[nameAt]index.Entry{},
		seen: map[model.ID][]nameAt{}, at: map[Ino][]nameAt{}, in: map[Ino][]nameAt{}, id: map[Ino]model.ID{}, ino: map[model.ID]Ino{},
		unborn: map[Ino]bool{}, group: map[Ino]Ino{}, blocked: map[Ino]bool{}, skip: map[nameAt]bool{}}
	f.ix.Names(func(dir Ino, name string, y index.Drift) {
		if !y.Ours {
			return
		}
		k := nameAt{dir, name}
		g.names[k] = y
		g.in[dir] = append(g.in[dir], k)
		if !y.Seen.IsZero() {
			g.seen[y.Seen] = append(g.seen[y.Seen], k)
		}
		if e, err := f.ix.Lookup(dir, name); err == nil && e.Kind.Replicates() {
			g.tree[k] = e
			g.at[e.Ino] = append(g.at[e.Ino], k)
			g.know(f, e.Ino)
		}
		if g.tree[k].Kind == model.Dir && g.tree[k].Ino != 0 || y.SeenDir {
			g.dirs = append(g.dirs, k)
		}
		g.know(f, dir)
	})
	f.ix.AllBytes(func(ino Ino, w index.Bytes) {
		if w.Ours && g.know(f, ino) {
			g.bytes[ino] = w
		}
	})
	for ino := range g.at {
		g.check(f, ino, ready)
	}
	for ino := range g.bytes {
		g.check(f, ino, ready)
	}
	for ino := range g.blocked {
		for _, k := range g.at[ino] {
			g.block(k)
		}
		for _, k := range g.seen[g.id[ino]] {
			if !g.id[ino].IsZero() {
				g.block(k)
			}
		}
	}
	return g
}

// know reads what an inode is; false: it has no name, so there is nothing to cut.
func (g *relations) know(f *Folder, ino Ino) bool {
	if _, ok := g.group[ino]; ok {
		return true
	}
	r, err := f.ix.Attr(ino)
	if err != nil || r.Kind != model.Dir && r.Nlink == 0 {
		return false
	}
	g.group[ino] = groupOf(ino, r)
	g.id[ino] = r.ID
	if r.ID.IsZero() {
		g.unborn[ino] = true
	} else {
		g.ino[r.ID] = ino
	}
	return true
}

// check finds out whether an inode must wait.
func (g *relations) check(f *Folder, ino Ino, ready map[Ino]*frozen) {
	if w := g.bytes[ino]; f.surf.Writing(ino) || ready != nil && w.Written && ready[ino] == nil {
		g.blocked[ino] = true
	}
}

// block keeps a name, and all it hangs together with, out of the cut.
func (g *relations) block(k nameAt) {
	g.walk(k, g.skip)
}

// walk marks all names that hang together with k.
func (g *relations) walk(k nameAt, mark map[nameAt]bool) {
	todo := []nameAt{k}
	for len(todo) > 0 {
		k := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, dirty := g.names[k]; !dirty || mark[k] {
			continue
		}
		mark[k] = true
		y := g.names[k]
		if g.tree[k].Kind == model.Dir && g.tree[k].Ino != 0 || y.SeenDir {
			todo = append(todo, g.dirs...)
		}
		if !y.Seen.IsZero() {
			todo = append(todo, g.seen[y.Seen]...)
			if ino, ok := g.ino[y.Seen]; ok {
				todo = append(todo, g.at[ino]...)
				if len(g.at[ino]) == 0 { // removed, and what was in it with it
					todo = append(todo, g.in[ino]...)
				}
			}
		}
		if e, ok := g.tree[k]; ok && e.Kind != model.Dir {
			todo = append(todo, g.at[e.Ino]...)
			if id := g.id[e.Ino]; !id.IsZero() {
				todo = append(todo, g.seen[id]...)
			}
		} else if ok {
			todo = append(todo, g.at[e.Ino]...)
			todo = append(todo, g.seen[g.id[e.Ino]]...)
		}
	}
}

// take adds a name with all that it hangs together with, and the new
// directories above.
func (g *relations) take(k nameAt, s *selection) {
	if g.skip[k] {
		return
	}
	if _, ok := s.names[k]; ok {
		return
	}
	all := map[nameAt]bool{}
	g.walk(k, all)
	for k := range all {
		if g.skip[k] {
			return
		}
	}
	for k := range all {
		s.names[k] = g.names[k]
		if e, ok := g.tree[k]; ok {
			if w, dirty := g.bytes[e.Ino]; dirty {
				s.inos[e.Ino] = true
				if w.Written {
					s.dirty[e.Ino] = dirtyFile{w.Gen, k.name}
				}
			}
		}
	}
	for k := range all {
		for dir := k.dir; g.unborn[dir]; {
			up := g.at[dir]
			if len(up) == 0 {
				break
			}
			g.take(up[0], s)
			dir = up[0].dir
		}
	}
}
