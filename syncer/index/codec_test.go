package index

import (
	"math/rand"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

func openTest(t *testing.T, fs vfs.FS) (*Index, *pebble.DB) {
	t.Helper()
	db, err := pebble.Open("meta", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatValueSeparation})
	if err != nil {
		t.Fatal(err)
	}
	ix, err := Open(db, 1, "", 7, 8)
	if err != nil {
		t.Fatal(err)
	}
	return ix, db
}

// randomRow makes a row with all sorts of parts.
func randomRow(r *rand.Rand, t *Tx, parent model.ID) *Row {
	dot := func() model.Dot {
		return model.Dot{Replica: model.Replica(r.Intn(3) + 1), Seq: uint64(r.Intn(1000) + 1)}
	}
	vv := func() (v model.VV) {
		for range r.Intn(3) {
			v = v.With(dot())
		}
		return v
	}
	row := &Row{Kind: model.Kind(r.Intn(3)), Mode: uint32(r.Intn(0o10000)), UID: uint32(r.Intn(2)), Nlink: uint32(r.Intn(3)),
		Size: r.Int63n(1 << 40), Alloc: r.Int63n(1 << 40), Mtime: r.Int63() - r.Int63(), Ctime: r.Int63n(1 << 60), Btime: r.Int63n(1 << 60),
		Parent: Ino(r.Intn(9)), Spared: r.Intn(2) == 0}
	r.Read(row.ID[:])
	row.Atime = row.Mtime
	if r.Intn(2) == 0 {
		row.Atime = r.Int63n(1 << 60)
	}
	if row.Kind == model.Dir {
		row.Kids, row.Crowd, row.Eff = uint64(r.Intn(9)), uint64(r.Intn(3)), uint64(r.Intn(3))
	}
	if r.Intn(3) == 0 {
		row.Shown = &Shown{Orig: dot(), Content: "old", Mtime: r.Int63()}
	}
	n := &model.Node{ID: row.ID, Kind: row.Kind}
	for range r.Intn(3) {
		d := dot()
		h := model.Version{Dot: d, Orig: d, VV: vv().Without(d).With(d), Content: "c", Mtime: row.Mtime, Unsure: r.Intn(4) == 0}
		if r.Intn(2) == 0 {
			h.Orig, h.By, h.Mtime = dot(), model.Label{Author: "ana", Device: "desk"}, r.Int63()
		}
		if h.Orig == h.Dot {
			h.By = model.Label{}
		}
		n.Heads = append(n.Heads, h)
		n.Covered = n.Covered.Join(h.VV.Without(h.Dot))
	}
	for range r.Intn(2) {
		n.Gone = append(n.Gone, model.Gone{Dot: dot(), VV: vv()})
		n.Covered = n.Covered.Join(vv())
	}
	for k := range r.Intn(3) {
		d := dot()
		l := model.Link{Key: uint64(k), Hist: []model.Loc{{Parent: parent, Name: "name", Stamp: model.Stamp{Lamport: 5, Replica: d.Replica}, Dot: d}}}
		for range r.Intn(2) {
			l.Dels = append(l.Dels, model.Del{Dot: dot(), K: vv()})
		}
		n.Links = append(n.Links, l)
	}
	if r.Intn(2) == 0 {
		d := dot()
		n.Attrs = map[string]model.Attr{model.AttrMode: {Val: "\x01\xa4", Stamp: model.Stamp{Lamport: 9, Replica: d.Replica}, Dot: d}}
	}
	row.Node = n
	return row
}

func TestRowsReadAsWritten(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	ix, db := openTest(t, vfs.NewMem())
	defer db.Close()
	tx, hurt := ix.Begin(), ix.Begin()
	defer hurt.Abort()
	for range 500 {
		row := randomRow(r, tx, model.RootID)
		b := append([]byte(nil), row.encode(tx.enc())...)
		got, err := decodeRow(b, tx.dec(), true)
		if err != nil {
			t.Fatalf("%+v: %v", row, err)
		}
		if !reflect.DeepEqual(got, row) {
			t.Fatalf("got\n%+v\n%+v\nwant\n%+v\n%+v", got, got.Node, row, row.Node)
		}
		for range 20 { // damage is an error or another row, never a panic
			c := append([]byte(nil), b...)
			c[r.Intn(len(c))] ^= byte(1 << r.Intn(8))
			decodeRow(c[:r.Intn(len(c)+1)], hurt.dec(), true)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestDriftSurvivesReopening(t *testing.T) {
	fs := vfs.NewMem()
	ix, db := openTest(t, fs)
	tx := ix.Begin()
	y := Drift{View: model.ID{1}, Seen: model.ID{2}, SeenOrig: model.Dot{Replica: 3, Seq: 4}, Ours: true, SeenDir: true, Left: true}
	w := Bytes{Ours: true, Written: true, Gen: 5, Base: model.Dot{Replica: 3, Seq: 9}, Zero: []content.Range{{Off: 1, Len: 2}}, Data: []byte("bytes"), Small: true}
	tx.SetDrift(RootIno, "name", &y)
	tx.SetBytes(42, &w)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ix, db = openTest(t, fs)
	defer db.Close()
	tx = ix.Begin()
	defer tx.Abort()
	if got, ok := tx.Drift(RootIno, "name"); !ok || got != y {
		t.Errorf("drift is %+v, was %+v", got, y)
	}
	if got, ok := tx.Bytes(42); !ok || !reflect.DeepEqual(got, w) {
		t.Errorf("bytes are %+v, were %+v", got, w)
	}
}
