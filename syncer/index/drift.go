package index

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

func (t *Tx) now() int64 { return t.ix.clock().UnixNano() }

// Show makes the tree follow the view under a name, if its drift is not ours.
func (t *Tx) Show(dir Ino, name string) {
	t.show(dir, name, t.viewAt(dir, name))
	t.unblock()
}

// Fresh returns the files whose bytes are wanted since this Tx.
func (t *Tx) Fresh() []Ino {
	t.settle()
	return slices.DeleteFunc(t.fresh, func(ino Ino) bool {
		w, ok := t.Bytes(ino)
		return !ok || w.Ours
	})
}

// Wanted is the version a file would show if all bytes were here. The zero
// Version means that its node is not alive.
func (t *Tx) Wanted(ino Ino) model.Version {
	r := t.Row(ino)
	if r == nil {
		return model.Version{}
	}
	if r.Node != nil {
		if s := r.Node.Shown(); len(s) > 0 {
			return s[0]
		}
	}
	v, _ := t.further(r)
	return v
}

// further is the further version of a file that an inode stands for, and whose;
// the first is the file's own.
func (t *Tx) further(r *Row) (model.Version, *model.Node) {
	if r.Of.IsZero() {
		return model.Version{}, nil
	}
	of := t.rowOf(r.Of)
	if of == nil || of.Node == nil {
		return model.Version{}, nil
	}
	for _, h := range of.Node.Further() {
		if h.Orig == r.OfOrig {
			return h, of.Node
		}
	}
	return model.Version{}, nil
}

// showAll makes the tree follow the view under the names: directories leave
// their old places first, files only once they have their new ones, so that
// neither is for a moment without any.
func (t *Tx) showAll(ns names) {
	if t.together {
		t.gather(ns)
	}
	t.showThese(ns)
	t.vacated = t.vacated || len(ns) > 0 // what lives has changed too
	t.unblock()
}

// showThese shows names, each when what it hangs on has been.
func (t *Tx) showThese(ns names) {
	var moved, gone []nameKey
	for k, v := range ns {
		var is model.ID
		e, ok := t.Entry(k.dir, k.name)
		if ok && e.Kind == model.Dir {
			is = t.Row(e.Ino).ID
		}
		switch {
		case !is.IsZero() && is != v.id && t.alive(is):
			moved = append(moved, k)
		case v.id.IsZero():
			gone = append(gone, k)
		}
	}
	for _, k := range moved {
		t.show(k.dir, k.name, viewed{})
	}
	var here []nameKey // those not shown yet first: what leaves its name for one waits with it
	for k, v := range ns {
		switch {
		case v.id.IsZero():
		case t.ix.names[k].Ours || t.holds(k.dir, k.name):
			t.show(k.dir, k.name, v)
		default:
			here = append(here, k)
		}
	}
	for _, k := range here {
		v := ns[k]
		if e, ok := t.Entry(k.dir, k.name); ok && t.staged(e.Ino) && e.Ino != t.Ino(v.id) {
			gone = append(gone, k)
		} else {
			t.show(k.dir, k.name, v)
		}
	}
	for _, k := range gone {
		t.show(k.dir, k.name, ns[k])
	}
}

// unblock shows what waited for others that are here now, for a name to become
// free, or for a directory to leave its place or become empty.
func (t *Tx) unblock() {
	for (t.vacated || len(t.freed) > 0) && t.err == nil {
		ns := names{}
		for _, k := range t.freed {
			ns[k] = t.viewAt(k.dir, k.name)
		}
		t.freed = nil
		t.showThese(ns)
		t.vacated = false
		for k := range t.ix.blocked {
			t.show(k.dir, k.name, t.viewAt(k.dir, k.name))
		}
	}
}

// block lets a name wait for something else than bytes.
func (t *Tx) block(k nameKey, v viewed, seen model.ID) {
	t.SetDrift(k.dir, k.name, &Drift{View: v.id, Name: v.name, Seen: seen})
	t.ix.blocked[k] = true
}

// show is the one way from the view into the tree. A name that its user has
// changed and that is not cut yet keeps what the user left there; bytes not
// here yet are waited for.
func (t *Tx) show(dir Ino, name string, v viewed) {
	id := v.id
	if r := t.Row(dir); r != nil && r.Kind != model.Dir { // only a dishonest member puts something there
		return
	}
	y, drift := t.Drift(dir, name)
	if drift && (y.Ours || y.Held) {
		y.View, y.Name = id, v.name
		t.SetDrift(dir, name, &y)
		return
	}
	var target Ino
	if !id.IsZero() {
		target = t.arriving(id)
	}
	e, ok := t.Entry(dir, name)
	var seen model.ID
	if ok {
		if e.Ino == target {
			t.SetDrift(dir, name, nil)
			t.respell(dir, e, v.name)
			return
		}
		if r := t.Row(e.Ino); r != nil {
			seen = r.ID
		}
	} else if target == 0 {
		t.SetDrift(dir, name, nil)
		return
	}
	switch {
	case ok && !e.Kind.Replicates(): // of this machine only: it stays
		t.block(t.key(dir, name), v, seen)
	case target != 0 && t.elsewhere(target) && (t.holds(dir, name) || ok && t.staged(e.Ino) || !t.vacate(target, dir)): // until its user's move is cut
		t.block(t.key(dir, name), v, seen)
	case ok && target == 0 && e.Kind == model.Dir && !t.alive(seen) && !t.Empty(e.Ino): // what is in it is of this machine only, or not cut yet
		t.block(t.key(dir, name), v, seen)
	case target != 0 && ok && t.unsaid(e):
		t.block(t.key(dir, name), v, seen)
	case ok && t.staged(e.Ino): // an edit beats a delete
		t.SetDrift(dir, name, &Drift{View: id, Name: v.name, Seen: seen, SeenOrig: t.SeenOrig(e.Ino), Ours: true})
		t.owed = append(t.owed, dir)
	case t.holds(dir, name) && (target == 0 || t.Row(target).Kind != model.Dir): // until all that it belongs with is here
		t.SetDrift(dir, name, &Drift{View: v.id, Name: v.name, Seen: seen})
	case ok && t.leaves(e): // until it is shown where it goes
		t.block(t.key(dir, name), v, seen)
	case target != 0 && !t.ready(target):
		t.SetDrift(dir, name, &Drift{View: id, Name: v.name, Seen: seen})
	case target == 0:
		t.SetDrift(dir, name, nil)
		t.flip(dir, e.Name, 0)
	default:
		t.SetDrift(dir, name, nil)
		t.flip(dir, v.name, target)
	}
}

// vacate takes a directory from a place that others have given to something else
// which waits for just that: of two that have changed places, one must begin. The
// directory comes into another, which must not be below it.
func (t *Tx) vacate(ino, into Ino) bool {
	for d, n := into, 0; d != RootIno && d != 0; n++ {
		r := t.Row(d)
		if d == ino || r == nil || n > 1<<16 {
			return false
		}
		d = r.Parent
	}
	for k := range t.ix.blocked {
		if e, ok := t.Entry(k.dir, k.name); ok && e.Ino == ino {
			y := t.ix.names[k]
			free := !y.Ours && y.View != t.Row(ino).ID && !t.holds(k.dir, k.name)
			if free {
				t.flip(k.dir, e.Name, 0)
			}
			return free
		}
	}
	return false
}

// elsewhere tells whether a directory has another place in the tree: its user
// has moved it, or what it leaves is not cut yet.
func (t *Tx) elsewhere(dir Ino) bool {
	r := t.Row(dir)
	return r != nil && r.Kind == model.Dir && r.Parent != 0
}

// maxChain is how many files a file may wait for, each in the place of the one before.
const maxChain = 64

// leaves tells whether an entry is the only one of a file, and a name that it
// has in the view is not shown yet: it is held back, its user has something else
// there that is not cut, or a file that is itself to leave it first.
func (t *Tx) leaves(e Entry) bool { return t.leavesLast(e, map[Ino]bool{}) }

// leavesLast does not wait for those before, which wait for it.
func (t *Tx) leavesLast(e Entry, before map[Ino]bool) bool {
	r := t.Row(e.Ino)
	if e.Kind == model.Dir || r == nil || r.Nlink > 1 || before[e.Ino] || len(before) == maxChain {
		return false
	}
	before[e.Ino] = true
	return slices.ContainsFunc(t.namesOf(r), func(k nameKey) bool {
		x, ok := t.Entry(k.dir, k.name)
		switch {
		case ok && x.Ino == e.Ino:
			return false
		case t.ix.names[k].Ours || t.holds(k.dir, k.name):
			return true
		}
		return ok && t.leavesLast(x, before)
	})
}

// arriving is the inode under which a node comes into the tree: not one that
// was unlinked and is open.
func (t *Tx) arriving(id model.ID) Ino {
	ino := t.Ino(id)
	if r := t.Row(ino); r != nil && r.Nlink == 0 && t.ix.orphans[ino] {
		ino = t.replace(ino, nil)
		t.follow(ino, true)
	}
	return ino
}

func (t *Tx) staged(ino Ino) bool {
	w, ok := t.Bytes(ino)
	r := t.Row(ino)
	return ok && w.Ours && (w.Written || w.Kept) && r != nil && r.Nlink == 1
}

// ready tells whether an inode may be shown: its bytes are here, or it was shown
// before this Tx with older ones.
func (t *Tx) ready(ino Ino) bool {
	r := t.Row(ino)
	if r == nil || r.Kind != model.File || r.Nlink > 0 || t.off[ino] {
		return true
	}
	w, drift := t.Bytes(ino)
	return !drift || w.Ours
}

// respell makes the tree spell a name as the view does.
func (t *Tx) respell(dir Ino, e Entry, name string) {
	if e.Name == name {
		return
	}
	t.was(dir, name)
	t.Respell(dir, name)
	t.stampFlip(dir)
	for _, s := range []string{e.Name, name} {
		t.flips = append(t.flips, Flip{Dir: dir, Name: s, Old: e.Ino, New: e.Ino, OldDir: e.Kind == model.Dir})
	}
}

// flip puts target, 0 for nothing, under a name.
func (t *Tx) flip(dir Ino, name string, target Ino) {
	t.was(dir, name)
	was, _ := t.Entry(dir, name)
	old, _ := t.RemoveEntry(dir, name)
	if target != 0 {
		t.SetEntry(dir, name, target)
	}
	if r := t.Row(old); old != 0 && r != nil && r.Kind != model.Dir && r.Nlink == 0 {
		r.Spared = true
		t.off[old] = true
		t.takenAt[old] = Place{dir, was.Name}
		t.Changed(old)
	}
	t.stampFlip(dir)
	f := Flip{Dir: dir, Name: name, Old: old, New: target, OldDir: old != 0 && was.Kind == model.Dir}
	if old != 0 && was.Name != name {
		t.flips = append(t.flips, Flip{Dir: dir, Name: was.Name, Old: old, OldDir: f.OldDir})
		f.Old, f.OldDir = 0, false
	}
	t.flips = append(t.flips, f)
}

// stampFlip gives a directory in which others have changed something its times.
func (t *Tx) stampFlip(dir Ino) {
	if r := t.Row(dir); r != nil {
		now := t.now()
		s := t.stamps[dir]
		if s == nil {
			s = &stamp{mtime: r.Mtime, ctime: r.Ctime}
			t.stamps[dir] = s
		}
		s.at, r.Ctime = now, now
		if _, set := r.attr(model.AttrMtime); !set {
			r.Mtime = now
		}
		t.Changed(dir)
	}
}

func (r *Row) attr(name string) (string, bool) {
	if r.Node == nil {
		return "", false
	}
	a, ok := r.Node.Attrs[name]
	return a.Val, ok && a.Val != ""
}

// Content is what the tree has in a file or symlink, not cut bytes aside.
func (t *Tx) Content(ino Ino) string {
	r := t.Row(ino)
	v := t.Wanted(ino)
	switch {
	case r.Kind == model.Dir:
		return ""
	case r.Kind == model.Symlink:
		return cmp.Or(t.pointing(r, v).Content, r.Target)
	case r.Shown != nil:
		return r.Shown.Content
	case v.Dot != (model.Dot{}):
		return v.Content
	}
	return content.Content{}.Encode()
}

// pointing is the version that a symlink shows, of which v is wanted: removed by
// others it has its name, and leads where it did, until the tree has followed.
func (t *Tx) pointing(r *Row, v model.Version) model.Version {
	if v.Dot == (model.Dot{}) && r.Node != nil {
		v, _ = r.Node.Best()
	}
	return v
}

// ShownOrig is the version whose bytes an inode shows; zero: never committed.
func (t *Tx) ShownOrig(ino Ino) model.Dot {
	r := t.Row(ino)
	if r == nil {
		return model.Dot{}
	}
	if r.Shown != nil {
		return r.Shown.Orig
	}
	return t.Wanted(ino).Orig
}

// SeenOrig is the version that its user has seen in an inode: what he has written
// there, not cut yet, perhaps began with an older one than was shown.
func (t *Tx) SeenOrig(ino Ino) model.Dot {
	if w, ok := t.Bytes(ino); ok && w.Ours && w.Written {
		return w.Base
	}
	return t.ShownOrig(ino)
}

// sameBytes tells whether the bytes of one version are those of another: of one
// that only says so, if they are.
func sameBytes(a, b model.Version) bool { return a.Orig == b.Orig && a.Content == b.Content }

// Publish shows the bytes of a file, of which the caller has found all here:
// those of a version, with alloc bytes that are not holes. busy tells
// whether an inode is open or dirty: then its names get a new inode, and it
// lives on with the bytes it has. It returns false if something else is wanted
// by now, or if the user moved the file meanwhile.
func (t *Tx) Publish(ino Ino, came model.Version, alloc int64, busy func(Ino) bool) bool {
	t.settle()
	r := t.Row(ino)
	w, drift := t.Bytes(ino)
	v := t.Wanted(ino)
	if r == nil || !drift || w.Ours || !sameBytes(v, came) || v.Dot == (model.Dot{}) {
		return false
	}
	t.note(ino, r)
	others := r.Shown != nil && r.Shown.Content != v.Content
	at := t.shownNames(ino)
	if busy(ino) {
		if len(at) != int(r.Nlink) {
			return false // moved here and not cut yet: after the cut
		}
		ino = t.replace(ino, at)
		r = t.Row(ino)
	} else if r.Nlink > 0 {
		t.flips = append(t.flips, Flip{Content: ino})
	}
	t.setBytes(ino, nil)
	t.describe(ino, r, v.Content, v.Mtime, false)
	t.saw(r, v.Orig)
	r.Shown, r.Alloc = nil, alloc
	if others { // the bytes that were trusted are not these: as of a write by somebody without privileges
		r.Mode &^= 0o6000
		t.SetXattr(ino, "security.capability", nil)
	}
	if r.Btime == 0 {
		r.Btime = r.Ctime
	}
	t.Changed(ino)
	for _, k := range t.waiting(r.ID) {
		t.show(k.dir, k.name, t.viewAt(k.dir, k.name))
	}
	return true
}

// saw notes that a file that its user has moved, but not away, shows another
// version now: who removes it then removes that one.
func (t *Tx) saw(r *Row, orig model.Dot) {
	if r.Nlink == 0 {
		return
	}
	for _, k := range slices.Clone(t.ix.DirtySeen(r.ID)) {
		if y, ok := t.Drift(k.Dir, k.Name); ok && !y.Left && y.SeenOrig != orig {
			y.SeenOrig = orig
			t.SetDrift(k.Dir, k.Name, &y)
		}
	}
}

// left notes that a node has lost its last name in the tree: should it come back,
// what it shows then is not what was removed.
func (t *Tx) left(id model.ID) {
	for _, k := range slices.Clone(t.ix.DirtySeen(id)) {
		if y, ok := t.Drift(k.Dir, k.Name); ok && !y.Left {
			y.Left = true
			t.SetDrift(k.Dir, k.Name, &y)
		}
	}
}

// ShownNames returns the names under which tree and view both have an inode.
func (t *Tx) ShownNames(ino Ino) (out []Place) {
	for _, k := range t.shownNames(ino) {
		out = append(out, Place{k.dir, k.name})
	}
	return out
}

// shownNames returns the names under which the tree has an inode, as far as
// they are those of the view.
func (t *Tx) shownNames(ino Ino) []nameKey {
	t.settle()
	return slices.DeleteFunc(t.namesOf(t.Row(ino)), func(k nameKey) bool {
		x, ok := t.Entry(k.dir, k.name)
		return !ok || x.Ino != ino
	})
}

// namesOf returns the names that an inode has in the view, of directories known
// here.
func (t *Tx) namesOf(r *Row) (out []nameKey) {
	id := r.ID
	if r.Node == nil || !r.Node.Live() {
		id = r.Of
	}
	for _, e := range t.entriesOf(id) {
		if dir := t.Ino(e.Parent); dir != 0 && e.Node() == r.ID {
			out = append(out, t.key(dir, e.Name))
		}
	}
	return out
}

// replace gives the node of an inode that is open another, under the same names.
func (t *Tx) replace(ino Ino, at []nameKey) Ino {
	old := t.Row(ino)
	t.note(ino, old)
	t.freeze(ino, old)
	r := *old
	r.Nlink = 0
	if r.Shown != nil { // it is here: what is cut may put it into the history
		shown := *r.Shown
		r.Shown = &shown
	}
	fresh := t.Allocate(&r)
	t.bindID(r.ID, fresh)
	if r.Xattrs {
		for name, val := range t.Xattrs(ino) {
			t.SetXattr(fresh, name, val)
		}
	}
	if t.ix.Wants(ino) {
		t.setBytes(ino, nil)
	}
	old.ID, old.Node, old.Of, old.OfOrig = model.ID{}, nil, model.ID{}, model.Dot{}
	t.Changed(ino)
	for _, k := range at {
		e, _ := t.Entry(k.dir, k.name)
		t.flip(k.dir, e.Name, fresh)
	}
	t.suspect(fresh, false)
	t.lose(ino)
	return fresh
}

// waiting returns the names that wait for a node's bytes.
func (t *Tx) waiting(id model.ID) []nameKey {
	return slices.DeleteFunc(t.drifting(id), func(k nameKey) bool { return t.ix.names[k].Ours })
}

// drifting returns the names under which the view has a node, and the tree does
// not show it yet.
func (t *Tx) drifting(id model.ID) []nameKey { return slices.Clone(t.ix.viewed[id]) }

// Shows returns the committed bytes that a file shows: its content as encoded,
// which version, its mtime.
func (ix *Index) Shows(ino Ino) (Shown, error) {
	for range 2 { // an alias may be pinned between two reads
		r, err := ix.full(ino)
		if err != nil {
			return Shown{}, err
		}
		switch {
		case r.Shown != nil:
			return *r.Shown, nil
		case r.Kind == model.Symlink && r.Target != "" && r.Node == nil:
			return Shown{Content: r.Target, Mtime: r.Mtime}, nil
		case r.Node != nil && len(r.Node.Heads) > 0:
			v, _ := r.Node.Best()
			if s := r.Node.Shown(); len(s) > 0 {
				v = s[0]
			}
			return Shown{v.Orig, v.Content, v.Mtime}, nil
		case r.Of.IsZero():
			return Shown{}, nil // nothing committed yet
		}
		v, err := ix.get(ix.keys.id(r.Of))
		if err != nil || len(v) != 8 {
			return Shown{}, errors.Join(err, errRow)
		}
		of, err := ix.full(Ino(binary.BigEndian.Uint64(v)))
		if err != nil {
			return Shown{}, err
		}
		if of.Node != nil {
			for _, h := range of.Node.Further() {
				if h.Orig == r.OfOrig {
					return Shown{h.Orig, h.Content, h.Mtime}, nil
				}
			}
		}
	}
	return Shown{}, ErrNotFound
}

// Version is the node that an inode shows, zero if it has none yet, and which
// version of it.
func (ix *Index) Version(ino Ino) (model.ID, model.Dot, error) {
	r, err := ix.full(ino)
	if err != nil {
		return model.ID{}, model.Dot{}, err
	}
	s, err := ix.Shows(ino)
	return r.ID, s.Orig, err
}

func (ix *Index) full(ino Ino) (*Row, error) {
	v, err := ix.get(ix.keys.node(ino))
	if err != nil {
		return nil, err
	}
	return decodeRow(v, ix.dec(), true)
}
