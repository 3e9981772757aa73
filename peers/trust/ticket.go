package trust

import (
	"crypto/ed25519"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/zeebo/blake3"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	ticketPrefix = "clachan1"
	// maxTicket bounds the text of a ticket.
	maxTicket = 4096
	// MaxTicketAddrs bounds the addresses in a ticket.
	MaxTicketAddrs = 4
	maxAddr        = 256
	checksumLen    = 4
)

var ticketText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// A Ticket is an invitation to a folder.
type Ticket struct {
	Folder  FolderID
	Inviter string   // peer ID
	Addrs   []string // multiaddrs of the inviter
	Secret  [16]byte // seeds the invite key
	Role    Role
	Expires time.Time // to the second
}

// InviteKey returns the key that proves possession of the ticket.
func (t Ticket) InviteKey() ed25519.PrivateKey { return inviteKey(t.Folder, t.Secret) }

func inviteKey(folder FolderID, secret [16]byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	blake3.DeriveKey("clachan 1 invite key", append(folder[:], secret[:]...), seed)
	return ed25519.NewKeyFromSeed(seed)
}

// String returns the ticket's text.
func (t Ticket) String() string {
	var b []byte
	b = appendBytes(b, 1, t.Folder[:])
	if pub, err := PublicKey(t.Inviter); err == nil {
		b = appendBytes(b, 2, pub)
	}
	for _, a := range t.Addrs {
		b = appendBytes(b, 3, []byte(a))
	}
	b = appendBytes(b, 4, t.Secret[:])
	b = appendUint(b, 5, uint64(t.Role))
	b = appendUint(b, 6, uint64(t.Expires.Unix()))
	sum := ticketSum(b)
	return ticketPrefix + ticketText.EncodeToString(append(b, sum[:]...))
}

func ticketSum(b []byte) (out [checksumLen]byte) {
	blake3.DeriveKey("clachan 1 ticket checksum", b, out[:])
	return out
}

// ParseTicket reads a ticket. It takes upper case, surrounding white space and
// the link form clachan://TICKET; anything else that is not what String wrote,
// or a later version of it, is ErrTicket.
func ParseTicket(s string) (Ticket, error) {
	var t Ticket
	if len(s) > maxTicket {
		return t, fmt.Errorf("%w: %d bytes", ErrTicket, len(s))
	}
	s = strings.ToLower(strings.TrimSpace(s))
	s = strings.TrimSuffix(strings.TrimPrefix(s, "clachan://"), "/")
	text, ok := strings.CutPrefix(s, ticketPrefix)
	if !ok {
		return t, fmt.Errorf("%w: it does not begin with %s", ErrTicket, ticketPrefix)
	}
	b, err := ticketText.DecodeString(text)
	if err != nil || len(b) < checksumLen || ticketText.EncodeToString(b) != text {
		return t, fmt.Errorf("%w: mistyped or cut short", ErrTicket)
	}
	b, sum := b[:len(b)-checksumLen], [checksumLen]byte(b[len(b)-checksumLen:])
	if ticketSum(b) != sum {
		return t, fmt.Errorf("%w: mistyped or cut short", ErrTicket)
	}
	if err := t.decode(b); err != nil {
		return Ticket{}, fmt.Errorf("%w: %w", ErrTicket, err)
	}
	return t, nil
}

func (t *Ticket) decode(b []byte) error {
	seen := 0
	err := fields(b, func(num protowire.Number, v uint64, p []byte) error {
		switch num {
		case 1:
			seen |= 1
			return exactly(t.Folder[:], p)
		case 2:
			seen |= 2
			pub := make(ed25519.PublicKey, ed25519.PublicKeySize)
			if err := exactly(pub, p); err != nil {
				return err
			}
			t.Inviter = PeerID(pub)
		case 3:
			if len(t.Addrs) == MaxTicketAddrs || len(p) > maxAddr {
				return errProto
			}
			t.Addrs = append(t.Addrs, string(p))
		case 4:
			seen |= 4
			return exactly(t.Secret[:], p)
		case 5:
			if v > uint64(Owner) {
				return fmt.Errorf("role %d", v)
			}
			t.Role = Role(v)
		case 6:
			if v > 1<<40 {
				return fmt.Errorf("expiry %d", v)
			}
			t.Expires = time.Unix(int64(v), 0)
		}
		return nil
	})
	if err == nil && (seen != 7 || t.Role == None || t.Expires.IsZero()) {
		err = fmt.Errorf("fields are missing")
	}
	return err
}
