package peers

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer/model"
)

// A member lets in one device here and another there with a ticket for one. The
// first to come has written something when it loses its place: all get that, and
// members go on.
func TestWhatOneWroteWhoLostItsPlaceReachesAll(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := ds[0].node.Remote(g.ID).log()
	var ids [3]*trust.Identity
	for i := range ids {
		var err error
		ids[i], err = trust.NewIdentity()
		must(err)
	}
	must(log.Add(ds[0].id, ids[2].Public(), trust.Reader, "mal", time.Now()))
	ticket, err := trust.ParseTicket(ds[0].invite(g.ID, trust.Writer, 1))
	must(err)
	both, err := trust.Adopt(newKV(), g.ID, g.Settings, log.Since(nil))
	must(err)
	before := both.Since(nil)
	var forks [2][][]byte
	for i := range forks {
		x, err := trust.Adopt(newKV(), g.ID, g.Settings, before)
		must(err)
		pub := ids[i].Public()
		invite := ticket.InviteKey().Public().(ed25519.PublicKey)
		must(x.Accept(ids[2], invite, pub, "x", ticket.Proof(pub, "x"), time.Now()))
		forks[i] = x.Since(both.Heads())
	}
	for _, ops := range forks {
		_, err = both.Merge(ops)
		must(err)
	}
	if both.Allowed(ids[0].Public()) { // the first is to lose
		ids[0], ids[1], forks[0], forks[1] = ids[1], ids[0], forks[1], forks[0]
	}
	s := ds[0].node.keeper(ds[1].node.id).session.Load()
	must(s.receive(&wire.MemberOps{Folder: g.ID[:], Ops: forks[0]}))
	seal := model.Seal{Folder: g.ID, Key: g.IDKey}
	b := seal.Sign(model.Header{Replica: 7777, Lo: 1, Hi: 1, UTC: 1}, [][]byte{[]byte("x")}, ids[0].Key())
	must(s.receive(&wire.Batch{Folder: g.ID[:], Epoch: s.linkOf(g.ID).epoch, Header: b.Header, Body: b.Body}))
	has := model.VV{}.With(model.Dot{Replica: 7777, Seq: 1})
	fs[0].awaitK(t, has)
	fs[1].awaitK(t, has)
	must(s.receive(&wire.MemberOps{Folder: g.ID[:], Ops: forks[1]}))
	for _, d := range ds {
		at := d.node.Remote(g.ID).log()
		eventually(t, func() bool { return at.Allowed(ids[1].Public()) && !at.Allowed(ids[0].Public()) }, "the second is in")
	}
	for i, f := range fs {
		f.write(t, "more")
		fs[1-i].awaitK(t, f.Knowledge())
	}
	cleo := newDevice(t, "cleo")
	_, f := cleo.join(ds[0].invite(g.ID, trust.Reader, 1))
	f.awaitK(t, fs[0].Knowledge())
}

// What a peer told of may turn out to be of no use, and be let go of.
func TestMembershipSeenOnceIsNotAskedForAgain(t *testing.T) {
	id, err := trust.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	log, err := trust.Create(newKV(), id, "x", "", "ana", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l := &link{theirs: theirs{here: true, heads: append(log.Heads(), trust.Hash{1})}}
	if l.acquainted(log) {
		t.Error("with what it has not seen")
	}
	l.theirs.heads = log.Heads()
	if !l.acquainted(log) || !l.acquainted(trust.Nobody) {
		t.Error("what was seen does not count")
	}
}
