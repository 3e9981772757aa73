package peers

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
)

// Config is what a Node needs.
type Config struct {
	Identity    *trust.Identity
	KV          trust.KV
	Name        string       // this device's name, shown to members
	Version     string       // of the program, shown to members
	Listen      []string     // HOST:PORT; empty: DefaultPort on all addresses
	NoDiscovery bool         // no mDNS
	NewHost     NewHost      // nil: libp2p; else Listen is not used
	Log         *slog.Logger // nil: none
	// Tell hears that somebody became a member or none, came or went. It must not block.
	Tell func()
}

// A NewHost makes a host that listens already, which lets in whom gate does.
type NewHost func(id *trust.Identity, gate connmgr.ConnectionGater) (host.Host, error)

// A Node is this device among its peers.
type Node struct {
	cfg    Config
	id     peer.ID
	pub    ed25519.PublicKey
	host   host.Host
	book   *book
	log    *slog.Logger
	serve  *semaphore.Weighted // bytes of blocks being served
	knocks *semaphore.Weighted // knocks being answered

	majors   []major       // spoken, the newest first
	features wire.Features // of this device

	hold      time.Duration // holdMin
	fullPause time.Duration

	running atomic.Bool // Run is running: strangers and members may connect

	look sync.Mutex // held by reconcile, before mu: who looks last sees all

	mu       sync.Mutex // guards all below
	folders  map[trust.FolderID]*Remote
	keepers  map[peer.ID]*keeper
	traffic  map[peer.ID]*traffic // of members for good: counts survive reconnects
	joins    map[peer.ID]int      // peers this node dials in order to join
	run      *run
	presence bool // sessions will be told who is where
}

// A run is one call of Run: what its goroutines belong to.
type run struct {
	ctx   context.Context
	group *errgroup.Group
}

// Open makes a node that listens. Nobody gets in before Run.
func Open(cfg Config) (*Node, error) {
	cfg.Name = trust.CleanLabel(cfg.Name)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	groups, err := parseListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	id, err := peer.Decode(cfg.Identity.PeerID())
	if err != nil {
		return nil, fmt.Errorf("open node: %w", err)
	}
	n := &Node{
		cfg: cfg, id: id, pub: cfg.Identity.Public(), book: newBook(cfg.KV), log: cfg.Log,
		majors: majors(), features: wire.Ours,
		serve: semaphore.NewWeighted(serveAll), knocks: semaphore.NewWeighted(maxKnocks), hold: holdMin, fullPause: fullPause,
		folders: map[trust.FolderID]*Remote{}, keepers: map[peer.ID]*keeper{},
		traffic: map[peer.ID]*traffic{}, joins: map[peer.ID]int{},
	}
	ids, err := trust.List(cfg.KV)
	if err != nil {
		return nil, fmt.Errorf("open node: %w", err)
	}
	for _, f := range ids {
		l, err := trust.Open(cfg.KV, f)
		if err != nil {
			return nil, fmt.Errorf("open node: %w", err)
		}
		n.folders[f] = newRemote(n, f, l)
	}
	if cfg.NewHost != nil {
		n.host, err = cfg.NewHost(cfg.Identity, gater{n})
	} else {
		n.host, err = newHost(cfg.Identity, cfg.Version, gater{n})
	}
	if err != nil {
		return nil, fmt.Errorf("open node: %w", err)
	}
	if cfg.NewHost == nil {
		if err := bind(n.host, cfg.KV, groups); err != nil {
			return nil, errors.Join(err, n.host.Close())
		}
	}
	return n, nil
}

// Close stops listening. Run must have returned.
func (n *Node) Close() error {
	if err := n.host.Close(); err != nil {
		return fmt.Errorf("close node: %w", err)
	}
	return nil
}

// ID returns this device's peer ID.
func (n *Node) ID() string { return n.id.String() }

// Addrs returns where this device can be dialed, best first.
func (n *Node) Addrs() []string { return addrTexts(n.addrs()) }

func (n *Node) addrs() []ma.Multiaddr {
	all, err := n.host.Network().InterfaceListenAddresses()
	if err != nil {
		return nil
	}
	var first net.IP
	if n.cfg.NewHost == nil {
		first = routeIP()
	}
	return shownAddrs(all, n.host.Network().ListenAddresses(), first)
}

// Run keeps sessions with all members of all folders until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	n.mu.Lock()
	if n.run != nil {
		n.mu.Unlock()
		return errors.New("run node: already running")
	}
	n.run = &run{ctx, group}
	n.mu.Unlock()

	handlers := [kinds]network.StreamHandler{ctlKind: n.handleControl, pairKind: n.handlePair, blkKind: n.handleBlocks}
	for k, h := range handlers {
		for _, id := range n.ids(kind(k)) {
			n.host.SetStreamHandler(id, h)
		}
	}
	conns := &network.NotifyBundle{ConnectedF: n.connected}
	n.host.Network().Notify(conns)
	n.running.Store(true)
	group.Go(func() error { return n.watchAddrs(ctx) })
	if !n.cfg.NoDiscovery && !n.onlyLoopback() {
		group.Go(func() error { return n.discover(ctx) })
	}
	n.reconcile()

	<-ctx.Done()
	n.running.Store(false)
	n.host.Network().StopNotify(conns)
	for k := range handlers {
		for _, id := range n.ids(kind(k)) {
			n.host.RemoveStreamHandler(id)
		}
	}
	n.mu.Lock()
	n.run = nil // nothing is started any more
	n.mu.Unlock()
	err := group.Wait()
	n.mu.Lock()
	clear(n.keepers)
	n.mu.Unlock()
	for _, c := range n.host.Network().Conns() {
		_ = c.Close()
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// spawn runs f in the group of Run; false if the node is not running.
func (n *Node) spawn(f func(ctx context.Context)) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.spawnLocked(f)
}

func (n *Node) spawnLocked(f func(ctx context.Context)) bool {
	if n.run == nil || n.run.ctx.Err() != nil {
		return false
	}
	ctx := n.run.ctx
	n.run.group.Go(func() error { f(ctx); return nil })
	return true
}

// connected hears of every new connection. A keeper that waits tries at once;
// a stranger that does not become a member is closed after a while.
func (n *Node) connected(_ network.Network, c network.Conn) {
	p := c.RemotePeer()
	if k := n.keeper(p); k != nil {
		if c.Stat().Direction == network.DirInbound { // of those it made itself it knows
			k.poke()
		}
		return
	}
	if n.joining(p) {
		return
	}
	n.spawn(func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-time.After(strangerTime):
			if n.keeper(p) == nil {
				_ = c.Close()
			}
		}
	})
}

// strangerTime is how long a device may stay connected without becoming a
// member.
const strangerTime = 30 * time.Second

// maxKnocks bounds the knocks answered at once.
const maxKnocks = 8

const presencePause = 100 * time.Millisecond

func (n *Node) keeper(p peer.ID) *keeper {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.keepers[p]
}

// remote returns the remote of a folder, nil if there is none.
func (n *Node) remote(id trust.FolderID) *Remote {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.folders[id]
}

// attached returns the remotes with a folder.
func (n *Node) attached() []*Remote {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*Remote
	for _, r := range n.folders {
		if r.isAttached() {
			out = append(out, r)
		}
	}
	return out
}

// member tells whether p is in a folder that is attached here.
func (n *Node) member(p peer.ID) bool {
	pub, err := trust.PeerKey(p)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(n.attached(), func(r *Remote) bool { return r.log().Allowed(pub) })
}

// inviting tells whether a ticket of an attached folder may be out. Tickets
// that are used up or revoked count until they expire, so that their bearers
// can be told.
func (n *Node) inviting() bool {
	now := time.Now()
	return slices.ContainsFunc(n.attached(), func(r *Remote) bool { return r.log().Inviting(now) })
}

func (n *Node) joining(p peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.joins[p] > 0
}

// strangers counts connected peers without a keeper.
func (n *Node) strangers() int {
	count := 0
	for _, p := range n.host.Network().Peers() {
		if n.keeper(p) == nil {
			count++
		}
	}
	return count
}

// reconcile makes the keepers those of the members of all attached folders.
// Whoever is no member any more is cut off.
func (n *Node) reconcile() {
	n.look.Lock()
	defer n.look.Unlock()
	want := map[peer.ID]bool{}
	for _, r := range n.attached() {
		for _, m := range r.log().Members() {
			if p, err := peer.Decode(m.ID); err == nil && p != n.id {
				want[p] = true
			}
		}
	}
	n.mu.Lock()
	var gone []peer.ID
	for p, k := range n.keepers {
		if !want[p] {
			k.stop()
			delete(n.keepers, p)
			gone = append(gone, p)
		}
	}
	for p := range want {
		if n.keepers[p] != nil || n.run == nil {
			continue
		}
		k := newKeeper(n, p)
		if n.spawnLocked(k.run) {
			n.keepers[p] = k
		}
	}
	n.mu.Unlock()
	for _, p := range gone {
		n.host.ConnManager().Unprotect(p, "member")
	}
}

// membersChanged follows every change of a log: keepers and sessions adapt.
func (n *Node) membersChanged(r *Remote) {
	n.reconcile()
	r.kick()
	n.tell()
}

func (n *Node) tell() {
	if n.cfg.Tell != nil {
		n.cfg.Tell()
	}
}

// sessions returns all live sessions.
func (n *Node) sessions() []*session {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*session
	for _, k := range n.keepers {
		if s := k.session.Load(); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// presenceChanged makes sessions tell who is where, a moment later: peers
// often come in groups.
func (n *Node) presenceChanged() {
	n.tell()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.presence {
		return
	}
	n.presence = n.spawnLocked(func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-time.After(presencePause):
		}
		n.mu.Lock()
		n.presence = false
		n.mu.Unlock()
		for _, s := range n.sessions() {
			s.presence.Store(true)
			s.wake()
		}
	})
}

// watchAddrs follows this machine from network to network: members are told,
// and those that are away are tried again.
func (n *Node) watchAddrs(ctx context.Context) error {
	sub, err := n.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-sub.Out():
			if !ok {
				return nil
			}
		}
		n.presenceChanged()
		n.mu.Lock()
		for _, k := range n.keepers {
			k.poke()
		}
		n.mu.Unlock()
	}
}

func (n *Node) onlyLoopback() bool {
	for _, a := range n.addrs() {
		if ip := ipOf(a); ip != nil && !ip.IsLoopback() {
			return false
		}
	}
	return true
}

// trafficOf returns the counter of a peer.
func (n *Node) trafficOf(p peer.ID) *traffic {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.traffic[p]
	if t == nil {
		t = &traffic{serve: semaphore.NewWeighted(servePeer)}
		n.traffic[p] = t
	}
	return t
}

// A traffic counts the bytes on the streams with one peer, and bounds what it
// may have served at once.
type traffic struct {
	sent, received atomic.Uint64
	serve          *semaphore.Weighted
}

// A counted stream counts its bytes.
type counted struct {
	network.Stream
	t *traffic
}

func (n *Node) count(s network.Stream) counted {
	return counted{s, n.trafficOf(s.Conn().RemotePeer())}
}

// uncount forgets the counter of a stranger: there may be any number of them.
func (n *Node) uncount(p peer.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.keepers[p] == nil && n.joins[p] == 0 {
		delete(n.traffic, p)
	}
}

func (c counted) Read(p []byte) (int, error) {
	k, err := c.Stream.Read(p)
	c.t.received.Add(uint64(k))
	return k, err
}

func (c counted) Write(p []byte) (int, error) {
	k, err := c.Stream.Write(p)
	c.t.sent.Add(uint64(k))
	return k, err
}

func ipOf(a ma.Multiaddr) net.IP {
	for _, code := range []int{ma.P_IP4, ma.P_IP6} {
		if s, err := a.ValueForProtocol(code); err == nil {
			return net.ParseIP(s)
		}
	}
	return nil
}
