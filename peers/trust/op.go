package trust

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"

	"github.com/zeebo/blake3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/clachanfs/clachan/syncer/model"
)

// A Hash names an op: the hash of its record.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Kind says what an op does.
type Kind uint32

const (
	Genesis      Kind = 1
	Add          Kind = 2
	SetRole      Kind = 3
	Remove       Kind = 4
	Invite       Kind = 5
	Accept       Kind = 6
	RevokeInvite Kind = 7
	RotateKey    Kind = 8 // of a later version
)

const (
	// MaxOpBytes bounds the record of an op.
	MaxOpBytes = 64 << 10
	maxPrev    = 64
	maxKnown   = 48 << 10
	maxUses    = 1 << 20
	// MaxOps bounds what is taken at once.
	MaxOps = 1 << 14

	suite1     = 1 // ed25519, BLAKE3
	opDomain   = "clachan member op 1\x00"
	acceptance = "clachan accept 1\x00"
)

type key = [ed25519.PublicKeySize]byte

// payload holds what the kinds say; each uses a part of it.
type payload struct {
	device  key
	role    Role
	label   string
	x25519  []byte // to seal folder keys to
	invite  key
	uses    uint64
	expires uint64 // unix seconds
	proof   []byte // the invite key's signature over the device
	known   []byte // Remove: the version vector of the remover
	nonce   []byte
	suite   uint64
	reason  string
	names   string // Genesis: how the folder compares names; "" is model.NamesBytes
}

// An op is one signed record of the log, and what was found out about it when
// it was inserted.
type op struct {
	raw     []byte
	hash    Hash
	folder  FolderID
	prev    []Hash
	lamport uint64
	author  key
	kind    Kind
	time    uint64
	payload payload

	idx    int    // place in Log.ops
	past   bitset // indexes of its causal past and itself
	bound  bitset // of these, what an op of an admin has in its past, and those ops
	rank   Role   // the author's role in the past
	minor  bool   // the author was below admin
	idle   bool   // of a minor, and not to have an effect
	lowers bool   // an admin's Remove, or SetRole to less than the target had
	gives  key    // the device that is a member by it, if any
	given  Role   // as what
	after  *state // evaluation of the past and the op; nil if it is to be found anew

	kept bool   // stored and told to others; else spare
	at   uint64 // Log.clock when it last came
}

// HashOf returns the hash of an op's record.
func HashOf(record []byte) Hash { return blake3.Sum256(record) }

func hashBody(body []byte) FolderID {
	h := blake3.New()
	h.WriteString("clachan folder 1\x00")
	h.Write(body)
	var id FolderID
	h.Sum(id[:0])
	return id
}

func (o *op) encodeBody() []byte {
	var b []byte
	if o.kind != Genesis {
		b = appendBytes(b, 1, o.folder[:])
	}
	for _, p := range o.prev {
		b = appendBytes(b, 2, p[:])
	}
	b = appendUint(b, 3, o.lamport)
	b = appendBytes(b, 4, o.author[:])
	b = appendUint(b, 5, uint64(o.kind))
	b = appendUint(b, 6, o.time)
	return appendBytes(b, 7, o.payload.encode())
}

func (p *payload) encode() []byte {
	var b []byte
	zero := key{}
	if p.device != zero {
		b = appendBytes(b, 1, p.device[:])
	}
	b = appendUint(b, 2, uint64(p.role))
	b = appendBytes(b, 3, []byte(p.label))
	b = appendBytes(b, 4, p.x25519)
	if p.invite != zero {
		b = appendBytes(b, 5, p.invite[:])
	}
	b = appendUint(b, 6, p.uses)
	b = appendUint(b, 7, p.expires)
	b = appendBytes(b, 8, p.proof)
	b = appendBytes(b, 9, p.known)
	b = appendBytes(b, 10, p.nonce)
	b = appendUint(b, 11, p.suite)
	b = appendBytes(b, 12, []byte(p.reason))
	return appendBytes(b, 13, []byte(p.names))
}

// sign returns the finished, decoded op.
func (o *op) sign(k ed25519.PrivateKey) (*op, error) {
	o.author = key(k.Public().(ed25519.PublicKey))
	body := o.encodeBody()
	raw := appendBytes(nil, 1, body)
	raw = appendBytes(raw, 2, ed25519.Sign(k, append([]byte(opDomain), body...)))
	return decodeOp(raw)
}

// decodeOp reads a record and verifies its signature and, for Genesis, that
// the folder's id is its hash.
func decodeOp(raw []byte) (*op, error) {
	if len(raw) > MaxOpBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrOp, len(raw))
	}
	raw = bytes.Clone(raw)
	o := &op{raw: raw, hash: HashOf(raw)}
	var body, sig []byte
	err := fields(raw, func(num protowire.Number, _ uint64, p []byte) error {
		switch num {
		case 1:
			body = p
		case 2:
			sig = p
		}
		return nil
	})
	if err == nil {
		err = o.decodeBody(body)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOp, err)
	}
	if len(sig) != ed25519.SignatureSize ||
		!ed25519.Verify(o.author[:], append([]byte(opDomain), body...), sig) {
		return nil, fmt.Errorf("%w: signature", ErrOp)
	}
	if o.kind == Genesis {
		o.folder = hashBody(body)
	}
	return o, o.check()
}

func (o *op) decodeBody(body []byte) error {
	return fields(body, func(num protowire.Number, v uint64, p []byte) error {
		switch num {
		case 1:
			return exactly(o.folder[:], p)
		case 2:
			var h Hash
			if len(o.prev) == maxPrev {
				return errProto
			}
			if err := exactly(h[:], p); err != nil {
				return err
			}
			o.prev = append(o.prev, h)
		case 3:
			o.lamport = v
		case 4:
			return exactly(o.author[:], p)
		case 5:
			if v > 1<<31 {
				return errProto
			}
			o.kind = Kind(v)
		case 6:
			o.time = v
		case 7:
			return o.payload.decode(p)
		}
		return nil
	})
}

func (p *payload) decode(b []byte) error {
	return fields(b, func(num protowire.Number, v uint64, q []byte) (err error) {
		switch num {
		case 1:
			err = exactly(p.device[:], q)
		case 2:
			if v > uint64(Owner) {
				return errProto
			}
			p.role = Role(v)
		case 3:
			p.label = string(q)
			err = CheckLabel(p.label)
		case 4:
			p.x25519 = make([]byte, 32)
			err = exactly(p.x25519, q)
		case 5:
			err = exactly(p.invite[:], q)
		case 6:
			p.uses = v
		case 7:
			p.expires = v
		case 8:
			p.proof = make([]byte, ed25519.SignatureSize)
			err = exactly(p.proof, q)
		case 9:
			if len(q) > maxKnown {
				return errProto
			}
			p.known = q
		case 10:
			p.nonce = q
		case 11:
			p.suite = v
		case 12:
			p.reason = string(q)
			err = CheckLabel(p.reason)
		case 13:
			p.names = string(q)
			err = CheckLabel(p.names)
		}
		return err
	})
}

// check holds what can be said of an op without the log.
func (o *op) check() error {
	p, zero := &o.payload, key{}
	bad := false
	switch o.kind {
	case 0:
		bad = true
	case Genesis:
		if _, err := model.FoldOf(p.names); err != nil {
			return fmt.Errorf("%w: %w", ErrOp, err) // of a later version
		}
		bad = len(o.prev) != 0 || o.lamport != 0 || p.suite != suite1 || len(p.nonce) != 16
	case Add, SetRole:
		bad = p.device == zero || p.role == None
	case Remove:
		bad = p.device == zero
	case Invite:
		bad = p.invite == zero || p.role == None || p.uses == 0 || p.uses > maxUses || p.expires == 0
	case Accept:
		bad = p.device == zero || p.invite == zero || len(p.proof) != ed25519.SignatureSize ||
			!ed25519.Verify(p.invite[:], acceptText(o.folder, p.device, p.label), p.proof)
	case RevokeInvite:
		bad = p.invite == zero
	}
	if o.kind != Genesis && len(o.prev) == 0 {
		bad = true
	}
	if bad {
		return fmt.Errorf("%w: kind %d", ErrOp, o.kind)
	}
	return nil
}

// acceptText is what the invite key signs: it admits this device, under this
// name, to this folder.
func acceptText(folder FolderID, device key, label string) []byte {
	b := append([]byte(acceptance), folder[:]...)
	b = append(b, device[:]...)
	return append(b, label...)
}

// Proof signs a newcomer's acceptance of t.
func (t Ticket) Proof(device ed25519.PublicKey, label string) []byte {
	return ed25519.Sign(t.InviteKey(), acceptText(t.Folder, key(device), label))
}

// compareOps is the order of evaluation: topological, the same everywhere.
func compareOps(a, b *op) int {
	return cmp.Or(cmp.Compare(a.lamport, b.lamport), slices.Compare(a.hash[:], b.hash[:]))
}

func concurrent(a, b *op) bool { return !a.past.has(b.idx) && !b.past.has(a.idx) }

// A bitset is a set of small numbers.
type bitset []uint64

func (s bitset) has(i int) bool { return i/64 < len(s) && s[i/64]&(1<<(i%64)) != 0 }

func (s bitset) with(i int) bitset {
	for len(s) <= i/64 {
		s = append(s, 0)
	}
	s[i/64] |= 1 << (i % 64)
	return s
}

// without returns how many of s are not in o.
func (s bitset) without(o bitset) (n int) {
	for i, w := range s {
		if i < len(o) {
			w &^= o[i]
		}
		n += bits.OnesCount64(w)
	}
	return n
}

func (s bitset) join(o bitset) bitset {
	for len(s) < len(o) {
		s = append(s, 0)
	}
	for i, w := range o {
		s[i] |= w
	}
	return s
}
