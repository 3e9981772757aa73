package peers

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer/model"
)

func TestJoinedPeerGetsAllAndNews(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	g, fa := a.create("photos")
	fa.write(t, "one")
	fa.write(t, "two")
	g2, fb := b.join(a.invite(g.ID, trust.Writer, 1))
	if g2.Name != "photos" || g2.IDKey != g.IDKey || g2.ChunkSeed != g.ChunkSeed || g2.Role != trust.Writer {
		t.Fatalf("grant %+v", g2)
	}
	fb.awaitK(t, fa.Knowledge())
	start := time.Now()
	fa.write(t, "three")
	fb.awaitK(t, fa.Knowledge())
	t.Logf("a change took %v", time.Since(start))
	fb.write(t, "four")
	fa.awaitK(t, fb.Knowledge())
	k := fb.Knowledge()
	fa.await(t, "ack", func() bool { return k.LE(fa.acks[b.node.ID()]) })
	fa.await(t, "caught up", func() bool { return k.LE(fa.caught[b.node.ID()]) })
}

func TestMembersThatJoinedThroughAnotherConnectDirectly(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben", "cleo") // every device sees two others
	ds[0].stop()                               // the one that let both in goes away
	fs[1].write(t, "from ben")
	fs[2].awaitK(t, fs[1].Knowledge())
	ds[1].awaitOnline(g.ID, 1)
}

// Every change reaches every member once: others say in time that they have it.
func TestBatchesAreNotSentTwice(t *testing.T) {
	patient := func(n *Node) { n.hold = time.Hour }
	_, ds, fs := meshOf(t, []func(*Node){patient}, "ana", "ben", "cleo")
	const changes = 300
	for range changes {
		fs[0].write(t, "x")
	}
	all := fs[0].Knowledge()
	for i, f := range fs {
		f.awaitK(t, all)
		for j, d := range ds {
			if i != j {
				f.await(t, "ack", func() bool { return all.LE(f.acks[d.node.ID()]) })
			}
		}
	}
	for i, want := range []int{0, changes, changes} {
		if fs[i].received != want {
			t.Errorf("device %d took %d batches, not %d", i, fs[i].received, want)
		}
	}
}

func TestWhatAMemberDoesNotGetFromItsAuthorIsRelayed(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben", "cleo")
	ds[0].node.keeper(ds[2].node.id).stop() // these two do not see each other
	ds[2].node.keeper(ds[0].node.id).stop()
	ds[0].awaitOnline(g.ID, 1)
	ds[2].awaitOnline(g.ID, 1)
	fs[0].write(t, "by way of ben")
	fs[2].awaitK(t, fs[0].Knowledge())
}

func TestSlowPeerDelaysOnlyItself(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben", "cleo")
	hold := make(chan struct{})
	fs[1].mu.Lock()
	fs[1].hold = hold
	fs[1].mu.Unlock()
	for range 3 * maxFlightFrames {
		fs[0].write(t, "x")
	}
	fs[2].awaitK(t, fs[0].Knowledge())
	for _, s := range ds[0].node.sessions() {
		if s.p != ds[1].node.id {
			continue
		}
		s.mu.Lock()
		if l := s.links[g.ID]; len(l.flight) > maxFlightFrames || l.sent-l.acked != uint64(len(l.flight)) {
			t.Errorf("%d batches in flight, sent %d, acked %d", len(l.flight), l.sent, l.acked)
		}
		s.mu.Unlock()
	}
	fs[1].mu.Lock()
	fs[1].hold = nil
	fs[1].mu.Unlock()
	close(hold)
	fs[1].awaitK(t, fs[0].Knowledge())
}

// A device without room takes in nothing for a while, and says what it has to say
// in the same session all the same.
func TestAFullDeviceIsHeard(t *testing.T) {
	brief := func(n *Node) { n.fullPause = 50 * time.Millisecond }
	_, ds, fs := meshOf(t, []func(*Node){brief}, "ana", "ben")
	setFull := func(is bool) {
		fs[1].mu.Lock()
		defer fs[1].mu.Unlock()
		fs[1].full = is
	}
	before := ds[1].node.sessions()[0]
	setFull(true)
	for range 10 {
		fs[0].write(t, "news")
	}
	fs[1].await(t, "it is offered again", func() bool { return fs[1].refused >= 3 })
	for range 10 {
		fs[1].write(t, "from the full one")
	}
	fs[0].awaitK(t, fs[1].Knowledge())
	setFull(false)
	fs[1].awaitK(t, fs[0].Knowledge())
	if now := ds[1].node.sessions(); len(now) != 1 || now[0] != before {
		t.Error("the session has ended")
	}
}

func TestReconnectAfterRestartGoesOnWhereItWas(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	fs[0].write(t, "before")
	fs[1].awaitK(t, fs[0].Knowledge())
	addrs := ds[1].node.Addrs()
	ds[1].stop()
	fs[0].write(t, "while ben is away")
	had := fs[1].received
	ds[1].start("ben")
	if got := ds[1].node.Addrs(); !slices.Equal(got, addrs) {
		t.Errorf("addresses changed from %v to %v", addrs, got)
	}
	grants, err := ds[1].node.Grants()
	if err != nil || len(grants) != 1 || grants[0].ID != g.ID || grants[0].Name != "shared" {
		t.Fatalf("grants %+v, %v", grants, err)
	}
	ds[1].attach(grants[0])
	fs[1].awaitK(t, fs[0].Knowledge())
	if n := fs[1].received - had; n != 1 {
		t.Errorf("%d batches came for one that was missing", n)
	}
	for _, st := range ds[0].node.Peers() {
		if !st.Online || st.Path != "lan" || st.Transport != "tcp" || st.Name != "ben" || st.Sent == 0 || st.Received == 0 {
			t.Errorf("state %+v", st)
		}
	}
	eventually(t, func() bool { return ds[0].node.Peers()[0].RTT > 0 }, "round trip measured")
}

func TestFoldersShareOneSession(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	g1, f1 := a.create("one")
	g2, f2 := a.create("two")
	_, r1 := b.join(a.invite(g1.ID, trust.Writer, 1))
	a.awaitOnline(g1.ID, 1)
	s := a.node.sessions()[0]
	_, r2 := b.join(a.invite(g2.ID, trust.Writer, 1))
	b.awaitOnline(g2.ID, 1)
	f1.write(t, "1")
	f2.write(t, "2")
	r1.awaitK(t, f1.Knowledge())
	r2.awaitK(t, f2.Knowledge())
	if now := a.node.sessions(); len(now) != 1 || now[0] != s {
		t.Errorf("the second folder made another session")
	}
}

func TestFolderComesAndGoesOnALiveSession(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	g1, _ := a.create("one")
	g2, f2 := a.create("two")
	b.join(a.invite(g1.ID, trust.Writer, 1))
	_, r2 := b.join(a.invite(g2.ID, trust.Writer, 1))
	a.awaitOnline(g2.ID, 1)
	a.awaitOnline(g1.ID, 1)
	s := a.node.sessions()[0]
	for i := range 5 {
		b.node.RemoveFolder(g2.ID)
		a.awaitOnline(g2.ID, 0)
		for range 10 {
			f2.write(t, "while it is away")
		}
		b.attach(Grant{ID: g2.ID, Settings: g2.Settings, Log: b.node.Remote(g2.ID).log()})
		r2.awaitK(t, f2.Knowledge())
		r2.write(t, "and back")
		f2.awaitK(t, r2.Knowledge())
		if now := a.node.sessions(); len(now) != 1 || now[0] != s {
			t.Fatalf("round %d: the session was lost", i)
		}
	}
}

func TestDialingAtOnceEndsInOneSession(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	for i := range 5 {
		for _, d := range ds {
			_ = d.node.host.Network().ClosePeer(ds[0].node.id)
			_ = d.node.host.Network().ClosePeer(ds[1].node.id)
		}
		for _, d := range ds {
			d.node.mu.Lock()
			for _, k := range d.node.keepers {
				k.poke()
			}
			d.node.mu.Unlock()
		}
		fs[i%2].write(t, "x")
		fs[1-i%2].awaitK(t, fs[i%2].Knowledge())
		ds[0].awaitOnline(g.ID, 1)
		ds[1].awaitOnline(g.ID, 1)
	}
	a := ds[0].node.sessions()[0]
	fs[0].write(t, "steady")
	fs[1].awaitK(t, fs[0].Knowledge())
	if now := ds[0].node.sessions(); len(now) != 1 || now[0] != a {
		t.Error("the session flaps")
	}
}

func TestRemovedMemberIsToldAndCutOff(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben", "cleo")
	if err := ds[0].node.RemoveMember(g.ID, ds[1].node.ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return ds[1].node.Remote(g.ID).log().Role(ds[1].pub()) == trust.None }, "ben knows")
	ds[0].awaitOnline(g.ID, 1)
	ds[2].awaitOnline(g.ID, 1)
	fs[0].write(t, "not for ben")
	fs[2].awaitK(t, fs[0].Knowledge())
	if fs[0].Knowledge().LE(fs[1].Knowledge()) {
		t.Error("a removed member got changes")
	}
	members, err := ds[2].node.Members(g.ID)
	if err != nil || len(members) != 2 {
		t.Errorf("members %v, %v", members, err)
	}
}

func TestLeaveTellsTheOthersAndForgets(t *testing.T) {
	g, ds, _ := mesh(t, "ana", "ben")
	if err := ds[1].node.Leave(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { m, _ := ds[0].node.Members(g.ID); return len(m) == 1 }, "ana alone")
	if grants, err := ds[1].node.Grants(); err != nil || len(grants) != 0 {
		t.Errorf("grants %v, %v", grants, err)
	}
	for k := range ds[1].kv.m {
		if strings.HasPrefix(k, "trust/") || strings.HasPrefix(k, "peers/addr/") {
			t.Errorf("%s is kept", k)
		}
	}
}

func TestReadersChangesAreRefused(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	g, fa := a.create("shared")
	_, fb := b.join(a.invite(g.ID, trust.Reader, 1))
	fa.write(t, "readers see this")
	fb.awaitK(t, fa.Knowledge())
	s := a.node.sessions()[0]
	fb.write(t, "and must not do this")
	select {
	case <-s.ctx.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the session goes on")
	}
	if fb.Knowledge().LE(fa.Knowledge()) {
		t.Error("a reader's change was taken")
	}
}

func TestRunLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	func() {
		g, ds, fs := mesh(t, "ana", "ben", "cleo")
		id := fs[0].put([]byte("block"))
		if err := ds[1].node.Remote(g.ID).Fetch(t.Context(), id, 5, Normal); err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			d.stop()
		}
	}()
	// libp2p's own end a moment later.
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, "goroutines of %d", before)
}

// Batches for an earlier opening of a folder are dropped, so what follows them
// must be too: it would cover what never came.
func TestCatchUpForAnEarlierOpeningIsDropped(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	fs[0].write(t, "x")
	fs[1].awaitK(t, fs[0].Knowledge())
	from := ds[0].node.ID()
	s := ds[1].node.keeper(ds[0].node.id).session.Load()
	l := s.linkOf(g.ID)
	k := fs[0].Knowledge().With(model.Dot{Replica: 77, Seq: 9})
	caught := func() bool {
		fs[1].mu.Lock()
		defer fs[1].mu.Unlock()
		return k.LE(fs[1].caught[from])
	}
	for _, tt := range []struct {
		epoch uint64
		want  bool
	}{{l.epoch - 1, false}, {l.epoch, true}} {
		if err := s.receive(&wire.CatchUp{Folder: g.ID[:], Knowledge: k.Encode(), Epoch: tt.epoch}); err != nil {
			t.Fatal(err)
		}
		if got := caught(); got != tt.want {
			t.Errorf("opening %d of %d: caught up %v", tt.epoch, l.epoch, got)
		}
	}
}

func TestRefusedOpsAreNotRemembered(t *testing.T) {
	g, ds, _ := mesh(t, "ana", "ben")
	s := ds[1].node.keeper(ds[0].node.id).session.Load()
	var junk [][]byte
	for i := range 2 * maxKnownHeads {
		junk = append(junk, []byte{byte(i), byte(i >> 8)})
	}
	if err := s.receive(&wire.MemberOps{Folder: g.ID[:], Ops: junk}); err != nil {
		t.Fatal(err)
	}
	l := s.linkOf(g.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(l.known) > maxKnownHeads {
		t.Errorf("%d hashes are kept", len(l.known))
	}
}

// Who tells what it has may have taken in a member by then that is not known here:
// it counts when that one is.
func TestAcksCountOnceTheMembershipTheyNameIsHere(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	fs[0].write(t, "x")
	fs[1].awaitK(t, fs[0].Knowledge())
	log, err := trust.Adopt(newKV(), g.ID, g.Settings, ds[0].node.Remote(g.ID).log().Since(nil))
	if err != nil {
		t.Fatal(err)
	}
	cleo, err := trust.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Add(ds[0].id, cleo.Public(), trust.Writer, "cleo", time.Now()); err != nil {
		t.Fatal(err)
	}
	s := ds[1].node.keeper(ds[0].node.id).session.Load()
	l := s.linkOf(g.ID)
	s.mu.Lock()
	epoch := l.theirs.epoch
	s.mu.Unlock()
	k := fs[0].Knowledge().With(model.Dot{Replica: 77, Seq: 9})
	counted := func() bool {
		fs[1].mu.Lock()
		defer fs[1].mu.Unlock()
		return k.LE(fs[1].acks[ds[0].node.ID()])
	}
	if err := s.receive(&wire.FolderState{Folder: g.ID[:], Heads: hashBytes(log.Heads()), Knowledge: k.Encode(), Epoch: epoch}); err != nil {
		t.Fatal(err)
	}
	s.settled(t.Context()) // the writer has looked at it
	if counted() {
		t.Error("it counts before cleo does")
	}
	if err := s.receive(&wire.MemberOps{Folder: g.ID[:], Ops: log.Since(nil)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, counted, "it counts beside cleo")
}

// Who has told what it has does not tell it again: an ack of before must not stand
// in its place.
func TestAnEarlierAckIsNotTakenForTheLast(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	fs[0].write(t, "x")
	fs[1].awaitK(t, fs[0].Knowledge())
	s := ds[1].node.keeper(ds[0].node.id).session.Load()
	l := s.linkOf(g.ID)
	said := func(seq uint64) model.VV {
		k := fs[0].Knowledge().With(model.Dot{Replica: 77, Seq: seq})
		s.mu.Lock()
		m := &wire.Ack{Folder: g.ID[:], Knowledge: k.Encode(), Missing: seq, Received: l.acked, Epoch: l.theirs.epoch, Of: l.epoch}
		s.mu.Unlock()
		if err := s.receive(m); err != nil {
			t.Fatal(err)
		}
		s.settled(t.Context()) // the writer has looked at it
		return k
	}
	before, last := said(8), said(9)
	said(8)
	fs[1].mu.Lock()
	got := fs[1].acks[ds[0].node.ID()]
	fs[1].mu.Unlock()
	if !got.Equal(last) {
		t.Errorf("counted is %v, told was %v after %v", got, last, before)
	}
}
