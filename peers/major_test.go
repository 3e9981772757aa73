package peers

import (
	"errors"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
)

// next is a major version that is not there yet.
var next = major{ctlKind: "/clachan/ctl/2", pairKind: "/clachan/pair/2", blkKind: "/clachan/blk/2"}

func speaking(m ...major) func(*Node) { return func(n *Node) { n.majors = m } }

func with(has, required uint64) func(*Node) {
	return func(n *Node) { n.features = wire.Features{Has: has, Required: required} }
}

// state returns what d knows of o.
func (d *device) state(o *device) PeerState {
	for _, p := range d.node.Peers() {
		if p.ID == o.node.ID() {
			return p
		}
	}
	return PeerState{}
}

func (d *device) session(o *device) *session {
	p, _ := peer.Decode(o.node.ID())
	if k := d.node.keeper(p); k != nil {
		return k.session.Load()
	}
	return nil
}

// TestTheNewestVersionThatBothSpeakIsSpoken has devices of this version, of the
// next with this, and of the next alone.
func TestTheNewestVersionThatBothSpeakIsSpoken(t *testing.T) {
	now := majors()[0]
	for _, tt := range []struct {
		name string
		a, b []major
		want protocol.ID
	}{
		{"both now", []major{now}, []major{now}, wire.Ctl},
		{"one could do more", []major{next, now}, []major{now}, wire.Ctl},
		{"the other could", []major{now}, []major{next, now}, wire.Ctl},
		{"both can", []major{next, now}, []major{next, now}, next[ctlKind]},
		{"one has left this behind", []major{next}, []major{next, now}, next[ctlKind]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newDevice(t, "ana", speaking(tt.a...)), newDevice(t, "ben", speaking(tt.b...))
			g, fa := a.create("shared")
			_, fb := b.join(a.invite(g.ID, trust.Writer, 1))
			fa.write(t, "hello")
			fb.awaitK(t, fa.Knowledge())
			fb.write(t, "and back")
			fa.awaitK(t, fb.Knowledge())
			if s := a.session(b); s == nil || s.st.Protocol() != tt.want {
				t.Errorf("they speak %v, want %s", s, tt.want)
			}
		})
	}
}

// TestDevicesWithoutACommonVersionSaySo: at a join, and as members.
func TestDevicesWithoutACommonVersionSaySo(t *testing.T) {
	now := majors()[0]
	a, b := newDevice(t, "ana", speaking(next, now)), newDevice(t, "ben")
	g, _ := a.create("shared")
	b.join(a.invite(g.ID, trust.Writer, 1))
	a.stop()
	a.set = []func(*Node){speaking(next)}
	a.start("ana")
	a.attach(g)
	const why = "one of the two needs a newer clachan"
	eventually(t, func() bool { return a.state(b).Apart == why && b.state(a).Apart == why }, "both say so")

	c := newDevice(t, "cleo")
	ticket := a.invite(g.ID, trust.Writer, 1)
	if _, err := c.node.Join(t.Context(), ticket, ""); !errors.Is(err, wire.ErrVersion) {
		t.Errorf("join: %v", err)
	}
	a.stop()
	a.set = nil
	a.start("ana")
	a.attach(g)
	eventually(t, func() bool { return a.state(b).Online && b.state(a).Online && b.state(a).Apart == "" }, "they talk again")
	c.join(ticket)
}

func TestOnlyFeaturesOfBothAreUsed(t *testing.T) {
	a, b := newDevice(t, "ana", with(0b1011, 0b1000)), newDevice(t, "ben", with(1<<63|0b1110, 0))
	g, fa := a.create("shared")
	_, fb := b.join(a.invite(g.ID, trust.Writer, 1))
	fa.write(t, "hello")
	fb.awaitK(t, fa.Knowledge())
	eventually(t, func() bool { return a.state(b).Features == 0b1010 && b.state(a).Features == 0b1010 }, "both use the same")
}

// TestAFeatureThatIsRequiredAndMissingIsSaid: who has it not is refused, at a join
// and as a member, both say who is too old, and the ticket stays good.
func TestAFeatureThatIsRequiredAndMissingIsSaid(t *testing.T) {
	a, b, c := newDevice(t, "ana", with(0b1, 0)), newDevice(t, "ben"), newDevice(t, "cleo")
	g, _ := a.create("shared")
	b.join(a.invite(g.ID, trust.Writer, 1))
	ticket := a.invite(g.ID, trust.Writer, 1)
	a.stop()
	a.set = []func(*Node){with(0b1, 0b1)}
	a.start("ana")
	a.attach(g)
	eventually(t, func() bool {
		return a.state(b).Apart == "the other device needs a newer clachan" && b.state(a).Apart == "this device needs a newer clachan"
	}, "both say so")
	if a.state(b).Online || b.state(a).Online {
		t.Error("they talk nevertheless")
	}
	if _, err := c.node.Join(t.Context(), ticket, ""); !errors.Is(err, wire.ErrVersion) || !strings.Contains(err.Error(), "this device needs a newer clachan") {
		t.Errorf("join: %v", err)
	}
	c.stop()
	c.set = []func(*Node){with(0b11, 0b10)} // updated, and now the other is too old
	c.start("cleo")
	if _, err := c.node.Join(t.Context(), ticket, ""); !errors.Is(err, wire.ErrVersion) || !strings.Contains(err.Error(), "the other device needs a newer clachan") {
		t.Errorf("join: %v", err)
	}
	c.stop()
	c.set = []func(*Node){with(0b11, 0)}
	c.start("cleo")
	c.join(ticket)
}
