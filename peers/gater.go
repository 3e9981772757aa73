package peers

import (
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// maxStrangers bounds connections of devices that are no members.
const maxStrangers = 16

// A gater lets members of a common folder connect, and those this node dials
// in order to join. Strangers pass only while a ticket of ours may be in
// somebody's hands, and then reach nothing but the pairing protocol: every
// stream handler asks for membership itself.
type gater struct{ n *Node }

func (g gater) InterceptPeerDial(p peer.ID) bool { return g.n.member(p) || g.n.joining(p) }

func (g gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

func (g gater) InterceptAccept(network.ConnMultiaddrs) bool { return g.n.running.Load() }

func (g gater) InterceptSecured(dir network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	if dir == network.DirOutbound || g.n.member(p) || g.n.joining(p) {
		return true
	}
	return g.n.inviting() && g.n.strangers() < maxStrangers
}

func (g gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
