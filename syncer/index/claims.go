package index

import (
	"fmt"
	"maps"
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
		changed := differing(old, now[id])
		if len(changed) == 0 {
			continue
		}
		t.countKids(old, now[id])
		for _, e := range changed {
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
	clear(t.shown)
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
	for _, h := range r.Node.Further() {
		fork := model.ForkID(id, h.Orig)
		if f := t.rowOf(fork); f != nil && f.Of.IsZero() {
			f.Of, f.OfOrig = id, h.Orig
			t.Changed(t.Ino(fork))
		}
	}
}

// differing returns the claims of a node that only one of a and b has. Of what a
// forger says there may be several that differ only in who is said to have made them.
func differing(a, b []*model.Entry) (out []*model.Entry) {
	type which struct {
		key   uint64
		orig  model.Dot
		extra bool
	}
	of := func(e *model.Entry) which { return which{e.Key, e.Orig, e.Extra} }
	had := make(map[which][]*model.Entry, len(a))
	for _, e := range a {
		had[of(e)] = append(had[of(e)], e)
	}
	for _, e := range b {
		k := of(e)
		if i := slices.IndexFunc(had[k], func(o *model.Entry) bool { return sameClaim(o, e) }); i >= 0 {
			had[k] = slices.Delete(had[k], i, i+1)
		} else {
			out = append(out, e)
		}
	}
	for _, left := range had {
		out = append(out, left...)
	}
	return out
}

func sameClaim(a, b *model.Entry) bool {
	return a.ID == b.ID && a.Kind == b.Kind && a.Key == b.Key && a.Orig == b.Orig && a.Parent == b.Parent && a.Name == b.Name &&
		a.Base == b.Base && a.Extra == b.Extra && a.Undue == b.Undue && a.Stamp == b.Stamp && a.By == b.By && a.UTC == b.UTC &&
		slices.Equal(a.Dups, b.Dups)
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
	claims := func(id model.ID) []*model.Entry {
		if cs, ok := now[id]; ok {
			return cs
		}
		return t.claims(id)
	}
	single := names{} // what has its own name, or has left it
	crowded := map[Ino]*crowds{}
	for g, ids := range groups {
		c := t.crowds(g.dir)
		crowded[g.dir] = c
		holder := t.viewAt(g.dir, g.base).id
		members := map[model.ID]bool{}
		if x := c.by[g.base]; x != nil {
			for _, id := range x.members {
				members[id] = true
			}
		} else if !holder.IsZero() {
			members[holder] = true
		}
		held := members[holder] || ids[holder]
		for id := range ids {
			members[id] = true
		}
		x := &crowd{read: true}
		for id := range members {
			es := t.entriesAt(g.dir, g.base, claims(id))
			if len(es) > 0 {
				x.members, x.entries = append(x.members, id), append(x.entries, es...)
			}
		}
		switch {
		case len(x.entries) > 1:
			slices.SortFunc(x.members, func(a, b model.ID) int { return slices.Compare(a[:], b[:]) })
			c.set(g.base, x)
			continue
		case len(x.entries) == 1:
			single[nameKey{g.dir, g.base}] = viewed{x.entries[0].Node(), x.entries[0].Base}
		case held:
			single[nameKey{g.dir, g.base}] = viewed{}
		}
		if c.by[g.base] != nil {
			t.dropCrowd(g.dir, g.base)
		}
		c.set(g.base, nil)
	}
	out := maps.Clone(single)
	for _, c := range crowded {
		t.decideCrowds(c, claims, single, out)
	}
	return out
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

// entriesOf is Entries of a view that is settled. They are not to be changed.
func (t *Tx) entriesOf(id model.ID) []*model.Entry {
	if out, ok := t.shown[id]; ok {
		return out
	}
	out := t.claims(id)
	if len(t.view.touched) == 0 {
		t.shown[id] = out
	}
	for i, e := range out {
		e.Name = e.Base
		dir := t.Ino(e.Parent)
		if dir == 0 || t.Row(dir).Crowd == 0 {
			continue
		}
		x := t.settledCrowds(dir).by[t.ix.fold(e.Base)]
		if x == nil {
			continue
		}
		for _, o := range x.entries {
			if o.ID == e.ID && o.Key == e.Key && o.Extra == e.Extra && o.Orig == e.Orig {
				out[i] = o
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
		if e := t.settledCrowds(ino).at(t.ix.fold(name), t.ix.fold); e != nil {
			return e
		}
	}
	v := t.viewAt(ino, name)
	if v.id.IsZero() {
		return nil
	}
	for _, e := range t.entriesOf(v.id) {
		if e.Parent == dir && e.Base == v.name && !e.Extra {
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
	return t.settledCrowds(ino).gathered()
}
