package index

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/model"
)

// ErrNotFound means that no row is there.
var ErrNotFound = errors.New("not in the index")

// An Index is the rows of one folder. Reading methods are safe for concurrent
// use; all else belongs to the holder of the folder's apply lock.
type Index struct {
	db      *pebble.DB
	keys    keys
	policy  string // the name policy, by name
	fold    model.Fold
	dict    atomic.Pointer[dict]     // replaced, never changed
	horizon atomic.Pointer[model.VV] // replaced, never changed
	own     atomic.Uint64            // replica, for those without the lock
	looked  atomic.Int64             // when the clock was looked at last (Gaps), ns

	// Of the holder of the apply lock:
	nextIno  Ino
	replica  model.Replica
	lamport  uint64
	names    map[nameKey]Drift      // the y rows
	theirs   map[Ino]set[nameKey]   // of names, by directory, those that are not ours
	viewed   map[model.ID][]nameKey // of names, by what the view has under them
	blocked  map[nameKey]bool       // those of names, ours not, that wait for something else than bytes
	bytes    map[Ino]Bytes          // the w rows
	dirty    dirty                  // those of names and bytes that are ours
	wanting  int                    // those of bytes that are not
	undone   map[model.ID]bool      // the u rows
	orphans  map[Ino]bool           // the o rows
	watch    *Watch                 // the newest; nil: none
	ahead    model.VV               // what the authors of batches that came over gaps knew
	back     *returning             // nil: not beginning anew
	newcomer byte                   // 0: complete once
	sets     map[Place]*flipSet     // what is shown together, when it is complete (flip.go)
	setOf    map[Ino]Place
	held     map[nameKey]Place
	owner    [2]uint32 // uid and gid of what others make
	seal     model.Seal
	clock    func() time.Time
}

// dict numbers the replicas: their numbers stand in rows.
type dict struct {
	reps  []Rep
	index map[model.Replica]uint32
}

// A Rep is what is known of a replica's log.
type Rep struct {
	ID    model.Replica
	Known uint64   // joined up to here, without gaps
	Last  [32]byte // hash of its newest header here
	Hi    uint64   // where that header ends
}

// A nameKey is a name as the folder's policy compares it: folded.
type nameKey struct {
	dir  Ino
	name string
}

// Open opens the rows of a folder, or makes them: without a replica of its own,
// which Rekey gives it. policy says how names are compared: as it was when the
// rows were made, which "" stands for. uid and gid own what others make.
func Open(db *pebble.DB, folder uint32, policy string, uid, gid uint32) (*Index, error) {
	ix := &Index{db: db, keys: keys{folder: folder}, policy: policy, owner: [2]uint32{uid, gid}, clock: time.Now,
		names: map[nameKey]Drift{}, theirs: map[Ino]set[nameKey]{}, viewed: map[model.ID][]nameKey{}, blocked: map[nameKey]bool{}, dirty: newDirty(), bytes: map[Ino]Bytes{}, undone: map[model.ID]bool{}, orphans: map[Ino]bool{}}
	ix.sets, ix.setOf, ix.held = map[Place]*flipSet{}, map[Ino]Place{}, map[nameKey]Place{}
	ix.dict.Store(&dict{index: map[model.Replica]uint32{}})
	for _, step := range []func() error{ix.openMeta, ix.openPolicy, ix.openHorizon, ix.openReplicas, ix.openAhead, ix.openReturn, ix.openNewcomer, ix.openDrift, ix.dropOrphans} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("open index: %w", err)
		}
	}
	return ix, nil
}

func (ix *Index) openMeta() error {
	v, err := ix.get(ix.keys.meta("state"))
	if errors.Is(err, ErrNotFound) {
		return ix.create()
	}
	if err != nil {
		return err
	}
	if len(v) != 41 || v[0] != rowVersion {
		return errRow
	}
	if ix.keys.hash != [16]byte(v[1:17]) { // never again: readers have no lock
		copy(ix.keys.hash[:], v[1:17])
	}
	ix.setReplica(model.Replica(binary.BigEndian.Uint64(v[17:])))
	ix.nextIno = Ino(binary.BigEndian.Uint64(v[25:]))
	ix.lamport = binary.BigEndian.Uint64(v[33:])
	return nil
}

func (ix *Index) setReplica(r model.Replica) {
	ix.replica = r
	ix.own.Store(uint64(r))
}

// openPolicy finds out how names are compared. That stands in the keys and in
// the ids of nodes, so it cannot change.
func (ix *Index) openPolicy() error {
	v, err := ix.get(ix.keys.meta("names"))
	if errors.Is(err, ErrNotFound) { // of before there were policies
		v, err = []byte(model.NamesBytes), nil
	}
	if err != nil {
		return err
	}
	if is := string(v); ix.policy != "" && ix.policy != is {
		return fmt.Errorf("%w %q cannot become %q", model.ErrNames, is, ix.policy)
	}
	ix.policy = string(v)
	ix.fold, err = model.FoldOf(ix.policy)
	return err
}

func (ix *Index) metaState() []byte {
	b := append([]byte{rowVersion}, ix.keys.hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(ix.replica))
	b = binary.BigEndian.AppendUint64(b, uint64(ix.nextIno))
	return binary.BigEndian.AppendUint64(b, ix.lamport)
}

// create makes an empty folder: a root directory.
func (ix *Index) create() error {
	if _, err := model.FoldOf(ix.policy); err != nil {
		return err
	}
	rand.Read(ix.keys.hash[:])
	ix.nextIno = RootIno + 1
	t := ix.Begin()
	t.fail(t.b.Set(ix.keys.meta("names"), []byte(cmp.Or(ix.policy, model.NamesBytes)), nil))
	now := t.now()
	t.put(RootIno, &Row{ID: model.RootID, Kind: model.Dir, Mode: 0o755, Nlink: 2, Parent: RootIno,
		UID: ix.owner[0], GID: ix.owner[1], Atime: now, Mtime: now, Ctime: now, Btime: now,
		Node: &model.Node{ID: model.RootID, Kind: model.Dir}})
	t.bindID(model.RootID, RootIno)
	return t.Commit()
}

func (ix *Index) openReplicas() error {
	d := &dict{index: map[model.Replica]uint32{}}
	err := ix.scan(ix.keys.table(tableRep), func(k, v []byte) error {
		if len(v) != 57 || v[0] != rowVersion || binary.BigEndian.Uint32(k[5:]) != uint32(len(d.reps)) {
			return errRow
		}
		r := Rep{ID: model.Replica(binary.BigEndian.Uint64(v[1:])), Known: binary.BigEndian.Uint64(v[9:]),
			Hi: binary.BigEndian.Uint64(v[17:]), Last: [32]byte(v[25:])}
		d.index[r.ID] = uint32(len(d.reps))
		d.reps = append(d.reps, r)
		return nil
	})
	ix.dict.Store(d)
	return err
}

func (r Rep) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{rowVersion}, uint64(r.ID))
	b = binary.BigEndian.AppendUint64(b, r.Known)
	b = binary.BigEndian.AppendUint64(b, r.Hi)
	return append(b, r.Last[:]...)
}

// setName is the one way to change names.
func (ix *Index) setName(k nameKey, y *Drift) {
	if old := ix.names[k].View; !old.IsZero() && (y == nil || old != y.View) {
		ix.unview(old, k)
	}
	if y == nil || y.Ours {
		if delete(ix.theirs[k.dir], k); len(ix.theirs[k.dir]) == 0 {
			delete(ix.theirs, k.dir)
		}
	}
	if y == nil {
		delete(ix.names, k)
		return
	}
	if !y.Ours {
		if ix.theirs[k.dir] == nil {
			ix.theirs[k.dir] = set[nameKey]{}
		}
		ix.theirs[k.dir][k] = struct{}{}
	}
	if is := ix.viewed[y.View]; !y.View.IsZero() && !slices.Contains(is, k) {
		ix.viewed[y.View] = append(is, k)
	}
	ix.names[k] = *y
}

func (ix *Index) unview(id model.ID, k nameKey) {
	is := ix.viewed[id]
	i := slices.Index(is, k)
	if i < 0 {
		return
	}
	last := len(is) - 1
	is[i], is[last] = is[last], nameKey{}
	if ix.viewed[id] = is[:last]; last == 0 {
		delete(ix.viewed, id)
	}
}

func (ix *Index) openDrift() error {
	d := ix.dec()
	err := ix.scan(ix.keys.table(tableName), func(k, v []byte) error {
		if len(k) < 5+16 {
			return errRow
		}
		at := nameKey{Ino(binary.BigEndian.Uint64(k[5:])), string(k[21:])}
		y, err := decodeDrift(v, at.name, d)
		if err != nil {
			return errRow
		}
		ix.setName(at, &y)
		if !y.Ours {
			if !y.Held {
				ix.blocked[at] = true // perhaps: it is tried
			}
			return nil
		}
		e, err := ix.Lookup(at.dir, at.name)
		ix.dirty.add(Place{at.dir, at.name}, y, e)
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil {
		return err
	}
	err = ix.scan(ix.keys.table(tableBytes), func(k, v []byte) error {
		w, err := decodeBytes(v, d)
		if err != nil {
			return err
		}
		ino := Ino(binary.BigEndian.Uint64(k[5:]))
		if ix.bytes[ino] = w; !w.Ours {
			ix.wanting++
			return nil
		}
		r, err := ix.Attr(ino)
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		if r == nil || r.Kind.Replicates() {
			ix.dirty.assign(ino, groupOf(ino, r))
		}
		return err
	})
	if err != nil {
		return err
	}
	return ix.scan(ix.keys.table(tableUndone), func(k, _ []byte) error {
		ix.undone[model.ID(k[5:])] = true
		return nil
	})
}

// dropOrphans deletes what was unlinked and open when the last run ended.
func (ix *Index) dropOrphans() error {
	err := ix.scan(ix.keys.table(tableOrphan), func(k, _ []byte) error {
		ix.orphans[Ino(binary.BigEndian.Uint64(k[5:]))] = true
		return nil
	})
	if err != nil || len(ix.orphans) == 0 {
		return err
	}
	t := ix.Begin()
	for ino := range ix.orphans {
		t.DropOrphan(ino)
	}
	return t.Commit()
}

// SetClock gives the times that files get when others change them.
func (ix *Index) SetClock(now func() time.Time) { ix.clock = now }

// Replica is this database's own.
func (ix *Index) Replica() model.Replica { return model.Replica(ix.own.Load()) }

// Lamport is the largest Lamport time seen.
func (ix *Index) Lamport() uint64 { return ix.lamport }

// K is all that has been joined.
func (ix *Index) K() model.VV {
	var v model.VV
	for _, r := range ix.dict.Load().reps {
		if r.Known > 0 {
			v = append(v, model.Dot{Replica: r.ID, Seq: r.Known})
		}
	}
	slices.SortFunc(v, func(a, b model.Dot) int { return cmp.Compare(a.Replica, b.Replica) })
	return v
}

// openAhead finds the batches that came over gaps.
func (ix *Index) openAhead() error {
	for i, r := range ix.dict.Load().reps {
		if r.Hi <= r.Known {
			continue
		}
		err := scan(ix.db, ix.keys.log(tableBatch, uint32(i), r.Known+1), after(ix.keys.log(tableBatch, uint32(i), ^uint64(0))), func(_, v []byte) error {
			row, err := decodeBatchRow(v)
			if err != nil {
				return err
			}
			h, err := model.DecodeHeader(row.header)
			ix.ahead = ix.ahead.Join(h.Deps)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Joined is all that has been joined in part: K, and what came over gaps with
// all that its authors knew. What is in a gap is dead, so an author may say that
// he knew it; but K may not, since what has superseded it may not have come yet.
func (ix *Index) Joined() model.VV {
	v := ix.K().Join(ix.ahead)
	for _, r := range ix.dict.Load().reps {
		v = v.With(model.Dot{Replica: r.ID, Seq: r.Hi})
	}
	return v
}

// Fold makes equal what the folder takes for one name.
func (ix *Index) Fold(s string) string { return ix.fold(s) }

// Policy is the name policy.
func (ix *Index) Policy() string { return ix.policy }

func (ix *Index) get(key []byte) ([]byte, error) { return get(ix.db, key) }

func get(r pebble.Reader, key []byte) ([]byte, error) {
	v, c, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	out := append([]byte(nil), v...)
	return out, c.Close()
}

// scan calls f with each row whose key begins with prefix.
func (ix *Index) scan(prefix []byte, f func(k, v []byte) error) error {
	return scan(ix.db, prefix, after(prefix), f)
}

// errStop, returned by who is called with each of many, ends the calls.
var errStop = errors.New("stop")

func scan(r pebble.Reader, from, to []byte, f func(k, v []byte) error) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("scan index: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = f(it.Key(), v)
		}
		if err != nil {
			return errors.Join(ignoreStop(err), it.Close())
		}
	}
	return it.Close()
}

func ignoreStop(err error) error {
	if err == errStop {
		return nil
	}
	return err
}

// dec decodes without the replicated part's directories: for readers.
func (ix *Index) dec() *dec {
	d := ix.dict.Load()
	return &dec{
		rep: func(i uint32) model.Replica {
			if int(i) >= len(d.reps) {
				return 0
			}
			return d.reps[i].ID
		},
		id: func(Ino) model.ID { return model.ID{} },
	}
}

// Attr returns the local part of an inode's row.
func (ix *Index) Attr(ino Ino) (*Row, error) {
	v, c, err := ix.db.Get(ix.keys.node(ino))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read inode %d: %w", ino, err)
	}
	r, err := decodeRow(v, ix.dec(), false)
	return r, errors.Join(err, c.Close())
}

// Known is Attr for an inode that programs may know, as Tx.Inode.
func (ix *Index) Known(ino Ino) (*Row, error) {
	r, err := ix.Attr(ino)
	if err != nil || r.named() || ino == RootIno {
		return r, err
	}
	_, c, err := ix.db.Get(ix.keys.orphan(ino))
	if err == nil {
		return r, c.Close()
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("read inode %d: %w", ino, err)
	}
	if r, err = ix.Attr(ino); err == nil && !r.named() { // it was not given a name between the two reads
		err = ErrNotFound
	}
	return r, err
}

// An Entry is a d row.
type Entry struct {
	Ino  Ino
	Kind model.Kind
	Name string // as it is spelt
}

// encode leaves out a name that is spelt as its key.
func (e Entry) encode(key string) []byte {
	b := append(binary.AppendUvarint(nil, uint64(e.Ino)), byte(e.Kind))
	if e.Name != key {
		b = append(b, e.Name...)
	}
	return b
}

func decodeEntry(b []byte, key string) (Entry, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || len(b) <= n {
		return Entry{}, errRow
	}
	e := Entry{Ino(v), model.Kind(b[n]), key}
	if len(b) > n+1 {
		e.Name = string(b[n+1:])
	}
	return e, nil
}

// Lookup returns what the tree has under a name, however it is spelt there.
func (ix *Index) Lookup(dir Ino, name string) (Entry, error) {
	name = ix.fold(name)
	v, c, err := ix.db.Get(ix.keys.entry(tableEntry, dir, name))
	if errors.Is(err, pebble.ErrNotFound) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("look up: %w", err)
	}
	e, err := decodeEntry(v, name)
	return e, errors.Join(err, c.Close())
}

// Page calls yield with the entries of a directory that stand after the cookie.
func (ix *Index) Page(dir Ino, cookie uint64, yield func(cookie uint64, e Entry) bool) error {
	prefix := ix.keys.dir(tableEntry, dir)
	from := prefix
	if cookie > 0 {
		from = binary.BigEndian.AppendUint64(append([]byte(nil), prefix...), cookie+1)
	}
	return scan(ix.db, from, after(prefix), func(k, v []byte) error {
		e, err := decodeEntry(v, string(k[21:]))
		if err != nil {
			return err
		}
		if !yield(binary.BigEndian.Uint64(k[13:]), e) {
			return errStop
		}
		return nil
	})
}

// Xattr returns an extended attribute as shown here.
func (ix *Index) Xattr(ino Ino, name string) ([]byte, error) { return ix.get(ix.keys.xattr(ino, name)) }

// Xattrs lists the extended attributes of an inode.
func (ix *Index) Xattrs(ino Ino, yield func(name string, val []byte) bool) error {
	prefix := ix.keys.dir(tableXattr, ino)
	return ix.scan(prefix, func(k, v []byte) error {
		if !yield(string(k[len(prefix):]), v) {
			return errStop
		}
		return nil
	})
}

// Delete removes all rows of a folder from the database, but for those of its
// blocks.
func Delete(db *pebble.DB, folder uint32) error {
	k := keys{folder: folder}
	b := db.NewBatch()
	for _, t := range []byte{tableNode, tableID, tableEntry, tableCrowd, tableUndone, tableName, tableBytes,
		tableXattr, tableOrphan, tableRep, tableBatch, tableBody, tableMark, tableMeta, tablePast, tableExpiry, tableTomb, tablePeer, tableSeen} {
		prefix := k.table(t)
		if err := b.DeleteRange(prefix, after(prefix), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return errors.Join(b.Commit(pebble.Sync), b.Close())
}
