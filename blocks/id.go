package blocks

import (
	"encoding/hex"
	"errors"

	"github.com/zeebo/blake3"
)

// MaxBlock is the largest plain block there is, in bytes. Whoever cuts, sends
// or lists blocks keeps below it.
const MaxBlock = 512 << 10

// What can go wrong, for callers to tell apart with errors.Is.
var (
	ErrNotFound    = errors.New("block not found")
	ErrDamaged     = errors.New("block damaged")
	ErrFull        = errors.New("disk full")
	ErrTooBig      = errors.New("block too big")
	ErrNewerFormat = errors.New("newer data")
	ErrLocked      = errors.New("data directory in use by another process")
	ErrClosed      = errors.New("block store closed")
	ErrNoMeta      = errors.New("packs without their metadata")
)

// ID names a block: the BLAKE3 hash of its plain bytes, keyed per folder. The
// zero ID names no block; where a block is expected it stands for a hole.
type ID [32]byte

// String returns the id in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id names no block.
func (id ID) IsZero() bool { return id == ID{} }

// Key is the key under which a folder's ids are made: without it an id tells
// nothing of the bytes, so who holds only sealed blocks cannot guess them.
type Key [32]byte

// ID returns the id of p under k.
func (k Key) ID(p []byte) ID {
	var id ID
	h := k.hasher()
	_, _ = h.Write(p)
	h.Sum(id[:0])
	return id
}

func (k Key) hasher() *blake3.Hasher {
	h, err := blake3.NewKeyed(k[:])
	if err != nil {
		panic("blocks: keyed hasher: " + err.Error()) // only for keys that are not 32 bytes
	}
	return h
}
