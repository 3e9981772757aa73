package peers

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
)

const (
	pingEvery    = 30 * time.Second
	silenceTime  = 75 * time.Second // no frame for so long: the peer is gone
	writeTimeout = 45 * time.Second
	goodbyeTime  = 500 * time.Millisecond
	maxPongs     = 16
)

var (
	errClosed  = errors.New("peer closed the session")
	errRefused = errors.New("peer broke the protocol")
	errSilent  = errors.New("no answer")
	// errNotTaken means that a folder here did not take what the peer sent.
	errNotTaken = errors.New("changes not taken in")
)

// A session is one control stream with a member, and the block streams beside
// it. Its writer goroutine sends, its reader goroutine calls the folders.
type session struct {
	n     *Node
	k     *keeper
	p     peer.ID
	pub   ed25519.PublicKey
	st    counted
	w     *bufio.Writer // the writer's
	alarm time.Time     // the writer's: when to look again, zero never

	ctx    context.Context
	cancel context.CancelCauseFunc
	group  errgroup.Group

	kick     chan struct{} // cap 1: there may be something to send
	presence atomic.Bool   // Presence is due
	window   *window
	pullers  [classes]*puller

	mu       sync.Mutex // guards all below
	hello    *wire.Hello
	features uint64         // that both sides have
	addrs    []ma.Multiaddr // where the peer says it is
	listed   bool           // the peer has sent the states of all its folders
	links    map[trust.FolderID]*link
	epochs   uint64
	shutting []*link  // closed by the reader, to be said by the writer
	pongs    []uint64 // to be answered
	ping     ping
	settle   []chan struct{}            // waiting for the next ping to be sent
	waiting  map[uint64][]chan struct{} // closed by the Pong of that nonce
	rtt      time.Duration
	wrong    int  // blocks that were not what was asked for
	ended    bool // no goroutine is started any more
}

// A ping is the newest one sent.
type ping struct {
	nonce uint64
	due   bool
	sent  time.Time
}

func newSession(k *keeper, st network.Stream) *session {
	s := &session{
		n: k.n, k: k, p: k.p, st: k.n.count(st), kick: make(chan struct{}, 1), window: newWindow(),
		links: map[trust.FolderID]*link{}, waiting: map[uint64][]chan struct{}{},
	}
	s.pub, _ = trust.PeerKey(k.p) // the keeper's peer is a member: it has a key
	s.w = bufio.NewWriterSize(s.st, 64<<10)
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	for c := range s.pullers {
		s.pullers[c] = newPuller(s, Class(c))
	}
	return s
}

// run greets the peer and talks to it until either side ends.
func (s *session) run(ctx context.Context) error {
	defer s.cancel(nil)
	defer context.AfterFunc(ctx, func() { s.cancel(context.Cause(ctx)) })()
	s.group.Go(func() error {
		err := s.write()
		s.cancel(err)
		return nil
	})
	s.group.Go(func() error {
		err := s.read()
		s.cancel(err)
		return nil
	})
	<-s.ctx.Done()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	for _, p := range s.pullers {
		p.close()
	}
	wait := goodbyeTime // the writer says goodbye, the reader waits for the peer's end
	if errors.Is(context.Cause(s.ctx), errReplaced) {
		wait = 0
	}
	cut := time.AfterFunc(wait, func() { _ = s.st.Reset() })
	_ = s.group.Wait()
	cut.Stop()
	s.leave()
	_ = s.st.Reset()
	if s.k.session.CompareAndSwap(s, nil) {
		s.n.presenceChanged()
	}
	if err := s.n.book.left(s.p, time.Now()); err != nil {
		s.n.log.Warn("remember peer", "peer", s.p, "err", err)
	}
	return context.Cause(s.ctx)
}

// spawn runs f in the session's group; false if the session is over.
func (s *session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.group.Go(func() error { f(); return nil })
	return true
}

// wake makes the writer look for news.
func (s *session) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *session) greeted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hello != nil
}

// write is the writer goroutine.
func (s *session) write() error {
	hello := &wire.Hello{
		Version: wire.Version, Device: s.n.cfg.Name, Agent: trust.CleanLabel(s.n.cfg.Version), Addrs: s.n.Addrs(),
		Features: s.n.features.Has, Required: s.n.features.Required,
	}
	if err := s.send(hello); err != nil {
		return err
	}
	s.presence.Store(true)
	s.mu.Lock()
	s.ping.due = true // the first ping measures
	s.mu.Unlock()
	idle := time.NewTicker(pingEvery)
	defer idle.Stop()
	for s.ctx.Err() == nil {
		more, err := s.step()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		if err := s.flush(); err != nil {
			return err
		}
		select {
		case <-s.ctx.Done():
		case <-s.kick:
		case <-s.due():
		case <-idle.C:
			s.mu.Lock()
			s.ping.due = true
			s.mu.Unlock()
		}
	}
	return s.goodbye()
}

// due returns a channel for the alarm, which it clears.
func (s *session) due() <-chan time.Time {
	if s.alarm.IsZero() {
		return nil
	}
	wait := time.Until(s.alarm)
	s.alarm = time.Time{}
	return time.After(wait)
}

// goodbye tells the peer why the session ends, as far as it is its business.
// A TCP close may drop what was sent before: the reader waits for the peer's.
func (s *session) goodbye() error {
	code := wire.Shutdown
	switch cause := context.Cause(s.ctx); {
	case errors.Is(cause, errRefused):
		code = wire.Protocol
	case errors.Is(cause, wire.ErrVersion):
		code = wire.Newer
	case errors.Is(cause, errClosed), errors.Is(cause, errReplaced), errors.Is(cause, io.EOF):
		return nil
	}
	_ = s.st.SetWriteDeadline(time.Now().Add(goodbyeTime))
	if err := wire.Write(s.w, &wire.Close{Code: uint32(code)}); err != nil {
		return err
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	return s.st.CloseWrite()
}

func (s *session) send(m wire.Message) error {
	_ = s.st.SetWriteDeadline(time.Now().Add(writeTimeout))
	return wire.Write(s.w, m)
}

func (s *session) flush() error {
	_ = s.st.SetWriteDeadline(time.Now().Add(writeTimeout))
	return s.w.Flush()
}

// step sends some of what the peer has not been told yet. more says that there
// may be more.
func (s *session) step() (more bool, err error) {
	s.mu.Lock()
	settle := s.settle
	s.settle = nil
	s.mu.Unlock()
	if err := s.sendPongs(); err != nil {
		return false, err
	}
	links, err := s.updateLinks()
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if err := s.sendState(l); err != nil {
			return false, err
		}
	}
	if s.presence.CompareAndSwap(true, false) {
		if err := s.send(s.n.presenceFor(s)); err != nil {
			return false, err
		}
	}
	for _, l := range links {
		sent, err := s.sendNews(l)
		if err != nil {
			return false, err
		}
		more = more || sent
	}
	return more, s.sendPing(settle)
}

// sendNews sends what one folder has for the peer, some batches at a time.
func (s *session) sendNews(l *link) (more bool, err error) {
	s.countAck(l)
	if err := s.sendOps(l); err != nil {
		return false, err
	}
	if err := s.sendAck(l); err != nil {
		return false, err
	}
	return s.sendBatches(l)
}

func (s *session) sendPongs() error {
	s.mu.Lock()
	pongs := s.pongs
	s.pongs = nil
	s.mu.Unlock()
	for _, n := range pongs {
		if err := s.send(&wire.Pong{Nonce: n}); err != nil {
			return err
		}
	}
	return nil
}

// sendPing sends a ping if one is due, or if somebody waits for the peer to
// have taken in what was sent before it.
func (s *session) sendPing(settle []chan struct{}) error {
	s.mu.Lock()
	if !s.ping.due && len(settle) == 0 {
		s.mu.Unlock()
		return nil
	}
	s.ping = ping{nonce: s.ping.nonce + 1, sent: time.Now()}
	nonce := s.ping.nonce
	if len(settle) > 0 {
		s.waiting[nonce] = settle
	}
	s.mu.Unlock()
	return s.send(&wire.Ping{Nonce: nonce})
}

// settled waits until the peer has taken in all that is to be sent now, or the
// session ends.
func (s *session) settled(ctx context.Context) {
	ch := make(chan struct{})
	s.mu.Lock()
	s.settle = append(s.settle, ch)
	s.mu.Unlock()
	s.wake()
	select {
	case <-ctx.Done():
	case <-ch:
	case <-s.ctx.Done():
	}
}

// read is the reader goroutine.
func (s *session) read() error {
	r := wire.NewReader(s.st, wire.MaxFrame)
	_ = s.st.SetReadDeadline(time.Now().Add(helloTime))
	m, err := r.Read()
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	hello, ok := m.(*wire.Hello)
	if !ok {
		return fmt.Errorf("%w: no hello first", errRefused)
	}
	both, apart := s.n.features.With(wire.Features{Has: hello.Features, Required: hello.Required})
	if apart != nil {
		s.cancel(apart) // the peer finds the same in our hello
	} else {
		s.start(hello, both)
	}
	for s.ctx.Err() == nil {
		_ = s.st.SetReadDeadline(time.Now().Add(silenceTime))
		m, err := r.Read()
		switch {
		case errors.Is(err, wire.ErrFrame), errors.Is(err, wire.ErrTooBig):
			return fmt.Errorf("%w: %w", errRefused, err)
		case err != nil:
			return err
		}
		if err := s.receive(m); err != nil {
			return err
		}
	}
	// The peer ends its side when it has read ours, or the deadline does.
	for err == nil {
		_, err = r.Read()
	}
	return context.Cause(s.ctx)
}

// start makes the session known: the peer is online.
func (s *session) start(h *wire.Hello, features uint64) {
	conn := s.st.Conn()
	var dialed ma.Multiaddr
	if conn.Stat().Direction == network.DirOutbound && dialable(conn.RemoteMultiaddr()) {
		dialed = conn.RemoteMultiaddr()
	}
	s.tellAddrs(h.Addrs)
	if err := s.n.book.worked(s.p, dialed, time.Now()); err != nil {
		s.n.log.Warn("remember peer", "peer", s.p, "err", err)
	}
	s.mu.Lock()
	s.hello, s.features = h, features
	s.mu.Unlock()
	s.k.apart.Store(nil)
	s.k.session.Store(s)
	s.n.log.Debug("session", "peer", s.p, "name", h.Device, "addr", conn.RemoteMultiaddr(), "protocol", s.st.Protocol(), "features", features)
	s.n.presenceChanged()
}

// tellAddrs takes what the peer says of where it is.
func (s *session) tellAddrs(texts []string) {
	addrs := parseAddrs(texts)
	s.mu.Lock()
	s.addrs = addrs
	s.mu.Unlock()
	if err := s.n.book.told(s.p, addrs); err != nil {
		s.n.log.Warn("remember peer", "peer", s.p, "err", err)
	}
}
