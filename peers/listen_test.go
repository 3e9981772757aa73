package peers

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/clachanfs/clachan/peers/trust"
)

func openAt(t *testing.T, kv trust.KV, listen ...string) *Node {
	t.Helper()
	id, err := trust.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(Config{Identity: id, KV: kv, Name: "x", Listen: listen, NoDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ports returns the TCP and UDP numbers a node listens on.
func ports(n *Node) (out []string) {
	for _, a := range n.host.Network().ListenAddresses() {
		for _, code := range []int{ma.P_TCP, ma.P_UDP} {
			if p, err := a.ValueForProtocol(code); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

func TestOnePortForTCPAndUDPIsKept(t *testing.T) {
	kv := newKV()
	n := openAt(t, kv, "127.0.0.1:0")
	first := ports(n)
	if len(first) != 2 || first[0] != first[1] {
		t.Fatalf("ports %v", first)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openAt(t, kv, "127.0.0.1:0")
	defer n.Close()
	if again := ports(n); !slices.Equal(again, first) {
		t.Errorf("ports %v, then %v", first, again)
	}
}

func TestATakenPortGivesWayForGood(t *testing.T) {
	for _, network := range []string{"tcp4", "udp4"} {
		t.Run(network, func(t *testing.T) {
			port := 0
			var close func() error
			if network == "tcp4" {
				l, err := net.Listen(network, "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				port, close = l.Addr().(*net.TCPAddr).Port, l.Close
			} else {
				l, err := net.ListenPacket(network, "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				port, close = l.LocalAddr().(*net.UDPAddr).Port, l.Close
			}
			kv := newKV()
			want := fmt.Sprintf("127.0.0.1:%d", port)
			n := openAt(t, kv, want)
			found := ports(n)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(found, fmt.Sprint(port)) {
				t.Fatalf("listens on the taken port %d", port)
			}
			if err := close(); err != nil {
				t.Fatal(err)
			}
			n = openAt(t, kv, want) // free again, but peers remember the other
			defer n.Close()
			if again := ports(n); !slices.Equal(again, found) {
				t.Errorf("ports %v, then %v", found, again)
			}
		})
	}
}

func TestTwoNodesNeverShareAPort(t *testing.T) {
	a := openAt(t, newKV(), "127.0.0.1:0")
	defer a.Close()
	p := ports(a)[0]
	b := openAt(t, newKV(), "127.0.0.1:"+p)
	defer b.Close()
	if slices.Contains(ports(b), p) {
		t.Errorf("both on %s", p)
	}
}

func TestParseListen(t *testing.T) {
	tests := []struct {
		in   []string
		want string // hosts@port
		bad  bool
	}{
		{nil, "0.0.0.0,::@22170", false},
		{[]string{":0"}, "0.0.0.0,::@0", false},
		{[]string{"127.0.0.1:0", "[::1]:0"}, "127.0.0.1,::1@0", false},
		{[]string{"localhost:80", "10.0.0.1:81"}, "127.0.0.1@80 10.0.0.1@81", false},
		{[]string{"example.com:1"}, "", true},
		{[]string{"127.0.0.1"}, "", true},
		{[]string{"127.0.0.1:70000"}, "", true},
	}
	for _, tt := range tests {
		groups, err := parseListen(tt.in)
		if (err != nil) != tt.bad {
			t.Errorf("%v: %v", tt.in, err)
			continue
		}
		var got []string
		for _, g := range groups {
			var hosts []string
			for _, h := range g.hosts {
				hosts = append(hosts, h.String())
			}
			got = append(got, fmt.Sprintf("%s@%d", strings.Join(hosts, ","), g.port))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%v: %s, want %s", tt.in, s, tt.want)
		}
	}
}

func TestShownAddrs(t *testing.T) {
	addrs := func(texts ...string) (out []ma.Multiaddr) {
		for _, s := range texts {
			out = append(out, ma.StringCast(s))
		}
		return out
	}
	all := addrs("/ip4/127.0.0.1/tcp/1", "/ip6/2001:db8::1/tcp/1", "/ip4/172.17.0.1/tcp/1", "/ip4/192.168.1.5/udp/1/quic-v1",
		"/ip4/192.168.1.5/tcp/1", "/ip6/fe80::1/tcp/1")
	tests := []struct {
		name       string
		all, asked []ma.Multiaddr
		want       string
	}{
		{"default route first, no loopback, no link-local", all, nil,
			"/ip4/192.168.1.5/tcp/1 /ip4/172.17.0.1/tcp/1 /ip6/2001:db8::1/tcp/1 /ip4/192.168.1.5/udp/1/quic-v1"},
		{"loopback if it was asked for", all[:2], all[:1], "/ip4/127.0.0.1/tcp/1 /ip6/2001:db8::1/tcp/1"},
		{"loopback if there is nothing else", all[:1], nil, "/ip4/127.0.0.1/tcp/1"},
	}
	for _, tt := range tests {
		got := strings.Join(addrTexts(shownAddrs(tt.all, tt.asked, net.ParseIP("192.168.1.5"))), " ")
		if got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestOnlyDialableAddressesAreTaken(t *testing.T) {
	for _, s := range []string{"/ip4/1.2.3.4/tcp/1", "/ip6/2001:db8::1/udp/4/quic-v1"} {
		if len(parseAddrs([]string{s})) != 1 {
			t.Errorf("%s is refused", s)
		}
	}
	for _, s := range []string{"", "x", "/ip4/0.0.0.0/tcp/1", "/ip4/1.2.3.4/tcp/0", "/ip4/1.2.3.4/udp/1", "/dns4/evil.example/tcp/1",
		"/ip4/224.0.0.1/tcp/1", "/ip4/1.2.3.4/tcp/1/ws", "/unix/tmp/x"} {
		if len(parseAddrs([]string{s})) != 0 {
			t.Errorf("%s is taken", s)
		}
	}
}

func TestBookRemembersWhatWorked(t *testing.T) {
	kv := newKV()
	b := newBook(kv)
	p := openAt(t, newKV(), "127.0.0.1:0")
	defer p.Close()
	a := func(i int) ma.Multiaddr { return ma.StringCast(fmt.Sprintf("/ip4/10.0.0.1/tcp/%d", i)) }
	for i := 1; i <= 3*maxKept; i++ {
		if _, err := b.hint(p.id, []ma.Multiaddr{a(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.addrs(p.id)); n != maxHinted {
		t.Errorf("%d pieces of hearsay are kept", n)
	}
	if err := b.told(p.id, []ma.Multiaddr{a(100), a(101)}); err != nil {
		t.Fatal(err)
	}
	if err := b.worked(p.id, a(101), trustNow); err != nil {
		t.Fatal(err)
	}
	got := newBook(kv).addrs(p.id) // after a restart
	if len(got) != 2+maxHinted || !got[0].Equal(a(101)) || !got[1].Equal(a(100)) {
		t.Errorf("addresses %v", got)
	}
	if seen := newBook(kv).lastSeen(p.id); !seen.Equal(trustNow) {
		t.Errorf("seen %v", seen)
	}
	if err := b.told(p.id, []ma.Multiaddr{a(102)}); err != nil { // it has moved
		t.Fatal(err)
	}
	if got := b.addrs(p.id); containsAddr(got, a(100)) || containsAddr(got, a(101)) || !got[0].Equal(a(102)) {
		t.Errorf("addresses %v", got)
	}
}

// A peer that connects again and again, with nothing new to say of itself, costs
// no synced write each time.
func TestComingAndGoingIsNotStoredEachTime(t *testing.T) {
	kv := newKV()
	b := newBook(kv)
	p := openAt(t, newKV(), "127.0.0.1:0")
	defer p.Close()
	addr := ma.StringCast("/ip4/10.0.0.1/tcp/1")
	for i := range 100 {
		now := trustNow.Add(time.Duration(i) * time.Second / 2)
		if err := errors.Join(b.worked(p.id, addr, now), b.left(p.id, now)); err != nil {
			t.Fatal(err)
		}
	}
	if seen := newBook(kv).lastSeen(p.id); !seen.Equal(trustNow) {
		t.Errorf("stored again within a minute: %v", seen)
	}
	for _, now := range []time.Time{trustNow.Add(2 * time.Minute), trustNow.Add(-time.Hour)} {
		if err := b.left(p.id, now); err != nil {
			t.Fatal(err)
		}
		if seen := newBook(kv).lastSeen(p.id); !seen.Equal(now) {
			t.Errorf("seen %v, want %v", seen, now)
		}
	}
}
