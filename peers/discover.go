package peers

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
)

// mdnsService is the name nodes find each other by on the LAN. Only the peer id
// and addresses are shown, nothing of folders.
const mdnsService = "_clachan._udp"

const (
	mdnsRetry  = 30 * time.Second // when there is no network yet
	mdnsSettle = 2 * time.Second  // after a change of addresses
)

// discover announces this node on the LAN and listens for others. The
// addresses are read once by the library, so it starts anew when they change.
func (n *Node) discover(ctx context.Context) error {
	sub, err := n.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		return err
	}
	defer sub.Close()
	for ctx.Err() == nil {
		s := mdns.NewMdnsService(n.host, mdnsService, finder{n})
		retry := time.NewTimer(mdnsRetry)
		if err := s.Start(); err == nil {
			retry.Stop()
		} else {
			n.log.Debug("mdns", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-retry.C:
		case <-sub.Out():
			drain(ctx, sub.Out(), mdnsSettle)
		}
		retry.Stop()
		_ = s.Close()
	}
	return nil
}

// drain waits until ch has been quiet.
func drain(ctx context.Context, ch <-chan any, quiet time.Duration) {
	t := time.NewTimer(quiet)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case <-ch:
			t.Reset(quiet)
		}
	}
}

// A finder takes what mDNS finds.
type finder struct{ n *Node }

func (f finder) HandlePeerFound(info peer.AddrInfo) { f.n.found(info) }

// found takes a sighting of a peer on the LAN: of a member, or of one this
// node wants to join through.
func (n *Node) found(info peer.AddrInfo) {
	if !n.member(info.ID) && !n.joining(info.ID) {
		return
	}
	var addrs []ma.Multiaddr
	for _, a := range info.Addrs {
		if dialable(a) && len(addrs) < maxHinted {
			addrs = append(addrs, a)
		}
	}
	if _, err := n.book.hint(info.ID, addrs); err != nil {
		n.log.Warn("remember peer", "peer", info.ID, "err", err)
	}
	if k := n.keeper(info.ID); k != nil {
		k.poke()
	}
}
