package trust

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	// ErrIdentity means the device key cannot be used: unreadable, malformed
	// or open to other users.
	ErrIdentity = errors.New("device identity")
	// ErrTicket means a string is no ticket, or a damaged one.
	ErrTicket = errors.New("malformed ticket")
	// ErrTicketUsed, ErrTicketExpired and ErrTicketRevoked say why a
	// well-formed ticket admits nobody any more.
	ErrTicketUsed    = errors.New("ticket is used up")
	ErrTicketExpired = errors.New("ticket has expired")
	ErrTicketRevoked = errors.New("ticket has been revoked")
	// ErrRole means the author's role does not allow the op.
	ErrRole = errors.New("not allowed for this role")
	// ErrNoMember means a device is not a member of the folder.
	ErrNoMember = errors.New("no such member")
	// ErrNoFolder means that this device is not in the folder.
	ErrNoFolder = errors.New("no such folder")
	// ErrOp means that an op is not what an honest member sends.
	ErrOp = errors.New("bad membership op")
)

// KV keeps small values durably, one name space for the device.
type KV interface {
	Get(key string) ([]byte, error) // nil, nil if absent
	Set(key string, val []byte) error
	Delete(key string) error
	List(prefix string, yield func(key string, val []byte) bool) error
}

// A FolderID names a folder: the hash of its log's first op.
type FolderID [32]byte

func (f FolderID) String() string { return hex.EncodeToString(f[:]) }

// ParseFolderID reads what String wrote.
func ParseFolderID(s string) (FolderID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(FolderID{}) {
		return FolderID{}, fmt.Errorf("parse folder id %q: not 64 hex digits", s)
	}
	return FolderID(b), nil
}

// A Role says what a member may do. Higher roles include lower ones.
type Role uint8

const (
	None   Role = iota
	Blind       // stores sealed blocks only
	Reader      // sees everything
	Writer      // and changes it
	Admin       // and decides about members below owner
	Owner       // and about everything
)

var roleNames = [...]string{"none", "blind", "reader", "writer", "admin", "owner"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// ParseRole reads a role a member can have.
func ParseRole(s string) (Role, error) {
	for i, n := range roleNames[1:] {
		if n == s {
			return Role(i + 1), nil
		}
	}
	return None, fmt.Errorf("parse role %q: want one of %s", s, strings.Join(roleNames[1:], ", "))
}

// PeerID returns the libp2p peer ID of a device key, as text.
func PeerID(pub ed25519.PublicKey) string {
	k, err := crypto.UnmarshalEd25519PublicKey(pub)
	if err != nil {
		return ""
	}
	id, err := peer.IDFromPublicKey(k)
	if err != nil {
		return ""
	}
	return id.String()
}

// PublicKey returns the device key behind a peer ID.
func PublicKey(peerID string) (ed25519.PublicKey, error) {
	id, err := peer.Decode(peerID)
	if err != nil {
		return nil, fmt.Errorf("parse peer id: %w", err)
	}
	return PeerKey(id)
}

// PeerKey returns the device key behind a peer ID.
func PeerKey(id peer.ID) (ed25519.PublicKey, error) {
	k, err := id.ExtractPublicKey()
	if err != nil {
		return nil, fmt.Errorf("peer id %s: %w", id, err)
	}
	raw, err := k.Raw()
	if err != nil || k.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("peer id %s: not an ed25519 key", id)
	}
	return raw, nil
}

// MaxLabel bounds the name of a device or folder, in bytes.
const MaxLabel = 64

// CheckLabel accepts names that are safe to show.
func CheckLabel(s string) error {
	if len(s) > MaxLabel || !utf8.ValidString(s) {
		return fmt.Errorf("label of %d bytes: want at most %d of UTF-8", len(s), MaxLabel)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return errors.New("label has control characters")
		}
	}
	return nil
}

// CleanLabel makes any text a label.
func CleanLabel(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	for len(s) > MaxLabel {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
