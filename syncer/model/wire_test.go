package model

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

// someChanges use every field there is.
func someChanges() []Change {
	id := BirthID(RootID, "a", File, 0)
	return []Change{
		{ID: id, Lamport: 1, Born: true, Links: []LinkChange{{Parent: RootID, Name: "a"}}, Version: &VersionChange{Content: "x"},
			Attrs: []AttrChange{{AttrMode, "\x01\xa4"}, {XattrTag + "user.k", "="}}},
		{ID: ForkID(BirthID(RootID, "b", Symlink, 0), Dot{1, 1}), Kind: Symlink, Lamport: 1 << 40, Links: []LinkChange{{Parent: BirthID(RootID, "d", Dir, 0), Name: "b", Removed: true, Undone: true},
			{Key: 9, Removed: true}}, Version: &VersionChange{VV: VV{{1, 1}, {2, 3}}, Orig: Dot{2, 3}, By: Label{"ann", "box"}, Content: "t", Mtime: -5, Unsure: true},
			Attrs: []AttrChange{{AttrMode, ""}}},
		{ID: BirthID(RootID, "d", Dir, 2), Kind: Dir, Lamport: 3, Gone: VV{{1, 3}, {2, 1}}},
		{ID: BirthID(RootID, "a", File, 1), Lamport: 4, Born: true, Lacks: VV{{2, 3}}, Links: []LinkChange{{Parent: RootID, Name: "a"}}},
		{ID: id, Lamport: 5, Links: []LinkChange{{Parent: RootID, Name: "a"}}},
		{ID: BirthID(RootID, "d", Dir, 0), Kind: Dir, Lamport: 6, Born: true, Links: []LinkChange{{Parent: RootID, Name: "d"}}},
	}
}

func someBatch() Batch {
	var raw [][]byte
	for _, c := range someChanges() {
		raw = append(raw, c.Encode())
	}
	return testSeal.Sign(Header{Replica: 1, Lo: 1, Hi: uint64(len(raw)), Deps: VV{{2, 3}}, Prev: [32]byte{1}, UTC: 77, Author: "ann", Device: "box"}, raw, testKey)
}

func TestBatchesComeBackAsTheyWere(t *testing.T) {
	h, cs, err := testSeal.Verify(someBatch(), anyone)
	if err != nil {
		t.Fatal(err)
	}
	if h.Author != "ann" || h.UTC != 77 || !h.Deps.Equal(VV{{2, 3}}) || h.Prev != [32]byte{1} {
		t.Errorf("header %+v", h)
	}
	for i, want := range someChanges() {
		want.Dot = Dot{1, uint64(i + 1)}
		if !reflect.DeepEqual(cs[i], want) {
			t.Errorf("change is\n%+v, want\n%+v", cs[i], want)
		}
	}
}

// Each byte of a batch is vouched for.
func TestEveryFlippedByteIsRefused(t *testing.T) {
	b := someBatch()
	flip := func(p []byte, again func([]byte) Batch) {
		for i := range p {
			for _, mask := range []byte{1, 0x80, 0xff} {
				q := slices.Clone(p)
				q[i] ^= mask
				if _, _, err := testSeal.Verify(again(q), anyone); err == nil {
					t.Errorf("byte %d of %d flipped by %x is accepted", i, len(p), mask)
				}
			}
		}
	}
	flip(b.Header, func(q []byte) Batch { return Batch{q, b.Body} })
	flip(b.Body, func(q []byte) Batch { return Batch{b.Header, q} })
}

func TestVerifyRefuses(t *testing.T) {
	b := someBatch()
	sign := func(h Header, cs ...Change) Batch {
		var raw [][]byte
		for _, c := range cs {
			raw = append(raw, c.Encode())
		}
		if h.Replica == 0 {
			h.Replica = 1
		}
		h.Lo, h.Hi = max(h.Lo, 1), max(h.Lo, 1)+uint64(len(cs))-1
		return testSeal.Sign(h, raw, testKey)
	}
	id := BirthID(RootID, "a", File, 0)
	named := func(name string) Change { return Change{ID: id, Links: []LinkChange{{Parent: RootID, Name: name}}} }
	with := func(v VersionChange) Change { return Change{ID: id, Version: &v} }
	other := testSeal
	other.Folder[0]++
	dir, link := BirthID(RootID, "d", Dir, 0), BirthID(RootID, "s", Symlink, 0)
	tests := []struct {
		name string
		seal Seal
		b    Batch
	}{
		{"another folder", other, b},
		{"a change more", testSeal, Batch{b.Header, append(slices.Clone(b.Body), b.Body...)}},
		{"bytes after the signature", testSeal, Batch{append(slices.Clone(b.Header), 8, 0), b.Body}},
		{"deps with a gap before", testSeal, sign(Header{Lo: 5, Deps: VV{{1, 3}}}, named("a"))},
		{"no changes", testSeal, sign(Header{})},
		{"name ..", testSeal, sign(Header{}, named(".."))},
		{"name .", testSeal, sign(Header{}, named("."))},
		{"name with a slash", testSeal, sign(Header{}, named("a/b"))},
		{"name with a zero", testSeal, sign(Header{}, named("a\x00"))},
		{"long name", testSeal, sign(Header{}, named(strings.Repeat("a", 256)))},
		{"reserved name", testSeal, sign(Header{}, named(".clachan"))},
		{"parent itself", testSeal, sign(Header{}, Change{ID: id, Links: []LinkChange{{Parent: id, Name: "a"}}})},
		{"no parent", testSeal, sign(Header{}, Change{ID: id, Links: []LinkChange{{Name: "a"}}})},
		{"no node", testSeal, sign(Header{}, Change{Version: &VersionChange{}})},
		{"root removed", testSeal, sign(Header{}, Change{ID: RootID, Kind: Dir, Gone: VV{{1, 1}}})},
		{"root moved", testSeal, sign(Header{}, Change{ID: RootID, Kind: Dir, Links: []LinkChange{{Parent: id, Name: "a"}}})},
		{"device node", testSeal, sign(Header{}, Change{ID: id, Kind: Char})},
		{"another kind than its id's", testSeal, sign(Header{}, Change{ID: id, Kind: Dir, Version: &VersionChange{}})},
		{"born nowhere", testSeal, sign(Header{}, Change{ID: id, Born: true, Version: &VersionChange{}})},
		{"parent no directory", testSeal, sign(Header{}, Change{ID: id, Links: []LinkChange{{Parent: BirthID(RootID, "s", Symlink, 0), Name: "a"}}})},
		{"directory with content", testSeal, sign(Header{}, Change{ID: dir, Kind: Dir, Version: &VersionChange{Content: "x"}})},
		{"directory with two names", testSeal, sign(Header{}, Change{ID: dir, Kind: Dir, Links: []LinkChange{{Key: 1, Parent: RootID, Name: "a"}}})},
		{"empty symlink", testSeal, sign(Header{}, Change{ID: link, Kind: Symlink, Version: &VersionChange{}})},
		{"long symlink", testSeal, sign(Header{}, Change{ID: link, Kind: Symlink, Version: &VersionChange{Content: strings.Repeat("a", 4096)}})},
		{"large content", testSeal, sign(Header{}, with(VersionChange{Content: strings.Repeat("a", maxContent+1)}))},
		{"attribute with a zero", testSeal, sign(Header{}, Change{ID: id, Attrs: []AttrChange{{XattrTag + "user.\x00", "="}}})},
		{"supersedes what is unknown", testSeal, sign(Header{Deps: VV{{2, 3}}}, with(VersionChange{VV: VV{{2, 4}}}))},
		{"supersedes what comes later", testSeal, sign(Header{}, with(VersionChange{VV: VV{{1, 9}}}))},
		{"repeats what is unknown", testSeal, sign(Header{}, with(VersionChange{Orig: Dot{2, 1}}))},
		{"deletes what is unknown", testSeal, sign(Header{}, Change{ID: id, Gone: VV{{2, 1}}})},
		{"deletes what comes later", testSeal, sign(Header{}, Change{ID: id, Gone: VV{{1, 2}}})},
		{"label with a slash", testSeal, sign(Header{Author: "../x"}, named("a"))},
		{"label with a newline", testSeal, sign(Header{Device: "a\nb"}, named("a"))},
		{"long label", testSeal, sign(Header{Device: strings.Repeat("a", 33)}, named("a"))},
	}
	for _, tt := range tests {
		if _, _, err := tt.seal.Verify(tt.b, anyone); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	stranger := errors.New("stranger")
	if _, _, err := testSeal.Verify(b, func(ed25519.PublicKey) error { return stranger }); err != stranger {
		t.Errorf("signer: %v", err)
	}
}

// A dead change can be replaced by its hash: the rest still verifies.
func TestDeadChangesCanBeDropped(t *testing.T) {
	b := someBatch()
	leaves, err := testSeal.Leaves(b.Body)
	if err != nil {
		t.Fatal(err)
	}
	leaves[1].Bytes = nil
	_, cs, err := testSeal.Verify(Batch{b.Header, Stub(leaves)}, anyone)
	if err != nil || len(cs) != len(someChanges()) || !cs[1].ID.IsZero() || cs[2].ID != someChanges()[2].ID {
		t.Errorf("%v %+v", err, cs)
	}
	leaves[1].Hash[3]++
	if _, _, err := testSeal.Verify(Batch{b.Header, Stub(leaves)}, anyone); !errors.Is(err, ErrBatch) {
		t.Errorf("another hash: %v", err)
	}
}

func TestVectors(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	vv := func() (v VV) {
		for range r.Intn(5) {
			v = v.With(Dot{Replica(r.Intn(5)), uint64(r.Intn(4))})
		}
		return v
	}
	for range 3000 {
		a, b, c := vv(), vv(), vv()
		j, m := a.Join(b), a.Meet(b)
		if !j.Equal(b.Join(a)) || !m.Equal(b.Meet(a)) || !a.Join(b.Join(c)).Equal(a.Join(b).Join(c)) {
			t.Fatalf("%v %v %v", a, b, c)
		}
		if !a.LE(j) || !b.LE(j) || !m.LE(a) || !m.LE(b) || a.LE(b) != j.Equal(b) {
			t.Fatalf("%v and %v: join %v, meet %v", a, b, j, m)
		}
		d := Dot{Replica(r.Intn(5)), uint64(1 + r.Intn(4))}
		if w := a.With(d); !w.Has(d) || a.Has(d) && !w.Equal(a) || w.Without(d).Has(d) || !a.Without(d).LE(a) || a.Without(d).Has(d) {
			t.Fatalf("%v with %v: %v, without %v", a, d, w, a.Without(d))
		}
		if v, err := DecodeVV(a.Encode()); err != nil || !v.Equal(a) {
			t.Fatalf("%v: %v %v", a, v, err)
		}
	}
}

func FuzzDecodeVV(f *testing.F) {
	f.Add(VV{{1, 1}, {2, 300}}.Encode())
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := DecodeVV(b); err == nil && !bytes.Equal(v.Encode(), b) {
			t.Fatalf("%x is %v", b, v)
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add(someBatch().Header)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHeader(b)
		if err != nil {
			return
		}
		if h.Hi < h.Lo || h.Hi-h.Lo >= MaxBatchChanges || len(h.Signer) != ed25519.PublicKeySize || len(h.Author) > MaxLabel {
			t.Fatalf("%+v", h)
		}
		again := protowire.AppendBytes(protowire.AppendTag(h.encode(), 15, protowire.BytesType), nil)
		if g, err := DecodeHeader(again); err != nil || !reflect.DeepEqual(g, h) {
			t.Fatalf("%+v: %v %+v", h, err, g)
		}
	})
}

func FuzzDecodeChange(f *testing.F) {
	for _, c := range someChanges() {
		f.Add(c.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := Dot{1, 5}
		c, err := DecodeChange(b, d)
		if err != nil {
			return
		}
		for _, l := range c.Links {
			if l.Name != "" && !ValidName(l.Name) {
				t.Fatalf("name %q", l.Name)
			}
		}
		if again, err := DecodeChange(c.Encode(), d); err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%+v: %v %+v", c, err, again)
		}
		n := &Node{ID: c.ID, Kind: c.Kind}
		n.Join(c, VV{{1, 4}})
		once := dump(n)
		n.Join(c, VV{{1, 4}})
		if dump(n) != once {
			t.Fatalf("joined twice\n%s\n%s", once, dump(n))
		}
	})
}

func FuzzLeaves(f *testing.F) {
	f.Add(someBatch().Body)
	f.Fuzz(func(t *testing.T, b []byte) {
		leaves, err := testSeal.Leaves(b)
		if err != nil {
			return
		}
		again, err := testSeal.Leaves(Stub(leaves))
		if err != nil || !reflect.DeepEqual(again, leaves) {
			t.Fatalf("%x: %v", b, err)
		}
	})
}

func FuzzConflictName(f *testing.F) {
	f.Add("a.txt", "ann", "box", int64(5), 2)
	f.Add(strings.Repeat("é", 127), strings.Repeat("ü", 40), "a/b", int64(-1), 0)
	f.Add(strings.Repeat("a", 251)+".txt", strings.Repeat("ü", 40), "box", int64(5), 1<<20)
	f.Fuzz(func(t *testing.T, base, author, device string, utc int64, n int) {
		if !ValidName(base) || n < 0 || n > 1<<30 {
			return
		}
		by := Label{CleanLabel(author), CleanLabel(device)}
		if CleanLabel(by.Author) != by.Author || len(by.Author) > MaxLabel {
			t.Fatalf("label %q", by.Author)
		}
		year := utc % (1 << 33) // four digits
		name := ConflictName(base, by, max(year, -year), n)
		if !ValidName(name) || utf8.ValidString(base) && !utf8.ValidString(name) || name == ConflictName(base, by, max(year, -year), n+1) {
			t.Fatalf("%q of %q", name, base)
		}
	})
}
