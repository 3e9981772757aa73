package trust

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type memKV struct {
	mu   sync.Mutex // guards both
	m    map[string][]byte
	fail error // of Set
}

func newKV() *memKV { return &memKV{m: map[string][]byte{}} }

func (kv *memKV) Get(key string) ([]byte, error) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	return kv.m[key], nil
}

func (kv *memKV) Set(key string, val []byte) error {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if kv.fail != nil {
		return kv.fail
	}
	kv.m[key] = slices.Clone(val)
	return nil
}

func (kv *memKV) Delete(key string) error {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	delete(kv.m, key)
	return nil
}

func (kv *memKV) List(prefix string, yield func(string, []byte) bool) error {
	for k, v := range kv.m {
		if strings.HasPrefix(k, prefix) && !yield(k, v) {
			return nil
		}
	}
	return nil
}

var now = time.Unix(1_800_000_000, 0)

// seeded returns the n-th test device.
func seeded(n byte) *Identity {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return &Identity{ed25519.NewKeyFromSeed(seed)}
}

func create(t testing.TB) (*Log, *Identity) {
	t.Helper()
	owner := seeded(1)
	l, err := Create(newKV(), owner, "photos", "", "ana", now)
	if err != nil {
		t.Fatal(err)
	}
	return l, owner
}

// clone is the same log on another device.
func clone(t testing.TB, l *Log) *Log {
	t.Helper()
	c, err := Adopt(newKV(), l.id, l.settings, l.Since(nil))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sync2(t testing.TB, a, b *Log) {
	t.Helper()
	fromA, fromB := a.Since(b.Heads()), b.Since(a.Heads())
	_, err := a.Merge(fromB)
	must(t, err)
	_, err = b.Merge(fromA)
	must(t, err)
}

func TestIdentityIsMadeOnceAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	a, err := LoadIdentity(path)
	must(t, err)
	b, err := LoadIdentity(path)
	must(t, err)
	if a.PeerID() != b.PeerID() || !strings.HasPrefix(a.PeerID(), "12D3Koo") {
		t.Errorf("ids %s and %s", a.PeerID(), b.PeerID())
	}
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".identity-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	pub, err := PublicKey(a.PeerID())
	if err != nil || !pub.Equal(a.Public()) {
		t.Errorf("key of %s: %v, %v", a.PeerID(), pub, err)
	}
}

func TestIdentityIsRefused(t *testing.T) {
	good, err := os.ReadFile(makeIdentity(t))
	must(t, err)
	tests := []struct {
		name string
		mode os.FileMode
		text string
	}{
		{"readable by others", 0o644, string(good)},
		{"readable by the group", 0o640, string(good)},
		{"empty", 0o600, ""},
		{"cut short", 0o600, string(good[:len(good)-8])},
		{"something else", 0o600, "ssh-ed25519 AAAA"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "identity")
			must(t, os.WriteFile(path, []byte(tt.text), tt.mode))
			must(t, os.Chmod(path, tt.mode))
			if _, err := LoadIdentity(path); !errors.Is(err, ErrIdentity) {
				t.Errorf("load: %v", err)
			}
		})
	}
	if _, err := LoadIdentity(filepath.Join(t.TempDir(), "no", "dir")); !errors.Is(err, ErrIdentity) {
		t.Errorf("load: %v", err)
	}
}

func makeIdentity(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "identity")
	_, err := LoadIdentity(path)
	must(t, err)
	return path
}

func TestTicketRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Ticket{
			Folder: FolderID(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "folder")), Inviter: seeded(rapid.Byte().Draw(t, "seed")).PeerID(),
			Secret: [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "secret")), Role: Role(rapid.IntRange(1, 5).Draw(t, "role")),
			Addrs:   rapid.SliceOfN(rapid.StringN(1, 40, maxAddr), 0, MaxTicketAddrs).Draw(t, "addrs"),
			Expires: time.Unix(rapid.Int64Range(1, 1<<40).Draw(t, "expires"), 0),
		}
		text := want.String()
		for _, form := range []string{text, strings.ToUpper(text), " " + text + "\n", "clachan://" + text} {
			got, err := ParseTicket(form)
			if err != nil {
				t.Fatalf("parse %q: %v", form, err)
			}
			if got.String() != text || got.Inviter != want.Inviter || !slices.Equal(got.Addrs, want.Addrs) || !got.Expires.Equal(want.Expires) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		}
		i := rapid.IntRange(len(ticketPrefix), len(text)-1).Draw(t, "at")
		typo := text[:i] + string("abcdefghijklmnopqrstuvwxyz234567"[(strings.IndexByte("abcdefghijklmnopqrstuvwxyz234567", text[i])+1)%32]) + text[i+1:]
		if _, err := ParseTicket(typo); !errors.Is(err, ErrTicket) {
			t.Fatalf("a typo at %d: %v", i, err)
		}
		if _, err := ParseTicket(text[:i]); !errors.Is(err, ErrTicket) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	})
}

func TestTicketOfALaterVersionIsRead(t *testing.T) {
	want := Ticket{Inviter: seeded(1).PeerID(), Role: Writer, Expires: now}
	text := strings.TrimPrefix(want.String(), ticketPrefix)
	b, err := ticketText.DecodeString(text)
	must(t, err)
	b = appendUint(b[:len(b)-checksumLen], 99, 7)
	b = appendBytes(b, 100, []byte("more"))
	sum := ticketSum(b)
	got, err := ParseTicket(ticketPrefix + ticketText.EncodeToString(append(b, sum[:]...)))
	if err != nil || got.Inviter != want.Inviter || got.Role != Writer {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzParseTicket(f *testing.F) {
	f.Add(Ticket{Inviter: seeded(1).PeerID(), Role: Writer, Expires: now, Addrs: []string{"/ip4/1.2.3.4/tcp/1"}}.String())
	f.Add("clachan1")
	f.Fuzz(func(t *testing.T, s string) {
		tk, err := ParseTicket(s)
		if err != nil {
			if !errors.Is(err, ErrTicket) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseTicket(tk.String())
		if err != nil || again.String() != tk.String() {
			t.Fatalf("%q reads as %+v, which does not read: %v", s, tk, err)
		}
	})
}

func FuzzTicketFields(f *testing.F) {
	f.Add([]byte{10, 2, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var tk Ticket
		if tk.decode(b) == nil && len(tk.Addrs) > MaxTicketAddrs {
			t.Fatal("unbounded")
		}
	})
}

func FuzzDecodeOp(f *testing.F) {
	l, owner := create(f)
	_, err := l.Invite(owner, Writer, 1, now.Add(time.Hour), now)
	must(f, err)
	must(f, l.Remove(owner, owner.Public(), []byte("k"), "why", now))
	for _, raw := range l.Since(nil) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := decodeOp(b); err == nil && !slices.Equal(o.raw, b) {
			t.Fatal("not kept verbatim")
		}
	})
}

func FuzzDecodeBody(f *testing.F) {
	l, _ := create(f)
	f.Add(l.ops[0].encodeBody())
	f.Fuzz(func(t *testing.T, b []byte) {
		var o op
		if o.decodeBody(b) == nil && (len(o.prev) > maxPrev || len(o.payload.label) > MaxLabel || len(o.payload.known) > maxKnown) {
			t.Fatal("unbounded")
		}
	})
}
