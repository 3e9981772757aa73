package simtest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/clachanfs/clachan/peers/wire"
)

// A network carries bytes between hosts, late, and sometimes not at all.
type network struct {
	mu     sync.Mutex // guards what follows
	r      *rand.Rand
	hosts  map[spot]*simHost
	cut    map[link]bool
	slow   map[spot]float64
	lossy  float64       // share of writes that are lost once, and sent again
	healed chan struct{} // closed when the links change
	frames map[wire.Type]int
	sent   int64 // bytes
	blocks int   // asked for

	garbled                    map[spot]float64 // share of frames that are repeated or swapped
	repeated, swapped, belated int
}

// A spot is an address: where a host is. Two hosts may have one id.
type spot string

// A link is a pair of hosts, the smaller first.
type link struct{ a, b spot }

func linkOf(a, b spot) link { return link{min(a, b), max(a, b)} }

func newNetwork(r *rand.Rand) *network {
	return &network{r: r, hosts: map[spot]*simHost{}, cut: map[link]bool{}, slow: map[spot]float64{},
		healed: make(chan struct{}), frames: map[wire.Type]int{}, garbled: map[spot]float64{}}
}

// setCut cuts a link or mends it.
func (n *network) setCut(a, b spot, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[linkOf(a, b)] = cut
	close(n.healed)
	n.healed = make(chan struct{})
}

func (n *network) up(a, b spot) (up bool, change <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[linkOf(a, b)], n.healed
}

// delay is how long size bytes take from a to b.
func (n *network) delay(a, b spot, size int) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := time.Duration(1+n.r.IntN(10))*time.Millisecond + time.Duration(size)*time.Second/(20<<20)
	for _, p := range []spot{a, b} {
		if f := n.slow[p]; f > 1 {
			d = time.Duration(float64(d) * f)
		}
	}
	for n.r.Float64() < n.lossy {
		d += time.Duration(200+n.r.IntN(400)) * time.Millisecond
	}
	return d
}

func (n *network) host(p spot) *simHost {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[p]
}

// flying tells whether bytes are on their way.
func (n *network) flying() bool {
	return n.holds(func(*pipe) bool { return true })
}

// stuck tells whether bytes are on their way between two hosts.
func (n *network) stuck(a, b spot) bool {
	return n.holds(func(p *pipe) bool { return linkOf(p.from, p.to) == linkOf(a, b) })
}

// holds tells whether bytes are in one of the pipes asked about.
func (n *network) holds(which func(*pipe) bool) bool {
	n.mu.Lock()
	var hosts []*simHost
	for _, h := range n.hosts {
		hosts = append(hosts, h)
	}
	n.mu.Unlock()
	for _, h := range hosts {
		for _, c := range h.open() {
			for _, s := range c.all() {
				if which(s.in) && s.in.held() > 0 {
					return true
				}
			}
		}
	}
	return false
}

// A pipe is one direction of a stream: in order, and as late as the link is.
type pipe struct {
	n        *network
	from, to spot
	tap      *tap

	mu       sync.Mutex // guards what follows
	chunks   []chunk
	size     int
	last     time.Time // the newest chunk arrives
	end      bool
	deaf     bool // the reader's machine is down
	err      error
	changed  chan struct{} // replaced at every change
	deadline struct{ read, write time.Time }
}

type chunk struct {
	data []byte
	at   time.Time
}

// pipeRoom is how much a writer is ahead of the reader.
const pipeRoom = 1 << 20

var errReset = errors.New("stream reset")

func (p *pipe) touch() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0
	}
	return p.size
}

func (p *pipe) write(b []byte) (int, error) {
	d := p.n.delay(p.from, p.to, len(b))
	for {
		p.mu.Lock()
		switch {
		case p.err != nil || p.end:
			defer p.mu.Unlock()
			return 0, errors.Join(p.err, io.ErrClosedPipe)
		case p.deaf:
			defer p.mu.Unlock()
			return len(b), nil
		case p.size < pipeRoom:
			defer p.mu.Unlock()
			at := time.Now().Add(d)
			if at.Before(p.last) {
				at = p.last
			}
			p.last = at
			if out := p.tap.take(b); len(out) > 0 {
				p.chunks = append(p.chunks, chunk{slices.Clone(out), at})
				p.size += len(out)
			}
			p.touch()
			return len(b), nil
		}
		changed, deadline := p.changed, p.deadline.write
		p.mu.Unlock()
		if !await(deadline, changed, nil) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (p *pipe) read(b []byte) (int, error) {
	for {
		up, healed := p.n.up(p.from, p.to)
		now := time.Now()
		p.mu.Lock()
		if p.err != nil || p.deaf {
			defer p.mu.Unlock()
			return 0, cmp.Or(p.err, errDown)
		}
		until := p.deadline.read
		if len(p.chunks) > 0 && up {
			c := &p.chunks[0]
			if !c.at.After(now) {
				defer p.mu.Unlock()
				k := copy(b, c.data)
				p.size -= k
				if c.data = c.data[k:]; len(c.data) == 0 {
					p.chunks = p.chunks[1:]
				}
				p.touch()
				return k, nil
			}
			if until.IsZero() || c.at.Before(until) {
				until = c.at
			}
		}
		if len(p.chunks) == 0 && p.end && up {
			defer p.mu.Unlock()
			return 0, io.EOF
		}
		changed, deadline := p.changed, p.deadline.read
		p.mu.Unlock()
		if !await(until, changed, healed) && !deadline.IsZero() && !time.Now().Before(deadline) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// await waits for one of the channels; false: until the time has come.
func await(until time.Time, a, b <-chan struct{}) bool {
	var timeout <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-a:
	case <-b:
	case <-timeout:
		return false
	}
	return true
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = true
	p.touch()
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		p.touch()
	}
}

func (p *pipe) deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf, p.chunks, p.size = true, nil, 0
	p.touch()
}

func (p *pipe) setDeadline(which *time.Time, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*which = t
	p.touch()
}

func (n *network) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprintf("frames %v, %d bytes", n.frames, n.sent)
}

// report tells how often faults have had an effect.
func (n *network) report(count func(string, int)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	count("frames repeated", n.repeated)
	count("frames swapped", n.swapped)
	count("reads from old connections", n.belated)
}
