package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/model"
)

// A Tx is one atomic change of the rows. It reads its own writes: of the n, i
// and d rows what is written is in rows, inos and entries, so what is not there
// is read past the batch. What goes
// wrong is kept and returned by Commit, which then writes nothing: the folder
// must be opened anew, since the mirrors of drift may be ahead of the rows.
type Tx struct {
	ix      *Index
	b       *pebble.Batch // indexed
	rows    map[Ino]*Row
	dirty   map[Ino]bool
	inos    map[model.ID]Ino
	err     error
	flips   []Flip
	before  map[nameKey]Entry // what flipped names showed first
	stamps  map[Ino]*stamp    // directories that flips gave times
	looks   map[Ino]*look     // inodes that the view gave something else to show
	view    settling
	fresh   []Ino         // files whose bytes are wanted
	owed    []Ino         // directories in which this left something to be cut
	author  *model.Author // of the cut in the making
	lost    []Ino         // may have no name any more
	takenAt map[Ino]Place // where others took the last name of a file
	off     map[Ino]bool  // had names when this Tx began, and were taken off the last
	vacated bool          // a name has become free
	freed   []nameKey     // names that need not wait for others any more
	// suspects are inodes whose rows may not be what their nodes say; those
	// whose node has changed are true.
	suspects map[Ino]bool
	together bool                        // what is joined is shown in sets
	gathered int                         // of fresh, how many are in them or were left out
	over     model.VV                    // what is joined came over gaps, up to there
	entries  map[Place]Entry             // d rows read or written; zero: none
	noted    map[pastOf]noted            // versions that may be let go of
	thinned  map[string]bool             // b rows of which less than half is alive now
	crowded  map[Ino]*crowds             // those read, by directory
	shown    map[model.ID][]*model.Entry // entries asked for since the view was last settled
	origins  map[model.Dot]model.Origin
	e        enc
	d        dec
}

// A Flip is a change of the tree that comes from the view.
type Flip struct {
	Dir      Ino // 0: not about a name
	Name     string
	Old, New Ino
	OldDir   bool
	Content  Ino  // this inode has new bytes or attributes
	Attrs    bool // of Content: the bytes are those of before
}

// Begin starts a transaction; the caller holds the apply lock to its end.
func (ix *Index) Begin() *Tx {
	t := &Tx{ix: ix, b: ix.db.NewIndexedBatch(), rows: map[Ino]*Row{}, dirty: map[Ino]bool{}, off: map[Ino]bool{}, takenAt: map[Ino]Place{},
		inos: map[model.ID]Ino{}, view: newSettling(), suspects: map[Ino]bool{}, entries: map[Place]Entry{},
		noted: map[pastOf]noted{}, thinned: map[string]bool{},
		crowded: map[Ino]*crowds{}, shown: map[model.ID][]*model.Entry{}, origins: map[model.Dot]model.Origin{}}
	t.e = enc{ridx: t.number, ino: t.Number}
	t.d = dec{rep: t.replica, id: t.idOf}
	return t
}

// Abort drops the transaction. Only one that has changed nothing may be
// dropped: see Tx.
func (t *Tx) Abort() { t.fail(t.b.Close()) }

// Commit writes the rows, not yet durably: see blocks.Disk.Sync.
func (t *Tx) Commit() error {
	t.settle()
	t.forgetDetours()
	t.keepPast()
	t.stubAll()
	t.fail(t.b.Set(t.ix.keys.meta("state"), t.ix.metaState(), nil))
	e := t.enc()
	for ino := range t.dirty {
		if r := t.rows[ino]; r == nil {
			t.fail(t.b.Delete(t.ix.keys.node(ino), nil))
		} else {
			t.fail(t.b.Set(t.ix.keys.node(ino), r.encode(e), nil))
		}
	}
	if t.err != nil {
		return errors.Join(fmt.Errorf("commit: %w", t.err), t.b.Close())
	}
	if err := t.b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return t.b.Close()
}

// Flips returns what changed in the tree other than by its user's operations.
func (t *Tx) Flips() []Flip {
	t.settle()
	t.forgetDetours()
	return t.flips
}

// Owed returns the directories in which this Tx left something to be cut.
func (t *Tx) Owed() []Ino {
	t.settle()
	return t.owed
}

func (t *Tx) fail(err error) {
	if err != nil && t.err == nil {
		t.err = err
	}
}

// Fail says that nothing of this may be committed.
func (t *Tx) Fail(err error) { t.fail(err) }

// Err is the first thing that went wrong.
func (t *Tx) Err() error { return t.err }

func (t *Tx) enc() *enc { return &t.e }

func (t *Tx) dec() *dec { return &t.d }

// idOf is the id of a directory by its number, at its fixed place in the row:
// decoding a row never decodes another.
func (t *Tx) idOf(ino Ino) model.ID {
	if r := t.rows[ino]; r != nil {
		return r.ID
	}
	v, err := t.ix.get(t.ix.keys.node(ino))
	if err != nil || len(v) < 17 {
		t.fail(fmt.Errorf("inode %d: %w", ino, errors.Join(err, errRow)))
		return model.ID{}
	}
	return model.ID(v[1:17])
}

// Row returns an inode's row, nil if there is none. What is changed in it must
// be told by Changed.
func (t *Tx) Row(ino Ino) *Row {
	if r, ok := t.rows[ino]; ok {
		return r
	}
	v, err := t.ix.get(t.ix.keys.node(ino))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	var r *Row
	if err == nil {
		r, err = decodeRow(v, t.dec(), true)
	}
	if err != nil { // the row is there: nothing of this is committed, but it must come to its end
		t.fail(fmt.Errorf("inode %d: %w", ino, err))
		return &Row{}
	}
	t.rows[ino] = r
	return r
}

// Changed tells that the row of an inode was changed.
func (t *Tx) Changed(ino Ino) { t.dirty[ino] = true }

func (t *Tx) put(ino Ino, r *Row) {
	t.rows[ino] = r
	t.dirty[ino] = true
}

// Allocate gives a new inode its number.
func (t *Tx) Allocate(r *Row) Ino {
	ino := t.ix.nextIno
	t.ix.nextIno++
	t.put(ino, r)
	return ino
}

// Ino is the number of a node, 0 if it has none.
func (t *Tx) Ino(id model.ID) Ino {
	if ino, ok := t.inos[id]; ok {
		return ino
	}
	v, err := t.ix.get(t.ix.keys.id(id))
	if errors.Is(err, ErrNotFound) {
		t.inos[id] = 0
		return 0
	}
	if t.fail(err); len(v) != 8 {
		t.fail(errRow)
		return 0
	}
	ino := Ino(binary.BigEndian.Uint64(v))
	t.inos[id] = ino
	return ino
}

func (t *Tx) bindID(id model.ID, ino Ino) {
	t.inos[id] = ino
	t.fail(t.b.Set(t.ix.keys.id(id), binary.BigEndian.AppendUint64(nil, uint64(ino)), nil))
}

func (t *Tx) unbindID(id model.ID) {
	t.inos[id] = 0
	t.fail(t.b.Delete(t.ix.keys.id(id), nil))
}

// Number is the number of a node; one not heard of yet gets one. What nobody
// has described is taken for a directory: only parents are named before they
// come.
func (t *Tx) Number(id model.ID) Ino {
	if ino := t.Ino(id); ino != 0 {
		return ino
	}
	ino := t.Allocate(&Row{ID: id, Kind: model.Dir, Nlink: 2})
	t.bindID(id, ino)
	return ino
}

// number is the place of a replica in the dictionary.
func (t *Tx) number(r model.Replica) uint32 {
	if i, ok := t.ix.dict.Load().index[r]; ok {
		return i
	}
	return t.setRep(Rep{ID: r})
}

// replica is the one at a place in the dictionary.
func (t *Tx) replica(i uint32) model.Replica {
	if d := t.ix.dict.Load(); int(i) < len(d.reps) {
		return d.reps[i].ID
	}
	return 0
}

func (t *Tx) setRep(r Rep) uint32 {
	old := t.ix.dict.Load()
	d := &dict{reps: slices.Clone(old.reps), index: old.index}
	i, ok := d.index[r.ID]
	if ok {
		d.reps[i] = r
	} else {
		i = uint32(len(d.reps))
		d.reps = append(d.reps, r)
		d.index = make(map[model.Replica]uint32, len(old.index)+1)
		for k, v := range old.index {
			d.index[k] = v
		}
		d.index[r.ID] = i
	}
	t.ix.dict.Store(d)
	t.fail(t.b.Set(t.ix.keys.replica(i), r.encode(), nil))
	return i
}

func (t *Tx) rep(r model.Replica) Rep {
	d := t.ix.dict.Load()
	if i, ok := d.index[r]; ok {
		return d.reps[i]
	}
	return Rep{ID: r}
}

// place is a name as it stands in keys. A name that is folded already may be
// given to whatever takes a name.
func (t *Tx) place(dir Ino, name string) Place { return Place{dir, t.ix.fold(name)} }

func (t *Tx) key(dir Ino, name string) nameKey { return nameKey{dir, t.ix.fold(name)} }

// Entry returns what the tree has under a name, however it is spelt there.
func (t *Tx) Entry(dir Ino, name string) (Entry, bool) {
	k := t.place(dir, name)
	if e, ok := t.entries[k]; ok {
		return e, e.Ino != 0
	}
	v, err := t.ix.get(t.ix.keys.entry(tableEntry, dir, k.Name))
	if errors.Is(err, ErrNotFound) {
		t.entries[k] = Entry{}
		return Entry{}, false
	}
	t.fail(err)
	e, err := decodeEntry(v, k.Name)
	t.fail(err)
	t.entries[k] = e
	return e, err == nil
}

// entry writes a d row, or deletes it if e is zero.
func (t *Tx) entry(k Place, e Entry) {
	t.entries[k] = e
	if key := t.ix.keys.entry(tableEntry, k.Dir, k.Name); e.Ino != 0 {
		t.fail(t.b.Set(key, e.encode(k.Name), nil))
	} else {
		t.fail(t.b.Delete(key, nil))
	}
	if _, ok := t.ix.dirty.names[k]; ok {
		y := t.ix.names[nameKey{k.Dir, k.Name}]
		t.ix.dirty.drop(k, y)
		t.ix.dirty.add(k, y, e)
	}
}

// Empty tells whether the tree has nothing in a directory.
func (t *Tx) Empty(dir Ino) bool {
	empty := true
	prefix := t.ix.keys.dir(tableEntry, dir)
	t.fail(scan(t.b, prefix, after(prefix), func(_, _ []byte) error {
		empty = false
		return errStop
	}))
	return empty
}

// inUse tells whether the tree has something in a directory, or below, that
// others are to get. In one that they have removed that is not cut yet.
func (t *Tx) inUse(dir Ino) (used bool) {
	prefix := t.ix.keys.dir(tableEntry, dir)
	t.fail(scan(t.b, prefix, after(prefix), func(k, v []byte) error {
		e, err := decodeEntry(v, string(k[len(prefix):]))
		used = e.Kind != model.Dir && e.Kind.Replicates() || e.Kind == model.Dir && t.inUse(e.Ino)
		if used && err == nil {
			err = errStop
		}
		return err
	}))
	return used
}

// unsaid tells whether a directory that others have removed has something in it that
// is not cut yet: then it lives again.
func (t *Tx) unsaid(e Entry) bool {
	r := t.Row(e.Ino)
	return e.Kind == model.Dir && r != nil && !t.alive(r.ID) && t.inUse(e.Ino)
}

// SetEntry puts a name into the tree, spelt like that, or another inode under
// it, and counts.
func (t *Tx) SetEntry(dir Ino, name string, ino Ino) {
	t.RemoveEntry(dir, name)
	r := t.Row(ino)
	if r == nil {
		t.fail(fmt.Errorf("entry of inode %d: %w", ino, ErrNotFound))
		return
	}
	t.entry(t.place(dir, name), Entry{ino, r.Kind, name})
	r.Parent = dir
	if w, ok := t.Bytes(ino); ok && w.Ours && r.Kind.Replicates() && t.ix.dirty.assign(ino, dir) {
		t.owed = append(t.owed, dir) // where it was, nobody looks for it any more
	}
	t.setOrphan(ino, false)
	if r.Kind == model.Dir {
		t.count(dir, 1)
	} else {
		r.Nlink++
		switch r.Nlink {
		case 1:
			r.Spared = false
			t.suspect(ino, false)
		case 2:
			t.vacated = true // the name it is to lose need not wait any more
		}
	}
	t.Changed(ino)
}

// Respell spells a name that the tree has like that.
func (t *Tx) Respell(dir Ino, name string) {
	if e, ok := t.Entry(dir, name); ok {
		e.Name = name
		t.entry(t.place(dir, name), e)
	}
}

// RemoveEntry takes a name out of the tree. An inode without names is an
// orphan: it stays until DropOrphan.
func (t *Tx) RemoveEntry(dir Ino, name string) (Ino, bool) {
	e, ok := t.Entry(dir, name)
	if !ok {
		return 0, false
	}
	t.entry(t.place(dir, name), Entry{})
	t.vacated = true
	r := t.Row(e.Ino)
	if r == nil {
		return e.Ino, true
	}
	if r.Kind == model.Dir {
		t.count(dir, -1)
		if r.Parent == dir {
			r.Parent = 0
			t.lose(e.Ino)
		}
	} else if r.Nlink > 0 {
		if r.Nlink == 1 {
			t.note(e.Ino, r)
			t.freeze(e.Ino, r)
			t.lose(e.Ino)
		}
		r.Nlink--
	}
	t.Changed(e.Ino)
	return e.Ino, true
}

func (t *Tx) count(dir Ino, d int) {
	if r := t.Row(dir); r != nil {
		r.Nlink = uint32(max(int(r.Nlink)+d, 2))
		t.Changed(dir)
	}
}

// Orphan remembers that an inode without a name is to be deleted once nobody
// holds it.
func (t *Tx) Orphan(ino Ino) { t.setOrphan(ino, true) }

func (t *Tx) setOrphan(ino Ino, on bool) {
	switch {
	case on == t.ix.orphans[ino]:
	case on:
		t.left(t.Row(ino).ID)
		t.ix.orphans[ino] = true
		t.fail(t.b.Set(t.ix.keys.orphan(ino), nil, nil))
	default:
		delete(t.ix.orphans, ino)
		t.fail(t.b.Delete(t.ix.keys.orphan(ino), nil))
	}
}

// DropOrphan deletes an inode without names: all of it if it shows no node,
// else only what is local.
func (t *Tx) DropOrphan(ino Ino) {
	t.setOrphan(ino, false)
	r := t.Row(ino)
	if r == nil || r.named() {
		return
	}
	t.left(r.ID)
	if w, ok := t.Bytes(ino); ok && (w.Ours || r.ID.IsZero()) {
		t.setBytes(ino, nil)
	}
	if r.ID.IsZero() {
		if r.Xattrs {
			t.dropXattrs(ino)
		}
		t.put(ino, nil)
		return
	}
	t.follow(ino, false) // it may come back, but not what was done to it here
	if v := t.Wanted(ino); r.Shown != nil && r.Shown.Orig != v.Orig {
		r.Shown = nil // else it says that the bytes are here
	}
	t.Changed(ino)
}

// SetXattr sets an extended attribute as shown here; nil removes it.
func (t *Tx) SetXattr(ino Ino, name string, val []byte) {
	if val == nil {
		if r := t.Row(ino); r == nil || r.Xattrs {
			t.fail(t.b.Delete(t.ix.keys.xattr(ino, name), nil))
		}
		return
	}
	if r := t.Row(ino); r != nil && !r.Xattrs {
		r.Xattrs = true
		t.Changed(ino)
	}
	t.fail(t.b.Set(t.ix.keys.xattr(ino, name), val, nil))
}

// Xattrs returns the extended attributes shown here.
func (t *Tx) Xattrs(ino Ino) map[string][]byte {
	m := map[string][]byte{}
	prefix := t.ix.keys.dir(tableXattr, ino)
	t.fail(scan(t.b, prefix, after(prefix), func(k, v []byte) error {
		m[string(k[len(prefix):])] = append([]byte{}, v...)
		return nil
	}))
	return m
}

func (t *Tx) dropXattrs(ino Ino) {
	for name := range t.Xattrs(ino) {
		t.SetXattr(ino, name, nil)
	}
}

// Drift returns the y row of a name.
func (t *Tx) Drift(dir Ino, name string) (Drift, bool) {
	y, ok := t.ix.names[t.key(dir, name)]
	return y, ok
}

// SetDrift writes or, with nil, removes the y row of a name.
func (t *Tx) SetDrift(dir Ino, name string, y *Drift) {
	at := t.place(dir, name)
	k := nameKey{at.Dir, at.Name}
	key := t.ix.keys.entry(tableName, dir, at.Name)
	delete(t.ix.blocked, k)
	old, ok := t.ix.names[k]
	t.ix.dirty.drop(at, old)
	if y == nil {
		if ok {
			t.ix.setName(k, nil)
			t.fail(t.b.Delete(key, nil))
		}
		return
	}
	t.ix.setName(k, y)
	if y.Ours {
		e, _ := t.Entry(dir, name)
		t.ix.dirty.add(at, *y, e)
	}
	t.fail(t.b.Set(key, y.encode(at.Name, t.enc()), nil))
}

// Bytes returns the w row of an inode.
func (t *Tx) Bytes(ino Ino) (Bytes, bool) {
	w, ok := t.ix.bytes[ino]
	return w, ok
}

// SetBytes writes or, with nil, removes the w row of an inode.
func (t *Tx) SetBytes(ino Ino, w *Bytes) {
	t.setBytes(ino, w)
	t.suspect(ino, false)
}

func (t *Tx) setBytes(ino Ino, w *Bytes) {
	old, ok := t.ix.bytes[ino]
	if ok && !old.Ours {
		t.ix.wanting--
	}
	if w == nil {
		t.ix.dirty.assign(ino, 0)
		if ok {
			delete(t.ix.bytes, ino)
			t.fail(t.b.Delete(t.ix.keys.bytes(ino), nil))
		}
		return
	}
	if w.Ours {
		if r := t.Row(ino); r == nil || r.Kind.Replicates() {
			t.ix.dirty.assign(ino, groupOf(ino, r))
		}
	} else {
		t.ix.dirty.assign(ino, 0)
		t.ix.wanting++
	}
	t.ix.bytes[ino] = *w
	t.fail(t.b.Set(t.ix.keys.bytes(ino), w.encode(t.enc()), nil))
}

// Names calls f with each y row; the holder of the apply lock may.
func (ix *Index) Names(f func(dir Ino, name string, y Drift)) {
	for k, y := range ix.names {
		f(k.dir, k.name, y)
	}
}

// Wants tells whether bytes of others are wanted for an inode; the holder of
// the apply lock may ask.
func (ix *Index) Wants(ino Ino) bool {
	w, ok := ix.bytes[ino]
	return ok && !w.Ours
}

// Orphan tells whether an inode has no name but may be open; the holder of the
// apply lock may ask.
func (ix *Index) Orphan(ino Ino) bool { return ix.orphans[ino] }

// Wanting tells whether bytes of others are wanted; the holder of the apply
// lock may ask.
func (ix *Index) Wanting() bool { return ix.wanting > 0 }

// AllBytes calls f with each w row; the holder of the apply lock may.
func (ix *Index) AllBytes(f func(ino Ino, w Bytes)) {
	for ino, w := range ix.bytes {
		f(ino, w)
	}
}
