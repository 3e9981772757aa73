package index

import (
	"errors"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/syncer/model"
)

// What an author says to have known is believed only as far as those whose it is
// have come: that they made it, a header proves that they signed. Else it could
// supersede what others are yet to make. A batch that is dead is not sent, but
// others name it: then a header of its replica goes first, a batch without a body.
// So whoever has joined a batch can prove all that it names, for as long as the
// newest header of each replica is kept (marks.go).

// Reached tells whether a header proves that a dot was made.
func (ix *Index) Reached(d model.Dot) (yes bool, err error) {
	dict := ix.dict.Load()
	i, ok := dict.index[d.Replica]
	if !ok {
		return false, nil
	}
	if r := dict.reps[i]; max(r.Known, r.Hi) >= d.Seq {
		return true, nil
	}
	header, _, err := ix.reach(ix.db, i, d.Seq)
	return header != nil, err
}

// ProofOf is the newest header that proves that a dot was made, if one is here.
func (ix *Index) ProofOf(d model.Dot) (header []byte, err error) {
	if i, known := ix.dict.Load().index[d.Replica]; known {
		header, _, err = ix.reach(ix.db, i, d.Seq)
	}
	return header, err
}

// reach finds the newest header of a replica that is not before from.
func (ix *Index) reach(r pebble.Reader, ridx uint32, from uint64) (header []byte, hi uint64, err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: ix.keys.log(tableMark, ridx, from), UpperBound: after(ix.keys.replicaOf(tableMark, ridx))})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.Last(); ok && header == nil; ok = it.Prev() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, 0, err
		}
		m, kept, err := decodeMark(it.Key(), v, 0)
		if err != nil {
			return nil, 0, err
		}
		if header, err = ix.proofAt(r, ridx, m.Dot.Seq, kept); err != nil {
			return nil, 0, err
		}
		hi = m.Dot.Seq
	}
	return header, hi, nil
}

// proofAt is the header of a batch that ends at a number: as it is kept with its
// mark, or of the log; nil if there is none.
func (ix *Index) proofAt(r pebble.Reader, ridx uint32, hi uint64, kept []byte) ([]byte, error) {
	if len(kept) > 0 {
		return append([]byte(nil), kept...), nil
	}
	v, err := get(r, ix.keys.log(tableBatch, ridx, hi))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	row, err := decodeBatchRow(v)
	return row.header, err
}

// ShowHeader keeps a verified header of a batch that is not here: it proves that
// it was made, and that nothing else was in its place.
func (t *Tx) ShowHeader(h model.Header, header []byte) {
	ridx := t.number(h.Replica)
	_, before, err := t.ix.reach(t.ix.db, ridx, 1)
	if t.fail(err); h.Hi <= before { // nothing new: who signs may make any number of them
		return
	}
	t.mark(ridx, model.MarkOf(h, model.Batch{Header: header}), header)
	if h.Hi/newestMarks > before/newestMarks {
		t.thin(ridx, max(h.Hi, t.rep(h.Replica).Hi))
	}
}

// Send yields what Since does, and in front of each batch headers that prove what
// it names and k has not; at the end of all else that is known here.
func (s *Snap) Send(k, over model.VV) iter.Seq2[model.Batch, error] {
	return func(yield func(model.Batch, error) bool) {
		proven := k
		prove := func(names model.VV, but model.Replica) bool {
			for _, d := range names {
				if d.Replica == but || proven.Has(d) {
					continue
				}
				header, hi, err := s.ix.reach(s.snap, s.dict.index[d.Replica], d.Seq)
				if (err != nil || header != nil) && (!yield(model.Batch{Header: header}, err) || err != nil) {
					return false
				}
				proven = proven.With(model.Dot{Replica: d.Replica, Seq: max(hi, d.Seq)})
			}
			return true
		}
		for b, err := range s.Since(k, over) {
			var h model.Header
			if err == nil {
				h, err = model.DecodeHeader(b.Header)
			}
			if err == nil && !prove(h.Deps, h.Replica) {
				return
			}
			if !yield(b, err) || err != nil {
				return
			}
			proven = proven.With(model.Dot{Replica: h.Replica, Seq: h.Hi})
		}
		prove(s.K, 0)
	}
}
