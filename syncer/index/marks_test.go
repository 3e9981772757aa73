package index

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/syncer/model"
)

func testIndex(t *testing.T) *Index {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	ix, err := Open(db, 1, "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// chain makes the marks of a history of batches.
func chain(r *rand.Rand, id model.Replica, from, to uint64) (out []model.Mark) {
	for from <= to {
		m := model.Mark{Dot: model.Dot{Replica: id, Seq: min(to, from+r.Uint64N(4))}, Lo: from}
		for i := range m.Hash {
			m.Hash[i] = byte(r.Uint32())
		}
		out = append(out, m)
		from = m.Dot.Seq + 1
	}
	return out
}

// history gives an index the marks of one replica, and thins them.
func (ix *Index) history(t *testing.T, thin bool, lists ...[]model.Mark) {
	t.Helper()
	tx := ix.Begin()
	for _, list := range lists {
		for _, m := range list {
			i := tx.number(m.Dot.Replica)
			tx.mark(i, m, nil)
			tx.setRep(Rep{ID: m.Dot.Replica, Hi: m.Dot.Seq, Known: m.Dot.Seq})
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if !thin {
		return
	}
	tx = ix.Begin()
	for i, r := range ix.dict.Load().reps {
		tx.thin(uint32(i), r.Hi)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// told is what a peer is told.
func (ix *Index) told() ([]model.Mark, error) {
	s := ix.Snapshot()
	defer s.Close()
	marks, _, err := s.Marks()
	return marks, err
}

// Wherever two histories part, and however long they go on, what two members
// tell each other shows it, and shows nothing where there is nothing.
func TestMarksShowWhereHistoriesPart(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		shared := r.Uint64N(3000)
		base := chain(r, 7, 1, shared)
		ours, theirs := chain(r, 7, shared+1, shared+r.Uint64N(300)), chain(r, 7, shared+1, shared+r.Uint64N(300))
		a, b := testIndex(t), testIndex(t)
		a.history(t, false, base, ours)
		b.history(t, false, base, theirs)
		for _, x := range [][2]*Index{{a, b}, {b, a}} {
			told, err := x[0].told()
			if err != nil {
				t.Fatal(err)
			}
			forks, _, err := x[1].Compare(nil, told, nil)
			if err != nil {
				t.Fatal(err)
			}
			f, forked := forks[7]
			if want := len(ours) > 0 && len(theirs) > 0; forked && !want {
				t.Fatalf("parted at %d, to %v and %v: forked is %v", shared, a.K(), b.K(), forked)
			}
			if forked && (f.Agreed > shared || f.Ours.Dot.Seq <= shared) {
				t.Errorf("agreed up to %d of %d, and differs in %v", f.Agreed, shared, f.Ours)
			}
		}
		if len(ours) > 0 && len(theirs) > 0 && !eitherSees(t, a, b) {
			t.Errorf("parted at %d, to %v and %v: nobody sees it", shared, a.K(), b.K())
		}
	}
}

// eitherSees tells whether at least one of two sees that the histories part; it
// tells the other.
func eitherSees(t *testing.T, a, b *Index) bool {
	for _, x := range [][2]*Index{{a, b}, {b, a}} {
		told, err := x[0].told()
		if err != nil {
			t.Fatal(err)
		}
		forks, _, err := x[1].Compare(nil, told, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(forks) > 0 {
			return true
		}
	}
	return false
}

// What is kept of what is far back is the same everywhere.
func TestMarksFarBackAreThinnedAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	all := chain(r, 7, 1, 6*KeptMarks)
	a, b := testIndex(t), testIndex(t)
	a.history(t, true, all[:len(all)/2], all[len(all)/2:])
	b.history(t, true, all)
	kept := func(ix *Index) (n int) {
		i := ix.dict.Load().index[7]
		if err := ix.scan(ix.keys.replicaOf(tableMark, i), func(_, _ []byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := kept(a); n != kept(b) || n > len(all)/2 || n < len(all)/8 {
		t.Errorf("%d and %d of %d are kept", n, kept(b), len(all))
	}
	told, err := a.told()
	if err != nil {
		t.Fatal(err)
	}
	if forks, _, err := b.Compare(nil, told, nil); err != nil || len(forks) > 0 {
		t.Errorf("forks %v, %v", forks, err)
	}
}

// Headers of dead batches are kept where they may be asked for, and a bounded
// number of them.
func TestHeadersOfDeadBatchesAreKeptForTheNewestMarks(t *testing.T) {
	ix := testIndex(t)
	r := rand.New(rand.NewPCG(1, 2))
	tx := ix.Begin()
	ridx := tx.number(7)
	const n = 20_000
	header := func(seq uint64) []byte { return []byte{1, 2, 3, byte(seq)} }
	marks := chain(r, 7, 1, n)
	for _, m := range marks {
		tx.setRep(Rep{ID: 7, Hi: m.Dot.Seq, Known: m.Dot.Seq})
		tx.mark(ridx, m, header(m.Dot.Seq))
		tx.age(ridx, model.Header{Replica: 7, Lo: m.Lo, Hi: m.Dot.Seq})
	}
	tx.thin(ridx, n)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, m := range marks {
		h, err := ix.Proof(m)
		if err != nil {
			t.Fatal(err)
		}
		if len(h) > 0 {
			kept++
		}
		if new := n-m.Dot.Seq < newestMarks; new && string(h) != string(header(m.Dot.Seq)) {
			t.Errorf("mark %v has lost its header: %v", m.Dot, h)
		}
	}
	t.Logf("%d headers of %d batches", kept, len(marks))
	if kept > 3*newestMarks {
		t.Errorf("%d headers are kept", kept)
	}
}
