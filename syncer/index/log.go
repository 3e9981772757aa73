package index

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/model"
)

// A b row: version, twice the number of changes plus one if it came stubbed, a
// bit for each dead one, header bytes.
type batchRow struct {
	n       uint64
	stubbed bool // some of its changes never came: K moves over it only when a catch-up ends
	dead    []byte
	header  []byte
}

func (r batchRow) encode() []byte {
	n := r.n << 1
	if r.stubbed {
		n |= 1
	}
	b := binary.AppendUvarint([]byte{rowVersion}, n)
	b = append(b, r.dead...)
	return append(b, r.header...)
}

func decodeBatchRow(v []byte) (r batchRow, err error) {
	d := &dec{b: v}
	if d.byte() != rowVersion {
		d.fail()
	}
	n := d.u()
	r.n, r.stubbed = n>>1, n&1 != 0
	bits := (r.n + 7) / 8
	if r.n > model.MaxBatchChanges || uint64(len(d.b)) < bits {
		d.fail()
	}
	if d.err != nil {
		return r, d.err
	}
	r.dead = append([]byte(nil), d.b[:bits]...)
	r.header = append([]byte(nil), d.b[bits:]...)
	return r, nil
}

func (r batchRow) isDead(i uint64) bool { return r.dead[i/8]&(1<<(i%8)) != 0 }

func (r batchRow) live() (n uint64) {
	for i := range r.n {
		if !r.isDead(i) {
			n++
		}
	}
	return n
}

// Has tells whether a batch has been joined, with all the changes that came now:
// who sent it before may have had fewer, the others being dead there by what has
// not come yet.
func (t *Tx) Has(h model.Header, changes []model.Change) bool {
	i, known := t.ix.dict.Load().index[h.Replica]
	if !known || t.rep(h.Replica).Known >= h.Hi {
		return known
	}
	v, err := get(t.b, t.ix.keys.log(tableBatch, i, h.Hi))
	if err != nil {
		return false
	}
	row, err := decodeBatchRow(v)
	t.fail(err)
	if err != nil || !row.stubbed {
		return true
	}
	for i, c := range changes {
		if !c.ID.IsZero() && row.isDead(uint64(i)) {
			return false
		}
	}
	return true
}

// AddBatch joins the changes of a verified batch, logs it with what is here of it
// already, and moves what is known if nothing is missing before it. A dropped change
// has no id.
func (t *Tx) AddBatch(h model.Header, b model.Batch, changes []model.Change) {
	news := changes
	b, changes = t.unite(h, b, changes)
	t.log(h, b, changes)
	whole := t.rep(h.Replica).Known == h.Lo-1 && h.Deps.LE(t.ix.K()) && !stubbed(changes)
	if !whole {
		t.over = t.over.With(model.Dot{Replica: h.Replica, Seq: h.Hi})
	}
	for _, c := range news {
		if !c.ID.IsZero() {
			t.Apply(c, h.Deps)
		}
	}
	t.bury(h, changes)
	if whole {
		t.Know(model.VV{{Replica: h.Replica, Seq: h.Hi}})
	} else {
		t.ix.ahead = t.ix.ahead.Join(h.Deps)
	}
}

// unite adds to a batch the changes that it lacks and that came before.
func (t *Tx) unite(h model.Header, b model.Batch, changes []model.Change) (model.Batch, []model.Change) {
	if !stubbed(changes) {
		return b, changes
	}
	v, err := get(t.b, t.ix.keys.log(tableBody, t.number(h.Replica), h.Hi))
	if errors.Is(err, ErrNotFound) {
		return b, changes
	}
	here, herr := t.ix.seal.Leaves(v)
	all, aerr := t.ix.seal.Leaves(b.Body)
	for i := range min(len(all), len(here)) {
		if all[i].Bytes == nil {
			all[i].Bytes = here[i].Bytes
		}
	}
	whole := model.Batch{Header: b.Header, Body: model.Stub(all)}
	_, changes, derr := t.ix.seal.Decode(whole)
	t.fail(errors.Join(err, herr, aerr, derr))
	return whole, changes
}

// LogOwn logs a batch of this replica, whose changes are applied already.
func (t *Tx) LogOwn(h model.Header, b model.Batch, changes []model.Change) {
	t.log(h, b, changes)
	t.bury(h, changes)
	t.Know(model.VV{{Replica: h.Replica, Seq: h.Hi}})
}

func stubbed(changes []model.Change) bool {
	return slices.ContainsFunc(changes, func(c model.Change) bool { return c.ID.IsZero() })
}

func (t *Tx) log(h model.Header, b model.Batch, changes []model.Change) {
	ridx := t.number(h.Replica)
	for _, d := range h.Deps {
		t.number(d.Replica)
	}
	row := batchRow{n: uint64(len(changes)), stubbed: stubbed(changes), dead: make([]byte, (len(changes)+7)/8), header: b.Header}
	t.fail(t.b.Set(t.ix.keys.log(tableBatch, ridx, h.Hi), row.encode(), nil))
	t.fail(t.b.Set(t.ix.keys.log(tableBody, ridx, h.Hi), b.Body, nil))
	t.mark(ridx, model.MarkOf(h, b), nil)
	if h.Lo/KeptMarks != (h.Hi+1)/KeptMarks {
		t.thin(ridx, h.Hi)
	}
	if r := t.rep(h.Replica); h.Hi > r.Hi {
		r.Hi, r.Last = h.Hi, model.HeaderHash(b.Header)
		t.setRep(r)
	}
	t.age(ridx, h)
}

// bury marks the changes that nothing cites: superseded before they came.
func (t *Tx) bury(h model.Header, changes []model.Change) {
	for i, c := range changes {
		d := model.Dot{Replica: h.Replica, Seq: h.Lo + uint64(i)}
		if n := t.Node(c.ID); c.ID.IsZero() || n == nil || !cites(n, d) {
			t.dead(d)
		}
	}
}

// dead tells that no field of a node cites the dot any more. A batch of dead
// changes goes; of one more than half dead only the live changes stay.
func (t *Tx) dead(d model.Dot) {
	k, row, h, err := t.batchOf(d)
	if errors.Is(err, ErrNotFound) {
		return // a change of the cut in the making
	}
	if t.fail(err); err != nil || row.isDead(d.Seq-h.Lo) {
		return
	}
	row.dead[(d.Seq-h.Lo)/8] |= 1 << ((d.Seq - h.Lo) % 8)
	body := append([]byte(nil), k...)
	body[4] = tableBody
	live := row.live()
	if live == 0 {
		t.keepHeader(t.number(h.Replica), h, row.header)
		t.fail(t.b.Delete(k, nil))
		t.fail(t.b.Delete(body, nil))
		return
	}
	t.fail(t.b.Set(k, row.encode(), nil))
	if live*2 < row.n {
		t.thinned[string(k)] = true
	}
}

// stubAll does so with the batches in which changes have died, each once.
func (t *Tx) stubAll() {
	for k := range t.thinned {
		v, err := get(t.b, []byte(k))
		if errors.Is(err, ErrNotFound) {
			continue // all of it is dead
		}
		row, rerr := decodeBatchRow(v)
		if t.fail(cmp.Or(err, rerr)); t.err != nil {
			return
		}
		body := []byte(k)
		body[4] = tableBody
		t.stub(body, row)
	}
	clear(t.thinned)
}

// stub replaces the bytes of dead changes by their hashes, once more than half
// of those still there are dead.
func (t *Tx) stub(key []byte, row batchRow) {
	v, err := get(t.b, key)
	if t.fail(err); err != nil {
		return
	}
	leaves, err := t.ix.seal.Leaves(v)
	if t.fail(err); err != nil || uint64(len(leaves)) != row.n {
		return
	}
	full, dead := 0, 0
	for i, l := range leaves {
		if l.Bytes != nil {
			full++
			if row.isDead(uint64(i)) {
				dead++
			}
		}
	}
	if dead*2 <= full {
		return
	}
	for i := range leaves {
		if row.isDead(uint64(i)) {
			leaves[i].Bytes = nil
		}
	}
	t.fail(t.b.Set(key, model.Stub(leaves), nil))
}

// batchOf finds the batch that a dot belongs to.
func (t *Tx) batchOf(d model.Dot) (key []byte, row batchRow, h model.Header, err error) {
	i, ok := t.ix.dict.Load().index[d.Replica]
	if !ok {
		return nil, row, h, ErrNotFound
	}
	err = scan(t.b, t.ix.keys.log(tableBatch, i, d.Seq), after(t.ix.keys.log(tableBatch, i, ^uint64(0))), func(k, v []byte) error {
		if row, err = decodeBatchRow(v); err == nil {
			h, err = model.DecodeHeader(row.header)
		}
		if err == nil && h.Lo <= d.Seq {
			key = append([]byte(nil), k...)
		}
		return cmp.Or(err, errStop)
	})
	if err == nil && key == nil {
		err = ErrNotFound
	}
	return key, row, h, err
}

// Origin implements model.State.
func (t *Tx) Origin(d model.Dot) model.Origin {
	if t.author != nil && t.author.Own(d) {
		return t.author.Origin(d)
	}
	if o, ok := t.origins[d]; ok {
		return o
	}
	_, _, h, err := t.batchOf(d)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			t.fail(err)
		}
		return model.Origin{}
	}
	o := model.Origin{K: h.Deps.With(model.Dot{Replica: d.Replica, Seq: d.Seq - 1}), Lo: h.Lo,
		By: model.Label{Author: h.Author, Device: h.Device}, UTC: h.UTC}
	t.origins[d] = o // who made what is told once, by a header
	return o
}

// Know moves what is known: everything up to k has been joined, or is dead.
func (t *Tx) Know(k model.VV) {
	for _, d := range k {
		if r := t.rep(d.Replica); d.Seq > r.Known {
			r.Known = d.Seq
			t.setRep(r)
		}
	}
	t.advance()
}

// advance takes in batches that were joined before what was missing in front of
// them became known.
func (t *Tx) advance() {
	for again := true; again; {
		again = false
		for i, r := range t.ix.dict.Load().reps {
			if r.Hi <= r.Known {
				continue
			}
			v, h := []byte(nil), model.Header{}
			t.fail(scan(t.b, t.ix.keys.log(tableBatch, uint32(i), r.Known+1), after(t.ix.keys.log(tableBatch, uint32(i), ^uint64(0))),
				func(_, val []byte) error { v = append(v, val...); return errStop }))
			row, err := decodeBatchRow(v)
			if v == nil || err != nil || row.stubbed {
				continue
			}
			if h, err = model.DecodeHeader(row.header); err == nil && h.Lo == r.Known+1 && h.Deps.LE(t.ix.K()) {
				r.Known = h.Hi
				t.setRep(r)
				again = true
			}
		}
	}
}

// NewAuthor begins a cut: its changes are those of this replica.
func (t *Tx) NewAuthor(by model.Label, utc int64) *model.Author {
	t.settle()
	k := t.ix.Joined()
	a := &model.Author{State: t, K: k, Lacks: lacks(t.ix.K(), k), Replica: t.ix.replica, Lamport: min(t.ix.lamport, k.Latest()), By: by, Now: utc}
	t.author = a
	return a
}

// lacks is where k ends, of those of which joined has more.
func lacks(k, joined model.VV) (out model.VV) {
	for _, d := range joined {
		if known := k.Get(d.Replica); known < d.Seq {
			out = append(out, model.Dot{Replica: d.Replica, Seq: known + 1})
		}
	}
	return out
}

// Head is what the next batch of this replica follows.
func (t *Tx) Head() [32]byte { return t.rep(t.ix.replica).Last }

// A Snap is the log as it stands, marks included: what is read of it does not
// change meanwhile.
type Snap struct {
	ix   *Index
	snap *pebble.Snapshot
	dict *dict
	hor  model.VV
	K    model.VV // all that is in it
}

// Snapshot takes a Snap; the caller holds the apply lock. It must be closed.
func (ix *Index) Snapshot() *Snap {
	return &Snap{ix: ix, snap: ix.db.NewSnapshot(), dict: ix.dict.Load(), hor: ix.Horizon(), K: ix.K()}
}

// Close releases the snapshot.
func (s *Snap) Close() error { return s.snap.Close() }

// next is the batch of a replica that is to be sent next.
type next struct {
	ridx uint32
	id   model.Replica
	hi   uint64
	deps model.VV
	row  batchRow
}

// Since yields the batches that k lacks as they were signed, each after all
// that it depends on: a merge of the replicas' logs by deps. What is missing in
// them is dead: superseded by something that is sent. So what came over gaps
// here is sent too, though K does not claim it: after over, up to which the peer
// has been sent that before. Who may not know what was collected here gets no dead
// changes: what overcame them may be gone.
func (s *Snap) Since(k, over model.VV) iter.Seq2[model.Batch, error] {
	return func(yield func(model.Batch, error) bool) {
		var heads []*next
		sent := s.K.Meet(k)
		step := func(x *next, from uint64) error {
			if from > s.K.Get(x.id) {
				from = max(from, over.Get(x.id)+1)
			}
			more, lo, err := s.fetch(x, from)
			if more {
				heads = append(heads, x)
			}
			sent = sent.With(model.Dot{Replica: x.id, Seq: lo - 1})
			return err
		}
		for i, r := range s.dict.reps {
			if max(r.Known, r.Hi) > k.Get(r.ID) {
				if err := step(&next{ridx: uint32(i), id: r.ID}, k.Get(r.ID)+1); err != nil {
					yield(model.Batch{}, err)
					return
				}
			}
		}
		for len(heads) > 0 {
			i := max(slices.IndexFunc(heads, func(x *next) bool { return x.deps.LE(sent) }), 0)
			x := heads[i]
			heads = slices.Delete(heads, i, i+1)
			body, err := get(s.snap, s.ix.keys.log(tableBody, x.ridx, x.hi))
			if err == nil && !s.hor.LE(k) {
				body, err = s.ix.withoutDead(body, x.row)
			}
			if err != nil {
				yield(model.Batch{}, err)
				return
			}
			if !yield(model.Batch{Header: x.row.header, Body: body}, nil) {
				return
			}
			if err := step(x, x.hi+1); err != nil {
				yield(model.Batch{}, err)
				return
			}
		}
	}
}

// withoutDead is the body of a batch with hashes in place of dead changes.
func (ix *Index) withoutDead(body []byte, row batchRow) ([]byte, error) {
	leaves, err := ix.seal.Leaves(body)
	if err != nil {
		return nil, err
	}
	for i := range leaves {
		if uint64(i) < row.n && row.isDead(uint64(i)) {
			leaves[i].Bytes = nil
		}
	}
	return model.Stub(leaves), nil
}

// fetch finds the next batch of x's replica and where it begins; without one,
// all there is has been sent.
func (s *Snap) fetch(x *next, from uint64) (more bool, lo uint64, err error) {
	r := s.dict.reps[x.ridx]
	limit := max(r.Known, r.Hi)
	lo = limit + 1
	err = scan(s.snap, s.ix.keys.log(tableBatch, x.ridx, from), s.ix.keys.log(tableBatch, x.ridx, limit+1), func(k, v []byte) error {
		row, err := decodeBatchRow(v)
		if err != nil {
			return err
		}
		h, err := model.DecodeHeader(row.header)
		x.hi, x.deps, x.row = binary.BigEndian.Uint64(k[9:]), h.Deps, row
		more, lo = true, h.Lo
		return cmp.Or(err, errStop)
	})
	return more, lo, err
}

// Removed yields the nodes from which some name was removed by a change that k
// does not hold.
func (t *Tx) Removed(k model.VV, yield func(model.ID)) {
	for i, r := range t.ix.dict.Load().reps {
		from := t.ix.keys.log(tableBody, uint32(i), k.Get(r.ID)+1)
		t.fail(scan(t.b, from, after(t.ix.keys.log(tableBody, uint32(i), ^uint64(0))), func(_, v []byte) error {
			leaves, err := t.ix.seal.Leaves(v)
			for _, l := range leaves {
				if l.Bytes == nil || err != nil {
					continue
				}
				c, err := model.DecodeChange(l.Bytes, model.Dot{Replica: r.ID, Seq: 1})
				if err != nil {
					return fmt.Errorf("log: %w", err)
				}
				for _, x := range c.Links {
					if x.Removed {
						yield(c.ID)
						break
					}
				}
			}
			return err
		}))
	}
}

// SetSeal says how the folder's batches are bound to it.
func (ix *Index) SetSeal(s model.Seal) { ix.seal = s }

// LogSize is the number of batches and of bytes in the log.
func (ix *Index) LogSize() (n int, bytes int64, err error) {
	for _, table := range []byte{tableBatch, tableBody} {
		err = errors.Join(err, ix.scan(ix.keys.table(table), func(k, v []byte) error {
			if table == tableBatch {
				n++
			}
			bytes += int64(len(k) + len(v))
			return nil
		}))
	}
	return n, bytes, err
}
