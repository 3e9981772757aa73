package syncer

import (
	"slices"
	"strings"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// A database is cut as one: it and its journals rest together, are frozen at one
// instant, and go into one batch.

// databaseAt is where the database is that a name may belong to.
func databaseAt(k nameAt) nameAt {
	base, _ := model.Database(k.Name)
	return nameAt{Dir: k.Dir, Name: base}
}

// placesOf are the places of a database and of its journals.
func placesOf(at nameAt) []nameAt {
	ks := []nameAt{at}
	for _, suffix := range model.Journals {
		ks = append(ks, nameAt{Dir: at.Dir, Name: at.Name + suffix})
	}
	return ks
}

// groupAt returns the places of the database that a name may belong to, those
// at which something is or was; nil if it is alone.
func (g *selector) groupAt(k nameAt) []nameAt {
	at := databaseAt(k)
	if ks, ok := g.groups[at]; ok {
		return ks
	}
	var ks []nameAt
	for _, o := range placesOf(at) {
		e, there := g.t.Entry(o.Dir, o.Name)
		if _, _, dirty := g.f.ix.Dirty(o); there && e.Kind == model.File || dirty {
			ks = append(ks, o)
		}
	}
	if len(ks) < 2 {
		ks = nil
	}
	g.groups[at] = ks
	return ks
}

// group returns the files of the database that an inode may belong to, and where
// it is; itself and nowhere if it is alone.
func (g *selector) group(ino Ino) ([]Ino, nameAt) {
	if r := g.t.Row(ino); r == nil || r.Kind != model.File {
		return []Ino{ino}, nameAt{}
	}
	at := slices.Concat(g.f.ix.DirtyAt(ino), g.t.ShownNames(ino))
	for _, k := range at {
		ks := g.groupAt(k)
		if ks == nil {
			continue
		}
		inos := []Ino{ino}
		for _, o := range ks {
			if e, ok := g.t.Entry(o.Dir, o.Name); ok && e.Kind == model.File && e.Ino != ino {
				inos = append(inos, e.Ino)
			}
		}
		return inos, databaseAt(k)
	}
	return []Ino{ino}, nameAt{}
}

// database is where the database is that a name is of, or a file that is by
// another of its names; zero: it is of none.
func (g *selector) database(k nameAt) nameAt {
	if g.groupAt(k) != nil {
		return databaseAt(k)
	}
	_, e, _ := g.f.ix.Dirty(k)
	if e.Ino == 0 {
		return nameAt{}
	}
	if all, at := g.group(e.Ino); len(all) > 1 {
		return at
	}
	return nameAt{}
}

// had tells whether the run has cut a database before: what is written to it since
// is for the next, or the run would not end.
func (g *selector) had(at nameAt, dir Ino) bool {
	cut, yes := g.left.had[at]
	if cut {
		g.later[dir] = true
	}
	return yes
}

// alone tells whether what is of databases, or hangs together with some, may be
// taken: with nothing else, so that it is in one batch.
func (g *selector) alone(bases map[nameAt]bool) bool {
	for at := range bases {
		if g.had(at, at.Dir) {
			return false
		}
	}
	if !g.empty() {
		g.more, g.owes = true, true // in the next
		return false
	}
	g.more, g.whole = true, true
	for at := range bases {
		g.left.had[at] = true
	}
	return true
}

// takeGroups takes one database, when there is nothing else; false: there was one.
// Those that wait are not tried again by the run.
func (g *selector) takeGroups(names []nameAt, inos []Ino) bool {
	if len(names)+len(inos) == 0 {
		return true
	}
	if !g.empty() {
		g.more, g.owes = true, true // in the next
		return true
	}
	for _, k := range names {
		at := g.database(k)
		if g.take(k); !g.empty() {
			g.more, g.left.had[at] = true, true
			return false
		}
	}
	for _, ino := range inos {
		_, at := g.group(ino)
		if g.takeIno(ino); !g.empty() {
			g.more, g.left.had[at] = true, true
			return false
		}
	}
	for _, k := range names {
		g.left.had[g.database(k)] = false
	}
	for _, ino := range inos {
		_, at := g.group(ino)
		g.left.had[at] = false
	}
	return true
}

// addBytes takes what an inode has to cut, under a name if that is new.
func (g *selector) addBytes(ino Ino, name string) {
	inos, at := g.group(ino)
	for _, s := range inos {
		w, ok := g.t.Bytes(s)
		if r := g.t.Inode(s); !ok || !w.Ours || r == nil || s != ino && r.ID.IsZero() {
			continue
		}
		if p := g.last(); !g.inos[s] {
			p.inos = append(p.inos, s)
		}
		g.inos[s] = true
		d, known := g.dirty[s]
		if s == ino && name != "" {
			d.name = name
		}
		if d.group, d.with = at, slices.Sorted(slices.Values(inos)); w.Written && !known {
			d.gen = w.Gen
		}
		if w.Written {
			g.dirty[s] = d
		}
	}
}

// sharedMemory tells whether a new file is what the programs on this machine
// that use a database share.
func sharedMemory(t *index.Tx, dir Ino, name string) bool {
	base, ok := strings.CutSuffix(name, model.SharedMemory)
	if !ok {
		return false
	}
	for _, o := range []string{base, base + model.Journals[0]} {
		if e, ok := t.Entry(dir, o); ok && e.Kind == model.File {
			return true
		}
	}
	return false
}
