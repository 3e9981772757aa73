package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/model"
)

// The log drops batches that are dead, so what every batch was is kept apart,
// as marks: of each replica all among the newest KeptMarks numbers, further back
// ever fewer, by their level, so that two members keep the same ones. Marks come
// with batches, and with headers that are shown, of batches that were dead already:
// the signatures make them true. What is only said comes with the end of a
// catch-up, and is kept too: without it another history under the same numbers,
// of which all is dead that came here, could not be told from this one.
//
// Nobody begins anew on a mark that is only said, though two may wait for each
// other on it. So the header of a batch that goes stays with its mark for as long
// as it may be asked for, and the newest of a replica always: it proves what others
// say to have known (proof.go).
//
// A mark that was only said is told as such, and counts only against what is
// proven: a lie would part who believe it from all others.
//
// Row: hash 16, changes less one, then the header, or nothing, or a zero byte if it
// was only said.

// KeptMarks is how many of a replica's newest changes have all their marks kept.
const KeptMarks = 4096

const (
	rareMark    = 6  // level from which on headers of old batches are kept
	newestMarks = 64 // of one replica, in an opening; fewer if there are many replicas
	levelMarks  = 2  // and of each level
)

// onlySaid stands for the header of a mark that is only said.
var onlySaid = []byte{0}

// A Kept is a mark that is here.
type Kept struct {
	model.Mark
	Said bool // and nothing more
}

func (t *Tx) mark(ridx uint32, m model.Mark, header []byte) {
	v := binary.AppendUvarint(append([]byte{}, m.Hash[:]...), m.Dot.Seq-m.Lo)
	t.fail(t.b.Set(t.ix.keys.log(tableMark, ridx, m.Dot.Seq), append(v, header...), nil))
}

// provable tells whether the header of a dead batch is kept.
func provable(m model.Mark, tip uint64) bool {
	age := max(tip, m.Dot.Seq) - m.Dot.Seq
	return age < newestMarks || m.Level() >= max(rareMark, bits.Len64(age/newestMarks))
}

// keepHeader keeps what proves the mark of a batch that goes.
func (t *Tx) keepHeader(ridx uint32, h model.Header, header []byte) {
	if m := model.MarkOf(h, model.Batch{Header: header}); provable(m, t.rep(h.Replica).Hi) {
		t.mark(ridx, m, header)
	}
}

// age drops the headers of dead batches that are too far back now that a batch
// has come.
func (t *Tx) age(ridx uint32, h model.Header) {
	tip := t.rep(h.Replica).Hi
	if tip <= newestMarks {
		return
	}
	to := tip - newestMarks
	from := to - min(to, h.Hi-h.Lo+1)
	t.fail(scan(t.b, t.ix.keys.log(tableMark, ridx, from), t.ix.keys.log(tableMark, ridx, to+1), func(k, v []byte) error {
		m, header, err := decodeMark(k, v, h.Replica)
		if err == nil && len(header) > 0 && !provable(m.Mark, tip) {
			t.mark(ridx, m.Mark, nil)
		}
		return err
	}))
}

// Proof is the header that proves a mark, if it is here.
func (ix *Index) Proof(m model.Mark) ([]byte, error) { return ix.proof(ix.db, ix.dict.Load(), m) }

func (ix *Index) proof(db pebble.Reader, d *dict, m model.Mark) ([]byte, error) {
	i, known := d.index[m.Dot.Replica]
	if !known {
		return nil, nil
	}
	k := ix.keys.log(tableMark, i, m.Dot.Seq)
	v, err := get(db, k)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	here, kept, err := decodeMark(k, v, m.Dot.Replica)
	if err != nil || here.Said {
		return nil, err
	}
	return ix.proofAt(db, i, m.Dot.Seq, kept)
}

// Tips are the newest headers of all replicas that are here, of marks as Marks
// tells them.
func (s *Snap) Tips(marks []model.Mark) (out [][]byte, err error) {
	done := map[model.Replica]bool{}
	for _, m := range marks {
		if done[m.Dot.Replica] {
			continue
		}
		h, err := s.ix.proof(s.snap, s.dict, m)
		if err != nil {
			return nil, err
		}
		if len(h) > 0 {
			done[m.Dot.Replica] = true
			out = append(out, h)
		}
	}
	return out, nil
}

func decodeMark(k, v []byte, r model.Replica) (m Kept, header []byte, err error) {
	if len(v) < 17 || len(k) != 17 {
		return m, nil, errRow
	}
	hi := binary.BigEndian.Uint64(k[9:])
	n, size := binary.Uvarint(v[16:])
	if size <= 0 || n >= hi {
		return m, nil, errRow
	}
	m.Mark = model.Mark{Dot: model.Dot{Replica: r, Seq: hi}, Lo: hi - n, Hash: [16]byte(v)}
	if header = v[16+size:]; bytes.Equal(header, onlySaid) {
		m.Said, header = true, nil
	}
	return m, header, nil
}

// thin drops the marks that are too far back for their level.
func (t *Tx) thin(ridx uint32, tip uint64) {
	prefix := t.ix.keys.replicaOf(tableMark, ridx)
	t.fail(scan(t.b, prefix, after(prefix), func(k, v []byte) error {
		m, header, err := decodeMark(k, v, 0)
		switch {
		case err != nil:
			return err
		case m.Dot.Seq < tip && m.Level() < bits.Len64((tip-m.Dot.Seq)/KeptMarks):
			return t.b.Delete(append([]byte(nil), k...), nil)
		case len(header) > 0 && !provable(m.Mark, tip):
			t.mark(ridx, m.Mark, nil)
		}
		return nil
	}))
}

// Marked returns the mark here of which a batch from lo to d is part or shares
// changes with.
func (ix *Index) Marked(d model.Dot, lo uint64) (m Kept, ok bool, err error) {
	i, known := ix.dict.Load().index[d.Replica]
	if !known {
		return m, false, nil
	}
	err = scan(ix.db, ix.keys.log(tableMark, i, lo), after(ix.keys.replicaOf(tableMark, i)), func(k, v []byte) error {
		m, _, err = decodeMark(k, v, d.Replica)
		return cmp.Or(err, errStop)
	})
	return m, err == nil && m.Lo > 0 && m.Lo <= d.Seq, err
}

// Near is the newest mark of a replica that is not after d, and is more than said;
// or none.
func (ix *Index) Near(d model.Dot) (m model.Mark, err error) {
	i, known := ix.dict.Load().index[d.Replica]
	if !known {
		return m, nil
	}
	it, err := ix.db.NewIter(&pebble.IterOptions{LowerBound: ix.keys.replicaOf(tableMark, i), UpperBound: ix.keys.log(tableMark, i, d.Seq+1)})
	if err != nil {
		return m, fmt.Errorf("marks: %w", err)
	}
	for ok := it.Last(); ok && err == nil; ok = it.Prev() {
		var near Kept
		if near, _, err = decodeMark(it.Key(), it.Value(), d.Replica); err == nil && !near.Said {
			m = near.Mark
			break
		}
	}
	return m, errors.Join(err, it.Close())
}

// Marks chooses what a peer is told of each replica's history: the newest marks,
// and the newest of each level. The newest of all comes first.
func (s *Snap) Marks() (marks, said []model.Mark, err error) {
	reps := s.dict.reps
	room := max(model.MaxMarks/4-len(reps), 0) / max(len(reps), 1)
	for i, r := range reps {
		var all []Kept
		prefix := s.ix.keys.replicaOf(tableMark, uint32(i))
		err := scan(s.snap, prefix, after(prefix), func(k, v []byte) error {
			m, _, err := decodeMark(k, v, r.ID)
			all = append(all, m)
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		slices.Reverse(all)
		marks, said = choose(all, room, marks, said)
	}
	return marks, said, nil
}

// choose adds to what is told the marks of one replica, the newest first: those that
// are only said have a quarter of the room, and take none from others.
func choose(all []Kept, room int, marks, said []model.Mark) (_, _ []model.Mark) {
	var perLevel [2][17]int // of each level that a mark has
	var n [2]int
	most := [2]int{2 * room, room} // the last quarter is for what a peer must be told beside
	for _, m := range all {
		out, i := &marks, 0
		if m.Said {
			out, i = &said, 1
		}
		take := n[i] == 0 || n[i] < min(newestMarks, most[i]/2)
		for l := range m.Level() + 1 {
			if perLevel[i][l]++; perLevel[i][l] <= levelMarks && n[i] < most[i] {
				take = true
			}
		}
		if take && len(marks)+len(said) < model.MaxMarks/4*3 {
			*out = append(*out, m.Mark)
			n[i]++
		}
	}
	return marks, said
}

// A Fork is a replica of whose log two members hold different ends.
type Fork struct {
	Agreed uint64     // up to here they hold the same, and perhaps some more
	Ours   model.Mark // what differs there
}

// Compare finds the replicas of which a peer holds another history than we do, by
// the marks that it proves, that it says and that it was only told itself; and up to
// where what it tells of each is what is here.
func (ix *Index) Compare(proves, says, told []model.Mark) (forks map[model.Replica]Fork, agreed map[model.Replica]uint64, err error) {
	agreed, forks = map[model.Replica]uint64{}, map[model.Replica]Fork{}
	for i, m := range slices.Concat(proves, says, told) {
		ours, ok, err := ix.Marked(m.Dot, m.Lo)
		switch {
		case err != nil:
			return nil, nil, err
		case !ok:
		case ours.Mark == m:
			agreed[m.Dot.Replica] = max(agreed[m.Dot.Replica], m.Dot.Seq)
		case ours.Said && i >= len(proves): // who is right cannot be told
		default:
			if i >= len(proves)+len(says) {
				if header, err := ix.Proof(ours.Mark); err != nil {
					return nil, nil, err
				} else if len(header) == 0 { // nor here
					continue
				}
			}
			if f, ok := forks[m.Dot.Replica]; !ok || m.Lo <= f.Agreed {
				forks[m.Dot.Replica] = Fork{Ours: ours.Mark, Agreed: m.Lo - 1}
			}
		}
	}
	for r, f := range forks {
		f.Agreed = min(agreed[r], f.Agreed, f.Ours.Lo-1)
		forks[r] = f
	}
	return forks, agreed, nil
}

// FirstOf is the smallest of the replicas.
func FirstOf(forks map[model.Replica]Fork) model.Replica {
	var first model.Replica
	for r := range forks {
		if first == 0 || cmp.Less(r, first) {
			first = r
		}
	}
	return first
}

// Adopt takes over the marks of a peer whose catch-up is in, from was up to k, and
// what proves them. Of what was known nobody needs to be told.
func (t *Tx) Adopt(ms []model.Mark, proofs []model.Proof, was, k model.VV) {
	adopt := func(m model.Mark, header []byte) {
		i, ok := t.ix.dict.Load().index[m.Dot.Replica]
		if !ok || !k.Has(m.Dot) {
			return
		}
		here, have, err := t.ix.Marked(m.Dot, m.Lo)
		if t.fail(err); err == nil && (!have || here.Mark == m && !bytes.Equal(header, onlySaid)) {
			t.mark(i, m, header)
		}
	}
	for _, p := range proofs {
		adopt(p.Mark, p.Header)
	}
	for _, m := range ms {
		proven := func(p model.Proof) bool {
			return p.Dot.Replica == m.Dot.Replica && p.Lo <= m.Dot.Seq && m.Lo <= p.Dot.Seq
		}
		if !was.Has(m.Dot) && !slices.ContainsFunc(proofs, proven) {
			adopt(m, onlySaid)
		}
	}
}

// Chained tells whether a batch that begins where what is here ends was made
// after it. known is false if that end is not here.
func (t *Tx) Chained(h model.Header) (ok, known bool) {
	if h.Lo == 1 {
		return true, false
	}
	m, known, err := t.ix.Marked(model.Dot{Replica: h.Replica, Seq: h.Lo - 1}, h.Lo-1)
	t.fail(err)
	known = known && !m.Said
	return !known || [16]byte(h.Prev[:16]) == m.Hash, known
}
