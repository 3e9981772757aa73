package peers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/clachanfs/clachan/peers/wire"
)

const (
	backoffMin = time.Second
	backoffMax = time.Minute
	// helloTime bounds the wait for a control stream and for Hello on it.
	helloTime = 5 * time.Second
)

var (
	errReplaced = errors.New("replaced by a newer control stream")
	errNoStream = errors.New("connected, but no control stream came")
)

// A keeper keeps a session with one member: it dials, waits longer and longer,
// and runs one session after the other.
type keeper struct {
	n       *Node
	p       peer.ID
	stop    context.CancelFunc
	ctx     context.Context // ends when p is no member any more
	tryNow  chan struct{}   // cap 1: there is news of p, forget the backoff
	in      slot            // the control stream p opened
	strange bool            // it did not talk to us; run's goroutine only

	session atomic.Pointer[session]
	apart   atomic.Pointer[string] // why the two versions cannot talk; nil: they can, or it is not known
}

func newKeeper(n *Node, p peer.ID) *keeper {
	k := &keeper{n: n, p: p, tryNow: make(chan struct{}, 1)}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

// poke makes the keeper try at once if it waits.
func (k *keeper) poke() {
	select {
	case k.tryNow <- struct{}{}:
	default:
	}
}

// note keeps why there is no session if somebody has to see to that. It holds until
// there is one.
func (k *keeper) note(err error) {
	if !errors.Is(err, wire.ErrVersion) {
		return
	}
	text := err.Error()
	if old := k.apart.Swap(&text); old == nil || *old != text {
		k.n.log.Warn("a member cannot be talked to", "peer", k.p, "err", err)
	}
}

// lower tells whether this side opens the control stream.
func (k *keeper) lower() bool { return k.n.id < k.p }

// run keeps sessions until ctx ends or p is no member any more.
func (k *keeper) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(k.ctx, cancel)()
	k.n.host.ConnManager().Protect(k.p, "member")
	var wait backoff
	for ctx.Err() == nil {
		lasted, err := k.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if lasted {
			wait.reset()
		}
		k.note(err)
		k.n.log.Debug("no session", "peer", k.p, "err", err)
		if errors.Is(err, errReplaced) {
			continue
		}
		k.pause(ctx, &wait)
	}
	if s := k.in.take(); s != nil {
		_ = s.Reset()
	}
	_ = k.n.host.Network().ClosePeer(k.p)
}

// pause waits out the backoff, or until there is news.
func (k *keeper) pause(ctx context.Context, wait *backoff) {
	t := time.NewTimer(wait.next())
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-k.tryNow:
		wait.reset()
	}
}

// once gets a control stream and runs one session. It tells whether the
// session was a good one.
func (k *keeper) once(ctx context.Context) (lasted bool, err error) {
	st, err := k.open(ctx)
	if err != nil {
		return false, err
	}
	select {
	case <-k.tryNow: // old news
	default:
	}
	s := newSession(k, st)
	stop := k.in.watch(func() { s.cancel(errReplaced) })
	err = s.run(ctx)
	stop()
	if !errors.Is(err, errReplaced) {
		_ = k.n.host.Network().ClosePeer(k.p)
	}
	if !s.greeted() && !errors.Is(err, wire.ErrVersion) {
		k.strange = true
	}
	return s.greeted() && !errors.Is(err, errRefused) && !errors.Is(err, errNotTaken), err
}

// open returns a control stream: the one p opened, or, from the lower id, a
// new one.
func (k *keeper) open(ctx context.Context) (network.Stream, error) {
	if s := k.in.take(); s != nil {
		return s, nil
	}
	net := k.n.host.Network()
	dialed := false
	if net.Connectedness(k.p) != network.Connected {
		if err := k.dial(ctx); err != nil {
			return nil, err
		}
		dialed = true
	}
	if k.strange { // the last time it did not talk to us: it may not know us yet
		k.strange = false
		k.n.introduce(ctx, k.p)
	}
	if k.lower() {
		ctx, cancel := context.WithTimeout(ctx, helloTime)
		defer cancel()
		s, err := k.n.newStream(ctx, k.p, ctlKind)
		if err != nil {
			_ = net.ClosePeer(k.p) // refused, or dead
			if errors.Is(err, wire.ErrVersion) {
				return nil, err
			}
			k.strange = true
			return nil, fmt.Errorf("open control stream: %w", err)
		}
		return s, nil
	}
	// The other side opens the stream when it sees a new connection; an old one
	// may be from before we shared a folder.
	patience := helloTime
	if !dialed {
		patience /= 2
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer k.in.watch(cancel)()
	<-ctx.Done()
	if s := k.in.take(); s != nil {
		return s, nil
	}
	foreign := k.n.foreign(k.p, ctlKind)
	_ = net.ClosePeer(k.p)
	if foreign != nil {
		return nil, foreign
	}
	if dialed {
		k.strange = true
	} else {
		k.poke()
	}
	return nil, errNoStream
}

// dial connects to p, unless p's control stream comes first.
func (k *keeper) dial(ctx context.Context) error {
	info := peer.AddrInfo{ID: k.p, Addrs: k.n.book.addrs(k.p)}
	if len(info.Addrs) == 0 {
		return errors.New("dial: no address known")
	}
	if s, ok := k.n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(k.p) // this keeper has its own
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer k.in.watch(cancel)()
	if err := k.n.host.Connect(ctx, info); err != nil && !k.in.full() {
		return fmt.Errorf("dial: %w", err)
	}
	return nil
}

// handleControl takes a control stream from a member.
func (n *Node) handleControl(s network.Stream) {
	k := n.keeper(s.Conn().RemotePeer())
	if k == nil || k.lower() {
		_ = s.Reset()
		return
	}
	k.in.put(s)
	k.poke()
}

// A slot holds the newest control stream that came in and has not been taken.
type slot struct {
	mu   sync.Mutex // guards both
	s    network.Stream
	hook func() // called when one comes
}

func (l *slot) put(s network.Stream) {
	l.mu.Lock()
	old, hook := l.s, l.hook
	l.s = s
	l.mu.Unlock()
	if old != nil {
		_ = old.Reset()
	}
	if hook != nil {
		hook()
	}
}

func (l *slot) take() network.Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.s
	l.s = nil
	return s
}

func (l *slot) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s != nil
}

// watch calls f when a stream comes or is there already, until stop.
func (l *slot) watch(f func()) (stop func()) {
	l.mu.Lock()
	l.hook = f
	here := l.s != nil
	l.mu.Unlock()
	if here {
		f()
	}
	return func() {
		l.mu.Lock()
		l.hook = nil
		l.mu.Unlock()
	}
}

// A backoff grows from a second to a minute.
type backoff struct{ last time.Duration }

func (b *backoff) reset() { b.last = 0 }

func (b *backoff) next() time.Duration {
	b.last = min(max(b.last*2, backoffMin), backoffMax)
	return b.last + rand.N(b.last/4)
}
