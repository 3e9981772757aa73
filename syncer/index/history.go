package index

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

// A Past is a version that the tree has let go of: an h row.
type Past struct {
	ID      model.ID // the node whose version it was
	Time    int64    // when it went, ns since 1970
	Kind    model.Kind
	Orig    model.Dot
	Content string // encoded, or a symlink's target
	Mtime   int64
	Mode    uint32
	By      model.Label // who made it
	Removed bool        // with the file; else something else was written over it
	Here    bool        // by the user of this database
	Who     model.Label // by whom
	Path    string      // where the file was then
}

// Size is how many bytes the version had.
func (p *Past) Size() int64 {
	if p.Kind == model.File {
		if c, err := content.Decode(p.Content); err == nil {
			return c.Size
		}
	}
	return int64(len(p.Content))
}

// A PastKey names a Past.
type PastKey struct {
	Time int64
	ID   model.ID
}

func (k *keys) pastsOf(id model.ID) []byte { return append(k.table(tablePast), id[:]...) }

// past is the key of an h row: the newest of a node stands first.
func (k *keys) past(p PastKey) []byte {
	return binary.BigEndian.AppendUint64(k.pastsOf(p.ID), ^uint64(p.Time))
}

// expiry is the key of an H row: the oldest of all stands first.
func (k *keys) expiry(p PastKey) []byte {
	return append(binary.BigEndian.AppendUint64(k.table(tableExpiry), uint64(p.Time)), p.ID[:]...)
}

const (
	pastRemoved = 1 << iota
	pastHere
)

func (p *Past) encode(e *enc) []byte {
	e.b = append(e.b[:0], rowVersion, byte(p.Kind))
	var f uint64
	if p.Removed {
		f |= pastRemoved
	}
	if p.Here {
		f |= pastHere
	}
	e.u(f)
	e.dot(p.Orig)
	e.s(p.Content)
	e.i(p.Mtime)
	e.u(uint64(p.Mode))
	for _, s := range []string{p.By.Author, p.By.Device, p.Who.Author, p.Who.Device, p.Path} {
		e.s(s)
	}
	return e.b
}

func decodePast(k PastKey, b []byte, d *dec) (Past, error) {
	d.b, d.err = b, nil
	if d.byte() != rowVersion {
		d.fail()
	}
	p := Past{ID: k.ID, Time: k.Time, Kind: model.Kind(d.byte())}
	f := d.u()
	p.Removed, p.Here = f&pastRemoved != 0, f&pastHere != 0
	p.Orig, p.Content, p.Mtime, p.Mode = d.dot(), d.s(), d.i(), uint32(d.u())
	for _, s := range []*string{&p.By.Author, &p.By.Device, &p.Who.Author, &p.Who.Device, &p.Path} {
		*s = d.s()
	}
	return p, d.err
}

// noted is a version that is or was here, and that this Tx may let go of.
type noted struct {
	kind  model.Kind
	mtime int64
	mode  uint32
	dot   model.Dot   // of the version that had it
	by    model.Label // if that one only repeats it
}

// pastOf is a version of a node: a dishonest member may say of other bytes that
// they are those of a version of before.
type pastOf struct {
	id      model.ID
	orig    model.Dot
	content string
}

// owner is the node whose version an inode shows: not that of a conflict copy
// which nobody has pinned.
func (r *Row) owner() model.ID {
	if r.Node == nil || len(r.Node.Heads) == 0 {
		return r.Of
	}
	return r.ID
}

// Owner is the node whose version an inode shows, or is to show.
func (t *Tx) Owner(ino Ino) model.ID {
	if r := t.Row(ino); r != nil {
		return r.owner()
	}
	return model.ID{}
}

// Note remembers what a node shows that its user has seen, before a cut may give
// its inode to another.
func (t *Tx) Note(id model.ID) { t.note(t.Ino(id), t.rowOf(id)) }

// note remembers what a file shows, before that changes: its bytes are here.
func (t *Tx) note(ino Ino, r *Row) {
	if r == nil || r.ID.IsZero() || r.Kind != model.File && r.Kind != model.Symlink {
		return
	}
	id := r.owner()
	if id.IsZero() && r.Shown != nil { // its node is not known any more
		id = r.ID
	}
	if id.IsZero() {
		return
	}
	if r.Shown != nil && (r.Shown.Orig != (model.Dot{}) || t.keptBytes(ino, r)) {
		t.keep(pastOf{id, r.Shown.Orig, r.Shown.Content}, noted{kind: r.Kind, mtime: r.Shown.Mtime, mode: r.Mode, dot: r.Shown.Orig})
	}
	if v := t.Wanted(ino); v.Dot != (model.Dot{}) && t.here(ino, r, v) {
		t.keepVersion(id, r, v)
	}
	if id != r.ID || r.Node == nil || len(r.Node.Heads) < 2 {
		return
	}
	for _, h := range r.Node.Shown() {
		alias := t.Ino(model.ForkID(id, h.Orig))
		if a := t.Row(alias); alias != 0 && a != nil && a.Of == id && t.here(alias, a, h) {
			t.keepVersion(id, a, h)
		}
	}
}

// keptBytes tells whether a file shows bytes that nobody knows any more as a version.
func (t *Tx) keptBytes(ino Ino, r *Row) bool {
	w, _ := t.Bytes(ino)
	return w.Kept && r.Shown.Content != (content.Content{}).Encode() // what a new file has before it is cut
}

// here tells whether the bytes of a version that an inode shows, or is to show,
// are here. Of one that is unlinked, or has others, only Shown says so; but what
// this replica says with bytes of its own is here until it is forgotten.
func (t *Tx) here(ino Ino, r *Row, v model.Version) bool {
	if own := t.ix.replica; r.Kind == model.Symlink || v.Orig.Replica == own && v.Dot.Replica == own {
		return true
	}
	if r.Shown != nil {
		return r.Shown.Content == v.Content
	}
	return r.Nlink > 0 && !t.ix.Wants(ino)
}

func (t *Tx) keepVersion(id model.ID, r *Row, v model.Version) {
	t.keep(pastOf{id, v.Orig, v.Content}, noted{kind: r.Kind, mtime: v.Mtime, mode: r.Mode, dot: v.Dot, by: v.By})
}

func (t *Tx) keep(k pastOf, n noted) { t.noted[k] = n }

// Keep writes a version into the history, unless it is shown: all its blocks
// are here, but something else is wanted by now.
func (t *Tx) Keep(id model.ID, v model.Version) {
	if r := t.rowOf(id); r != nil {
		t.keepVersion(id, r, v)
	}
}

// keepPast writes the history rows of the versions that this Tx has let go of.
func (t *Tx) keepPast() {
	now := t.gone()
	order := slices.SortedFunc(maps.Keys(t.noted), func(a, b pastOf) int {
		return cmp.Or(slices.Compare(a.id[:], b.id[:]), cmp.Compare(a.orig.Replica, b.orig.Replica), cmp.Compare(a.orig.Seq, b.orig.Seq), cmp.Compare(a.content, b.content))
	})
	for _, k := range order {
		n := t.noted[k]
		if t.err != nil {
			return
		}
		if t.visible(k) {
			continue
		}
		k.id = t.home(k)
		p := t.pastOf(k, n)
		d := t.ender(k.id, &p)
		p.Here, p.Who = d.Replica == t.ix.replica, t.labelOf(d)
		t.putPast(k, p, d, now)
	}
}

// gone is when what goes now has gone.
func (t *Tx) gone() int64 { return max(t.now(), t.ix.looked.Load()) }

// pastOf describes a version that goes.
func (t *Tx) pastOf(k pastOf, n noted) Past {
	p := Past{ID: k.id, Kind: n.kind, Orig: k.orig, Content: k.content, Mtime: n.mtime, Mode: n.mode & 0o777, By: n.by, Path: t.pathOf(k.id)}
	if k.orig == n.dot {
		p.By = t.labelOf(n.dot)
	}
	return p
}

// putPast writes the rows of a version that d did away with.
func (t *Tx) putPast(k pastOf, p Past, d model.Dot, now int64) {
	if old, was := t.pastKey(k); was && t.endOf(old) == d {
		return // an unlinked file that is open goes on to show it
	} else if was { // it had come back
		t.fail(t.b.Delete(t.ix.keys.past(old), nil))
		t.fail(t.b.Delete(t.ix.keys.expiry(old), nil))
	}
	key := PastKey{Time: now, ID: k.id}
	for t.has(t.ix.keys.past(key)) {
		key.Time++
	}
	e := t.enc()
	t.fail(t.b.Set(t.ix.keys.past(key), p.encode(e), nil))
	e.b = e.b[:0]
	e.u(uint64(p.Size()))
	e.dot(p.Orig)
	e.dot(d)
	t.fail(t.b.Set(t.ix.keys.expiry(key), e.b, nil))
}

// home is the node in whose history a version goes: once its conflict copy is a
// node of its own, that one's, so that it goes once.
func (t *Tx) home(k pastOf) model.ID {
	fork := model.ForkID(k.id, k.orig)
	if r := t.rowOf(fork); r != nil && r.Kind != model.Dir && r.owner() == fork {
		return fork
	}
	return k.id
}

// pastKey finds a version that has gone into the history before.
func (t *Tx) pastKey(k pastOf) (key PastKey, yes bool) {
	d, n := t.dec(), 0
	prefix := t.ix.keys.pastsOf(k.id)
	t.fail(scan(t.b, prefix, after(prefix), func(at, v []byte) error {
		p, err := decodePast(PastKey{}, v, d)
		if yes = err == nil && p.Orig == k.orig && p.Content == k.content && len(at) == len(prefix)+8; yes {
			key = PastKey{int64(^binary.BigEndian.Uint64(at[len(prefix):])), k.id}
			return errStop
		}
		if n++; n == recentPasts {
			return errStop
		}
		return err
	}))
	return key, yes
}

// endOf is the change that did away with what is in the history.
func (t *Tx) endOf(k PastKey) model.Dot {
	v, err := get(t.b, t.ix.keys.expiry(k))
	x, derr := decodeExpiry(k, v, t.dec())
	t.fail(cmp.Or(err, derr))
	return x.End
}

func (t *Tx) has(key []byte) bool {
	_, c, err := t.b.Get(key)
	if err != nil {
		if !errors.Is(err, pebble.ErrNotFound) {
			t.fail(err)
		}
		return false
	}
	t.fail(c.Close())
	return true
}

// visible tells whether a content is still to be seen: as the version of the
// node, because what is to come is not here yet, or as a conflict copy that is
// here: one that is not may be gone before it is shown.
func (t *Tx) visible(k pastOf) bool {
	is := func(v model.Version) bool { return v.Dot != (model.Dot{}) && v.Content == k.content }
	ids := []model.ID{k.id, model.ForkID(k.id, k.orig)}
	if n := t.Node(k.id); n != nil {
		for i, h := range n.Shown() {
			switch {
			case !is(h):
			case i == 0:
				return true
			default:
				ids = append(ids, model.ForkID(k.id, h.Orig))
			}
		}
	}
	return slices.ContainsFunc(ids, func(id model.ID) bool {
		r := t.rowOf(id)
		if r == nil {
			return false
		}
		ino := t.Ino(id)
		v := t.Wanted(ino)
		return r.Nlink > 0 && r.Shown != nil && r.Shown.Content == k.content || is(v) && t.here(ino, r, v)
	})
}

// ender is the change that did away with a version of a node, and says in p how.
func (t *Tx) ender(id model.ID, p *Past) model.Dot {
	n := t.Node(id)
	if n == nil {
		return model.Dot{}
	}
	if s := n.Shown(); len(s) > 0 {
		return s[0].Dot
	}
	p.Removed = true
	if len(n.Gone) > 0 {
		return n.Gone[len(n.Gone)-1].Dot
	}
	return model.Dot{}
}

// labelOf says who made a change, from the header of its batch or, where that
// is dead, of another one of its replica.
func (t *Tx) labelOf(d model.Dot) model.Label {
	if d == (model.Dot{}) {
		return model.Label{}
	}
	if t.author != nil && t.author.Own(d) {
		return t.author.By
	}
	i, ok := t.ix.dict.Load().index[d.Replica]
	if !ok {
		return model.Label{}
	}
	var by model.Label
	first, end := t.ix.keys.log(tableBatch, i, 0), after(t.ix.keys.log(tableBatch, i, ^uint64(0)))
	for _, r := range []pebble.Reader{t.ix.db, t.b} { // in db it may still be there
		for _, from := range [][]byte{t.ix.keys.log(tableBatch, i, d.Seq), first} {
			err := scan(r, from, end, func(_, v []byte) error {
				row, err := decodeBatchRow(v)
				if err != nil {
					return err
				}
				h, err := model.DecodeHeader(row.header)
				by = model.Label{Author: h.Author, Device: h.Device}
				if err != nil {
					return err
				}
				return errStop
			})
			if t.fail(err); by != (model.Label{}) {
				return by
			}
		}
	}
	return by
}

const (
	maxPath     = 4 << 10
	recentPasts = 16
)

// pathOf is where the tree has, or had, a node.
func (t *Tx) pathOf(id model.ID) string {
	n := t.Node(id)
	if n == nil || len(n.Links) == 0 {
		return ""
	}
	l := n.Links[0].Loc()
	for i := range n.Links {
		if !n.Links[i].Dead() {
			l = n.Links[i].Loc()
			break
		}
	}
	path := l.Name
	for dir := l.Parent; dir != model.RootID && len(path) < maxPath; dir = l.Parent {
		if r := t.rowOf(dir); r == nil || r.Kind != model.Dir {
			break
		}
		if l = t.loc(dir); l.Name == "" {
			break
		}
		path = l.Name + "/" + path
	}
	return path
}

// History yields the versions that a node has had, the newest first.
func (ix *Index) History(id model.ID, yield func(Past) bool) error {
	d := ix.dec()
	prefix := ix.keys.pastsOf(id)
	return ix.scan(prefix, func(k, v []byte) error {
		if len(k) != len(prefix)+8 {
			return errRow
		}
		p, err := decodePast(PastKey{int64(^binary.BigEndian.Uint64(k[len(prefix):])), id}, v, d)
		if err == nil && !yield(p) {
			err = errStop
		}
		return err
	})
}

// Past returns one version.
func (ix *Index) Past(k PastKey) (Past, error) {
	v, err := ix.get(ix.keys.past(k))
	if err != nil {
		return Past{}, err
	}
	return decodePast(k, v, ix.dec())
}

// An Expiry is what is to be known of a Past for letting it go for good.
type Expiry struct {
	PastKey
	Size int64
	Orig model.Dot
	End  model.Dot // the change that did away with it
}

func decodeExpiry(k PastKey, b []byte, d *dec) (Expiry, error) {
	d.b, d.err = b, nil
	x := Expiry{PastKey: k, Size: int64(d.u()), Orig: d.dot(), End: d.dot()}
	return x, d.err
}

// Pasts yields all versions that were let go, the newest first.
func (ix *Index) Pasts(yield func(Expiry) bool) (err error) {
	d := ix.dec()
	prefix := ix.keys.table(tableExpiry)
	it, err := ix.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.Last(); ok; ok = it.Prev() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		k := it.Key()
		if len(k) != len(prefix)+8+16 {
			return errRow
		}
		x, err := decodeExpiry(PastKey{int64(binary.BigEndian.Uint64(k[len(prefix):])), model.ID(k[len(prefix)+8:])}, v, d)
		if err != nil {
			return err
		}
		if !yield(x) {
			return nil
		}
	}
	return it.Error()
}

// Forget deletes versions for good. The caller syncs before it gives their
// blocks back.
func (ix *Index) Forget(ks []PastKey) error {
	b := ix.db.NewBatch()
	var err error
	for _, k := range ks {
		err = errors.Join(err, b.Delete(ix.keys.past(k), nil), b.Delete(ix.keys.expiry(k), nil))
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	return errors.Join(err, b.Close())
}

// Roots is one state of the contents that the index needs, as encoded.
type Roots struct {
	ix *Index
	s  *pebble.Snapshot
}

// Roots returns the contents that are needed now.
func (ix *Index) Roots() *Roots { return &Roots{ix, ix.db.NewSnapshot()} }

// Close ends the use of r.
func (r *Roots) Close() error { return r.s.Close() }

// Current yields what files have or are to have, or show until that is here.
func (r *Roots) Current(yield func(ino Ino, orig model.Dot, content string) error) error {
	ix := r.ix
	d := ix.dec()
	prefix := ix.keys.table(tableNode)
	return scan(r.s, prefix, after(prefix), func(k, v []byte) error {
		r, err := decodeRow(v, d, true)
		if err != nil || r.Kind != model.File {
			return err
		}
		ino := Ino(binary.BigEndian.Uint64(k[len(prefix):]))
		if r.Shown != nil {
			if err := yield(ino, r.Shown.Orig, r.Shown.Content); err != nil {
				return err
			}
		}
		if r.Node == nil {
			return nil
		}
		del := r.Node.Del()
		for _, h := range r.Node.Heads {
			if !del.Has(h.Dot) {
				if err := yield(ino, h.Orig, h.Content); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Past yields what is in the history.
func (r *Roots) Past(yield func(content string) error) error {
	prefix, d := r.ix.keys.table(tablePast), r.ix.dec()
	return scan(r.s, prefix, after(prefix), func(_, v []byte) error {
		p, err := decodePast(PastKey{}, v, d)
		if err != nil || p.Kind != model.File {
			return err
		}
		return yield(p.Content)
	})
}
