package simtest

import (
	"math/rand/v2"
	"time"

	"github.com/clachanfs/clachan/peers/wire"
)

// A tap counts the frames of a control stream, or what is written to others, and
// garbles the frames of a link that does.
type tap struct {
	n        *network
	from, to spot
	ctl      bool
	raw      bool   // what comes is no frames
	rest     []byte // of a frame that is not whole yet
	kept     []byte // a frame that may come again
}

// take returns what of b goes on its way now: whole frames.
func (t *tap) take(b []byte) []byte {
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	t.n.sent += int64(len(b))
	if !t.ctl {
		t.n.blocks++
		return b
	}
	frames := t.split(b)
	if share := max(t.n.garbled[t.from], t.n.garbled[t.to]); share > 0 {
		frames = t.garble(frames, t.n.r, share)
	}
	var out []byte
	for _, f := range frames {
		out = append(out, f...)
	}
	return out
}

// split returns the frames that are whole; what is none, and all after it, as it
// is.
func (t *tap) split(b []byte) (frames [][]byte) {
	t.rest = append(t.rest, b...)
	for len(t.rest) > 0 {
		size, k := uvarint(t.rest)
		if t.raw = t.raw || k < 0 || size > wire.MaxFrame; t.raw {
			frames = append(frames, t.rest)
			t.rest = nil
			return frames
		}
		if k == 0 || len(t.rest) < k+size {
			break
		}
		f := t.rest[: k+size : k+size]
		if size > 0 {
			t.n.frames[kindOf(f)]++
		}
		frames, t.rest = append(frames, f), t.rest[k+size:]
	}
	return frames
}

// kindOf is what a frame is, 0 for what is none.
func kindOf(f []byte) wire.Type {
	if size, k := uvarint(f); k > 0 && size > 0 && len(f) == k+size {
		return wire.Type(f[k])
	}
	return 0
}

// again tells whether a frame may come twice.
func again(k wire.Type) bool {
	return k == wire.TypeBatch || k == wire.TypeAck || k == wire.TypeCatchUp
}

// swaps tells whether two frames may change places: not those that say what was
// sent before them.
func swaps(a, b wire.Type) bool {
	free := func(k wire.Type) bool {
		return k == wire.TypeBatch || k == wire.TypeAck || k == wire.TypePresence || k == wire.TypePong
	}
	return free(a) && free(b)
}

// garble repeats a share of frames, at once or after others, and has neighbours
// change places.
func (t *tap) garble(frames [][]byte, r *rand.Rand, share float64) (out [][]byte) {
	for i := 1; i < len(frames); i++ {
		if swaps(kindOf(frames[i-1]), kindOf(frames[i])) && r.Float64() < share {
			frames[i-1], frames[i] = frames[i], frames[i-1]
			t.n.swapped++
		}
	}
	for _, f := range frames {
		out = append(out, f)
		if again(kindOf(f)) && r.Float64() < share {
			t.kept = f
			if r.IntN(2) == 0 {
				continue // it comes later
			}
		} else if t.kept == nil || r.IntN(4) > 0 || kindOf(f) == 0 {
			continue
		}
		out, t.kept = append(out, t.kept), nil
		t.n.repeated++
	}
	return out
}

func uvarint(b []byte) (v, n int) {
	for i, c := range b {
		if i > 4 {
			return 0, -1
		}
		v |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// setGarbled lets the links of a host repeat and swap a share of frames.
func (n *network) setGarbled(p spot, share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.garbled[p] = share
}

// loseConns ends the connections of a host on its side only. What it has sent is
// under way for longer, while it may already have new ones; the other side hears
// nothing of the end. It returns what tells them.
func (h *simHost) loseConns(longer time.Duration) (end func()) {
	lost := h.open()
	for _, c := range lost {
		c.lose(longer)
	}
	return func() {
		for _, c := range lost {
			_ = c.other.Close()
		}
	}
}

func (c *simConn) lose(longer time.Duration) {
	c.leave()
	for _, s := range c.shut() {
		s.quiet()
		s.in.deafen()
		s.out.linger(longer)
	}
	c.other.mu.Lock()
	c.other.old = true
	c.other.mu.Unlock()
}

// linger lets what is under way arrive later.
func (p *pipe) linger(longer time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.chunks {
		p.chunks[i].at = p.chunks[i].at.Add(longer)
	}
	p.touch()
}

// belated notes what comes in on an old connection while there is a new one.
func (s *simStream) belated(n int) {
	s.c.mu.Lock()
	old := s.c.old
	s.c.mu.Unlock()
	if !old || n == 0 {
		return
	}
	if c := s.c.h.conn(s.c.RemotePeer()); c == nil || c == s.c {
		return
	}
	s.c.h.n.mu.Lock()
	s.c.h.n.belated++
	s.c.h.n.mu.Unlock()
}
