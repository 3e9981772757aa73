package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// receive takes one frame. An error ends the session.
func (s *session) receive(m wire.Message) error {
	switch m := m.(type) {
	case *wire.FolderState:
		return s.receiveState(m)
	case *wire.Batch:
		return s.receiveBatch(m)
	case *wire.CatchUp:
		return s.receiveCatchUp(m)
	case *wire.Ack:
		return s.receiveAck(m)
	case *wire.MemberOps:
		return s.receiveOps(m)
	case *wire.MemberWant:
		if l := s.linkOf(trust.FolderID(m.Folder)); l != nil {
			s.mu.Lock()
			l.known, l.push, l.resend = parseHashes(m.Heads), true, true
			s.mu.Unlock()
			s.wake()
		}
	case *wire.Presence:
		s.receivePresence(m)
	case *wire.Ping:
		s.mu.Lock()
		if len(s.pongs) < maxPongs {
			s.pongs = append(s.pongs, m.Nonce)
		}
		s.mu.Unlock()
		s.wake()
	case *wire.Pong:
		s.mu.Lock()
		if m.Nonce == s.ping.nonce {
			s.rtt = time.Since(s.ping.sent)
		}
		for _, ch := range s.waiting[m.Nonce] {
			close(ch)
		}
		delete(s.waiting, m.Nonce)
		s.mu.Unlock()
	case *wire.Close:
		return fmt.Errorf("%w: code %d", errClosed, m.Code)
	default:
		return fmt.Errorf("%w: %T on a control stream", errRefused, m)
	}
	return nil
}

func (s *session) receiveState(m *wire.FolderState) error {
	l := s.linkOf(trust.FolderID(m.Folder))
	if l == nil {
		return nil
	}
	k, err := model.DecodeVV(m.Knowledge)
	opening, oerr := openingOf(m, k)
	if err = errors.Join(err, oerr); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if m.Gone {
		s.mu.Lock()
		l.theirs, l.had = theirs{}, false
		s.mu.Unlock()
		s.left(l)
		return nil
	}
	heads := parseHashes(m.Heads)
	unknown := !l.r.log().Knows(heads)
	s.mu.Lock()
	if l.theirs.epoch != m.Epoch { // an opening anew: what was sent to the one before is lost
		l.sentK, l.flight, l.sent, l.acked, l.received, l.reset, l.missed = nil, nil, 0, 0, 0, true, false
	}
	l.heard++
	l.theirs = theirs{
		here: true, epoch: m.Epoch, opening: opening, heads: slices.Clone(heads), k: k, missing: m.Missing, mode: Mode(m.Mode),
	}
	err = l.credit(k)
	l.known, l.want, l.tell, l.resend, l.count = heads, unknown, l.tell || m.Ask, true, true
	s.mu.Unlock()
	s.wake()
	return err
}

// credit adds to what the peer has. Of more replicas than both sides may know of
// only a liar speaks, who could go on for ever.
func (l *link) credit(ks ...model.VV) error {
	for _, k := range ks {
		l.sentK = l.sentK.Join(k)
	}
	if n := len(l.sentK); n > 2*model.MaxReplicas {
		return fmt.Errorf("%w: it has changes of %d replicas", errRefused, n)
	}
	return nil
}

// linkOf is linkTo by id, for the reader: nil if the folder is not attached or
// the peer no member.
func (s *session) linkOf(id trust.FolderID) *link {
	r := s.n.remote(id)
	if r == nil {
		return nil
	}
	l, was := s.linkTo(r)
	if was != nil {
		s.shut(was)
	}
	return l
}

func (s *session) receiveBatch(m *wire.Batch) error {
	l := s.linkOf(trust.FolderID(m.Folder))
	if l == nil || m.Epoch != l.epoch || s.isFull(l) {
		return nil
	}
	h, err := model.DecodeHeader(m.Header)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	// What a member wrote while it was a writer is relayed by all for ever; a
	// member that is none now is not listened to itself, though it may prove what
	// others name.
	if log := l.r.log(); len(m.Body) > 0 && bytes.Equal(h.Signer, s.pub) && !log.CanWrite(s.pub) || log.MayAuthor(h.Signer) != nil {
		return fmt.Errorf("%w: changes of one who may not write", errRefused)
	}
	if ok, err := s.meet(l); !ok || err != nil {
		s.mu.Lock()
		l.missed = true
		s.mu.Unlock()
		return err
	}
	at, ctx, release := l.r.acquire(s.ctx)
	if at == nil {
		return nil
	}
	if len(m.Body) > 0 {
		at.hears(h)
	}
	err = at.Folder.Receive(ctx, s.p.String(), model.Batch{Header: m.Header, Body: m.Body})
	gone := ctx.Err() != nil
	release()
	if err != nil && gone {
		return nil // the folder is being taken away
	}
	if errors.Is(err, syncer.ErrFull) {
		s.n.log.Warn("changes not taken in", "peer", s.p, "folder", l.r.id, "err", err)
		s.setFull(l)
		return nil
	}
	if err != nil { // ErrAnew: another session begins with a meeting
		if errors.Is(err, model.ErrBatch) {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		s.n.log.Warn("changes not taken in", "peer", s.p, "folder", l.r.id, "err", err)
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	if err := l.r.log().Took(h.Signer); err != nil {
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	s.mu.Lock()
	l.received++
	s.mu.Unlock()
	l.r.kick() // the others need not send it
	return nil
}

func (s *session) isFull(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.full
}

// setFull drops what comes on a link and has it opened anew after a while. The
// session goes on: what a full device has to say gets away.
func (s *session) setFull(l *link) {
	s.mu.Lock()
	l.full = true
	s.mu.Unlock()
	s.n.spawn(func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-time.After(s.n.fullPause):
			l.r.renew(l.at)
		}
	})
}

// receiveCatchUp takes a CatchUp for this opening of the folder only: batches
// sent before it for an earlier one were dropped.
func (s *session) receiveCatchUp(m *wire.CatchUp) error {
	l := s.linkOf(trust.FolderID(m.Folder))
	if l == nil || m.Epoch != l.epoch || s.isFull(l) {
		return nil
	}
	k, err := model.DecodeVV(m.Knowledge)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if ok, err := s.meet(l); !ok || err != nil {
		return err
	}
	s.mu.Lock()
	missed := l.missed
	if !missed {
		err = l.credit(k) // it has what it says it sent
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if missed {
		l.r.renew(l.at)
		return nil
	}
	at, ctx, release := l.r.acquire(s.ctx)
	if at == nil {
		return nil
	}
	if at != l.at {
		release()
		return nil
	}
	err = at.Folder.CaughtUp(ctx, s.p.String(), k)
	gone := ctx.Err() != nil
	release()
	if errors.Is(err, syncer.ErrAnew) {
		l.r.renew(at)
		return nil
	}
	if err != nil && !gone {
		return fmt.Errorf("%w: caught up: %w", errNotTaken, err)
	}
	l.r.kick()
	return nil
}

func (s *session) receiveAck(m *wire.Ack) error {
	l := s.linkOf(trust.FolderID(m.Folder))
	if l == nil {
		return nil
	}
	k, err := model.DecodeVV(m.Knowledge)
	has, err2 := model.DecodeVV(m.Has)
	if err = errors.Join(err, err2); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	s.mu.Lock()
	if m.Epoch != l.theirs.epoch {
		s.mu.Unlock()
		return nil
	}
	if m.Of == l.epoch { // else it counts what an opening before sent
		if m.Received < l.acked || m.Received > l.sent {
			defer s.mu.Unlock()
			return fmt.Errorf("%w: acks %d batches of %d", errRefused, m.Received, l.sent)
		}
		l.flight = l.flight[m.Received-l.acked:]
		l.acked = m.Received
	}
	if l.theirs.k.LE(k) { // what one has only grows for as long as an opening lasts: less was said before
		l.theirs.k, l.theirs.missing, l.count = k, m.Missing, true
	}
	err = l.credit(k, has)
	s.mu.Unlock()
	s.wake()
	return err
}

// receiveOps merges membership ops. They prove themselves, so they are taken
// also from a peer whose own membership is only in them.
func (s *session) receiveOps(m *wire.MemberOps) error {
	id := trust.FolderID(m.Folder)
	r := s.n.remote(id)
	if r == nil || !r.isAttached() {
		return nil
	}
	added, err := r.log().Merge(m.Ops)
	if err != nil {
		s.n.log.Warn("membership ops refused", "peer", s.p, "folder", id, "err", err)
	}
	if l := s.linkOf(id); l != nil {
		log := r.log()
		s.mu.Lock()
		for _, raw := range m.Ops {
			if h := trust.HashOf(raw); log.Knows([]trust.Hash{h}) { // else refused: it would stay for ever
				l.known = append(l.known, h)
			}
		}
		l.acquainted(log)
		if len(l.known) > maxKnownHeads {
			l.known = slices.DeleteFunc(l.known, func(h trust.Hash) bool { return !log.Knows([]trust.Hash{h}) })
			l.known = log.Tops(l.known)
		}
		s.mu.Unlock()
	}
	if added > 0 {
		s.n.membersChanged(r)
	}
	s.wake()
	return nil
}

// receivePresence learns where the peer and the members it sees are.
func (s *session) receivePresence(m *wire.Presence) {
	s.tellAddrs(m.Addrs)
	for _, seen := range m.Seen {
		s.n.sighted(trust.PeerID(seen.Peer), seen.Addrs)
	}
	s.mu.Lock()
	first := !s.listed
	s.listed = true
	for _, l := range s.links {
		// It has not said a word of a folder that we share: it may not know yet
		// that we are a member.
		l.push = l.push || first && !l.theirs.here
	}
	s.mu.Unlock()
	s.wake()
}

// sighted takes what another member says of where a member is.
func (n *Node) sighted(id string, texts []string) {
	p, err := peer.Decode(id)
	if err != nil || p == n.id {
		return
	}
	k := n.keeper(p)
	if k == nil {
		return
	}
	news, err := n.book.hint(p, parseAddrs(texts))
	if err != nil {
		n.log.Warn("remember peer", "peer", p, "err", err)
	}
	if news || k.session.Load() == nil {
		k.poke()
	}
}

// presenceFor says where this device is and which members of common folders it
// is connected to.
func (n *Node) presenceFor(s *session) *wire.Presence {
	m := &wire.Presence{Addrs: n.Addrs()}
	remotes := n.attached()
	for _, o := range n.sessions() {
		if o == s || len(m.Seen) == wire.MaxSeen {
			continue
		}
		common := false
		for _, r := range remotes {
			log := r.log()
			common = common || log.Allowed(s.pub) && log.Allowed(o.pub)
		}
		if common {
			m.Seen = append(m.Seen, &wire.Seen{Peer: o.pub, Addrs: o.reachable()})
		}
	}
	return m
}

// reachable returns where the peer of s can be dialed, as far as known here.
func (s *session) reachable() []string {
	s.mu.Lock()
	addrs := s.addrs
	s.mu.Unlock()
	return addrTexts(addrs)
}
