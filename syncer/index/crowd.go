package index

import (
	"maps"
	"slices"

	"github.com/clachanfs/clachan/syncer/model"
)

// A crowd is a g row: a base name that several entries of a directory claim.
type crowd struct {
	members []model.ID
	losers  map[string]model.ID // the names handed out
	over    map[string]bool     // Over of the losers
	read    bool                // entries are those of the members
	entries []*model.Entry      // named; not to be changed
}

// wanted are the folds of the names that its losers have, or had to avoid.
func (x *crowd) wanted(yield func(name string) bool) {
	for name := range x.over {
		if !yield(name) {
			return
		}
	}
	for name := range x.losers {
		if !yield(name) {
			return
		}
	}
}

// crowds are those of a directory, kept for a Tx. What losers are called hangs
// on the names of others, but on few: so only these are named anew when
// something changes. The order is that of model.Assign: of two losers the one
// whose base comes first has the choice, and all bases come before all losers.
type crowds struct {
	dir     Ino
	bases   []string // in order
	by      map[string]*crowd
	holds   map[string]string      // by name: the base whose loser has it
	wants   map[string]set[string] // by name: the bases whose losers have it or had to avoid it
	due     []string               // bases whose losers are to be named anew, in order
	vacated set[string]            // names that losers had before
	all     []*model.Entry         // see Crowded; nil: not gathered yet
}

// crowds returns those of a directory as they were when last settled. Their
// losers may be due.
func (t *Tx) crowds(dir Ino) *crowds {
	if c := t.crowded[dir]; c != nil {
		return c
	}
	c := &crowds{dir: dir, by: map[string]*crowd{}, holds: map[string]string{}, wants: map[string]set[string]{}, vacated: set[string]{}}
	t.crowded[dir] = c
	if r := t.Row(dir); r == nil || r.Crowd == 0 {
		return c
	}
	prefix := t.ix.keys.dir(tableCrowd, dir)
	t.fail(scan(t.b, prefix, after(prefix), func(k, v []byte) error {
		x, err := decodeCrowd(v)
		base := string(k[len(prefix):])
		c.by[base] = x
		for name := range x.losers {
			c.holds[name] = base
		}
		return err
	}))
	c.bases = slices.Sorted(maps.Keys(c.by))
	c.due = slices.Clone(c.bases)
	return c
}

// settledCrowds returns the crowds of a directory of a view that is settled.
func (t *Tx) settledCrowds(dir Ino) *crowds {
	c := t.crowds(dir)
	if len(c.due) > 0 { // just read
		t.nameLosers(c, t.claims, nil)
		clear(c.vacated)
	}
	return c
}

// gathered is all entries, in order.
func (c *crowds) gathered() []*model.Entry {
	if c.all == nil {
		for _, base := range c.bases {
			c.all = append(c.all, c.by[base].entries...)
		}
	}
	return c.all
}

// set takes in who claims a base name, nil: not several. Whoever hangs on that is due.
func (c *crowds) set(base string, x *crowd) {
	i, there := slices.BinarySearch(c.bases, base)
	switch {
	case x != nil:
		if !there {
			c.bases = slices.Insert(c.bases, i, base)
		} else {
			x.losers, x.over = c.by[base].losers, c.by[base].over
		}
		c.by[base] = x
		c.note(base)
	case there:
		c.forget(base, c.by[base])
		c.bases = slices.Delete(c.bases, i, i+1)
		delete(c.by, base)
	}
	c.changed(base)
	c.noteJournals(base)
	c.all = nil
}

// note makes a crowd due.
func (c *crowds) note(base string) {
	if c.by[base] == nil {
		return
	}
	if i, there := slices.BinarySearch(c.due, base); !there {
		c.due = slices.Insert(c.due, i, base)
	}
}

// noteJournals makes those due that are named after the losers of a base.
func (c *crowds) noteJournals(base string) {
	for _, suffix := range model.Journals {
		c.note(base + suffix)
	}
}

// changed makes those due that have a name or would have liked to.
func (c *crowds) changed(name string) {
	for base := range c.wants[name] {
		c.note(base)
	}
}

// forget takes their names from the losers of a base.
func (c *crowds) forget(base string, x *crowd) {
	for name := range x.wanted {
		if delete(c.wants[name], base); len(c.wants[name]) == 0 {
			delete(c.wants, name)
		}
	}
	for name := range x.losers {
		if c.holds[name] == base {
			delete(c.holds, name)
			c.vacated[name] = struct{}{}
			c.changed(name)
		}
	}
	x.over, x.losers = nil, nil
}

// nameLosers names those that are due, and returns which these were.
func (t *Tx) nameLosers(c *crowds, claims func(model.ID) []*model.Entry, single names) (named set[string]) {
	named = set[string]{}
	for len(c.due) > 0 && t.err == nil {
		base := c.due[0]
		c.due = c.due[1:]
		x := c.by[base]
		if x == nil {
			continue // no more
		}
		for _, id := range x.members {
			if !x.read {
				x.entries = append(x.entries, t.entriesAt(c.dir, base, claims(id))...)
			}
		}
		x.read = true
		c.forget(base, x)
		t.assign(c, base, x, single)
		c.noteJournals(base)
		named[base] = struct{}{}
	}
	c.all = nil
	return named
}

// decideCrowds names the losers of a directory that are due, and tells what the
// view has then under their names.
func (t *Tx) decideCrowds(c *crowds, claims func(model.ID) []*model.Entry, single, out names) {
	for base := range t.nameLosers(c, claims, single) {
		x := c.by[base]
		for _, e := range x.entries {
			out[nameKey{c.dir, t.ix.fold(e.Name)}] = viewed{e.Node(), e.Name}
			if e.Extra {
				t.alias(e)
			}
		}
		t.writeCrowd(c.dir, base, x)
	}
	for name := range c.vacated {
		k := nameKey{c.dir, name}
		if _, again := out[k]; !again && c.holds[name] == "" {
			out[k] = viewed{}
		}
	}
	clear(c.vacated)
	if r := t.Row(c.dir); r.Crowd != uint64(len(c.by)) {
		r.Crowd = uint64(len(c.by))
		t.Changed(c.dir)
	}
}

// entriesAt returns those of a node's claims that are on a name of a directory.
func (t *Tx) entriesAt(dir Ino, base string, claims []*model.Entry) (out []*model.Entry) {
	for _, e := range claims {
		if t.ix.fold(e.Base) == base && e.Parent == t.Row(dir).ID {
			out = append(out, e)
		}
	}
	return out
}

// assign names the losers of a crowd. A journal's are named after those of its
// database, which have their names already and get them again.
func (t *Tx) assign(c *crowds, base string, x *crowd, single names) {
	kin := map[string]bool{}
	var all []*model.Entry
	for db, suffix := base, ""; c.by[db] != nil && !kin[db]; {
		kin[db] = true
		for _, e := range c.by[db].entries {
			e := *e // it may be held
			e.Over = nil
			all = append(all, &e)
		}
		if db, suffix = model.Database(db); suffix == "" {
			break
		}
	}
	model.Assign(all, t.ix.fold, func(name string) bool {
		if c.by[name] != nil || !single[nameKey{c.dir, name}].id.IsZero() { // whoever had it until now
			return true
		}
		if by, ok := c.holds[name]; ok {
			return by < base && !kin[by]
		}
		return t.taken(c, name, single)
	})
	x.entries = slices.DeleteFunc(all, func(e *model.Entry) bool { return t.ix.fold(e.Base) != base })
	x.losers = map[string]model.ID{}
	for _, e := range x.entries {
		if !e.Extra && e.Name == e.Base {
			continue
		}
		name := t.ix.fold(e.Name)
		x.losers[name] = e.Node()
		x.over = e.Over
		c.holds[name] = base
		c.changed(name)
	}
	for name := range x.wanted {
		if c.wants[name] == nil {
			c.wants[name] = set[string]{}
		}
		c.wants[name][base] = struct{}{}
	}
}

// taken tells whether a folded name is held by an entry that has it for its own.
func (t *Tx) taken(c *crowds, name string, single names) bool {
	if v, ok := single[nameKey{c.dir, name}]; ok {
		return !v.id.IsZero()
	}
	if _, loser := c.vacated[name]; loser {
		return false
	}
	return !t.viewAt(c.dir, name).id.IsZero()
}

// at is the entry of a crowd that is shown under a folded name.
func (c *crowds) at(name string, fold model.Fold) *model.Entry {
	base, ok := c.holds[name]
	if !ok {
		base = name
	}
	if x := c.by[base]; x != nil {
		for _, e := range x.entries {
			if fold(e.Name) == name {
				return e
			}
		}
	}
	return nil
}

func decodeCrowd(v []byte) (*crowd, error) {
	d := &dec{b: v}
	if d.byte() != rowVersion {
		d.fail()
	}
	c := &crowd{losers: map[string]model.ID{}}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		c.members = append(c.members, d.id16())
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		name := d.s()
		c.losers[name] = d.id16()
	}
	return c, d.err
}

// writeCrowd writes the g row of a base name.
func (t *Tx) writeCrowd(dir Ino, base string, x *crowd) {
	e := &enc{b: []byte{rowVersion}}
	e.u(uint64(len(x.members)))
	for _, id := range x.members {
		e.id(id)
	}
	e.u(uint64(len(x.losers)))
	for _, name := range slices.Sorted(maps.Keys(x.losers)) {
		e.s(name)
		e.id(x.losers[name])
	}
	t.fail(t.b.Set(t.ix.keys.crowd(dir, base), e.b, nil))
}

// dropCrowd deletes the g row of a base name.
func (t *Tx) dropCrowd(dir Ino, base string) {
	t.fail(t.b.Delete(t.ix.keys.crowd(dir, base), nil))
}

// alias makes the inode under which a further version of a file is shown.
func (t *Tx) alias(e *model.Entry) {
	id := e.Node()
	of := t.rowOf(e.ID)
	ino := t.Ino(id)
	r := t.rowOf(id)
	if r == nil {
		r = &Row{ID: id, Kind: e.Kind, Mode: of.Mode}
		ino = t.Allocate(r)
		t.bindID(id, ino)
	}
	if r.Of == e.ID && r.OfOrig == e.Orig && r.Nlink > 0 {
		return
	}
	r.Of, r.OfOrig = e.ID, e.Orig
	if unlinked := r.Shown != nil && r.Shown.Orig == e.Orig; r.Nlink == 0 && !unlinked && !t.ix.orphans[ino] {
		now := t.now()
		r.UID, r.GID = of.UID, of.GID
		r.Ctime, r.Btime, r.Shown = now, now, nil
	}
	t.suspect(ino, true)
	t.Changed(ino)
}
