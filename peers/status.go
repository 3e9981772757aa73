package peers

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/clachanfs/clachan/peers/trust"
)

// A PeerState is one member of any folder, as status shows it.
type PeerState struct {
	ID, Name       string
	Online         bool
	Path           string        // lan, direct, relay; empty when offline
	Transport      string        // tcp, quic; empty when offline
	RTT            time.Duration // 0: not known
	Sent, Received uint64        // bytes on streams since Open
	LastSeen       time.Time     // zero: never
	Addrs          []string      // where it may be
	Folders        []trust.FolderID
	Features       uint64 // of the protocol, that both sides use; 0 when offline
	Apart          string // why it cannot be talked to; empty: nothing is known of that
}

// Peers returns every member of every folder but this device, by name.
func (n *Node) Peers() []PeerState {
	n.mu.Lock()
	remotes := make([]*Remote, 0, len(n.folders))
	for _, r := range n.folders {
		remotes = append(remotes, r)
	}
	n.mu.Unlock()
	slices.SortFunc(remotes, func(a, b *Remote) int { return slices.Compare(a.id[:], b.id[:]) })
	byID := map[string]*PeerState{}
	var out []*PeerState
	for _, r := range remotes {
		for _, m := range r.log().Members() {
			if m.ID == n.ID() {
				continue
			}
			st := byID[m.ID]
			if st == nil {
				st = &PeerState{ID: m.ID, Name: m.Label}
				byID[m.ID] = st
				out = append(out, st)
			}
			st.Folders = append(st.Folders, r.id)
		}
	}
	list := make([]PeerState, 0, len(out))
	for _, st := range out {
		n.fill(st)
		list = append(list, *st)
	}
	slices.SortFunc(list, func(a, b PeerState) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// fill adds what is known of the connection.
func (n *Node) fill(st *PeerState) {
	p, err := peer.Decode(st.ID)
	if err != nil {
		return
	}
	t := n.trafficOf(p)
	st.Sent, st.Received = t.sent.Load(), t.received.Load()
	st.LastSeen = n.book.lastSeen(p)
	st.Addrs = addrTexts(n.book.addrs(p))
	k := n.keeper(p)
	if k == nil {
		return
	}
	if why := k.apart.Load(); why != nil {
		st.Apart = *why
	}
	s := k.session.Load()
	if s == nil {
		return
	}
	addr := s.st.Conn().RemoteMultiaddr()
	st.Online, st.LastSeen = true, time.Now()
	st.Path, st.Transport = pathOf(addr), transportOf(addr)
	s.mu.Lock()
	st.RTT, st.Features = s.rtt, s.features
	s.mu.Unlock()
}
