package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/model"
)

// To begin anew is to become a newcomer that keeps its tree. It is what a member
// does whose history cannot be joined with a peer's: it holds batches that the
// peer holds others for, or it was away so long that what it holds may have been
// deleted and the deletion forgotten.
//
// Rebase, one write, drops all that is replicated and takes a new replica id.
// The tree stays, with what it shows. Every name gets a y row that is Held: the
// view, now empty, fills up again from one peer, and only y.View moves with it.
// Programs go on reading and writing; nothing is cut. When the peer's catch-up
// is in, Settle (settle.go) compares and lets go. A crash between leaves the m
// row "return", which holds all names until another catch-up is in.

// returning is what is remembered of the time before.
type returning struct {
	follow bool                     // nothing the tree has is ours, but what its user did
	old    model.VV                 // what was known, without the ends that others do not share
	forks  map[model.Replica]uint64 // replicas with such an end, and where it begins
	rivals map[model.Dot]bool       // versions, by orig, that what files show has not superseded
}

// flags of a returning row
const (
	returnFollow = 1 << iota
	returnRivals // how many, and these, before the forks
)

// superseded is the version that what a file showed has superseded, of those
// that others have: none if it was not known, or stood beside it.
func (b *returning) superseded(v model.Version) model.Dot {
	if b.old.Has(v.Orig) && !b.rivals[v.Orig] {
		return v.Orig
	}
	return model.Dot{}
}

// clean tells whether a dot is one that a peer with knowledge k knew, too.
func (b *returning) clean(d model.Dot, k model.VV) bool {
	if to, forked := b.forks[d.Replica]; forked && d.Seq > to {
		return false
	}
	return d != (model.Dot{}) && k.Has(d)
}

func (b *returning) encode() []byte {
	v := b.old.Encode()
	out := binary.AppendUvarint([]byte{rowVersion, returnRivals}, uint64(len(v)))
	if b.follow {
		out[1] |= returnFollow
	}
	out = append(out, v...)
	out = binary.AppendUvarint(out, uint64(len(b.rivals)))
	for d := range b.rivals {
		out = binary.BigEndian.AppendUint64(out, uint64(d.Replica))
		out = binary.BigEndian.AppendUint64(out, d.Seq)
	}
	for r, to := range b.forks {
		out = binary.BigEndian.AppendUint64(out, uint64(r))
		out = binary.BigEndian.AppendUint64(out, to)
	}
	return out
}

func (ix *Index) openReturn() error {
	v, err := ix.get(ix.keys.meta("return"))
	if errors.Is(err, ErrNotFound) {
		ix.back = nil
		return nil
	}
	d := &dec{b: v}
	if d.byte() != rowVersion {
		d.fail()
	}
	flags := d.byte()
	b := &returning{follow: flags&returnFollow != 0, forks: map[model.Replica]uint64{}, rivals: map[model.Dot]bool{}}
	old, n := d.s(), uint64(0)
	if flags&returnRivals != 0 {
		n = d.u()
	}
	if n > uint64(len(d.b)/16) {
		d.fail()
		n = 0
	}
	for ; n > 0; n-- {
		b.rivals[model.Dot{Replica: model.Replica(binary.BigEndian.Uint64(d.b)), Seq: binary.BigEndian.Uint64(d.b[8:])}] = true
		d.b = d.b[16:]
	}
	if d.err == nil && err == nil {
		b.old, err = model.DecodeVV([]byte(old))
	}
	for ; len(d.b) >= 16; d.b = d.b[16:] {
		b.forks[model.Replica(binary.BigEndian.Uint64(d.b))] = binary.BigEndian.Uint64(d.b[8:])
	}
	if err = errors.Join(err, d.err); err != nil {
		return fmt.Errorf("return: %w", err)
	}
	ix.back = b
	return nil
}

// Returning tells whether this database has begun anew and is not complete.
func (ix *Index) Returning() bool { return ix.back != nil }

// Rebase begins anew, from a peer with knowledge k and as a new replica: forks
// are the replicas whose histories part, and up to where they agree. It is not
// durable yet.
// After an error the index must be opened anew.
func (ix *Index) Rebase(k model.VV, forks map[model.Replica]Fork, own model.Replica) error {
	if err := ix.keepUnlinked(); err != nil {
		return fmt.Errorf("begin anew: %w", err)
	}
	r := &rebase{ix: ix, t: ix.Begin(), b: ix.db.NewBatch(), k: k, own: own, names: map[nameKey]Drift{}}
	defer r.t.Abort()
	r.remember(forks)
	for _, step := range []func() error{func() error { return r.end(forks) }, r.heldNames, r.rows, r.dropLog} {
		if err := errors.Join(step(), r.t.Err()); err != nil {
			return fmt.Errorf("begin anew: %w", errors.Join(err, r.b.Close()))
		}
	}
	if err := r.b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("begin anew: %w", err)
	}
	return errors.Join(r.b.Close(), ix.reload())
}

// keepUnlinked writes into the history what the user has done away with and is not
// cut yet: when it is, nothing is known any more of what was here.
func (ix *Index) keepUnlinked() error {
	t := ix.Begin()
	removed := map[model.ID]bool{}
	for _, y := range ix.names {
		r := t.rowOf(y.Seen)
		if !y.Ours || r == nil || r.Kind == model.Dir || r.Nlink > 0 {
			continue
		}
		t.Note(y.Seen)
		id := r.owner()
		if id.IsZero() { // it is beginning anew already
			id = r.ID
		}
		removed[id] = !slices.ContainsFunc(ix.DirtySeen(y.Seen), func(k Place) bool { _, ok := t.Entry(k.Dir, k.Name); return ok })
	}
	for k, n := range t.noted {
		if t.inTree(k) {
			continue
		}
		p := t.pastOf(k, n)
		p.Removed, p.Here = removed[k.id], true
		p.Who = t.labelOf(model.Dot{Replica: ix.replica, Seq: ix.K().Get(ix.replica)})
		t.putPast(k, p, model.Dot{}, t.gone())
	}
	clear(t.noted)
	return t.Commit()
}

// inTree tells whether a file, or the conflict copy of it, shows a version under
// some name.
func (t *Tx) inTree(k pastOf) bool {
	return slices.ContainsFunc([]model.ID{k.id, model.ForkID(k.id, k.orig)}, func(id model.ID) bool {
		r := t.rowOf(id)
		return r != nil && r.Nlink > 0 && t.Content(t.Ino(id)) == k.content
	})
}

// reload reads the mirrors of the rows anew.
func (ix *Index) reload() error {
	ix.names, ix.viewed, ix.blocked = map[nameKey]Drift{}, map[model.ID][]nameKey{}, map[nameKey]bool{}
	ix.theirs = map[Ino]set[nameKey]{}
	ix.dirty, ix.bytes = newDirty(), map[Ino]Bytes{}
	ix.undone, ix.wanting, ix.ahead, ix.watch = map[model.ID]bool{}, 0, nil, nil
	ix.sets, ix.setOf, ix.held = map[Place]*flipSet{}, map[Ino]Place{}, map[nameKey]Place{}
	for _, step := range []func() error{ix.openMeta, ix.openReplicas, ix.openHorizon, ix.openReturn, ix.openNewcomer, ix.openDrift} {
		if err := step(); err != nil {
			return fmt.Errorf("reload: %w", err)
		}
	}
	return nil
}

type rebase struct {
	ix    *Index
	t     *Tx // reads
	b     *pebble.Batch
	k     model.VV
	own   model.Replica // from now on
	back  *returning
	names map[nameKey]Drift
	of    map[Ino][]nameKey // of symlinks; nil: not gathered yet
}

// remember says what was known. Who begins anew again before it was complete
// remembers the first time.
func (r *rebase) remember(forks map[model.Replica]Fork) {
	if r.back = r.ix.back; r.back != nil {
		return
	}
	r.back = &returning{follow: r.ix.newcomer != 0, old: r.ix.K(), forks: map[model.Replica]uint64{}, rivals: map[model.Dot]bool{}}
	for rep, f := range forks {
		r.back.forks[rep] = f.Agreed
		r.back.old = r.back.old.Without(model.Dot{Replica: rep, Seq: f.Agreed + 1})
	}
}

func (r *rebase) set(key, val []byte) error { return r.b.Set(key, val, nil) }

func (r *rebase) clear(table byte) error {
	prefix := r.ix.keys.table(table)
	return r.b.DeleteRange(prefix, after(prefix), nil)
}

// heldNames writes the y rows: of all names of the tree, of those that wait for
// bytes, and of those that the user has changed.
func (r *rebase) heldNames() error {
	again := r.ix.back != nil
	for k, y := range r.ix.names {
		if y.View, y.Name = (model.ID{}), ""; !y.Ours {
			y.Pending = y.Pending || !again
			if _, ok := r.t.Entry(k.dir, k.name); again && !ok && !y.Pending {
				continue // the view had it, only now
			}
		}
		y.Held = true
		r.names[k] = y
	}
	err := r.ix.scan(r.ix.keys.table(tableEntry), func(key, v []byte) error {
		k := nameKey{Ino(binary.BigEndian.Uint64(key[5:])), string(key[21:])}
		e, err := decodeEntry(v, k.name)
		if _, done := r.names[k]; done || err != nil || !e.Kind.Replicates() {
			return err
		}
		y := Drift{Held: true}
		if dir := r.t.Row(k.dir); dir != nil {
			y.Placed = r.t.placed(e.Ino, dir.ID, k.name)
		}
		r.names[k] = y
		return nil
	})
	return errors.Join(err, r.clear(tableName))
}

// placed is the change that gave an inode a name, as the view has it.
func (t *Tx) placed(ino Ino, dir model.ID, name string) (d model.Dot) {
	r := t.Row(ino)
	if r == nil || r.ID.IsZero() {
		return d
	}
	if of := t.rowOf(r.Of); !r.Of.IsZero() && of != nil && of.Node != nil && (r.Node == nil || !r.Node.Live()) {
		for _, h := range of.Node.Further() {
			if h.Orig == r.OfOrig {
				return h.Dot
			}
		}
	}
	if r.Node == nil {
		return d
	}
	alive := false
	for i := range r.Node.Links {
		l := &r.Node.Links[i]
		if len(l.Hist) == 0 {
			continue
		}
		x := l.Loc()
		if r.Kind == model.Dir {
			x = model.EffLoc(l.Hist, int(r.Eff))
		}
		same := x.Parent == dir && t.ix.fold(x.Name) == t.ix.fold(name)
		if same && (!l.Dead() || !alive) {
			alive = !l.Dead()
			d = x.Dot
		} else if x.Parent == dir && d == (model.Dot{}) {
			d = x.Dot // it has another name only because others have this one
		}
	}
	return d
}

// rows strips the inodes of what is replicated.
func (r *rebase) rows() error {
	e := r.t.enc()
	bytes := maps.Clone(r.ix.bytes)
	for ino, w := range bytes {
		if !w.Ours {
			delete(bytes, ino)
		}
	}
	ids := map[model.ID]Ino{model.RootID: RootIno}
	err := r.ix.scan(r.ix.keys.table(tableNode), func(key, _ []byte) error {
		ino := Ino(binary.BigEndian.Uint64(key[5:]))
		row, err := decodeCopy(r, ino)
		if err != nil {
			return err
		}
		if r.ix.back == nil {
			r.rival(ino, row)
		}
		if row.Kind != model.Dir && row.Nlink == 0 && !r.ix.orphans[ino] {
			delete(bytes, ino)
			x := r.ix.keys.dir(tableXattr, ino)
			return errors.Join(r.b.Delete(key, nil), r.b.DeleteRange(x, after(x), nil))
		}
		w, ours := bytes[ino]
		if r.strip(ino, row, &w); w.Ours || ours {
			bytes[ino] = w
		}
		if !row.ID.IsZero() {
			ids[row.ID] = ino
		}
		return r.set(r.ix.keys.node(ino), append([]byte(nil), row.encode(e)...))
	})
	for _, table := range []byte{tableID, tableBytes} {
		err = errors.Join(err, r.clear(table))
	}
	for id, ino := range ids {
		err = errors.Join(err, r.set(r.ix.keys.id(id), binary.BigEndian.AppendUint64(nil, uint64(ino))))
	}
	for ino, w := range bytes {
		err = errors.Join(err, r.set(r.ix.keys.bytes(ino), w.encode(e)))
	}
	for k, y := range r.names {
		err = errors.Join(err, r.set(r.ix.keys.entry(tableName, k.dir, k.name), append([]byte(nil), y.encode(k.name, e)...)))
	}
	return err
}

// rival notes versions that are here and that nothing has superseded: those beside
// the one that a file shows, and those of which the bytes never came.
func (r *rebase) rival(ino Ino, row *Row) {
	if v := r.t.Wanted(ino); r.ix.Wants(ino) && v.Dot != (model.Dot{}) {
		r.back.rivals[v.Orig] = true
	}
	if row.Node == nil {
		return
	}
	shown := r.t.ShownOrig(ino)
	if all := row.Node.Shown(); len(all) > 1 {
		for _, h := range all {
			if h.Orig != shown {
				r.back.rivals[h.Orig] = true
			}
		}
	}
}

// decodeCopy reads a row that nobody else has.
func decodeCopy(r *rebase, ino Ino) (*Row, error) {
	v, err := r.ix.get(r.ix.keys.node(ino))
	if err != nil {
		return nil, err
	}
	return decodeRow(v, r.t.dec(), true)
}

// strip leaves a row what is local, and what it shows. Attributes that the peer
// does not know stay as changes of ours.
func (r *rebase) strip(ino Ino, row *Row, w *Bytes) {
	t := r.t
	v := t.Wanted(ino)
	if row.Shown == nil && row.Kind == model.File && !t.ix.Wants(ino) {
		if probe := t.Row(ino); probe != nil {
			t.freeze(ino, probe)
			row.Shown = probe.Shown
			probe.Shown = nil
			delete(t.dirty, ino)
		}
	}
	named := row.Nlink > 0 && (row.Kind != model.Dir || row.Parent != 0)
	if n := row.Node; n != nil && ino != RootIno && named {
		for name, a := range n.Attrs {
			if !r.back.clean(a.Dot, r.k) {
				if w.Touched = w.Touched || name == model.AttrMtime; name != model.AttrMtime {
					w.Set(name)
				}
			}
		}
		w.Touched = w.Touched || v.Orig != v.Dot && r.back.clean(v.Orig, r.k) && !r.back.clean(v.Dot, r.k)
	}
	if (len(w.Attrs) > 0 || w.Touched) && !w.Ours {
		w.Ours, w.Base = true, t.ShownOrig(ino)
	}
	// One that was made here keeps what it was made with, whoever changed it since.
	if row.Kind == model.Symlink && r.ix.back == nil && (row.Node != nil || !row.Of.IsZero()) {
		if row.Target = t.Content(ino); !r.back.clean(t.pointing(row, v).Orig, r.k) {
			row.ID = model.ID{} // only we know where it leads: a new one
			r.forget(ino)
		}
	}
	if r.ix.orphans[ino] && row.Kind != model.Dir {
		row.ID = model.ID{}
	}
	row.Node, row.Of, row.OfOrig, row.Kids, row.Crowd, row.Eff = nil, model.ID{}, model.Dot{}, 0, 0, 0
	if ino == RootIno {
		row.Node = &model.Node{ID: model.RootID, Kind: model.Dir}
	}
}

// forget makes the names of an inode ours.
func (r *rebase) forget(ino Ino) {
	if r.of == nil {
		r.of = map[Ino][]nameKey{}
		for k := range r.names {
			if e, ok := r.t.Entry(k.dir, k.name); ok && e.Kind == model.Symlink {
				r.of[e.Ino] = append(r.of[e.Ino], k)
			}
		}
	}
	for _, k := range r.of[ino] {
		y := r.names[k]
		y.Placed, y.Pending = model.Dot{}, false
		r.names[k] = y
	}
}

// dropLog drops the log and what was known, and takes a new replica id.
func (r *rebase) dropLog() (err error) {
	for _, table := range []byte{tableCrowd, tableUndone, tableBatch, tableBody, tableMark, tableTomb} {
		err = errors.Join(err, r.clear(table))
	}
	reps := r.ix.dict.Load().reps
	for i, rep := range append(reps[:len(reps):len(reps)], Rep{ID: r.own}) {
		err = errors.Join(err, r.set(r.ix.keys.replica(uint32(i)), Rep{ID: rep.ID}.encode()))
	}
	r.ix.setReplica(r.own)
	return errors.Join(err, r.set(r.ix.keys.meta("state"), r.ix.metaState()), r.b.Delete(r.ix.keys.meta("horizon"), nil), r.b.Delete(r.ix.keys.meta("new"), nil),
		r.set(r.ix.keys.meta("return"), r.back.encode()))
}

// hold lets the view move on under names while the tree stays.
func (t *Tx) hold(ns names) {
	clear(t.suspects)
	t.vacated = false
	for k, v := range ns {
		y, ok := t.Drift(k.dir, k.name)
		if _, there := t.Entry(k.dir, k.name); !ok && !there && v.id.IsZero() {
			continue
		}
		y.View, y.Name, y.Held = v.id, v.name, true
		t.SetDrift(k.dir, k.name, &y)
	}
}
