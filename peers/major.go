package peers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/clachanfs/clachan/peers/wire"
)

// The kinds of streams.
type kind int

const (
	ctlKind kind = iota
	pairKind
	blkKind
	kinds
)

// A major is one major version of the protocols: the id of each kind of stream.
type major [kinds]protocol.ID

// majors are those this program speaks, the newest first. Who takes a stream
// knows by its protocol which one the two have agreed on.
func majors() []major { return []major{{ctlKind: wire.Ctl, pairKind: wire.Pair, blkKind: wire.Blk}} }

// ids returns the ids of a kind of stream, the newest first.
func (n *Node) ids(k kind) []protocol.ID {
	var out []protocol.ID
	for _, m := range n.majors {
		out = append(out, m[k])
	}
	return out
}

// newStream opens a stream on a connection that is there, in the newest version
// that both sides speak. Dialing is the keepers' business: a peer that hangs up is
// not dialed again at once.
func (n *Node) newStream(ctx context.Context, p peer.ID, k kind) (network.Stream, error) {
	s, err := n.host.NewStream(network.WithNoDial(ctx, "keepers dial"), p, n.ids(k)...)
	if err != nil {
		if foreign := n.foreign(p, k); foreign != nil {
			err = foreign
		}
	}
	return s, err
}

// foreign returns an error if a connected peer offers a kind of stream in other
// versions only.
func (n *Node) foreign(p peer.ID, k kind) error {
	if n.cfg.NewHost != nil { // a host for tests need not know what others offer
		return nil
	}
	all, err := n.host.Peerstore().GetProtocols(p)
	if err != nil {
		return nil
	}
	ours := n.ids(k)
	other := false
	for _, id := range all {
		if slices.Contains(ours, id) {
			return nil
		}
		other = other || sameKind(id, ours[0])
	}
	if !other {
		return nil
	}
	return fmt.Errorf("one of the two %w", wire.ErrVersion)
}

// sameKind tells whether two ids differ in their version only.
func sameKind(a, b protocol.ID) bool {
	i := strings.LastIndexByte(string(b), '/')
	return strings.HasPrefix(string(a), string(b[:i+1]))
}
