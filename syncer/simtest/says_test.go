package simtest

import (
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer/model"
)

// What the villain says: what is no batch, what is none of its own, what nobody
// may take in, and changes that are allowed and that nobody would make.

// choose is what it may say at any time.
func (v *villain) choose(m *machine, x *victim) (what string, send func()) {
	batch := func(b model.Batch) func() {
		return func() {
			_ = wire.Write(x.st, &wire.Batch{Folder: v.w.folder[:], Header: b.Header, Body: b.Body, Epoch: x.epoch})
		}
	}
	say := func(m wire.Message) func() { return func() { _ = wire.Write(x.st, m) } }
	raw := func(b []byte) func() { return func() { _, _ = x.st.Write(b) } }
	switch v.r.IntN(30) {
	default:
		b := v.odd(m, x)
		return fmt.Sprintf("odd changes up to %d", v.seq), func() { v.tell(x, b) }
	case 10, 11:
		if b, ok := v.before(); ok {
			return "a batch of before", batch(b)
		}
		return "an empty batch", batch(model.Batch{})
	case 12, 13, 14, 15:
		b, what := v.unsound(x)
		return what, batch(b)
	case 16:
		noise := make([]byte, 1+v.r.IntN(2000))
		for i := range noise {
			noise[i] = byte(v.r.Uint32())
		}
		return "noise", raw(noise)
	case 17:
		return "an endless frame", raw(append(binary.AppendUvarint(nil, 1<<40), byte(wire.TypeBatch)))
	case 18:
		return "an ack of what was not sent", say(&wire.Ack{Folder: v.w.folder[:], Knowledge: v.says(x.k).Encode(), Missing: 1, Received: 1 << 40, Epoch: 1, Of: x.epoch})
	case 19:
		ops := [][]byte{[]byte("no op"), v.w.members[0][:len(v.w.members[0])-1]}
		return "membership that is none", say(&wire.MemberOps{Folder: v.w.folder[:], Ops: ops})
	case 20:
		if v.r.IntN(2) == 0 {
			return "a label that is a path", batch(v.refused(x, v.file("x", model.RootID)))
		}
		return "a change of another's", batch(v.forge(x))
	case 21, 22:
		return "another batch of the same number", batch(v.otherFace(x))
	case 23, 24:
		b, what := v.ahead(x)
		return "a batch by who knows " + what, batch(b)
	case 25:
		return "a batch by who knows thousands", batch(v.crowd())
	case 26:
		k, what := v.future(x)
		return "a catch-up up to " + what, say(&wire.CatchUp{Folder: v.w.folder[:], Knowledge: k.Encode(), Epoch: x.epoch})
	case 27:
		if b, ok := v.before(); ok {
			return "a header alone", batch(model.Batch{Header: b.Header})
		}
		return "no header", batch(model.Batch{})
	case 28:
		b := v.sign(x, v.replica, v.key(), v.file("x", model.RootID))
		b.Header[len(b.Header)-1] ^= 4
		return "a header alone that is not signed", batch(model.Batch{Header: b.Header})
	case 29:
		return "that it has all that is yet to be made", say(&wire.Ack{Folder: v.w.folder[:], Knowledge: v.says(x.k).Encode(), Has: v.soon(x).Encode(), Missing: 1, Epoch: 1, Of: x.epoch})
	}
}

// unsound is a batch that nobody takes in.
func (v *villain) unsound(x *victim) (b model.Batch, what string) {
	switch v.r.IntN(4) {
	case 0:
		c := v.bad()
		return v.sign(x, v.replica, v.key(), c), fmt.Sprintf("a bad change %+v", c)
	case 1:
		c := v.file("far ahead", model.RootID)
		c.Lamport = math.MaxUint64 - uint64(v.r.IntN(3))
		return v.sign(x, v.replica, v.key(), c), "a clock at the end of time"
	case 2:
		b := v.sign(x, v.replica, v.key(), v.file("x", model.RootID))
		b.Header[len(b.Header)-v.r.IntN(60)-1] ^= 4
		return b, "a wrong signature"
	default:
		_, key, _ := ed25519.GenerateKey(nil)
		return v.sign(x, v.replica, key, v.file("x", model.RootID)), "a stranger's batch"
	}
}

// otherFace is another batch of the last number, which the victim has.
func (v *villain) otherFace(x *victim) model.Batch {
	v.mu.Lock()
	has := x.k.Get(v.replica)
	v.mu.Unlock()
	if v.seq == 0 || has < v.seq { // who has neither would take this one
		return model.Batch{}
	}
	v.seq--
	defer func() { v.seq++ }()
	return v.sign(x, v.replica, v.key(), v.file("two faces", model.RootID))
}

// future is what nobody knows yet: of one of those who write, changes that nobody
// will have made when all comes together. Of the next ones the headers could be
// here soon, and then what is said of them is not refused (package syncer).
func (v *villain) future(x *victim) (k model.VV, what string) {
	v.mu.Lock()
	k = x.k
	v.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(k), func(d model.Dot) bool { return d.Replica == v.replica })
	d := model.Dot{Replica: 5}
	if len(others) > 0 {
		d = others[v.r.IntN(len(others))]
	}
	d.Seq += 1<<20 + v.r.Uint64N(1000)
	return k.With(d), d.String()
}

// soon is what the next changes of all will be.
func (v *villain) soon(x *victim) model.VV {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := x.k
	for _, d := range x.k {
		k = k.With(model.Dot{Replica: d.Replica, Seq: d.Seq + 5})
	}
	return k
}

// ahead makes a change over what others are yet to write.
func (v *villain) ahead(x *victim) (model.Batch, string) {
	k, what := v.future(x)
	name := oddNames[v.r.IntN(len(oddNames))]
	c := v.file(name, model.RootID)
	if v.r.IntN(2) == 0 {
		c.ID = model.BirthID(model.RootID, "doc.odt", model.File, 0)
	}
	c.Version.VV, c.Gone = k, k
	h := model.Header{Replica: v.replica, Lo: v.seq + 1, Hi: v.seq + 1, Prev: v.prev, Author: "evil", Deps: k.With(model.Dot{Replica: v.replica, Seq: v.seq})}
	return v.seal.Sign(h, [][]byte{c.Encode()}, v.key()), what
}

// crowd makes a batch by who knows replicas that are nobody's.
func (v *villain) crowd() model.Batch {
	deps := model.VV{}.With(model.Dot{Replica: v.replica, Seq: v.seq})
	for range []int{1, 100, 4000, 7000}[v.r.IntN(4)] {
		deps = append(deps, model.Dot{Replica: model.Replica(v.r.Uint64()), Seq: 1})
	}
	slices.SortFunc(deps, func(a, b model.Dot) int { return cmp.Compare(a.Replica, b.Replica) })
	h := model.Header{Replica: v.replica, Lo: v.seq + 1, Hi: v.seq + 1, Prev: v.prev, Author: "evil", Deps: deps}
	return v.seal.Sign(h, [][]byte{v.file("crowded", model.RootID).Encode()}, v.key())
}

func (v *villain) key() ed25519.PrivateKey { return v.id.Key() }

// sign makes a batch that is as it must be, but for what is in it.
func (v *villain) sign(x *victim, as model.Replica, key ed25519.PrivateKey, cs ...model.Change) model.Batch {
	v.mu.Lock()
	k := x.k
	v.mu.Unlock()
	h := model.Header{Replica: as, Lo: v.seq + 1, Hi: v.seq + uint64(len(cs)), Prev: v.prev, UTC: math.MaxInt64, Author: "evil", Device: "evil"}
	if g := v.guise; g != nil {
		h.UTC, h.Author, h.Device = g.utc, g.author, g.device
	}
	h.Deps = k.With(model.Dot{Replica: as, Seq: v.seq})
	var enc [][]byte
	for _, c := range cs {
		enc = append(enc, c.Encode())
	}
	return v.seal.Sign(h, enc, key)
}

// odd makes changes that are allowed, and that nobody would make.
func (v *villain) odd(m *machine, x *victim) model.Batch {
	var cs []model.Change
	alive := map[model.ID]bool{} // at the victim
	if m.up && !m.crashed() && !m.unwell() {
		alive = m.holding().alive
	}
	for i := range 1 + v.r.IntN(4) {
		c := v.change(alive)
		c.Dot = model.Dot{Replica: v.replica, Seq: v.seq + 1 + uint64(i)}
		cs = append(cs, c)
	}
	return v.put(x, cs)
}

// refused makes a batch that nobody takes in, whatever is in it: its author is no
// label.
func (v *villain) refused(x *victim, cs ...model.Change) model.Batch {
	v.guise = &guise{"../evil", "evil", 0}
	defer func() { v.guise = nil }()
	return v.sign(x, v.replica, v.key(), cs...)
}

// put makes a batch of the villain's own changes, which is one of its history: of
// those that are taken in. If there are none it is a batch to be refused: one in
// the history would keep out all that comes after it.
func (v *villain) put(x *victim, cs []model.Change) model.Batch {
	var fine []model.Change
	for _, c := range cs {
		if c.Dot = (model.Dot{Replica: v.replica, Seq: v.seq + 1 + uint64(len(fine))}); sound(c) {
			fine = append(fine, c)
		}
	}
	if len(fine) == 0 {
		return v.refused(x, cs...)
	}
	cs = fine
	b := v.sign(x, v.replica, v.key(), cs...)
	v.seq += uint64(len(cs))
	v.prev = model.HeaderHash(b.Header)
	v.mu.Lock()
	v.sent, v.own = append(v.sent, b), v.seq
	v.mu.Unlock()
	return b
}

// sound tells whether honest members take in a change.
func sound(c model.Change) bool {
	if _, err := model.DecodeChange(c.Encode(), c.Dot); err != nil {
		return false
	}
	if c.Version == nil || c.Kind != model.File {
		return true
	}
	_, err := content.Decode(c.Version.Content)
	return err == nil
}

var oddNames = []string{"a", "b", "doc.odt", "CON", "\u202etxt.exe", "\xff\xfe", "a\n\x1b[31m", strings.Repeat("n", 255), " ", "-rf",
	"c (conflict, ua, a, 2000-01-01 00.00.01).txt", "A", "e\u0301"}

func (v *villain) change(alive map[model.ID]bool) model.Change {
	parent := model.RootID
	switch v.r.IntN(3) {
	case 0:
		if len(v.nodes) > 0 {
			if id := v.nodes[v.r.IntN(len(v.nodes))].id; alive[id] { // else some may have forgotten it
				parent = id
			}
		}
	case 1:
		parent[3] = byte(v.r.IntN(4) + 1) // of nobody
	}
	name := oddNames[v.r.IntN(len(oddNames))]
	if len(v.nodes) > 0 && v.r.IntN(2) == 0 {
		if o := v.nodes[v.r.IntN(len(v.nodes))]; alive[o.id] {
			return v.rechange(o, parent, name)
		}
	}
	c := v.file(name, parent)
	switch v.r.IntN(3) {
	case 0:
		c.Kind = model.Dir
		c.Version.Content = ""
	case 1:
		c.Kind = model.Symlink
		c.Version.Content = "/../../etc/passwd " + fmt.Sprint(v.w.oracle.next())
		v.w.oracle.write(v.machine, []byte("-> "+c.Version.Content), name).loose = true
	}
	c.ID = v.newID(parent, name, c.Kind)
	v.nodes = append(v.nodes, odd{id: c.ID, kind: c.Kind})
	return c
}

// rechange changes a node of the villain's own: it goes elsewhere, below itself
// too, gets attributes that are none, a new version, or goes.
func (v *villain) rechange(o odd, parent model.ID, name string) model.Change {
	c := model.Change{ID: o.id, Kind: o.kind, Lamport: v.lamport()}
	switch v.r.IntN(3) {
	case 0:
		if parent == o.id {
			parent = model.RootID
		}
		c.Links = []model.LinkChange{{Key: model.PrimaryKey, Parent: parent, Name: name}}
	case 1:
		c.Attrs = []model.AttrChange{{Name: model.AttrMode, Val: "\xff\xff"}, {Name: model.AttrMtime, Val: "short"}, {Name: model.XattrTag + "user.odd", Val: "=v"},
			{Name: model.XattrTag + "user.1", Val: "no value"}, {Name: model.XattrTag + "security.capability", Val: "=x"}, {Name: "user.0", Val: "no tag"}}
	case 2:
		c.Links = []model.LinkChange{{Key: model.PrimaryKey, Removed: true}}
	}
	return c
}

func (v *villain) lamport() uint64 { v.clock += v.r.Uint64N(1 << 30); return v.clock }

// file makes a file of a few bytes.
func (v *villain) file(name string, parent model.ID) model.Change {
	b := v.w.oracle.bytes(v.machine, v.r.IntN(200), false)
	if t := v.w.oracle.write(v.machine, b, name); t != nil {
		t.loose = true // what the villain wrote it may bring back
	}
	mtime := []int64{0, math.MaxInt64, math.MinInt64, 1}[v.r.IntN(4)]
	return model.Change{ID: v.newID(parent, name, model.File), Kind: model.File, Lamport: v.lamport(), Born: true,
		Links:   []model.LinkChange{{Key: model.PrimaryKey, Parent: parent, Name: name}},
		Version: &model.VersionChange{Content: content.Content{Size: int64(len(b)), Inline: b}.Encode(), Mtime: mtime}}
}

// newID is the id of a node that nobody has made: whether one that was removed is
// born anew, or goes on, is believed (package syncer).
func (v *villain) newID(parent model.ID, name string, k model.Kind) model.ID {
	return model.BirthID(parent, name, k, 1<<20+v.w.oracle.next())
}

// bad makes a change that must be refused.
func (v *villain) bad() model.Change {
	c := v.file("x", model.RootID)
	switch v.r.IntN(9) {
	case 0:
		c.Links[0].Name = []string{"..", ".", "a/b", "a\x00", strings.Repeat("n", 256), ".clachan"}[v.r.IntN(6)]
	case 1:
		c.Links[0].Parent = c.ID
	case 2:
		c.Kind = model.Fifo
	case 3:
		c.ID = model.RootID
	case 4:
		c.Version.Content = "\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
	case 5:
		c.Version.VV = model.VV{{Replica: v.replica, Seq: v.seq + 1000}}
	case 6:
		c.Gone = model.VV{{Replica: 7, Seq: 1 << 60}}
	case 7:
		c.Kind, c.Version.Content = model.Symlink, ""
	case 8:
		c.Kind, c.Version.Content = model.Dir, "x"
	}
	return c
}

// forge makes a batch of a replica that is not the villain's.
func (v *villain) forge(x *victim) model.Batch {
	v.mu.Lock()
	k := x.k
	v.mu.Unlock()
	if len(k) == 0 {
		return v.sign(x, 5, v.key(), v.file("x", model.RootID))
	}
	d := k[v.r.IntN(len(k))]
	h := model.Header{Replica: d.Replica, Lo: d.Seq + 1, Hi: d.Seq + 1, Deps: k, Author: "evil"}
	return v.seal.Sign(h, [][]byte{v.file("forged", model.RootID).Encode()}, v.key())
}
