package peers

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/libp2p/go-libp2p/core/host"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/clachanfs/clachan/peers/trust"
)

// DefaultPort is where a node listens if it is not told.
const DefaultPort = 22170

// A port group is the hosts that are to listen on one port number.
type portGroup struct {
	hosts    []net.IP
	port     int
	optional bool // a host that this machine lacks is left out (IPv6)
}

// parseListen groups HOST:PORT entries by port.
func parseListen(entries []string) ([]portGroup, error) {
	if len(entries) == 0 {
		return []portGroup{{hosts: []net.IP{net.IPv4zero, net.IPv6zero}, port: DefaultPort, optional: true}}, nil
	}
	var out []portGroup
	for _, e := range entries {
		h, p, err := net.SplitHostPort(e)
		if err != nil {
			return nil, fmt.Errorf("listen %q: %w", e, err)
		}
		port, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("listen %q: bad port", e)
		}
		hosts := []net.IP{net.ParseIP(h)}
		switch {
		case h == "":
			hosts = []net.IP{net.IPv4zero, net.IPv6zero}
		case h == "localhost":
			hosts = []net.IP{net.IPv4(127, 0, 0, 1)}
		case hosts[0] == nil:
			return nil, fmt.Errorf("listen %q: want an IP address as host", e)
		}
		at := -1
		for i := range out {
			if out[i].port == int(port) {
				at = i
			}
		}
		if at < 0 {
			out = append(out, portGroup{port: int(port)})
			at = len(out) - 1
		}
		out[at].hosts = append(out[at].hosts, hosts...)
		out[at].optional = out[at].optional || h == ""
	}
	return out, nil
}

// bind makes h listen on every group, TCP and UDP on one number. A number that
// had to be found is kept in kv and tried first ever after: the addresses that
// peers remember stay true.
func bind(h host.Host, kv trust.KV, groups []portGroup) error {
	for _, g := range groups {
		key := "peers/port/" + strconv.Itoa(g.port)
		kept, err := kv.Get(key)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		port, err := g.bind(h, string(kept))
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		if s := strconv.Itoa(port); port != g.port && s != string(kept) {
			if err := kv.Set(key, []byte(s)); err != nil {
				return fmt.Errorf("listen: keep port: %w", err)
			}
		}
	}
	return nil
}

// bind listens on the kept port, else the wanted one, else a free one.
func (g portGroup) bind(h host.Host, kept string) (int, error) {
	var tries []int
	if p, err := strconv.ParseUint(kept, 10, 16); err == nil && p > 0 {
		tries = append(tries, int(p))
	}
	if g.port > 0 {
		tries = append(tries, g.port)
	}
	var last error
	for i := range len(tries) + 32 {
		port := 0
		if i < len(tries) {
			port = tries[i]
		}
		port, hosts, err := g.probe(port)
		if err == nil {
			err = listen(h, hosts, port)
		}
		if err == nil {
			return port, nil
		}
		last = err
		if !errors.Is(err, syscall.EADDRINUSE) && i >= len(tries) {
			break
		}
	}
	return 0, last
}

// probe finds out which hosts are there and whether the number, or one the
// kernel picks, is free on all of them for TCP and UDP.
func (g portGroup) probe(port int) (int, []net.IP, error) {
	var hosts []net.IP
	var skipped error
	for _, ip := range g.hosts {
		n, err := probePort(ip, port)
		if err != nil {
			if g.optional && ip.To4() == nil && !errors.Is(err, syscall.EADDRINUSE) {
				skipped = err
				continue // no IPv6 here
			}
			return 0, nil, err
		}
		port = n
		hosts = append(hosts, ip)
	}
	if len(hosts) == 0 {
		return 0, nil, skipped
	}
	return port, hosts, nil
}

func probePort(ip net.IP, port int) (int, error) {
	v := "6"
	if ip.To4() != nil {
		v = "4"
	}
	t, err := net.Listen("tcp"+v, net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	defer t.Close()
	port = t.Addr().(*net.TCPAddr).Port
	u, err := net.ListenPacket("udp"+v, net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	return port, u.Close()
}

func listen(h host.Host, hosts []net.IP, port int) error {
	var done []ma.Multiaddr
	for _, ip := range hosts {
		for _, a := range multiaddrs(ip, port) {
			if err := h.Network().Listen(a); err != nil {
				if l, ok := h.Network().(interface{ ListenClose(...ma.Multiaddr) }); ok {
					l.ListenClose(done...)
				}
				return err
			}
			done = append(done, a)
		}
	}
	return nil
}

func multiaddrs(ip net.IP, port int) []ma.Multiaddr {
	v := "ip6"
	if ip.To4() != nil {
		v = "ip4"
	}
	return []ma.Multiaddr{
		ma.StringCast(fmt.Sprintf("/%s/%s/tcp/%d", v, ip, port)),
		ma.StringCast(fmt.Sprintf("/%s/%s/udp/%d/quic-v1", v, ip, port)),
	}
}
