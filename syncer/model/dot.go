package model

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Replica names one incarnation of one database: a restored or copied one
// takes a new name. Half of it begins the key of its device, so that no other
// member can write as it; the other half is random.
type Replica uint64

// NewReplica makes up a name for a database of a device.
func NewReplica(device ed25519.PublicKey) Replica {
	b := [8]byte(device)
	rand.Read(b[4:])
	return Replica(binary.BigEndian.Uint64(b[:]))
}

// Of tells whether r is a name for a database of a device.
func (r Replica) Of(device ed25519.PublicKey) bool {
	return r.device() == binary.BigEndian.Uint32(device)
}

func (r Replica) device() uint32 { return uint32(r >> 32) }

// SameDevice tells whether two are of one device.
func (r Replica) SameDevice(o Replica) bool { return r.device() == o.device() }

// A Dot names one change: the seq-th of its replica, counted from 1. The zero
// Dot names none.
type Dot struct {
	Replica Replica
	Seq     uint64
}

func (d Dot) String() string { return fmt.Sprintf("%x.%d", uint64(d.Replica), d.Seq) }

func compareDots(a, b Dot) int {
	return cmp.Or(cmp.Compare(a.Replica, b.Replica), cmp.Compare(a.Seq, b.Seq))
}

// A VV is a set of dots: of each replica all up to a sequence number. Entries
// are sorted by replica, none is zero. It is never changed in place.
type VV []Dot

const (
	// MaxReplicas bounds a vector that comes from outside.
	MaxReplicas = 4096
	// MaxSeq bounds sequence numbers: so that one more, and the sum of a vector,
	// are numbers too.
	MaxSeq = 1 << 48
)

// Get returns the highest sequence number of r in v, or 0.
func (v VV) Get(r Replica) uint64 {
	for _, d := range v { // few entries: faster than a binary search
		if d.Replica >= r {
			if d.Replica == r {
				return d.Seq
			}
			return 0
		}
	}
	return 0
}

// Has tells whether v contains d.
func (v VV) Has(d Dot) bool { return v.Get(d.Replica) >= d.Seq }

// LE tells whether o contains all of v.
func (v VV) LE(o VV) bool {
	for _, d := range v {
		if !o.Has(d) {
			return false
		}
	}
	return true
}

// Equal tells whether v and o contain the same dots.
func (v VV) Equal(o VV) bool { return slices.Equal(v, o) }

// Join returns the union of v and o.
func (v VV) Join(o VV) VV {
	if len(v) == 0 || v.LE(o) {
		return o
	}
	if o.LE(v) {
		return v
	}
	return merge(v, o, func(a, b uint64) uint64 { return max(a, b) })
}

// Meet returns what both contain.
func (v VV) Meet(o VV) VV {
	return merge(v, o, func(a, b uint64) uint64 { return min(a, b) })
}

func merge(v, o VV, pick func(a, b uint64) uint64) VV {
	var out VV
	for len(v) > 0 || len(o) > 0 {
		var d Dot
		switch {
		case len(o) == 0 || len(v) > 0 && v[0].Replica < o[0].Replica:
			d, v = Dot{v[0].Replica, pick(v[0].Seq, 0)}, v[1:]
		case len(v) == 0 || o[0].Replica < v[0].Replica:
			d, o = Dot{o[0].Replica, pick(0, o[0].Seq)}, o[1:]
		default:
			d = Dot{v[0].Replica, pick(v[0].Seq, o[0].Seq)}
			v, o = v[1:], o[1:]
		}
		if d.Seq > 0 {
			out = append(out, d)
		}
	}
	return out
}

// With returns v and all dots of d's replica up to d.
func (v VV) With(d Dot) VV {
	if d.Seq == 0 || v.Has(d) {
		return v
	}
	i, found := slices.BinarySearchFunc(v, d, func(a, b Dot) int { return cmp.Compare(a.Replica, b.Replica) })
	out := slices.Clone(v)
	if found {
		out[i] = d
		return out
	}
	return slices.Insert(out, i, d)
}

// Without returns v with d's replica cut back to below d.
func (v VV) Without(d Dot) VV {
	var out VV
	for _, e := range v {
		if e.Replica == d.Replica {
			e.Seq = min(e.Seq, d.Seq-1)
		}
		if e.Seq > 0 {
			out = append(out, e)
		}
	}
	return out
}

// maxLead is how far the Lamport time of a change may be ahead of the number of
// changes that its author knew: without a liar it is none. Who claims the end of
// the range would win every race for good, so there is a limit, and one that all
// see alike: what one member joins another must not refuse.
const maxLead = 1 << 40

// Latest is the largest Lamport time that one who knows v may have seen.
func (v VV) Latest() uint64 {
	n := uint64(maxLead)
	for _, d := range v {
		n += d.Seq
	}
	return n
}

func (v VV) String() string {
	var b strings.Builder
	for i, d := range v {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(d.String())
	}
	return "{" + b.String() + "}"
}

// AppendTo appends v's bytes: of each entry the replica as fixed64 and the
// sequence number as varint.
func (v VV) AppendTo(b []byte) []byte {
	for _, d := range v {
		b = protowire.AppendFixed64(b, uint64(d.Replica))
		b = protowire.AppendVarint(b, d.Seq)
	}
	return b
}

// Encode returns v's bytes.
func (v VV) Encode() []byte { return v.AppendTo(nil) }

var errVV = errors.New("malformed version vector")

// DecodeVV reads what Encode wrote, and nothing else.
func DecodeVV(b []byte) (VV, error) {
	if len(b) > MaxReplicas*18 {
		return nil, errVV
	}
	var v VV
	for len(b) > 0 {
		r, n := protowire.ConsumeFixed64(b)
		if n < 0 {
			return nil, errVV
		}
		s, m := protowire.ConsumeVarint(b[n:])
		if m < 0 || s == 0 || s > MaxSeq || len(v) == MaxReplicas || m != protowire.SizeVarint(s) || len(v) > 0 && v[len(v)-1].Replica >= Replica(r) {
			return nil, errVV
		}
		v = append(v, Dot{Replica(r), s})
		b = b[n+m:]
	}
	return v, nil
}

// A Stamp orders last-writer-wins fields: a Lamport time, never a wall clock.
type Stamp struct {
	Lamport uint64
	Replica Replica
}

// Less orders stamps; two of different changes are never equal.
func (a Stamp) Less(b Stamp) bool { return a.Compare(b) < 0 }

// Compare orders stamps.
func (a Stamp) Compare(b Stamp) int {
	return cmp.Or(cmp.Compare(a.Lamport, b.Lamport), cmp.Compare(a.Replica, b.Replica))
}

// An ID identifies a node for its whole life, on all peers. Its last two bits are
// the node's kind, so nobody can give one id two.
type ID [16]byte

// RootID is the folder's root directory: always there, never deleted.
var RootID = ID{15: 1}

func (id ID) String() string { return hex.EncodeToString(id[:6]) }

// Kind is the kind that a node of that id has.
func (id ID) Kind() Kind {
	if id == RootID {
		return Dir
	}
	return Kind(id[15] & 3)
}

// IsZero tells whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

func compareIDs(a, b ID) int { return slices.Compare(a[:], b[:]) }
