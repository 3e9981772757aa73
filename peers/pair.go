package peers

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
)

const (
	knockTime    = 10 * time.Second // for one knock and its answer
	knockFrame   = opsFrame + 1<<16 // a knock from a stranger
	sightingTime = 3 * time.Second  // wait for mDNS to find who the addresses in the ticket do not reach
	maxGrantOps  = 64 << 20
)

// errTurnedAway means that the other side was there, and hung up.
var errTurnedAway = errors.New("turned away")

// Join makes this device a member of the folder of a ticket, shown to others
// as label. The secrets come only from the peers the ticket names: TLS pins
// their ids. A member already: its grant.
func (n *Node) Join(ctx context.Context, ticket, label string) (Grant, error) {
	t, err := trust.ParseTicket(ticket)
	if err != nil {
		return Grant{}, fmt.Errorf("join: %w", err)
	}
	if l, err := n.membership(t.Folder); err == nil && l.Allowed(n.pub) {
		return n.grant(l), nil
	}
	if time.Now().After(t.Expires) {
		return Grant{}, fmt.Errorf("join: %w", trust.ErrTicketExpired)
	}
	if label = trust.CleanLabel(label); label == "" {
		label = n.cfg.Name
	}
	doors, err := doorsOf(t)
	if err != nil {
		return Grant{}, fmt.Errorf("join: %w: %w", trust.ErrTicket, err)
	}
	for _, d := range doors {
		defer n.expect(d.ID)()
	}
	l, err := n.knockAll(ctx, t, doors, label)
	if errors.Is(err, ErrOffline) && !n.cfg.NoDiscovery && n.awaitSighting(ctx, doors) {
		l, err = n.knockAll(ctx, t, doors, label)
	}
	if err != nil {
		return Grant{}, fmt.Errorf("join: %w", err)
	}
	n.adopt(l)
	if r := n.Remote(t.Folder); r.isAttached() { // back after having been removed
		n.membersChanged(r)
	}
	return n.grant(l), nil
}

// doorsOf returns whom a ticket names: the inviter first.
func doorsOf(t trust.Ticket) ([]peer.AddrInfo, error) {
	id, err := peer.Decode(t.Inviter)
	if err != nil {
		return nil, err
	}
	doors := []peer.AddrInfo{{ID: id}}
	for _, text := range t.Addrs {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			continue // of a later version
		}
		at := 0
		if addr, p := peer.SplitAddr(a); p != "" && p != id {
			doors = append(doors, peer.AddrInfo{ID: p})
			a, at = addr, len(doors)-1
		} else if p == id {
			a = addr
		}
		if a != nil && dialable(a) {
			doors[at].Addrs = append(doors[at].Addrs, a)
		}
	}
	return doors, nil
}

// expect lets the gater pass p until the returned func is called.
func (n *Node) expect(p peer.ID) func() {
	n.mu.Lock()
	n.joins[p]++
	n.mu.Unlock()
	return func() {
		n.mu.Lock()
		if n.joins[p]--; n.joins[p] == 0 {
			delete(n.joins, p)
		}
		n.mu.Unlock()
		if n.keeper(p) == nil {
			_ = n.host.Network().ClosePeer(p)
		}
	}
}

// knockAll knocks at one door after the other until one opens. What the ticket
// is void for is final, and so is being turned away by the inviter.
func (n *Node) knockAll(ctx context.Context, t trust.Ticket, doors []peer.AddrInfo, label string) (*trust.Log, error) {
	last := errors.New("no address")
	var away, apart error
	for i, d := range doors {
		l, err := n.knock(ctx, t, d, label)
		if errors.Is(err, errTurnedAway) && ctx.Err() == nil { // once more: a connection may be lost by chance
			l, err = n.knock(ctx, t, d, label)
		}
		switch {
		case err == nil:
			return l, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", ErrOffline, ctx.Err())
		case errors.Is(err, trust.ErrTicketUsed), errors.Is(err, trust.ErrTicketExpired), errors.Is(err, trust.ErrTicketRevoked):
			return nil, err
		case errors.Is(err, wire.ErrVersion):
			apart = err
		case errors.Is(err, errTurnedAway) && i == 0:
			away = err
		}
		last = err
		n.log.Debug("knock", "peer", d.ID, "err", err)
	}
	if apart != nil { // another door might have been of another version
		return nil, apart
	}
	if away != nil { // it proved to be the inviter, and knows nothing of the ticket any more
		return nil, fmt.Errorf("%w: %w", trust.ErrTicketRevoked, away)
	}
	return nil, fmt.Errorf("%w: %w", ErrOffline, last)
}

// awaitSighting waits until mDNS has found a door, for a short time.
func (n *Node) awaitSighting(ctx context.Context, doors []peer.AddrInfo) bool {
	ctx, cancel := context.WithTimeout(ctx, sightingTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for i := range doors {
			for _, a := range n.book.addrs(doors[i].ID) {
				if !containsAddr(doors[i].Addrs, a) {
					doors[i].Addrs = append(doors[i].Addrs, a)
					return true
				}
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// knock asks one member to be let in.
func (n *Node) knock(ctx context.Context, t trust.Ticket, door peer.AddrInfo, label string) (*trust.Log, error) {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	door.Addrs = append(door.Addrs[:len(door.Addrs):len(door.Addrs)], n.book.addrs(door.ID)...)
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(door.ID)
	}
	if err := n.host.Connect(ctx, door); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOffline, err)
	}
	invite := t.InviteKey().Public().(ed25519.PublicKey)
	k := &wire.Knock{
		Folder: t.Folder[:], Invite: invite, Proof: t.Proof(n.pub, label), Label: label,
		Features: n.features.Has, Required: n.features.Required,
	}
	var grant *trust.Log
	err := n.ask(ctx, door.ID, k, func(a *wire.Answer, ops [][]byte) error {
		if wire.Code(a.Code) != wire.OK {
			return nil
		}
		if len(a.IdKey) != 32 || len(a.ChunkSeed) != 32 {
			return fmt.Errorf("%w: no keys", wire.ErrFrame)
		}
		s := trust.Settings{Name: a.Name, IDKey: [32]byte(a.IdKey), ChunkSeed: [32]byte(a.ChunkSeed)}
		l, err := n.takeIn(t.Folder, s, ops)
		if err != nil {
			return err
		}
		grant = l
		return n.learn(door, a.Members)
	})
	return grant, err
}

// takeIn stores the membership that was granted, or adds to the one that was
// here before: this device may have been out for a while.
func (n *Node) takeIn(id trust.FolderID, s trust.Settings, ops [][]byte) (*trust.Log, error) {
	l, err := n.membership(id)
	old := err == nil
	if old {
		_, err = l.Merge(ops)
	} else {
		l, err = trust.Adopt(n.cfg.KV, id, s, ops)
	}
	if err != nil {
		return nil, err
	}
	if !l.Allowed(n.pub) {
		err := fmt.Errorf("%w: not let in", errTurnedAway)
		if !old {
			err = errors.Join(err, trust.Delete(n.cfg.KV, id))
		}
		return nil, err
	}
	return l, nil
}

// learn remembers where the members of a joined folder are.
func (n *Node) learn(door peer.AddrInfo, members []*wire.Seen) error {
	if _, err := n.book.hint(door.ID, door.Addrs); err != nil {
		return err
	}
	for _, m := range members {
		p, err := peer.Decode(trust.PeerID(m.Peer))
		if err != nil || p == n.id {
			continue
		}
		if _, err := n.book.hint(p, parseAddrs(m.Addrs)); err != nil {
			return err
		}
	}
	return nil
}

// ask sends one knock and hands over the answer.
func (n *Node) ask(ctx context.Context, p peer.ID, k *wire.Knock, take func(*wire.Answer, [][]byte) error) error {
	raw, err := n.newStream(ctx, p, pairKind)
	if errors.Is(err, wire.ErrVersion) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errTurnedAway, err)
	}
	s := n.count(raw)
	defer s.Reset()
	if d, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(d)
	}
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	if err := wire.Write(s, k); err != nil {
		return fmt.Errorf("%w: %w", errTurnedAway, err)
	}
	a, ops, err := readAnswer(wire.NewReader(s, wire.MaxFrame))
	if err != nil {
		return fmt.Errorf("%w: %w", errTurnedAway, err)
	}
	switch wire.Code(a.Code) {
	case wire.Used:
		return trust.ErrTicketUsed
	case wire.Expired:
		return trust.ErrTicketExpired
	case wire.Revoked:
		return trust.ErrTicketRevoked
	case wire.Newer:
		if _, err := n.features.With(wire.Features{Has: a.Features, Required: a.Required}); err != nil {
			return err
		}
		return fmt.Errorf("one of the two %w", wire.ErrVersion)
	case wire.OK:
		return take(a, ops)
	}
	return fmt.Errorf("%w: code %d", errTurnedAway, a.Code)
}

func readAnswer(r *wire.Reader) (*wire.Answer, [][]byte, error) {
	m, err := r.Read()
	if err != nil {
		return nil, nil, err
	}
	a, ok := m.(*wire.Answer)
	if !ok {
		return nil, nil, fmt.Errorf("%w: %T as answer", wire.ErrFrame, m)
	}
	var ops [][]byte
	size := 0
	for range a.Ops {
		m, err := r.Read()
		if err != nil {
			return nil, nil, err
		}
		o, ok := m.(*wire.MemberOps)
		if !ok {
			return nil, nil, fmt.Errorf("%w: %T as ops", wire.ErrFrame, m)
		}
		for _, raw := range o.Ops {
			size += len(raw)
			ops = append(ops, raw)
		}
		if size > maxGrantOps || len(ops) > trust.MaxOps {
			return nil, nil, fmt.Errorf("%w: ops", wire.ErrTooBig)
		}
	}
	return a, ops, nil
}

// handlePair answers a knock.
func (n *Node) handlePair(raw network.Stream) {
	if !n.knocks.TryAcquire(1) {
		_ = raw.Reset()
		return
	}
	started := n.spawn(func(ctx context.Context) {
		defer n.knocks.Release(1)
		n.servePair(ctx, raw)
	})
	if !started {
		n.knocks.Release(1)
		_ = raw.Reset()
	}
}

func (n *Node) servePair(ctx context.Context, raw network.Stream) {
	s := n.count(raw)
	p := s.Conn().RemotePeer()
	defer n.uncount(p)
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	_ = s.SetDeadline(time.Now().Add(knockTime))
	m, err := wire.NewReader(s, knockFrame).Read()
	if err != nil {
		return
	}
	k, ok := m.(*wire.Knock)
	if !ok {
		return
	}
	answer, ops := n.answer(p, k)
	defer n.reconcile()
	if err := wire.Write(s, answer); err != nil {
		return
	}
	for _, part := range ops {
		if err := wire.Write(s, &wire.MemberOps{Folder: k.Folder, Ops: part}); err != nil {
			return
		}
	}
	// The other side closes when it has read all; a close from here might
	// overtake it.
	_ = s.CloseWrite()
	var end [1]byte
	_, _ = s.Read(end[:])
}

// answer decides about a knock. Who proves nothing learns nothing.
func (n *Node) answer(p peer.ID, k *wire.Knock) (*wire.Answer, [][][]byte) {
	refused := &wire.Answer{Code: uint32(wire.Refused)}
	r := n.remote(trust.FolderID(k.Folder))
	pub, err := trust.PeerKey(p)
	if r == nil || err != nil || !r.isAttached() {
		return refused, nil
	}
	log := r.log()
	if len(k.Ops) > 0 { // a member that this device has not heard of yet
		if added, _ := log.Merge(k.Ops); added > 0 {
			n.membersChanged(r)
		}
		if log.Allowed(pub) {
			return &wire.Answer{Code: uint32(wire.OK)}, nil
		}
		return refused, nil
	}
	if _, err := n.features.With(wire.Features{Has: k.Features, Required: k.Required}); err != nil && log.Invited(k.Invite, pub, k.Label, k.Proof) {
		n.log.Warn("knock of another version", "peer", p, "err", err) // it may come back with the same ticket
		return &wire.Answer{Code: uint32(wire.Newer), Features: n.features.Has, Required: n.features.Required}, nil
	} else if err != nil {
		return refused, nil
	}
	before := log.Version()
	err = log.Accept(n.cfg.Identity, k.Invite, pub, k.Label, k.Proof, time.Now())
	switch {
	case errors.Is(err, trust.ErrTicketUsed):
		return &wire.Answer{Code: uint32(wire.Used)}, nil
	case errors.Is(err, trust.ErrTicketExpired):
		return &wire.Answer{Code: uint32(wire.Expired)}, nil
	case errors.Is(err, trust.ErrTicketRevoked):
		return &wire.Answer{Code: uint32(wire.Revoked)}, nil
	case err != nil:
		n.log.Debug("knock refused", "peer", p, "err", err)
		return refused, nil
	}
	if log.Version() != before {
		n.log.Info("member let in", "peer", p, "folder", r.id, "name", k.Label)
		r.kick() // the others hear of it; p itself is called when it has the answer
	}
	return n.welcome(p, r)
}

// welcome is all that a newcomer needs. A blind member gets no keys.
func (n *Node) welcome(p peer.ID, r *Remote) (*wire.Answer, [][][]byte) {
	log := r.log()
	a := &wire.Answer{Code: uint32(wire.OK), Name: log.Settings().Name}
	if pub, err := trust.PeerKey(p); err == nil && log.Role(pub) >= trust.Reader {
		set := log.Settings()
		a.IdKey, a.ChunkSeed = set.IDKey[:], set.ChunkSeed[:]
	}
	for _, m := range log.Members() {
		id, err := peer.Decode(m.ID)
		if err != nil || id == p || id == n.id || len(a.Members) == wire.MaxSeen {
			continue
		}
		a.Members = append(a.Members, &wire.Seen{Peer: m.Pub, Addrs: addrTexts(n.book.addrs(id))})
	}
	var parts [][][]byte
	for part := range opsFrames(log.Since(nil)) {
		parts = append(parts, part)
	}
	a.Ops = uint32(len(parts))
	return a, parts
}

// introduce shows a member that does not know this device the ops that make it
// a member. It works while the other side listens to strangers.
func (n *Node) introduce(ctx context.Context, p peer.ID) {
	pub, err := trust.PeerKey(p)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	for _, r := range n.attached() {
		log := r.log()
		if !log.Allowed(pub) || !log.Allowed(n.pub) {
			continue
		}
		for part := range opsFrames(log.Since(nil)) {
			k := &wire.Knock{Folder: r.id[:], Ops: part}
			if err := n.ask(ctx, p, k, func(*wire.Answer, [][]byte) error { return nil }); err != nil {
				n.log.Debug("introduce", "peer", p, "err", err)
			}
		}
	}
}
