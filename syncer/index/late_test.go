package index

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

// Bytes come later than what names them, in any order, while files are open, and
// over restarts. At any moment what waits waits for something, and in the end
// nothing does: the tree is the view.

// blockwise is a content of many blocks, or a small one.
func blockwise(s string) string {
	if len(s)%2 == 0 {
		return inline(s)
	}
	return content.Content{Size: 200 << 10, Depth: 1, Root: blocks.ID(blake3.Sum256([]byte(s)))}.Encode()
}

// late is a viewer whose bytes come late.
type late struct {
	*viewer
	r      *rand.Rand
	opened map[Ino]bool
	all    bool // from now on all bytes come
}

func (l *late) busy(ino Ino) bool { return l.opened[ino] }

// do runs a transaction as a folder does.
func (l *late) do(f func(t *Tx)) error {
	t := l.ix.Begin()
	f(t)
	for _, ino := range t.Lost() {
		if l.opened[ino] {
			t.Orphan(ino)
		} else {
			t.DropOrphan(ino)
		}
	}
	if err := t.Commit(); err != nil {
		return err
	}
	var first error
	err := l.ix.compare(l.mem, func(e error) {
		if first == nil {
			first = e
		}
	})
	if err != nil || first != nil {
		return fmt.Errorf("%w, %w", err, first)
	}
	return nil
}

func (l *late) receive(bs []said) error {
	return l.do(func(t *Tx) {
		if l.r.Intn(6) > 0 {
			t.FlipTogether()
		}
		for _, b := range bs {
			l.note(b)
			t.AddBatch(b.h, b.raw, b.changes)
		}
		for _, ino := range t.Fresh() {
			v := t.Wanted(ino)
			if c, err := content.Decode(v.Content); err == nil && c.Size <= content.MaxInline && !t.Waits(ino) {
				t.Publish(ino, v, c.Size, l.busy)
			}
		}
	})
}

// arrive lets some bytes come: those wanted now, or those of an older version.
func (l *late) arrive() error {
	var inos []Ino
	l.ix.AllBytes(func(ino Ino, _ Bytes) { inos = append(inos, ino) })
	slices.Sort(inos)
	for _, ino := range inos {
		if !l.all && l.r.Intn(3) > 0 {
			continue
		}
		if err := l.do(func(t *Tx) { t.Arrive(ino, t.Wanted(ino), 0, l.busy) }); err != nil {
			return err
		}
	}
	return nil
}

func (l *late) open() {
	clear(l.opened)
	if l.all {
		return
	}
	for _, e := range l.r.Perm(40)[:l.r.Intn(6)] {
		l.opened[Ino(e+2)] = true
	}
}

// restart forgets what is in memory.
func (l *late) restart() error {
	clear(l.opened)
	if err := l.viewer.open(); err != nil {
		return err
	}
	return l.do(func(t *Tx) { t.Regroup() })
}

// age lets some sets have waited for too long.
func (l *late) age() error {
	return l.do(func(t *Tx) {
		for _, x := range l.ix.sets {
			if l.all || l.r.Intn(3) == 0 {
				x.since = time.Time{}
			}
		}
		t.Overdue(l.busy)
	})
}

func (l *late) step(bs []said) error {
	if err := l.receive(bs); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	for range l.r.Intn(3) {
		what, act := "arrive", l.arrive
		switch l.r.Intn(10) {
		case 0:
			what, act = "restart", l.restart
		case 1, 2:
			what, act = "age", l.age
		case 3, 4:
			l.open()
		}
		if err := act(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// end lets all bytes come.
func (l *late) end() error {
	l.all = true
	l.open()
	for range 3 { // what is shown may free what waits for something newer
		if err := errors.Join(l.arrive(), l.age()); err != nil {
			return fmt.Errorf("at the end: %w", err)
		}
	}
	for k, y := range l.ix.names {
		return fmt.Errorf("at the end %v still waits: %+v", k, y)
	}
	for ino, w := range l.ix.bytes {
		return fmt.Errorf("at the end %d still wants bytes: %+v", ino, w)
	}
	return l.compare()
}

func TestBytesThatComeLate(t *testing.T) {
	t.Logf("seeds from %d", *seed)
	var met viewMet
	for s := *seed; s < *seed+int64(*histories); s++ {
		r := rand.New(rand.NewSource(s))
		names, policy := names3, policyOf(s)
		if s%4 < 2 {
			names = []string{"d", "d-wal", "D-journal", "a"}
		}
		fold, _ := model.FoldOf(policy)
		bs := work(r, fold, names, blockwise, false)
		v, err := newViewed(policy, &met)
		l := &late{viewer: v, r: r, opened: map[Ino]bool{}}
		for n := 0; err == nil && len(bs) > 0; bs = bs[n:] {
			n = 1 + r.Intn(min(len(bs), 1+r.Intn(6)))
			err = l.step(bs[:n])
		}
		if err == nil {
			err = l.end()
		}
		if err != nil {
			t.Fatalf("seed %d: %v", s, err)
		}
	}
}

// A database that waits with its directory for the first bytes waits with its
// journal for the next, whatever becomes of the directory's set.
func TestJournalTakesItsDatabaseOutOfTheDirectory(t *testing.T) {
	v, err := newViewed(model.NamesBytes, &viewMet{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.db.Close()
	seq := uint64(0)
	batch := func(names ...string) {
		t.Helper()
		var k model.VV
		h := model.Header{Replica: 1, Lo: seq + 1, Deps: k.With(model.Dot{Replica: 1, Seq: seq})}
		var cs []model.Change
		for _, n := range names {
			seq++
			c := model.Change{Dot: model.Dot{Replica: 1, Seq: seq}, ID: model.BirthID(model.RootID, n, model.File, 0), Lamport: seq,
				Version: &model.VersionChange{VV: k.With(model.Dot{Replica: 1, Seq: h.Lo - 1}), Content: blockwise(fmt.Sprintf("%03d", seq))}}
			if _, err := v.ix.Lookup(RootIno, n); err != nil {
				c.Links = []model.LinkChange{{Parent: model.RootID, Name: n}}
			}
			cs = append(cs, c)
		}
		h.Hi = seq
		s := say(h, cs)
		tx := v.ix.Begin()
		tx.FlipTogether()
		tx.AddBatch(s.h, s.raw, s.changes)
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	inode := func(n string) Ino {
		tx := v.ix.Begin()
		defer tx.Abort()
		return tx.Ino(model.BirthID(model.RootID, n, model.File, 0))
	}
	arrive := func(n string) {
		t.Helper()
		tx := v.ix.Begin()
		ino := inode(n)
		tx.Arrive(ino, tx.Wanted(ino), 0, func(Ino) bool { return false })
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	batch("x")
	arrive("x")
	batch("x", "y")
	batch("x", "x-wal")
	arrive("x")
	tx := v.ix.Begin()
	for _, s := range v.ix.sets {
		s.since = time.Time{}
	}
	tx.Overdue(func(Ino) bool { return false })
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if s, err := v.ix.Shows(inode("x")); err != nil || s.Orig.Seq != 1 {
		t.Errorf("x is shown without its journal: %v, %v", s.Orig, err)
	}
	arrive("x-wal")
	if s, err := v.ix.Shows(inode("x")); err != nil || s.Orig.Seq != 4 {
		t.Errorf("x is shown as %v, %v", s.Orig, err)
	}
	if _, err := v.ix.Lookup(RootIno, "x-wal"); err != nil {
		t.Error(err)
	}
}
