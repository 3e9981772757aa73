package model

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/bits"
	"slices"

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

// A Proof is a header that its author has signed, and the mark it makes true.
type Proof struct {
	Mark
	Header []byte
}

// Prove verifies headers that a peer shows.
func (s Seal) Prove(headers [][]byte, allowed func(ed25519.PublicKey) error) ([]Proof, error) {
	out := make([]Proof, 0, len(headers))
	for _, b := range headers {
		h, err := s.verifyHeader(b, allowed)
		if err != nil {
			return nil, err
		}
		if !h.Replica.Of(h.Signer) {
			return nil, fmt.Errorf("%w: replica %v is not of who signed it", ErrBatch, h.Replica)
		}
		out = append(out, Proof{MarkOf(h, Batch{Header: b}), b})
	}
	return out, nil
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

// MaxProofs and MaxProofBytes bound the headers that come with an opening.
const (
	MaxProofs     = 512
	MaxProofBytes = 256 << 10
)

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
		if m < 0 || s == 0 || s > MaxSeq || len(ms) == MaxMarks {
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

// EncodeProofs returns the bytes of headers.
func EncodeProofs(headers [][]byte) []byte {
	var b []byte
	for _, h := range headers {
		b = protowire.AppendBytes(b, h)
	}
	return b
}

// DecodeProofs reads what EncodeProofs wrote. It verifies nothing.
func DecodeProofs(b []byte) (out [][]byte, err error) {
	if len(b) > MaxProofBytes+4*MaxProofs {
		return nil, errMarks
	}
	for len(b) > 0 {
		h, n := protowire.ConsumeBytes(b)
		if n < 0 || len(out) == MaxProofs {
			return nil, errMarks
		}
		out, b = append(out, h), b[n:]
	}
	return out, nil
}

// An Opening is how a member has a folder when it begins to exchange changes
// with another: what tells whether the two may.
type Opening struct {
	Own       Replica // that it writes as
	K         VV
	Horizon   VV       // who holds some of it, but does not know all of it, may hold what was collected
	Marks     []Mark   // what it says
	Told      []Mark   // what it was told of, and nothing more
	Proofs    [][]byte // signed headers: of the newest marks, and of those that the peer has others for
	Returning bool     // it has begun anew and is not complete
	Answers   bool     // it is said after the other's was heard
}

// A Tell is what a peer is told beside an opening, for what it has said.
type Tell struct {
	Marks   []Mark
	Headers [][]byte // signed
	Answers bool     // the other waits for it, whatever there is to say
}

// Show adds to what is said and shown, as much as there is room for, and tells
// whether there was for any.
func (o *Opening) Show(more Tell) (grown bool) {
	grown = more.Answers && !o.Answers
	o.Answers = o.Answers || more.Answers
	o.Marks = slices.Clip(o.Marks)
	for _, m := range more.Marks {
		if len(o.Marks)+len(o.Told) < MaxMarks && !slices.Contains(o.Marks, m) {
			o.Marks, grown = append(o.Marks, m), true
		}
	}
	size, proofs := 0, [][]byte(nil)
	for i, h := range slices.Concat(more.Headers, o.Proofs) { // what was shown unasked gives way
		same := func(x []byte) bool { return bytes.Equal(x, h) }
		if len(h) == 0 || size+len(h) > MaxProofBytes || len(proofs) == MaxProofs || slices.ContainsFunc(proofs, same) {
			continue
		}
		grown = grown || i < len(more.Headers) && !slices.ContainsFunc(o.Proofs, same)
		proofs, size = append(proofs, h), size+len(h)
	}
	o.Proofs = proofs
	return grown
}

// Tip is the newest mark of a replica, of what is joined.
func (o Opening) Tip(r Replica) (tip Mark) {
	for _, m := range o.Marks {
		if m.Dot.Replica == r && m.Dot.Seq > tip.Dot.Seq && o.K.Has(m.Dot) {
			tip = m
		}
	}
	return tip
}
