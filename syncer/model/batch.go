package model

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"
	"google.golang.org/protobuf/encoding/protowire"
)

// A Batch is what one cut says: a signed header and the changes it covers, as
// bytes that are hashed, signed, stored and relayed verbatim.
//
// Header (protobuf): 1 replica fixed64, 2 lo, 3 hi, 4 deps, 5 prev (hash of the
// replica's header before this one), 6 root, 7 utc seconds, 8 author, 9 device,
// 10 signer, and last 15 sig over all bytes before it.
// Body (protobuf): one field a change, in order of sequence number: 1 the
// change's bytes, or 2 its leaf hash, where it is dead and has been dropped.
// Leaf = keyed BLAKE3 of the change's bytes, root = keyed BLAKE3 of all leaves.
// A batch without a body only proves that its author made it.
type Batch struct{ Header, Body []byte }

// A Header says who changed what and on which knowledge.
type Header struct {
	Replica        Replica
	Lo, Hi         uint64 // sequence numbers of its changes, both included
	Deps           VV     // what the author knew, its own changes before Lo included
	Prev, Root     [32]byte
	UTC            int64  // seconds; only ever shown
	Author, Device string // display names at the cut
	Signer         ed25519.PublicKey
}

// Knew tells whether the author knew all of k when it made the batch.
func (h Header) Knew(k VV) bool { return k.LE(h.Deps.With(Dot{h.Replica, h.Lo - 1})) }

const (
	// MaxBatchChanges and MaxBatchBytes bound a batch.
	MaxBatchChanges = 1000
	MaxBatchBytes   = 256 << 10
	// MaxChangeBytes bounds one change: all names and attributes of a node fit,
	// more than twice (MaxNames).
	MaxChangeBytes = 1 << 20
	maxHeaderBytes = 96 << 10
	// MaxLabel bounds the author's and the device's display name.
	MaxLabel = 32
)

// ErrBatch means that a batch is not what an honest member sends.
var ErrBatch = errors.New("bad batch")

// A Seal binds batches to a folder: they verify in no other.
type Seal struct {
	Folder [32]byte
	Key    [32]byte // keys the leaf hashes
}

// A hasher hashes one thing after another: to make one takes longer than to hash a change.
type hasher struct{ h *blake3.Hasher }

func (s Seal) hasher() hasher {
	h, err := blake3.NewKeyed(s.Key[:])
	if err != nil {
		panic(err) // the key has the one length there is
	}
	return hasher{h}
}

func (h hasher) sum(p []byte) (out [32]byte) {
	h.h.Reset()
	h.h.Write(p)
	h.h.Sum(out[:0])
	return out
}

func (s Seal) signed(header []byte) []byte {
	b := append([]byte("clachan batch 1\x00"), s.Folder[:]...)
	return append(b, header...)
}

// HeaderHash is what the next batch of the replica names as Prev.
func HeaderHash(header []byte) [32]byte { return blake3.Sum256(header) }

// Sign makes a batch of h and the encoded changes. Root and Signer are filled in.
func (s Seal) Sign(h Header, changes [][]byte, key ed25519.PrivateKey) Batch {
	leaves, size := make([]byte, 0, 32*len(changes)), 0
	for _, c := range changes {
		size += 1 + protowire.SizeBytes(len(c))
	}
	hash, body := s.hasher(), make([]byte, 0, size)
	for _, c := range changes {
		leaf := hash.sum(c)
		leaves = append(leaves, leaf[:]...)
		body = appendBytes(body, 1, c)
	}
	h.Root = hash.sum(leaves)
	h.Signer = key.Public().(ed25519.PublicKey)
	b := h.encode()
	sig := ed25519.Sign(key, s.signed(b))
	b = protowire.AppendTag(b, 15, protowire.BytesType)
	b = protowire.AppendBytes(b, sig)
	return Batch{Header: b, Body: body}
}

func (h Header) encode() []byte {
	var b []byte
	b = protowire.AppendTag(b, 1, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, uint64(h.Replica))
	b = appendUint(b, 2, h.Lo)
	b = appendUint(b, 3, h.Hi)
	b = appendBytes(b, 4, h.Deps.Encode())
	if h.Prev != [32]byte{} {
		b = appendBytes(b, 5, h.Prev[:])
	}
	b = appendBytes(b, 6, h.Root[:])
	b = appendUint(b, 7, uint64(h.UTC))
	b = appendBytes(b, 8, []byte(h.Author))
	b = appendBytes(b, 9, []byte(h.Device))
	return appendBytes(b, 10, h.Signer)
}

// DecodeHeader reads a header without verifying its signature.
func DecodeHeader(b []byte) (Header, error) {
	h, _, err := decodeHeader(b)
	return h, err
}

func decodeHeader(b []byte) (h Header, signed int, err error) {
	if len(b) > maxHeaderBytes {
		return h, 0, fmt.Errorf("%w: header of %d bytes", ErrBatch, len(b))
	}
	at, last := 0, false
	err = fields(b, func(num protowire.Number, v uint64, p []byte, size int) error {
		if last {
			return fmt.Errorf("%w: bytes after the signature", ErrBatch)
		}
		switch num {
		case 1:
			h.Replica = Replica(v)
		case 2:
			h.Lo = v
		case 3:
			h.Hi = v
		case 4:
			h.Deps, err = DecodeVV(p)
		case 5:
			err = exactly(h.Prev[:], p)
		case 6:
			err = exactly(h.Root[:], p)
		case 7:
			h.UTC = int64(v)
		case 8:
			h.Author, err = label(p)
		case 9:
			h.Device, err = label(p)
		case 10:
			h.Signer = make([]byte, ed25519.PublicKeySize)
			err = exactly(h.Signer, p)
		case 15:
			signed, last = at, true
		}
		at += size
		return err
	})
	switch {
	case errors.Is(err, errVV):
		err = fmt.Errorf("%w: deps: %w", ErrBatch, err)
	case err != nil:
	case !last || h.Signer == nil || h.Replica == 0 || h.Lo == 0 || h.Hi < h.Lo || h.Hi-h.Lo >= MaxBatchChanges || h.Hi > MaxSeq:
		err = fmt.Errorf("%w: header", ErrBatch)
	case h.Deps.Get(h.Replica) != h.Lo-1:
		err = fmt.Errorf("%w: deps do not end where the changes begin", ErrBatch)
	}
	return h, signed, err
}

// A Leaf is one change of a batch, or only its hash.
type Leaf struct {
	Bytes []byte // nil: dropped, because dead
	Hash  [32]byte
}

// Leaves splits a body.
func (s Seal) Leaves(body []byte) ([]Leaf, error) {
	if len(body) > MaxBatchBytes+MaxChangeBytes {
		return nil, fmt.Errorf("%w: body of %d bytes", ErrBatch, len(body))
	}
	var out []Leaf
	hash := s.hasher()
	err := fields(body, func(num protowire.Number, _ uint64, p []byte, _ int) error {
		switch {
		case len(out) == MaxBatchChanges:
			return fmt.Errorf("%w: too many changes", ErrBatch)
		case num == 1 && len(p) <= MaxChangeBytes:
			out = append(out, Leaf{Bytes: p, Hash: hash.sum(p)})
		case num == 2 && len(p) == 32:
			out = append(out, Leaf{Hash: [32]byte(p)})
		default:
			return fmt.Errorf("%w: body", ErrBatch)
		}
		return nil
	})
	return out, err
}

// Stub encodes leaves as a body again, those without bytes as hashes.
func Stub(leaves []Leaf) []byte {
	var b []byte
	for _, l := range leaves {
		if l.Bytes != nil {
			b = appendBytes(b, 1, l.Bytes)
		} else {
			b = appendBytes(b, 2, l.Hash[:])
		}
	}
	return b
}

// Verify checks everything about b that needs no folder state: bounds, leaves,
// root, signature, and that allowed accepts the signer. A dropped change has
// the zero ID; a batch without a body has none.
func (s Seal) Verify(b Batch, allowed func(ed25519.PublicKey) error) (Header, []Change, error) {
	h, err := s.verifyHeader(b.Header, allowed)
	if err != nil {
		return h, nil, err
	}
	if len(b.Body) == 0 {
		return h, nil, nil
	}
	changes, err := s.changes(h, b.Body)
	return h, changes, err
}

func (s Seal) verifyHeader(b []byte, allowed func(ed25519.PublicKey) error) (Header, error) {
	h, signed, err := decodeHeader(b)
	if err != nil {
		return h, err
	}
	if err := allowed(h.Signer); err != nil {
		return h, err
	}
	if !ed25519.Verify(h.Signer, s.signed(b[:signed]), signature(b[signed:])) {
		return h, fmt.Errorf("%w: signature", ErrBatch)
	}
	return h, nil
}

// Decode reads a batch that was verified when it came.
func (s Seal) Decode(b Batch) (Header, []Change, error) {
	h, err := DecodeHeader(b.Header)
	if err != nil {
		return h, nil, err
	}
	changes, err := s.changes(h, b.Body)
	return h, changes, err
}

// changes checks the leaves of a body against the header and decodes them.
func (s Seal) changes(h Header, body []byte) ([]Change, error) {
	leaves, err := s.Leaves(body)
	if err != nil {
		return nil, err
	}
	if uint64(len(leaves)) != h.Hi-h.Lo+1 {
		return nil, fmt.Errorf("%w: %d changes for %d numbers", ErrBatch, len(leaves), h.Hi-h.Lo+1)
	}
	all := make([]byte, 0, 32*len(leaves))
	for _, l := range leaves {
		all = append(all, l.Hash[:]...)
	}
	if s.hasher().sum(all) != h.Root {
		return nil, fmt.Errorf("%w: root", ErrBatch)
	}
	changes, latest := make([]Change, len(leaves)), h.Deps.Latest()
	for i, l := range leaves {
		if l.Bytes == nil {
			continue
		}
		d := Dot{h.Replica, h.Lo + uint64(i)}
		if changes[i], err = DecodeChange(l.Bytes, d); err == nil {
			err = changes[i].within(h.Deps.With(Dot{d.Replica, d.Seq - 1}))
		}
		if err == nil && changes[i].Lamport > latest+uint64(i)+1 {
			err = fmt.Errorf("change %v: %w: clock", d, ErrBatch)
		}
		if err != nil {
			return nil, err
		}
	}
	return changes, nil
}

func signature(b []byte) (sig []byte) {
	_ = fields(b, func(_ protowire.Number, _ uint64, p []byte, _ int) error {
		sig = p
		return nil
	})
	return sig
}

// fields calls f for each field of a protobuf message: v for numbers, p for
// bytes. Fields of unknown numbers are passed on too.
func fields(b []byte, f func(num protowire.Number, v uint64, p []byte, size int) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %v", ErrBatch, protowire.ParseError(n))
		}
		var v uint64
		var p []byte
		var m int
		switch typ {
		case protowire.VarintType:
			v, m = protowire.ConsumeVarint(b[n:])
		case protowire.Fixed64Type:
			v, m = protowire.ConsumeFixed64(b[n:])
		case protowire.BytesType:
			p, m = protowire.ConsumeBytes(b[n:])
		default:
			return fmt.Errorf("%w: wire type %d", ErrBatch, typ)
		}
		if m < 0 {
			return fmt.Errorf("%w: %v", ErrBatch, protowire.ParseError(m))
		}
		if err := f(num, v, p, n+m); err != nil {
			return err
		}
		b = b[n+m:]
	}
	return nil
}

func exactly(dst, p []byte) error {
	if len(p) != len(dst) {
		return fmt.Errorf("%w: field of %d bytes, not %d", ErrBatch, len(p), len(dst))
	}
	copy(dst, p)
	return nil
}

// label reads a display name. It becomes part of file names.
func label(p []byte) (string, error) {
	if len(p) > MaxLabel || CleanLabel(string(p)) != string(p) {
		return "", fmt.Errorf("%w: label %q", ErrBatch, p[:min(len(p), MaxLabel)])
	}
	return string(p), nil
}

func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendBytes(b []byte, num protowire.Number, p []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, p)
}
