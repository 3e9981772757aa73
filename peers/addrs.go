package peers

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
)

const (
	maxKept   = 16 // addresses of one peer
	maxHinted = 8  // of those, hearsay
)

// An entry is one address of a peer.
type entry struct {
	addr ma.Multiaddr
	hint bool // hearsay: from a ticket, another member or the LAN
}

// A book remembers where peers are, across restarts. TLS pins the peer id, so
// a wrong address costs a dial and nothing else.
//
//	key "peers/addr/PEERID": last seen (unix seconds, 8 bytes BE), then lines "[?]multiaddr"
type book struct {
	kv trust.KV

	mu    sync.Mutex // guards pages; held over kv writes, which are rare
	pages map[peer.ID]*page
}

type page struct {
	entries []entry // best first
	seen    time.Time
	stored  time.Time // seen, as it was stored last
}

// seenAge is how old the stored time may be at which a peer was last seen: one
// that comes and goes without end must not cost a synced write each time.
const seenAge = time.Minute

func newBook(kv trust.KV) *book { return &book{kv: kv, pages: map[peer.ID]*page{}} }

func bookKey(p peer.ID) string { return "peers/addr/" + p.String() }

// page returns the page of p, reading it the first time.
func (b *book) page(p peer.ID) *page {
	if pg := b.pages[p]; pg != nil {
		return pg
	}
	pg := &page{}
	if raw, err := b.kv.Get(bookKey(p)); err == nil && len(raw) >= 8 {
		pg.seen = time.Unix(int64(binary.BigEndian.Uint64(raw)), 0)
		for line := range strings.Lines(string(raw[8:])) {
			text, hint := strings.CutPrefix(strings.TrimSpace(line), "?")
			if a, err := ma.NewMultiaddr(text); err == nil && len(pg.entries) < maxKept {
				pg.entries = append(pg.entries, entry{a, hint})
			}
		}
	}
	pg.stored = pg.seen
	b.pages[p] = pg
	return pg
}

func (b *book) store(p peer.ID, pg *page) error {
	var seen uint64
	if !pg.seen.IsZero() {
		seen = uint64(pg.seen.Unix())
	}
	raw := binary.BigEndian.AppendUint64(nil, seen)
	for _, e := range pg.entries {
		if e.hint {
			raw = append(raw, '?')
		}
		raw = append(raw, e.addr.String()...)
		raw = append(raw, '\n')
	}
	if err := b.kv.Set(bookKey(p), raw); err != nil {
		return fmt.Errorf("keep addresses: %w", err)
	}
	pg.stored = pg.seen
	return nil
}

// addrs returns where p may be, best first.
func (b *book) addrs(p peer.ID) []ma.Multiaddr {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []ma.Multiaddr
	for _, e := range b.page(p).entries {
		out = append(out, e.addr)
	}
	return out
}

// told replaces what p had said about itself.
func (b *book) told(p peer.ID, addrs []ma.Multiaddr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	pg := b.page(p)
	old := pg.entries
	var fresh []entry
	for _, e := range old { // in the old order: what worked last stays first
		if !e.hint && containsAddr(addrs, e.addr) {
			fresh = append(fresh, e)
		}
	}
	for _, a := range addrs {
		if !containsEntry(fresh, a) && len(fresh) < maxKept {
			fresh = append(fresh, entry{addr: a})
		}
	}
	for _, e := range old {
		if e.hint && !containsEntry(fresh, e.addr) && len(fresh) < maxKept {
			fresh = append(fresh, e)
		}
	}
	if slices.EqualFunc(old, fresh, sameEntry) {
		return nil
	}
	pg.entries = fresh
	return b.store(p, pg)
}

// hint adds hearsay, and tells whether any was new.
func (b *book) hint(p peer.ID, addrs []ma.Multiaddr) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	pg := b.page(p)
	news := false
	for _, a := range addrs {
		if containsEntry(pg.entries, a) {
			continue
		}
		hints := 0
		for _, e := range pg.entries {
			if e.hint {
				hints++
			}
		}
		if hints >= maxHinted || len(pg.entries) >= maxKept { // the oldest hearsay goes
			i := slices.IndexFunc(pg.entries, func(e entry) bool { return e.hint })
			if i < 0 {
				break
			}
			pg.entries = slices.Delete(pg.entries, i, i+1)
		}
		pg.entries = append(pg.entries, entry{a, true})
		news = true
	}
	if !news {
		return false, nil
	}
	return true, b.store(p, pg)
}

// worked puts an address that was dialed with success first, and remembers
// when p was last seen.
func (b *book) worked(p peer.ID, dialed ma.Multiaddr, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	pg := b.page(p)
	pg.seen = now
	old := slices.Clone(pg.entries)
	if dialed != nil {
		i := slices.IndexFunc(pg.entries, func(e entry) bool { return e.addr.Equal(dialed) })
		e := entry{dialed, true}
		if i >= 0 {
			e = pg.entries[i]
			pg.entries = slices.Delete(pg.entries, i, i+1)
		}
		pg.entries = slices.Insert(pg.entries, 0, e)
		pg.entries = pg.entries[:min(len(pg.entries), maxKept)]
	}
	if slices.EqualFunc(old, pg.entries, sameEntry) && pg.fresh() {
		return nil
	}
	return b.store(p, pg)
}

// fresh tells whether the stored time is as good as the one in memory.
func (pg *page) fresh() bool { return pg.seen.Sub(pg.stored).Abs() < seenAge }

// left remembers when p was last seen, unless it was forgotten while it left.
func (b *book) left(p peer.ID, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	pg := b.page(p)
	if pg.seen.IsZero() {
		return nil
	}
	if pg.seen = now; pg.fresh() {
		return nil
	}
	return b.store(p, pg)
}

func (b *book) lastSeen(p peer.ID) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.page(p).seen
}

// forget drops a peer that shares no folder any more.
func (b *book) forget(p peer.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pages, p)
	return b.kv.Delete(bookKey(p))
}

func sameEntry(a, b entry) bool { return a.hint == b.hint && a.addr.Equal(b.addr) }

func containsEntry(list []entry, a ma.Multiaddr) bool {
	return slices.ContainsFunc(list, func(e entry) bool { return e.addr.Equal(a) })
}

func containsAddr(list []ma.Multiaddr, a ma.Multiaddr) bool {
	return slices.ContainsFunc(list, a.Equal)
}

// parseAddrs reads addresses a peer sent: only such as this node dials.
func parseAddrs(list []string) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, s := range list {
		a, err := ma.NewMultiaddr(s)
		if err == nil && dialable(a) && !containsAddr(out, a) && len(out) < maxKept {
			out = append(out, a)
		}
	}
	return out
}

// dialable accepts IP/TCP and IP/UDP/QUIC, with a port and nothing behind.
func dialable(a ma.Multiaddr) bool {
	ip, err := manet.ToIP(a)
	if err != nil || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() && ip.To4() == nil {
		return false
	}
	protos := a.Protocols()
	switch {
	case len(protos) == 2 && protos[1].Code == ma.P_TCP:
	case len(protos) == 3 && protos[1].Code == ma.P_UDP && protos[2].Code == ma.P_QUIC_V1:
	default:
		return false
	}
	port, err := a.ValueForProtocol(protos[1].Code)
	return err == nil && port != "0"
}

// addrTexts is parseAddrs the other way.
func addrTexts(list []ma.Multiaddr) []string {
	out := make([]string, 0, len(list))
	for _, a := range list {
		if s := a.String(); len(s) <= wire.MaxAddrSize && len(out) < wire.MaxAddrs {
			out = append(out, s)
		}
	}
	return out
}

// shownAddrs puts the addresses a host listens on in the order others should
// try them. Loopback is left out, unless it was asked for or there is nothing
// else.
func shownAddrs(all, asked []ma.Multiaddr, first net.IP) []ma.Multiaddr {
	var out, loop []ma.Multiaddr
	for _, a := range all {
		if !dialable(a) {
			continue
		}
		if manet.IsIPLoopback(a) && !containsAddr(asked, a) {
			loop = append(loop, a)
		} else {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		out = loop
	}
	slices.SortStableFunc(out, func(a, b ma.Multiaddr) int { return addrRank(a, first) - addrRank(b, first) })
	return out
}

// addrRank: TCP before QUIC; the address of the default route, then IPv4,
// then IPv6.
func addrRank(a ma.Multiaddr, first net.IP) int {
	r := 0
	if transportOf(a) != "tcp" {
		r += 4
	}
	ip, err := manet.ToIP(a)
	switch {
	case err != nil:
		r += 3
	case first != nil && ip.Equal(first):
	case ip.To4() != nil:
		r++
	default:
		r += 2
	}
	return r
}

// routeIP returns this machine's address on the default route. Nothing is sent.
func routeIP() net.IP {
	c, err := net.Dial("udp4", "192.0.2.1:9") // documentation network
	if err != nil {
		return nil
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP
}
