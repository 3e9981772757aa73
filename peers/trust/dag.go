package trust

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

const (
	maxParked = 512
	// maxMinorOps and maxMinorBytes bound an op of an author below admin: the ops
	// of such authors in its past that are not in an admin's, itself included, and
	// its size.
	maxMinorOps   = 256
	maxMinorBytes = 8 << 10
	// maxSpare and maxSpareBytes bound what is of no use but may be yet. One op of
	// an admin puts no more than 2*maxMinorOps to use.
	maxSpare      = 2048
	maxSpareBytes = 16 << 20
)

// load links the ops that are stored. Those that lack one are passed over: the
// others send again what counts. Whose changes were taken is not stored beside
// them: all that are here may be such.
func (l *Log) load(ops []*op) error {
	slices.SortFunc(ops, compareOps)
	for _, o := range ops {
		if l.lacks(o) || l.link(o) != nil {
			continue
		}
		o.kept = true
		l.kept++
		if o.given >= Writer {
			l.took[o.gives] = true
		}
	}
	if l.kept == 0 {
		return fmt.Errorf("%w: no first op", ErrOp)
	}
	_, err := l.settle()
	return err
}

// take links o and what waited for it, or parks it. settle is to follow.
func (l *Log) take(o *op) (err error) {
	for queue := []*op{o}; len(queue) > 0; queue = queue[1:] {
		o := queue[0]
		l.clock++
		if old := l.byHash[o.hash]; old != nil {
			old.at = l.clock
			continue
		}
		if l.lacks(o) {
			l.park(o)
			continue
		}
		o.at = l.clock
		if bad := l.link(o); bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		l.parked = slices.DeleteFunc(l.parked, func(w *op) bool {
			due := slices.Contains(w.prev, o.hash) && !l.lacks(w)
			if due {
				queue = append(queue, w)
			}
			return due
		})
	}
	return err
}

func (l *Log) park(o *op) {
	if l.authors[o.author] == None || slices.ContainsFunc(l.parked, func(w *op) bool { return w.hash == o.hash }) {
		return
	}
	if len(l.parked) == maxParked {
		l.parked = l.parked[1:]
	}
	l.parked = append(l.parked, o)
}

func (l *Log) lacks(o *op) bool {
	return slices.ContainsFunc(o.prev, func(h Hash) bool { return l.byHash[h] == nil })
}

// sorted returns all ops that are linked, in order.
func (l *Log) sorted() []*op {
	return slices.SortedFunc(maps.Values(l.byHash), compareOps)
}

// past checks o against its causal past, and returns that past's evaluation.
func (l *Log) past(o *op) (*state, error) {
	if o.kind == Genesis {
		if o.folder != l.id || len(l.byHash) > 0 {
			return nil, fmt.Errorf("%w: another first op", ErrOp)
		}
		return newState(), nil
	}
	var lamport uint64
	for _, h := range o.prev {
		p := l.byHash[h]
		if p == nil {
			return nil, fmt.Errorf("%w: prev is missing", ErrOp)
		}
		lamport = max(lamport, p.lamport+1)
	}
	if o.lamport != lamport {
		return nil, fmt.Errorf("%w: lamport %d, not %d", ErrOp, o.lamport, lamport)
	}
	base := l.before(o.prev)
	if !base.permits(o) {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrOp, o.kind, ErrRole)
	}
	return base, nil
}

// before evaluates heads and all that came before them.
func (l *Log) before(heads []Hash) *state {
	if o := l.byHash[heads[0]]; len(heads) == 1 && o.after != nil {
		return o.after
	}
	var set bitset
	for _, h := range heads {
		set = set.join(l.byHash[h].past)
	}
	var ops []*op
	for i, o := range l.ops {
		if set.has(i) {
			ops = append(ops, o)
		}
	}
	slices.SortFunc(ops, compareOps)
	s, _ := evaluate(ops)
	return s
}

// link puts o into the DAG, as a spare one.
func (l *Log) link(o *op) error {
	base, err := l.past(o)
	if err != nil {
		return err
	}
	if n := len(l.free); n > 0 {
		o.idx, l.free = l.free[n-1], l.free[:n-1]
		l.ops[o.idx] = o
	} else {
		o.idx = len(l.ops)
		l.ops = append(l.ops, o)
	}
	for _, h := range o.prev {
		o.past = o.past.join(l.byHash[h].past)
		o.bound = o.bound.join(l.byHash[h].bound)
	}
	o.past = o.past.with(o.idx)
	o.rank = base.members[o.author].role
	o.minor = o.kind != Genesis && o.rank < Admin
	if o.minor {
		o.idle = o.past.without(o.bound) > maxMinorOps || len(o.raw) > maxMinorBytes
	} else {
		o.bound = o.past
		o.lowers = o.kind == Remove || o.kind == SetRole && o.payload.role < base.members[o.payload.device].role
	}
	o.after = base.clone()
	if !o.idle && o.after.apply(o) {
		o.gives = o.payload.device
		if o.kind == Genesis {
			o.gives = o.author
		}
		o.given = o.after.members[o.gives].role
	}
	l.byHash[o.hash] = o
	l.authors[o.gives] = max(l.authors[o.gives], o.given)
	return nil
}

// unlink takes ops that are not kept out of the DAG, and all that name them.
func (l *Log) unlink(gone map[Hash]bool) {
	for _, o := range l.sorted() {
		if gone[o.hash] || slices.ContainsFunc(o.prev, func(h Hash) bool { return gone[h] }) {
			gone[o.hash] = true
			delete(l.byHash, o.hash)
			l.ops[o.idx] = nil
			l.free = append(l.free, o.idx)
		}
	}
}

// settle evaluates all that is linked, and makes what is kept what is to be.
func (l *Log) settle() (added int, err error) {
	for {
		all := l.sorted()
		now, use := evaluate(all)
		keep := l.keep(all, use)
		bad := l.store(all, keep)
		if bad == nil {
			added, drop := l.mark(all, keep)
			l.now, l.use, l.heads, l.ends = now, use, tops(all, use), tops(all, keep)
			l.trim(all)
			return added, errors.Join(err, l.forget(drop))
		}
		// What is not on disk is not believed.
		err = errors.Join(err, fmt.Errorf("store op: %w", bad))
		gone := map[Hash]bool{}
		for _, o := range all {
			if !o.kept && keep.has(o.idx) {
				gone[o.hash] = true
			}
		}
		l.unlink(gone)
	}
}

// keep returns what is of use and all it builds on, and what let those write
// whose changes were taken.
func (l *Log) keep(all []*op, use bitset) (keep bitset) {
	for _, o := range all {
		if use.has(o.idx) {
			keep = keep.join(o.past)
		}
	}
	has := map[key]bool{}
	for _, in := range []bool{true, false} {
		for _, o := range all {
			if o.given >= Writer && keep.has(o.idx) == in && l.took[o.gives] && !has[o.gives] {
				has[o.gives] = true
				keep = keep.join(o.past)
			}
		}
	}
	return keep
}

// store writes what is to be kept and is not yet, each op after those it names.
func (l *Log) store(all []*op, keep bitset) error {
	for _, o := range all {
		if keep.has(o.idx) && !o.kept {
			if err := l.kv.Set(opPrefix(l.id)+o.hash.String(), o.raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// mark makes ops kept or spare. It returns how many are kept that were not, and
// those that no longer are.
func (l *Log) mark(all []*op, keep bitset) (added int, drop []*op) {
	l.kept = 0
	for _, o := range all {
		k := keep.has(o.idx)
		switch {
		case k && !o.kept:
			added++
		case !k && o.kept:
			drop = append(drop, o)
			o.at = l.clock
		}
		if o.kept = k; k {
			l.kept++
		} else {
			o.after = nil
		}
	}
	if added+len(drop) > 0 {
		l.version++
	}
	return added, drop
}

// forget deletes ops from disk, each before those it names.
func (l *Log) forget(drop []*op) error {
	for _, o := range slices.Backward(drop) {
		if err := l.kv.Delete(opPrefix(l.id) + o.hash.String()); err != nil {
			return fmt.Errorf("forget op: %w", err)
		}
	}
	return nil
}

// trim lets go of the spare ops that came longest ago if there are too many, and
// of what only they said.
func (l *Log) trim(all []*op) {
	var spare []*op
	size := 0
	for _, o := range all {
		if !o.kept {
			spare = append(spare, o)
			size += len(o.raw)
		}
	}
	slices.SortStableFunc(spare, func(a, b *op) int { return cmp.Compare(a.at, b.at) })
	gone := map[Hash]bool{}
	for _, o := range spare {
		if len(spare)-len(gone) <= maxSpare && size <= maxSpareBytes {
			break
		}
		size -= len(o.raw)
		gone[o.hash] = true
	}
	if len(gone) > 0 {
		l.unlink(gone)
	}
	clear(l.authors)
	for _, o := range l.byHash {
		l.authors[o.gives] = max(l.authors[o.gives], o.given)
	}
}

// tops returns those of set that no other of it has in its past; ops are in
// order.
func tops(ops []*op, set bitset) (out []*op) {
	var below bitset
	for _, o := range slices.Backward(ops) {
		if set.has(o.idx) && !below.has(o.idx) {
			out = append(out, o)
			below = below.join(o.past)
		}
	}
	return out
}
