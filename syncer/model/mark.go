package model

import (
	"errors"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Mark says which header a batch had: Lo is its first change, Dot its last.
// Members that have different marks of one change hold different histories of
// the replica: its database was copied, or restored from a copy, and went on
// under the same name.
type Mark struct {
	Dot  Dot
	Lo   uint64
	Hash [16]byte
}

// MarkOf is the mark of a batch.
func MarkOf(h Header, b Batch) Mark {
	hash := HeaderHash(b.Header)
	return Mark{Dot{h.Replica, h.Hi}, h.Lo, [16]byte(hash[:16])}
}

// Level is how rare a mark is: one in 2^Level is kept that far, everywhere the
// same ones.
func (m Mark) Level() int {
	n := bits.LeadingZeros8(m.Hash[0])
	if n == 8 {
		n += bits.LeadingZeros8(m.Hash[1])
	}
	return n
}

// MaxMarks bounds the marks that come from outside.
const MaxMarks = 6 << 10

// MarkBytes bounds the bytes of one mark.
const MarkBytes = 8 + 10 + 2 + 16

var errMarks = errors.New("malformed marks")

// EncodeMarks returns the bytes of marks.
func EncodeMarks(ms []Mark) []byte {
	var b []byte
	for _, m := range ms {
		b = protowire.AppendFixed64(b, uint64(m.Dot.Replica))
		b = protowire.AppendVarint(b, m.Dot.Seq)
		b = protowire.AppendVarint(b, m.Dot.Seq-m.Lo)
		b = append(b, m.Hash[:]...)
	}
	return b
}

// DecodeMarks reads what EncodeMarks wrote.
func DecodeMarks(b []byte) ([]Mark, error) {
	if len(b) > MaxMarks*MarkBytes {
		return nil, errMarks
	}
	var ms []Mark
	for len(b) > 0 {
		r, n := protowire.ConsumeFixed64(b)
		if n < 0 {
			return nil, errMarks
		}
		s, m := protowire.ConsumeVarint(b[n:])
		if m < 0 || s == 0 || len(ms) == MaxMarks {
			return nil, errMarks
		}
		b = b[n+m:]
		l, n := protowire.ConsumeVarint(b)
		if n < 0 || l >= s || l >= MaxBatchChanges || len(b) < n+16 {
			return nil, errMarks
		}
		b = b[n:]
		ms = append(ms, Mark{Dot{Replica(r), s}, s - l, [16]byte(b[:16])})
		b = b[16:]
	}
	return ms, nil
}

// An Opening is how a member has a folder when it begins to exchange changes
// with another: what tells whether the two may.
type Opening struct {
	Own       Replica // that it writes as
	K         VV
	Horizon   VV // who holds some of it, but does not know all of it, may hold what was collected
	Marks     []Mark
	Returning bool // it has begun anew and is not complete
}

// Tip is the newest mark of a replica.
func (o Opening) Tip(r Replica) (tip Mark) {
	for _, m := range o.Marks {
		if m.Dot.Replica == r && m.Dot.Seq > tip.Dot.Seq {
			tip = m
		}
	}
	return tip
}
