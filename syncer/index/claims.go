package index

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/clachanfs/clachan/syncer/model"
)

// settling is what has changed since the view was last brought up to date.
type settling struct {
	touched map[model.ID]*touch
	queue   []model.ID
}

// A touch is a node as the view has it: what its claims are measured against.
type touch struct {
	claims []*model.Entry
	hist   []model.Loc // of a directory
	mtime  string      // of a directory: as others set it
}

func newSettling() settling { return settling{touched: map[model.ID]*touch{}} }

// A group is the claims on one base name of a directory.
type group struct {
	dir  Ino
	base string // folded
}

// touch notes that a node is about to change. It must be called before.
func (t *Tx) touch(id model.ID) {
	if _, ok := t.view.touched[id]; ok {
		return
	}
	tc := &touch{}
	t.view.touched[id] = tc
	t.view.queue = append(t.view.queue, id)
	r := t.rowOf(id)
	if r == nil {
		return
	}
	t.note(t.Ino(id), r)
	tc.claims = t.claims(id)
	if r.Kind == model.Dir {
		tc.hist = slices.Clone(t.hist(id))
		tc.mtime, _ = r.attr(model.AttrMtime)
	} else if r.Nlink > 0 {
		t.freeze(t.Ino(id), r)
	}
	for _, e := range tc.claims {
		if a := t.rowOf(e.Node()); e.Extra && a != nil && a.Nlink > 0 {
			t.freeze(t.Ino(e.Node()), a)
		}
	}
	if !r.Of.IsZero() {
		t.touch(r.Of) // whether it shows a further version hangs on this node
	}
}

func (t *Tx) rowOf(id model.ID) *Row {
	ino := t.Ino(id)
	if ino == 0 {
		return nil
	}
	r := t.Row(ino)
	if r == nil || r.ID != id {
		t.fail(fmt.Errorf("inode %d is not that of node %v: %w", ino, id, errRow))
		return nil
	}
	return r
}

func (t *Tx) hist(id model.ID) []model.Loc {
	r := t.rowOf(id)
	if r == nil || r.Node == nil || r.Kind != model.Dir || len(r.Node.Links) == 0 {
		return nil
	}
	return r.Node.Links[0].Places()
}

func (t *Tx) loc(id model.ID) model.Loc {
	h := t.hist(id)
	if len(h) == 0 {
		return model.Loc{Parent: model.RootID}
	}
	return model.EffLoc(h, int(t.rowOf(id).Eff))
}

func (t *Tx) alive(id model.ID) bool {
	r := t.rowOf(id)
	switch {
	case r == nil || r.Node == nil:
		return false
	case id == model.RootID:
		return true
	case r.Kind == model.Dir:
		return r.Kids > 0 || r.Node.Live()
	}
	return r.Node.Live()
}

// claims is what a node asks of the view.
func (t *Tx) claims(id model.ID) []*model.Entry {
	if id == model.RootID || !t.alive(id) || t.rowOf(id).Kind == model.Dir && len(t.hist(id)) == 0 {
		return nil
	}
	return t.rowOf(id).Node.Claims(t.ix.fold, t.loc, t.alive, t.Origin)
}

// settle brings the view and the tree up to date with the nodes touched.
func (t *Tx) settle() {
	for t.err == nil && (len(t.view.touched)+len(t.suspects)+len(t.freed) > 0 || t.vacated) {
		var ns names
		if len(t.view.touched) > 0 {
			ns = t.settleView()
		}
		if t.ix.back != nil {
			t.hold(ns)
			continue
		}
		t.followAll()
		t.showAll(ns)
	}
}

// settleView brings the view up to date, and returns the names that may have
// changed.
func (t *Tx) settleView() names {
	v := &t.view
	t.settlePlaces()
	groups := map[group]map[model.ID]bool{}
	now := map[model.ID][]*model.Entry{}
	for len(v.queue) > 0 {
		id := v.queue[0]
		v.queue = v.queue[1:]
		old, seen := now[id]
		if !seen {
			old = v.touched[id].claims
		}
		now[id] = t.claims(id)
		t.watchForks(id)
		if sameClaims(old, now[id]) {
			continue
		}
		t.countKids(old, now[id])
		for _, e := range slices.Concat(old, now[id]) {
			g := group{t.Number(e.Parent), t.ix.fold(e.Base)}
			if groups[g] == nil {
				groups[g] = map[model.ID]bool{}
			}
			groups[g][id] = true
		}
	}
	ns := t.decide(groups, now)
	touched := v.touched
	t.view = newSettling()
	for id, tc := range touched {
		if t.ix.back == nil {
			t.followTime(id, tc)
		}
		t.entombSpent(id, tc.claims, now[id])
		t.suspect(t.Ino(id), true)
		for _, e := range slices.Concat(tc.claims, now[id]) {
			if e.Extra {
				t.suspect(t.Ino(e.Node()), true)
			}
		}
	}
	return ns
}

// settlePlaces decides anew where directories are that moved, or whose move was
// undone before.
func (t *Tx) settlePlaces() {
	v := &t.view
	var work []model.ID
	for id, tc := range v.touched {
		if h := t.hist(id); len(h) > 0 && !slices.Equal(h, tc.hist) && !t.ix.undone[id] {
			work = append(work, id)
		}
	}
	if len(work) == 0 && len(t.ix.undone) == 0 {
		return
	}
	for id := range t.ix.undone {
		work = append(work, id)
	}
	slices.SortFunc(work, func(a, b model.ID) int { return slices.Compare(a[:], b[:]) })
	eff := model.Resolve(work, t.hist, func(id model.ID) int { return int(t.rowOf(id).Eff) })
	for id, i := range eff {
		r := t.rowOf(id)
		if int(r.Eff) != i {
			t.touch(id)
			r.Eff = uint64(i)
			t.Changed(t.Ino(id))
		}
		if key := t.ix.keys.undone(id); i > 0 && !t.ix.undone[id] {
			t.ix.undone[id] = true
			t.fail(t.b.Set(key, nil, nil))
		} else if i == 0 && t.ix.undone[id] {
			delete(t.ix.undone, id)
			t.fail(t.b.Delete(key, nil))
		}
	}
}

// watchForks remembers at the node that a further version would become, whose
// version it is.
func (t *Tx) watchForks(id model.ID) {
	r := t.rowOf(id)
	if r == nil || r.Node == nil || r.Kind == model.Dir || len(r.Node.Heads) < 2 {
		return
	}
	for _, h := range r.Node.Shown()[min(1, len(r.Node.Shown())):] {
		fork := model.ForkID(id, h.Orig)
		if f := t.rowOf(fork); f != nil && f.Of.IsZero() {
			f.Of, f.OfOrig = id, h.Orig
			t.Changed(t.Ino(fork))
		}
	}
}

func sameClaims(a, b []*model.Entry) bool {
	return slices.EqualFunc(a, b, func(x, y *model.Entry) bool { return reflect.DeepEqual(x, y) })
}

// countKids keeps what lives in a directory counted: a directory that nobody
// holds alive lives through it.
func (t *Tx) countKids(old, now []*model.Entry) {
	delta := map[model.ID]int{}
	for _, e := range old {
		if !e.Extra {
			delta[e.Parent]--
		}
	}
	for _, e := range now {
		if !e.Extra {
			delta[e.Parent]++
		}
	}
	for id, d := range delta {
		if d == 0 {
			continue
		}
		ino := t.Number(id)
		r := t.Row(ino)
		kids := uint64(max(int64(r.Kids)+int64(d), 0))
		if (r.Kids == 0) != (kids == 0) {
			t.touch(id)
			t.view.queue = append(t.view.queue, id)
		}
		r.Kids = kids
		t.Changed(ino)
	}
}

// viewed is what the view has under a name.
type viewed struct {
	id   model.ID // zero: nothing
	name string   // as it is spelt
}

func (t *Tx) viewAt(dir Ino, name string) viewed {
	if y, ok := t.Drift(dir, name); ok {
		return viewed{y.View, y.Name}
	}
	if e, ok := t.Entry(dir, name); ok {
		if r := t.Row(e.Ino); r != nil && e.Kind.Replicates() {
			return viewed{r.ID, e.Name}
		}
	}
	return viewed{}
}

// names is what the view has under names whose groups changed.
type names map[nameKey]viewed

// decide gives out the names of the groups that changed.
func (t *Tx) decide(groups map[group]map[model.ID]bool, now map[model.ID][]*model.Entry) names {
	out := names{}
	claims := func(id model.ID) []*model.Entry {
		if cs, ok := now[id]; ok {
			return cs
		}
		return t.claims(id)
	}
	crowded := map[Ino]map[string]*crowd{} // the crowds of directories that have any
	for g := range groups {
		if _, ok := crowded[g.dir]; !ok {
			crowded[g.dir] = t.crowds(g.dir)
		}
	}
	before := losersOf(crowded)
	for g, ids := range groups {
		dirID := t.Row(g.dir).ID
		holder := t.viewAt(g.dir, g.base).id
		members := map[model.ID]bool{}
		if c := crowded[g.dir][g.base]; c != nil {
			for _, id := range c.members {
				members[id] = true
			}
		} else if !holder.IsZero() {
			members[holder] = true
		}
		held := members[holder] || ids[holder]
		for id := range ids {
			members[id] = true
		}
		var cs []*model.Entry
		c := &crowd{}
		for id := range members {
			in := false
			for _, e := range claims(id) {
				if e.Parent == dirID && t.ix.fold(e.Base) == g.base {
					cs, in = append(cs, e), true
				}
			}
			if in {
				c.members = append(c.members, id)
			}
		}
		switch {
		case len(cs) > 1:
			crowded[g.dir][g.base] = c
			continue
		case len(cs) == 1:
			out[nameKey{g.dir, g.base}] = viewed{cs[0].Node(), cs[0].Base}
		case held:
			out[nameKey{g.dir, g.base}] = viewed{}
		}
		if crowded[g.dir][g.base] != nil {
			crowded[g.dir][g.base] = nil // no longer
		}
	}
	for dir, cs := range crowded {
		if len(cs) > 0 {
			t.assign(dir, cs, before[dir], claims, out)
		}
	}
	return out
}

// losersOf returns the names that losers have, folded, by directory.
func losersOf(crowded map[Ino]map[string]*crowd) map[Ino]map[string]model.ID {
	out := map[Ino]map[string]model.ID{}
	for dir, cs := range crowded {
		out[dir] = map[string]model.ID{}
		for _, c := range cs {
			for name, id := range c.losers {
				out[dir][name] = id
			}
		}
	}
	return out
}

// assign names the losers of a directory, all of them: what one gets or leaves
// is taken or free for the others.
func (t *Tx) assign(dir Ino, crowds map[string]*crowd, before map[string]model.ID, claims func(model.ID) []*model.Entry, out names) {
	dirID, fold := t.Row(dir).ID, t.ix.fold
	var all []*model.Entry
	for base, c := range crowds {
		if c == nil {
			continue
		}
		slices.SortFunc(c.members, func(a, b model.ID) int { return slices.Compare(a[:], b[:]) })
		for _, id := range c.members {
			for _, e := range claims(id) {
				if e.Parent == dirID && fold(e.Base) == base {
					all = append(all, e)
				}
			}
		}
	}
	model.Assign(all, fold, func(k string) bool { return t.taken(dir, k, before, out) })
	for _, e := range all {
		name := fold(e.Name)
		out[nameKey{dir, name}] = viewed{e.Node(), e.Name}
		if e.Extra {
			t.alias(e)
		}
		if e.Extra || e.Name != e.Base {
			c := crowds[fold(e.Base)]
			if c.losers == nil || c.stale {
				c.losers, c.stale = map[string]model.ID{}, false
			}
			c.losers[name] = e.Node()
		}
	}
	for name := range before {
		if _, again := out[nameKey{dir, name}]; !again {
			out[nameKey{dir, name}] = viewed{}
		}
	}
	t.writeCrowds(dir, crowds)
}

// taken tells whether a folded name is held by an entry that has it for its own.
func (t *Tx) taken(dir Ino, name string, before map[string]model.ID, out names) bool {
	if v, ok := out[nameKey{dir, name}]; ok {
		return !v.id.IsZero()
	}
	if _, loser := before[name]; loser {
		return false
	}
	return !t.viewAt(dir, name).id.IsZero()
}

// State for local operations: what they read is settled first.

var _ model.State = (*Tx)(nil)

// Node implements model.State.
func (t *Tx) Node(id model.ID) *model.Node {
	if r := t.rowOf(id); r != nil {
		return r.Node
	}
	return nil
}

// Alive implements model.State.
func (t *Tx) Alive(id model.ID) bool {
	t.settle()
	return t.alive(id)
}

// Loc implements model.State.
func (t *Tx) Loc(id model.ID) model.Loc {
	t.settle()
	return t.loc(id)
}

// Undone implements model.State.
func (t *Tx) Undone() []model.ID {
	t.settle()
	var out []model.ID
	for id := range t.ix.undone {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b model.ID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// CopyOf implements model.State.
func (t *Tx) CopyOf(id model.ID) model.ID {
	if r := t.rowOf(id); r != nil {
		return r.Of
	}
	return model.ID{}
}

// Fold implements model.State.
func (t *Tx) Fold(s string) string { return t.ix.fold(s) }

// Entries implements model.State.
func (t *Tx) Entries(id model.ID) []*model.Entry {
	t.settle()
	return t.entriesOf(id)
}

// entriesOf is Entries of a view that is settled.
func (t *Tx) entriesOf(id model.ID) []*model.Entry {
	out := t.claims(id)
	for i, e := range out {
		out[i].Name = e.Base
		dir := t.Ino(e.Parent)
		if dir == 0 || t.Row(dir).Crowd == 0 {
			continue
		}
		for _, x := range t.Crowded(e.Parent) {
			if x.ID == e.ID && x.Key == e.Key && x.Extra == e.Extra && x.Orig == e.Orig {
				out[i] = x
			}
		}
	}
	return out
}

// At implements model.State.
func (t *Tx) At(dir model.ID, name string) *model.Entry {
	t.settle()
	ino := t.Ino(dir)
	if ino == 0 {
		return nil
	}
	if t.Row(ino).Crowd > 0 {
		for _, e := range t.Crowded(dir) {
			if t.ix.fold(e.Name) == t.ix.fold(name) {
				return e
			}
		}
	}
	v := t.viewAt(ino, name)
	if v.id.IsZero() {
		return nil
	}
	for _, e := range t.claims(v.id) {
		if e.Parent == dir && e.Base == v.name && !e.Extra {
			e.Name = e.Base
			return e
		}
	}
	return nil
}

// Crowded implements model.State.
func (t *Tx) Crowded(dir model.ID) []*model.Entry {
	t.settle()
	ino := t.Ino(dir)
	if ino == 0 || t.Row(ino).Crowd == 0 {
		return nil
	}
	var all []*model.Entry
	losers := map[string]model.ID{}
	for base, c := range t.crowds(ino) {
		for name, id := range c.losers {
			losers[name] = id
		}
		for _, id := range c.members {
			for _, e := range t.claims(id) {
				if e.Parent == dir && t.ix.fold(e.Base) == base {
					all = append(all, e)
				}
			}
		}
	}
	model.Assign(all, t.ix.fold, func(k string) bool { return t.taken(ino, k, losers, nil) })
	return all
}
