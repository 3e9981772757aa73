package simtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	libp2p "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/clachanfs/clachan/peers/wire"
)

// A simHost is a libp2p host as package peers uses it, on a network. What it
// does not use is nil.
type simHost struct {
	host.Host
	n    *network
	id   peer.ID
	addr ma.Multiaddr
	gate connmgr.ConnectionGater // nil: lets all in

	mu       sync.Mutex // guards what follows
	handlers map[protocol.ID]libp2p.StreamHandler
	conns    []*simConn
	notify   []libp2p.Notifiee
	dead     bool
}

// newHost makes a host, which takes the place of an older one at its address.
func (n *network) newHost(id peer.ID, addr ma.Multiaddr, gate connmgr.ConnectionGater) *simHost {
	h := &simHost{n: n, id: id, addr: addr, gate: gate, handlers: map[protocol.ID]libp2p.StreamHandler{}}
	n.mu.Lock()
	old := n.hosts[h.at()]
	n.hosts[h.at()] = h
	n.mu.Unlock()
	if old != nil {
		old.hangUp()
	}
	return h
}

var errDown = errors.New("no route to host")

// kill cuts the host off without a word: what it writes goes nowhere.
func (h *simHost) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
	for _, c := range h.conns {
		for _, s := range c.all() {
			s.in.deafen()
			s.quiet()
		}
	}
}

// hangUp closes all connections, on both sides.
func (h *simHost) hangUp() {
	for _, c := range h.open() {
		_ = c.Close()
	}
}

func (h *simHost) gone() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

func (h *simHost) open() []*simConn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.conns)
}

func (h *simHost) ID() peer.ID             { return h.id }
func (h *simHost) Addrs() []ma.Multiaddr   { return []ma.Multiaddr{h.addr} }
func (h *simHost) Network() libp2p.Network { return simNetwork{h: h} }
func (h *simHost) ConnManager() connmgr.ConnManager {
	return connmgr.NullConnMgr{}
}
func (h *simHost) EventBus() event.Bus { return stillBus{} }

func (h *simHost) SetStreamHandler(p protocol.ID, f libp2p.StreamHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[p] = f
}

func (h *simHost) RemoveStreamHandler(p protocol.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.handlers, p)
}

func (h *simHost) handler(p protocol.ID) libp2p.StreamHandler {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		return nil
	}
	return h.handlers[p]
}

// Close hangs up.
func (h *simHost) Close() error {
	h.mu.Lock()
	dead := h.dead
	h.dead = true
	h.mu.Unlock()
	if !dead {
		h.hangUp()
	}
	return nil
}

func (h *simHost) at() spot { return spot(h.addr.String()) }

func (h *simHost) pause(ctx context.Context, other spot) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(h.n.delay(h.at(), other, 100)):
	}
	if up, _ := h.n.up(h.at(), other); !up || h.gone() {
		return errDown
	}
	return nil
}

// Connect dials one address after the other.
func (h *simHost) Connect(ctx context.Context, to peer.AddrInfo) error {
	if h.conn(to.ID) != nil {
		return nil
	}
	if h.gate != nil && !h.gate.InterceptPeerDial(to.ID) {
		return errors.New("gater refuses the dial")
	}
	err := errDown
	for _, addr := range to.Addrs {
		if err = h.dial(ctx, to.ID, spot(addr.String())); err == nil {
			break
		}
	}
	return err
}

func (h *simHost) dial(ctx context.Context, id peer.ID, at spot) error {
	for range 2 {
		if err := h.pause(ctx, at); err != nil {
			return err
		}
	}
	o := h.n.host(at)
	if o == nil || o.id != id || o.gone() {
		return errDown
	}
	a := &simConn{h: h, dir: libp2p.DirOutbound}
	b := &simConn{h: o, dir: libp2p.DirInbound, other: a}
	a.other = b
	if o.gate != nil && (!o.gate.InterceptAccept(b) || !o.gate.InterceptSecured(libp2p.DirInbound, h.id, b)) {
		return errors.New("gater refuses the connection")
	}
	for _, c := range []*simConn{a, b} {
		c.h.mu.Lock()
		c.h.conns = append(c.h.conns, c)
		notify := slices.Clone(c.h.notify)
		c.h.mu.Unlock()
		for _, n := range notify {
			n.Connected(c.h.Network(), c)
		}
	}
	return nil
}

// conn returns the newest connection with a peer.
func (h *simHost) conn(p peer.ID) *simConn {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range slices.Backward(h.conns) {
		if c.other.h.id == p {
			return c
		}
	}
	return nil
}

// NewStream opens a stream on a connection that is there.
func (h *simHost) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (libp2p.Stream, error) {
	c := h.conn(p)
	if c == nil {
		return nil, libp2p.ErrNoConn
	}
	for range 2 {
		if err := h.pause(ctx, c.other.h.at()); err != nil {
			return nil, err
		}
	}
	o := c.other.h
	f := o.handler(protos[0])
	if f == nil {
		return nil, errors.New("protocol not supported")
	}
	in, out := h.n.newPipe(o.at(), h.at(), protos[0]), h.n.newPipe(h.at(), o.at(), protos[0])
	s := &simStream{c: c, proto: protos[0], in: in, out: out}
	t := &simStream{c: c.other, proto: protos[0], in: out, out: in}
	s.other, t.other = t, s
	if !c.add(s) || !c.other.add(t) {
		_ = s.Reset()
		return nil, libp2p.ErrReset
	}
	f(t)
	return s, nil
}

func (n *network) newPipe(from, to spot, proto protocol.ID) *pipe {
	return &pipe{n: n, from: from, to: to, tap: &tap{n: n, from: from, to: to, ctl: proto == wire.Ctl}, changed: make(chan struct{})}
}

// A simConn is one side of a connection.
type simConn struct {
	libp2p.Conn
	h     *simHost
	other *simConn
	dir   libp2p.Direction

	mu      sync.Mutex // guards what follows
	streams []*simStream
	closed  bool
	old     bool // the other side has ended it, and has not said so
}

func (c *simConn) LocalPeer() peer.ID            { return c.h.id }
func (c *simConn) RemotePeer() peer.ID           { return c.other.h.id }
func (c *simConn) LocalMultiaddr() ma.Multiaddr  { return c.h.addr }
func (c *simConn) RemoteMultiaddr() ma.Multiaddr { return c.other.h.addr }
func (c *simConn) ID() string                    { return fmt.Sprintf("%p", c) }
func (c *simConn) Stat() libp2p.ConnStats {
	return libp2p.ConnStats{Stats: libp2p.Stats{Direction: c.dir}}
}
func (c *simConn) ConnState() (s libp2p.ConnectionState) { return s }

func (c *simConn) add(s *simStream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.streams = append(c.streams, s)
	}
	return !c.closed
}

func (c *simConn) all() []*simStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.streams)
}

// Close ends the connection and all its streams, on both sides.
func (c *simConn) Close() error {
	for _, x := range []*simConn{c, c.other} {
		x.leave()
		for _, s := range x.shut() {
			s.in.fail(errReset)
			s.out.fail(errReset)
		}
	}
	return nil
}

// leave takes the connection from its host.
func (c *simConn) leave() {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.conns = slices.DeleteFunc(c.h.conns, func(x *simConn) bool { return x == c })
}

// shut lets no stream be opened any more, and returns those there were.
func (c *simConn) shut() []*simStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	streams := c.streams
	c.closed, c.streams = true, nil
	return streams
}

// A simStream is one side of a stream.
type simStream struct {
	libp2p.Stream
	c       *simConn
	proto   protocol.ID
	other   *simStream
	in, out *pipe

	mu   sync.Mutex // guards mute
	mute bool       // what is written goes nowhere
}

func (s *simStream) quiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = true
}

func (s *simStream) muted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mute
}

func (s *simStream) Conn() libp2p.Conn     { return s.c }
func (s *simStream) Protocol() protocol.ID { return s.proto }

func (s *simStream) Read(b []byte) (int, error) {
	n, err := s.in.read(b)
	s.belated(n)
	return n, err
}

func (s *simStream) Write(b []byte) (int, error) {
	if s.muted() {
		return 0, errDown
	}
	return s.out.write(b)
}

func (s *simStream) Close() error {
	if !s.muted() { // else the other side hears nothing
		s.out.close()
		s.in.fail(errReset)
	}
	s.forget()
	return nil
}

func (s *simStream) CloseWrite() error {
	if !s.muted() {
		s.out.close()
	}
	return nil
}

func (s *simStream) Reset() error {
	if !s.muted() {
		s.in.fail(errReset)
		s.out.fail(errReset)
	}
	s.forget()
	return nil
}

func (s *simStream) forget() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.streams = slices.DeleteFunc(s.c.streams, func(x *simStream) bool { return x == s })
}

func (s *simStream) SetReadDeadline(t time.Time) error {
	s.in.setDeadline(&s.in.deadline.read, t)
	return nil
}

func (s *simStream) SetWriteDeadline(t time.Time) error {
	s.out.setDeadline(&s.out.deadline.write, t)
	return nil
}

// A simNetwork is the libp2p network of a host.
type simNetwork struct {
	libp2p.Network
	h *simHost
}

func (n simNetwork) Notify(x libp2p.Notifiee) {
	n.h.mu.Lock()
	defer n.h.mu.Unlock()
	n.h.notify = append(n.h.notify, x)
}

func (n simNetwork) StopNotify(x libp2p.Notifiee) {
	n.h.mu.Lock()
	defer n.h.mu.Unlock()
	n.h.notify = slices.DeleteFunc(n.h.notify, func(y libp2p.Notifiee) bool { return x == y })
}

func (n simNetwork) Connectedness(p peer.ID) libp2p.Connectedness {
	if n.h.conn(p) != nil {
		return libp2p.Connected
	}
	return libp2p.NotConnected
}

func (n simNetwork) ClosePeer(p peer.ID) error {
	if n.h.gone() {
		return nil // the other side hears nothing
	}
	for c := n.h.conn(p); c != nil; c = n.h.conn(p) {
		_ = c.Close()
	}
	return nil
}

func (n simNetwork) Conns() (out []libp2p.Conn) {
	if n.h.gone() {
		return nil
	}
	for _, c := range n.h.open() {
		out = append(out, c)
	}
	return out
}

func (n simNetwork) Peers() (out []peer.ID) {
	for _, c := range n.h.open() {
		if !slices.Contains(out, c.RemotePeer()) {
			out = append(out, c.RemotePeer())
		}
	}
	return out
}

func (n simNetwork) ListenAddresses() []ma.Multiaddr { return n.h.Addrs() }

func (n simNetwork) InterfaceListenAddresses() ([]ma.Multiaddr, error) { return n.h.Addrs(), nil }

// A stillBus tells nothing.
type stillBus struct{}

func (stillBus) Subscribe(any, ...event.SubscriptionOpt) (event.Subscription, error) {
	return stillSub{make(chan any)}, nil
}
func (stillBus) Emitter(any, ...event.EmitterOpt) (event.Emitter, error) {
	return nil, errors.New("nothing is told")
}
func (stillBus) GetAllEventTypes() []reflect.Type { return nil }

type stillSub struct{ out chan any }

func (s stillSub) Out() <-chan any { return s.out }
func (s stillSub) Name() string    { return "" }
func (s stillSub) Close() error    { return nil }

func (s *simStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}
