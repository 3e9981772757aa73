package peers

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/gologshim"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	cmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ltls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/clachanfs/clachan/peers/trust"
)

const (
	dialTimeout = 15 * time.Second
	tcpTimeout  = 5 * time.Second
)

// newHost makes a libp2p host that listens nowhere yet. It uses no service of
// others: no relay, no address discovery, no routing, no metrics.
func newHost(id *trust.Identity, agent string, gate connmgr.ConnectionGater) (host.Host, error) {
	gologshim.SetDefaultHandler(slog.DiscardHandler) // what matters reaches us as errors
	key, err := crypto.UnmarshalEd25519PrivateKey(id.Key())
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	limits, err := newLimits()
	if err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	conns, err := cmgr.NewConnManager(128, 256, cmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, fmt.Errorf("connection manager: %w", err)
	}
	h, err := libp2p.New(
		libp2p.Identity(key),
		libp2p.NoListenAddrs,
		// Without SO_REUSEPORT, so that two daemons never share a port number.
		libp2p.Transport(tcp.NewTCPTransport, tcp.WithConnectionTimeout(tcpTimeout), tcp.DisableReuseport()),
		libp2p.Transport(quic.NewTransport),
		libp2p.Security(ltls.ID, ltls.New),
		libp2p.Muxer(yamux.ID, newMuxer()),
		libp2p.ConnectionGater(gate),
		libp2p.ResourceManager(limits),
		libp2p.ConnectionManager(conns),
		libp2p.SwarmOpts(swarm.WithDialRanker(tcpFirst)),
		libp2p.UDPBlackHoleSuccessCounter(nil), // a peer that is away is no black hole
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.DisableRelay(),
		libp2p.ForceReachabilityPrivate(), // no AutoNAT: it dials back from ids the gater refuses
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.WithDialTimeout(dialTimeout),
		libp2p.Ping(false), // control streams have their own
		libp2p.UserAgent(agent),
		libp2p.DisableMetrics(),
	)
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	return h, nil
}

// newMuxer is libp2p's yamux with larger messages and first windows: more
// throughput, fewer round trips on a new stream.
func newMuxer() *yamux.Transport {
	c := *yamux.DefaultTransport
	c.MaxMessageSize = 256 << 10
	c.InitialStreamWindowSize = 1 << 20
	c.KeepAliveInterval = 20 * time.Second
	return &c
}

func newLimits() (network.ResourceManager, error) {
	part := rcmgr.PartialLimitConfig{
		ProtocolPeerDefault: rcmgr.ResourceLimits{
			Streams: 1024, StreamsInbound: 1024, StreamsOutbound: 1024, Memory: 256 << 20,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Streams: 2048, StreamsInbound: 2048, StreamsOutbound: 2048,
			Conns: 16, ConnsInbound: 16, ConnsOutbound: 16, Memory: 512 << 20,
		},
		Conn: rcmgr.ResourceLimits{Memory: 64 << 20},
	}
	none := rate.Limit{}
	open := func(prefix string) rate.PrefixLimit {
		return rate.PrefixLimit{Prefix: netip.MustParsePrefix(prefix), Limit: none}
	}
	perAddr := func(bits int) []rate.SubnetLimit {
		return []rate.SubnetLimit{{PrefixLength: bits, Limit: rate.Limit{RPS: 2, Burst: 64}}}
	}
	limiter := &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			open("127.0.0.0/8"), open("::1/128"), open("10.0.0.0/8"), open("172.16.0.0/12"), open("192.168.0.0/16"),
			open("169.254.0.0/16"), open("fc00::/7"), open("fe80::/10"),
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: perAddr(32), IPv6SubnetLimits: perAddr(64), GracePeriod: time.Minute,
		},
	}
	fixed := rcmgr.NewFixedLimiter(part.Build(rcmgr.DefaultLimits.AutoScale()))
	return rcmgr.NewResourceManager(fixed, rcmgr.WithConnRateLimiters(limiter), rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: 256}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: 256}}))
}

// tcpFirst dials TCP at once and QUIC a little later: TCP takes half the CPU
// and stands loss better; QUIC is there for networks that pass only it.
func tcpFirst(addrs []ma.Multiaddr) []network.AddrDelay {
	out := make([]network.AddrDelay, 0, len(addrs))
	for _, a := range addrs {
		var d time.Duration
		lan := !manet.IsPublicAddr(a)
		if transportOf(a) != "tcp" {
			d = 300 * time.Millisecond
			if lan {
				d = 100 * time.Millisecond
			}
		} else if !lan {
			d = 30 * time.Millisecond // the short way first
		}
		if isRelayed(a) {
			d += 500 * time.Millisecond
		}
		out = append(out, network.AddrDelay{Addr: a, Delay: d})
	}
	slices.SortStableFunc(out, func(a, b network.AddrDelay) int { return int(a.Delay - b.Delay) })
	return out
}

func transportOf(a ma.Multiaddr) string {
	t := ""
	ma.ForEach(a, func(c ma.Component) bool {
		switch c.Protocol().Code {
		case ma.P_TCP:
			t = "tcp"
		case ma.P_QUIC_V1:
			t = "quic"
		}
		return t == ""
	})
	return t
}

func isRelayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// pathOf says how a connection runs: lan, direct or relay.
func pathOf(a ma.Multiaddr) string {
	switch {
	case isRelayed(a):
		return "relay"
	case !manet.IsPublicAddr(a):
		return "lan"
	}
	return "direct"
}
