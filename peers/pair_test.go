package peers

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
)

func TestTicketThatAdmitsNobody(t *testing.T) {
	a := newDevice(t, "ana")
	g, _ := a.create("shared")
	used := a.invite(g.ID, trust.Writer, 1)
	newDevice(t, "ben").join(used)
	revoked := a.invite(g.ID, trust.Writer, 1)
	if err := a.node.RevokeInvites(g.ID); err != nil {
		t.Fatal(err)
	}
	parsed, err := trust.ParseTicket(a.invite(g.ID, trust.Writer, 1))
	if err != nil {
		t.Fatal(err)
	}
	expired := parsed
	expired.Expires = time.Now().Add(-time.Second)
	forged := parsed
	forged.Secret[0] ^= 1
	gone := parsed
	gone.Folder[0] ^= 1
	tests := []struct {
		name, ticket string
		want         error
	}{
		{"garbage", "clachan1nonsense", trust.ErrTicket},
		{"empty", "", trust.ErrTicket},
		{"used", used, trust.ErrTicketUsed},
		{"expired", expired.String(), trust.ErrTicketExpired},
		{"revoked", revoked, trust.ErrTicketRevoked},
		{"forged", forged.String(), trust.ErrTicketRevoked},
		{"of a folder the inviter does not have", gone.String(), trust.ErrTicketRevoked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newDevice(t, "cleo")
			if _, err := c.node.Join(t.Context(), tt.ticket, ""); !errors.Is(err, tt.want) {
				t.Errorf("join: %v", err)
			}
			if grants, err := c.node.Grants(); err != nil || len(grants) > 0 {
				t.Errorf("grants %v, %v", grants, err)
			}
		})
	}
}

func TestJoinIsOfflineWhenNobodyAnswers(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	g, _ := a.create("shared")
	ticket := a.invite(g.ID, trust.Writer, 1)
	a.stop()
	if _, err := b.node.Join(t.Context(), ticket, ""); !errors.Is(err, ErrOffline) {
		t.Errorf("join: %v", err)
	}
}

func TestAnotherMemberLetsInWhileTheInviterIsAway(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	ticket := ds[0].invite(g.ID, trust.Writer, 1)
	log := ds[1].node.Remote(g.ID).log()
	eventually(t, func() bool { return log.Inviting(time.Now()) && log.Len() == ds[0].node.Remote(g.ID).log().Len() }, "ben knows")
	ds[0].stop()
	fs[1].write(t, "hello")
	c := newDevice(t, "cleo")
	_, fc := c.join(ticket)
	fc.awaitK(t, fs[1].Knowledge())
}

func TestJoinTwiceGivesTheSameGrant(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	g, _ := a.create("shared")
	ticket := a.invite(g.ID, trust.Writer, 1)
	b.join(ticket)
	again, err := b.node.Join(t.Context(), ticket, "")
	if err != nil || again.ID != g.ID || again.Role != trust.Writer {
		t.Errorf("join: %+v, %v", again, err)
	}
}

// A member whose acceptance another has not heard of is taken in by showing it.
func TestMemberUnknownToAnotherIntroducesItself(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	ticket := ds[0].invite(g.ID, trust.Writer, 1)
	log := ds[1].node.Remote(g.ID).log()
	eventually(t, func() bool { return log.Len() == ds[0].node.Remote(g.ID).log().Len() }, "ben knows of the ticket")
	ds[1].stop() // and of nothing after
	c := newDevice(t, "cleo")
	_, fc := c.join(ticket)
	fc.write(t, "hello")
	ds[0].stop()
	ds[1].start("ben")
	grants, err := ds[1].node.Grants()
	if err != nil {
		t.Fatal(err)
	}
	ds[1].attach(grants[0])
	fs[1].awaitK(t, fc.Knowledge())
}

func TestStrangersLearnNothing(t *testing.T) {
	a, b, s := newDevice(t, "ana"), newDevice(t, "ben"), newDevice(t, "stranger")
	g, _ := a.create("shared")
	b.join(a.invite(g.ID, trust.Writer, 1)) // a ticket that may be out
	done := s.node.expect(a.node.id)
	defer done()
	info := peer.AddrInfo{ID: a.node.id, Addrs: a.node.addrs()}
	if err := s.node.host.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	open := func(p protocol.ID) network.Stream {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		st, err := s.node.host.NewStream(ctx, a.node.id, p)
		if err != nil {
			return nil
		}
		_ = st.SetDeadline(time.Now().Add(5 * time.Second))
		return st
	}
	if st := open(wire.Ctl); st != nil {
		_ = wire.Write(st, &wire.Hello{Version: 1})
		_ = wire.Write(st, &wire.MemberWant{Folder: g.ID[:]})
		if m, err := wire.NewReader(st, wire.MaxFrame).Read(); err == nil {
			t.Errorf("control stream says %v", m)
		}
	}
	if st := open(wire.Blk); st != nil {
		q := wire.Request{Op: wire.Get}
		_, _ = st.Write(q.AppendTo(nil))
		if a, err := wire.ReadReply(st); err == nil {
			t.Errorf("block stream says %+v", a)
		}
	}
	for _, k := range []*wire.Knock{
		{Folder: g.ID[:], Invite: make([]byte, 32), Proof: make([]byte, 64)},
		{Folder: make([]byte, 32), Invite: make([]byte, 32), Proof: make([]byte, 64)},
		{Folder: g.ID[:], Ops: [][]byte{{1, 2, 3}}},
	} {
		st := open(wire.Pair)
		if st == nil {
			t.Fatal("no pairing stream")
		}
		if err := wire.Write(st, k); err != nil {
			t.Fatal(err)
		}
		m, err := wire.NewReader(st, wire.MaxFrame).Read()
		if err != nil {
			t.Fatal(err)
		}
		if a := m.(*wire.Answer); a.Code != uint32(wire.Refused) || a.Name != "" || len(a.IdKey)+len(a.ChunkSeed)+len(a.Members) > 0 || a.Ops > 0 {
			t.Errorf("answer %v", a)
		}
	}
}

func TestStrangersAreNotRemembered(t *testing.T) {
	a, s := newDevice(t, "ana"), newDevice(t, "stranger")
	g, _ := a.create("shared")
	a.invite(g.ID, trust.Writer, 1) // a ticket that may be out
	defer s.node.expect(a.node.id)()
	if err := s.node.host.Connect(t.Context(), peer.AddrInfo{ID: a.node.id, Addrs: a.node.addrs()}); err != nil {
		t.Fatal(err)
	}
	k := &wire.Knock{Folder: g.ID[:], Invite: make([]byte, 32), Proof: make([]byte, 64)}
	if err := s.node.ask(t.Context(), a.node.id, k, nil); err == nil || !strings.Contains(err.Error(), "code 2") {
		t.Fatal(err)
	}
	if len(s.node.traffic) != 1 {
		t.Fatal("nothing was counted")
	}
	eventually(t, func() bool {
		a.node.mu.Lock()
		defer a.node.mu.Unlock()
		return len(a.node.traffic) == 0
	}, "no counter is kept")
}

func TestNoTicketNoStranger(t *testing.T) {
	a, s := newDevice(t, "ana"), newDevice(t, "stranger")
	a.create("shared")
	defer s.node.expect(a.node.id)()
	info := peer.AddrInfo{ID: a.node.id, Addrs: a.node.addrs()}
	_ = s.node.host.Connect(t.Context(), info) // may say it is connected
	eventually(t, func() bool { return s.node.host.Network().Connectedness(a.node.id) != network.Connected }, "refused")
}

func TestTicketNamesTheAddresses(t *testing.T) {
	a := newDevice(t, "ana")
	g, _ := a.create("shared")
	ticket, err := trust.ParseTicket(a.invite(g.ID, trust.Reader, 3))
	if err != nil {
		t.Fatal(err)
	}
	if len(ticket.Addrs) != 2 || !strings.HasPrefix(ticket.Addrs[0], "/ip4/127.0.0.1/tcp/") ||
		!strings.HasPrefix(ticket.Addrs[1], "/ip4/127.0.0.1/udp/") || ticket.Inviter != a.node.ID() || ticket.Role != trust.Reader {
		t.Errorf("ticket %+v", ticket)
	}
}

func TestOnlyAdminsInvite(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	g, _ := a.create("shared")
	b.join(a.invite(g.ID, trust.Writer, 1))
	if _, err := b.node.Invite(g.ID, trust.Reader, time.Hour, 1); !errors.Is(err, trust.ErrRole) {
		t.Errorf("invite: %v", err)
	}
	if _, err := b.node.Invite(trust.FolderID{}, trust.Reader, time.Hour, 1); !errors.Is(err, trust.ErrNoFolder) {
		t.Errorf("invite: %v", err)
	}
}

// On the LAN a member is found although no address of it is known.
func TestSightingBringsMembersTogether(t *testing.T) {
	g, ds, _ := mesh(t, "ana", "ben")
	for _, d := range ds {
		d.stop()
		for k := range d.kv.m {
			if strings.HasPrefix(k, "peers/addr/") {
				delete(d.kv.m, k)
			}
		}
	}
	for _, d := range ds {
		d.start("again")
		grants, err := d.node.Grants()
		if err != nil || len(grants) != 1 {
			t.Fatal(grants, err)
		}
		d.attach(grants[0])
	}
	ds[0].node.found(peer.AddrInfo{ID: ds[1].node.id, Addrs: ds[1].node.addrs()})
	ds[0].awaitOnline(g.ID, 1)
	stranger := newDevice(t, "stranger")
	ds[0].node.found(peer.AddrInfo{ID: stranger.node.id, Addrs: stranger.node.addrs()})
	if addrs := ds[0].node.book.addrs(stranger.node.id); len(addrs) > 0 {
		t.Errorf("a stranger is remembered at %v", addrs)
	}
}

// Who refuses us is tried less and less often, although each connection seems
// to succeed.
func TestRefusalsAreNotRetriedAtOnce(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	g, _ := a.create("shared")
	if _, err := b.node.Join(t.Context(), a.invite(g.ID, trust.Writer, 1), ""); err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int32 // ben does not attach the folder: his gate is shut
	a.node.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { conns.Add(1) }})
	if _, err := a.node.book.hint(b.node.id, b.node.addrs()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return a.node.keeper(b.node.id) != nil }, "a keeper")
	a.node.keeper(b.node.id).poke()
	eventually(t, func() bool { return conns.Load() > 0 }, "a first try")
	time.Sleep(backoffMin)
	if n := conns.Load(); n > 4 {
		t.Errorf("%d tries in a second", n)
	}
}
