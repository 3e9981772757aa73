package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/model"
)

// Collection: what is removed stays in the rows until all members that count
// know it (model, collect.go). A t row says since when a node may have something
// to collect; it is not taken back when the node lives again, only looked at.

const dayNS = int64(24 * time.Hour)

func (k *keys) tomb(day uint32, id model.ID) []byte {
	return append(binary.BigEndian.AppendUint32(k.table(tableTomb), day), id[:]...)
}

// entomb notes that a node may have something to collect one day.
func (t *Tx) entomb(id model.ID) {
	t.fail(t.b.Set(t.ix.keys.tomb(uint32(t.now()/dayNS), id), nil, nil))
}

// entombSpent notes the nodes of a settled view that are not shown, or have
// parts that say nothing any more.
func (t *Tx) entombSpent(id model.ID, was, now []*model.Entry) {
	for _, e := range was { // the number under which a further version was shown
		if e.Extra {
			t.entomb(e.Node())
		}
	}
	r := t.rowOf(id)
	if r == nil || id == model.RootID || r.Node == nil {
		return
	}
	if len(now) == 0 || r.Node.Spent() {
		t.entomb(id)
	}
}

// Horizon holds all that a member must know for what it says to be joined as it
// is: who does not may hold what was collected here.
func (ix *Index) Horizon() model.VV { return *ix.horizon.Load() }

// SetHorizon moves the horizon, with what was dropped here, forgotten since its
// name was born anew elsewhere, or dropped by the peer of whom the log came.
func (t *Tx) SetHorizon(v model.VV) {
	h := t.ix.Horizon().Join(v)
	t.fail(t.b.Set(t.ix.keys.meta("horizon"), h.Encode(), nil))
	t.ix.horizon.Store(&h)
}

func (ix *Index) openHorizon() error {
	v, err := ix.get(ix.keys.meta("horizon"))
	if errors.Is(err, ErrNotFound) {
		ix.horizon.Store(&model.VV{})
		return nil
	}
	if err != nil {
		return err
	}
	h, err := model.DecodeVV(v)
	ix.horizon.Store(&h)
	return err
}

// Late returns the header of a batch that k lacks and whose author did not know
// all of a horizon, nil if there is none.
func (ix *Index) Late(k, horizon model.VV) (header []byte, err error) {
	if len(horizon) == 0 {
		return nil, nil
	}
	for i, r := range ix.dict.Load().reps {
		from := ix.keys.log(tableBatch, uint32(i), k.Get(r.ID)+1)
		err := scan(ix.db, from, after(ix.keys.replicaOf(tableBatch, uint32(i))), func(_, v []byte) error {
			row, err := decodeBatchRow(v)
			if err != nil {
				return err
			}
			h, err := model.DecodeHeader(row.header)
			if err == nil && !h.Knew(horizon) {
				header, err = row.header, errStop
			}
			return err
		})
		if err != nil || header != nil {
			return header, err
		}
	}
	return nil, nil
}

// A Tomb is a t row.
type Tomb struct {
	day uint32
	ID  model.ID
	ino Ino // of a dead directory, from Collect
}

// Tombs returns at most limit nodes that had something to collect before a
// time, the oldest first, after one.
func (ix *Index) Tombs(before time.Time, after *Tomb, limit int) (out []Tomb, err error) {
	from := ix.keys.table(tableTomb)
	if after != nil {
		from = append(ix.keys.tomb(after.day, after.ID), 0)
	}
	to := ix.keys.tomb(uint32(max(before.UnixNano()/dayNS, 0)), model.ID{})
	err = scan(ix.db, from, to, func(k, _ []byte) error {
		if len(k) != 5+4+16 {
			return errRow
		}
		if len(out) == limit {
			return errStop
		}
		out = append(out, Tomb{day: binary.BigEndian.Uint32(k[5:]), ID: model.ID(k[9:])})
		return nil
	})
	return out, err
}

// A Watch finds which of some dead directories no node is or was in. Only the
// newest hears of what is joined meanwhile, so Collect goes by no other.
type Watch struct {
	mu    sync.Mutex    // guards the rest
	empty map[Ino]bool  // those in which no node has been found yet
	in    map[Ino][]Ino // what has been found in them is these others of them; nil: as good as any node
}

// Watch begins to look, at what Collect returned. The caller holds the apply
// lock; Places, without it, ends it. together: for directories that are or were
// in each other, see CollectTogether.
func (ix *Index) Watch(dirs []Tomb, together bool) *Watch {
	w := &Watch{empty: make(map[Ino]bool, len(dirs))}
	if together {
		w.in = map[Ino][]Ino{}
	}
	for _, x := range dirs {
		w.empty[x.ino] = true
	}
	ix.watch = w
	return w
}

// Places goes through all rows once, beside transactions.
func (ix *Index) Places(w *Watch) error {
	s := ix.db.NewSnapshot()
	d := ix.dec()
	prefix := ix.keys.table(tableNode)
	err := scan(s, prefix, after(prefix), func(k, v []byte) error {
		by := Ino(binary.BigEndian.Uint64(k[len(prefix):]))
		d.id = func(ino Ino) model.ID { // of each place that is decoded
			w.found(ino, by)
			return model.ID{}
		}
		_, err := decodeRow(v, d, true)
		return err
	})
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("look for places: %w", err)
	}
	return nil
}

// found notes that a node is or was in a directory: by, or any if that is 0.
func (w *Watch) found(ino, by Ino) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.empty[ino] || w.in != nil && by == ino {
		return
	}
	if w.in != nil && w.empty[by] {
		w.in[ino] = append(w.in[ino], by)
		return
	}
	delete(w.empty, ino)
}

func (w *Watch) unplaced(ino Ino) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.empty[ino]
}

// Collect drops nodes, and parts of nodes, that are removed and known to all,
// stable being what they know. It returns how many it dropped, and the dead
// directories that stay until a Watch of them, w if not nil, has ended and found
// nothing in them.
func (t *Tx) Collect(stable model.VV, tombs []Tomb, w *Watch) (n int, dirs []Tomb) {
	t.settle()
	busy := t.busy()
	for _, x := range tombs {
		switch t.collect(stable, x.ID, busy, w) {
		case dropped:
			n++
			fallthrough
		case spent:
			t.fail(t.b.Delete(t.ix.keys.tomb(x.day, x.ID), nil))
		case pruned:
			n++
		case deadDir:
			x.ino = t.Ino(x.ID)
			dirs = append(dirs, x)
		}
	}
	if n > 0 && t.err == nil {
		t.SetHorizon(stable)
	}
	return n, dirs
}

// collected is what became of a node that may have had something to collect.
type collected uint8

const (
	stays   collected = iota
	spent             // it has nothing more to collect
	dropped           // and some was dropped
	pruned            // some was dropped, and more is to be
	deadDir           // stays, perhaps only since it is not known whether something is in it
)

// collect drops what can be dropped of one node.
func (t *Tx) collect(stable model.VV, id model.ID, busy map[model.ID]bool, w *Watch) collected {
	ino := t.Ino(id)
	r := t.rowOf(id)
	if r == nil || id == model.RootID {
		return spent
	}
	if t.alive(id) {
		return t.prune(stable, ino, r)
	}
	switch x := t.unused(stable, ino, r, busy); {
	case x != dropped:
		return x
	case r.Kind == model.Dir && (w == nil || t.ix.watch != w || !w.unplaced(ino)):
		return deadDir
	}
	t.drop(ino, r)
	return dropped
}

// unused tells whether a dead node may be dropped, if no node is or was in it.
func (t *Tx) unused(stable model.VV, ino Ino, r *Row, busy map[model.ID]bool) collected {
	_, drift := t.Bytes(ino)
	switch {
	case busy[r.ID] || drift || t.ix.orphans[ino] || r.Kind != model.Dir && r.Nlink > 0:
		return stays
	case r.Node != nil && !r.Node.Collectable(stable):
		return stays
	case r.Kind == model.Dir && (r.Parent != 0 || r.Kids > 0 || r.Crowd > 0 || r.Eff > 0 || t.ix.undone[r.ID] || !t.Empty(ino)):
		return deadDir
	}
	return dropped
}

func (t *Tx) drop(ino Ino, r *Row) {
	if r.Node != nil {
		t.bemoan(dotsOf(r.Node), &model.Node{})
	}
	if r.Xattrs {
		t.dropXattrs(ino)
	}
	t.unbindID(r.ID)
	t.put(ino, nil)
}

// CollectTogether drops those of some dead directories in which a Watch of them
// all, together, has found nothing but each other: they were moved into each other
// before they were removed, so that none can go first.
func (t *Tx) CollectTogether(stable model.VV, tombs []Tomb, w *Watch) (n int) {
	t.settle()
	if t.ix.watch != w {
		return 0
	}
	busy, free := t.busy(), map[Ino]Tomb{}
	for _, x := range tombs {
		r := t.rowOf(x.ID)
		if r != nil && r.Kind == model.Dir && !t.alive(x.ID) && t.unused(stable, x.ino, r, busy) == dropped && w.unplaced(x.ino) {
			free[x.ino] = x
		}
	}
	stays := func(ino Ino, _ Tomb) bool {
		return slices.ContainsFunc(w.in[ino], func(by Ino) bool { _, goes := free[by]; return !goes })
	}
	for was := -1; was != len(free); {
		was = len(free)
		maps.DeleteFunc(free, stays)
	}
	for ino, x := range free {
		t.drop(ino, t.Row(ino))
		t.fail(t.b.Delete(t.ix.keys.tomb(x.day, x.ID), nil))
	}
	if len(free) > 0 && t.err == nil {
		t.SetHorizon(stable)
	}
	return len(free)
}

// busy are the nodes with which something is to be done.
func (t *Tx) busy() map[model.ID]bool {
	busy := map[model.ID]bool{}
	for _, y := range t.ix.names {
		busy[y.View], busy[y.Seen] = true, true
	}
	return busy
}

// prune drops what says nothing any more of a node that is there.
func (t *Tx) prune(stable model.VV, ino Ino, r *Row) collected {
	if r.Node == nil {
		return spent
	}
	before := dotsOf(r.Node)
	some := r.Node.Prune(stable, t.change)
	if some {
		t.bemoan(before, r.Node)
		t.Changed(ino)
	}
	switch more := r.Node.Spent(); {
	case some && more:
		return pruned
	case some:
		return dropped
	case more:
		return stays
	}
	return spent
}

func dotsOf(n *model.Node) (out []model.Dot) {
	n.Dots(func(d model.Dot) { out = append(out, d) })
	return out
}

// bemoan marks as dead the changes that the node does not cite any more.
func (t *Tx) bemoan(before []model.Dot, n *model.Node) {
	for _, d := range before {
		if !cites(n, d) {
			t.dead(d) // with a horizon nothing dead is sent to who may not know it
		}
	}
}

// change reads a change from the log.
func (t *Tx) change(d model.Dot) (c model.Change, deps model.VV, ok bool) {
	k, row, h, err := t.batchOf(d)
	if err == nil && !row.isDead(d.Seq-h.Lo) {
		body := append([]byte(nil), k...)
		body[4] = tableBody
		var v []byte
		if v, err = get(t.b, body); err == nil {
			var leaves []model.Leaf
			if leaves, err = t.ix.seal.Leaves(v); err == nil && d.Seq-h.Lo < uint64(len(leaves)) {
				if b := leaves[d.Seq-h.Lo].Bytes; b != nil {
					c, err = model.DecodeChange(b, d)
					return c, h.Deps, err == nil
				}
			}
		}
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.fail(err)
	}
	return c, nil, false
}

// An Ack is a p row: what a member has said it has, when all of that was known
// here too.
type Ack struct {
	K    model.VV
	Seen time.Time
}

func (k *keys) ack(peer string) []byte { return append(k.table(tablePeer), peer...) }

// Acks reads the p rows.
func (ix *Index) Acks() (map[string]Ack, error) {
	out := map[string]Ack{}
	prefix := ix.keys.table(tablePeer)
	err := ix.scan(prefix, func(k, v []byte) error {
		if len(v) < 9 || v[0] != rowVersion {
			return errRow
		}
		vv, err := model.DecodeVV(v[9:])
		out[string(k[len(prefix):])] = Ack{vv, time.Unix(0, int64(binary.BigEndian.Uint64(v[1:])))}
		return err
	})
	return out, err
}

// SetAck writes a p row, not yet durably: an older one is as good.
func (ix *Index) SetAck(peer string, a Ack) error {
	b := binary.BigEndian.AppendUint64([]byte{rowVersion}, uint64(a.Seen.UnixNano()))
	if err := ix.db.Set(ix.keys.ack(peer), a.K.AppendTo(b), pebble.NoSync); err != nil {
		return fmt.Errorf("store ack: %w", err)
	}
	return nil
}
