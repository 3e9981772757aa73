package trust

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func names(l *Log) string {
	var out []string
	for _, m := range l.Members() {
		out = append(out, fmt.Sprintf("%s:%s", m.Label, m.Role))
	}
	return strings.Join(out, " ")
}

// admit lets device n in through an invite.
func admit(t testing.TB, l *Log, admin, by, device *Identity, role Role, label string) error {
	t.Helper()
	secret, err := l.Invite(admin, role, 1, now.Add(time.Hour), now)
	must(t, err)
	return accept(l, by, device, secret, label, now)
}

func accept(l *Log, by, device *Identity, secret [16]byte, label string, at time.Time) error {
	tk := Ticket{Folder: l.id, Secret: secret}
	return l.Accept(by, tk.InviteKey().Public().(ed25519.PublicKey), device.Public(), label, tk.Proof(device.Public(), label), at)
}

func TestInvitedDevicesAreMembers(t *testing.T) {
	l, ana := create(t)
	ben, cleo := seeded(2), seeded(3)
	must(t, admit(t, l, ana, ana, ben, Writer, "ben"))
	must(t, admit(t, l, ana, ben, cleo, Reader, "cleo")) // any member lets in
	if got := names(l); got != "ana:owner ben:writer cleo:reader" {
		t.Errorf("members %s", got)
	}
	if !l.CanWrite(ben.Public()) || l.CanWrite(cleo.Public()) || !l.Allowed(cleo.Public()) || l.Allowed(seeded(9).Public()) {
		t.Error("roles")
	}
	if l.MayAuthor(ben.Public()) != nil || !errors.Is(l.MayAuthor(cleo.Public()), ErrRole) || l.MayAuthor(nil) == nil {
		t.Error("authors")
	}
}

func TestLogSurvivesARestart(t *testing.T) {
	l, ana := create(t)
	must(t, admit(t, l, ana, ana, seeded(2), Writer, "ben"))
	must(t, l.SetRole(ana, seeded(2).Public(), Admin, "", now))
	again, err := Open(l.kv, l.id)
	must(t, err)
	if names(again) != names(l) || !slices.Equal(again.Heads(), l.Heads()) || again.Settings() != l.Settings() {
		t.Errorf("read %s, wrote %s", names(again), names(l))
	}
	ids, err := List(l.kv)
	if err != nil || len(ids) != 1 || ids[0] != l.id {
		t.Errorf("list %v, %v", ids, err)
	}
	must(t, Delete(l.kv, l.id))
	if kv := l.kv.(*memKV); len(kv.m) > 0 {
		t.Errorf("%d keys are left", len(kv.m))
	}
	if _, err := Open(l.kv, l.id); !errors.Is(err, ErrNoFolder) {
		t.Errorf("open: %v", err)
	}
}

// testdata has a log of before ops without effect were let go of.
func TestALogOfBeforeOpens(t *testing.T) {
	text, err := os.ReadFile("testdata/log.json")
	must(t, err)
	var was struct {
		ID, Want string
		Ops      [][]byte
	}
	must(t, json.Unmarshal(text, &was))
	id, err := ParseFolderID(was.ID)
	must(t, err)
	kv := newKV()
	must(t, kv.Set(settingsKey(id), Settings{Name: "photos"}.encode()))
	for _, raw := range was.Ops {
		must(t, kv.Set(opPrefix(id)+HashOf(raw).String(), raw))
	}
	l, err := Open(kv, id)
	must(t, err)
	if got := names(l); got != was.Want || !l.Knows([]Hash{HashOf(was.Ops[len(was.Ops)-1])}) {
		t.Errorf("members %q, were %q", got, was.Want)
	}
}

func TestNothingIsBelievedThatCouldNotBeStored(t *testing.T) {
	l, ana := create(t)
	kv := l.kv.(*memKV)
	kv.fail = errors.New("disk")
	if err := l.Add(ana, seeded(2).Public(), Writer, "ben", now); !errors.Is(err, kv.fail) {
		t.Errorf("add: %v", err)
	}
	if l.Allowed(seeded(2).Public()) {
		t.Error("a member that is not on disk")
	}
}

func TestOpsNeedTheRole(t *testing.T) {
	l, ana := create(t)
	admin, writer, reader, other := seeded(2), seeded(3), seeded(4), seeded(5)
	must(t, l.Add(ana, admin.Public(), Admin, "admin", now))
	must(t, l.Add(ana, writer.Public(), Writer, "writer", now))
	must(t, l.Add(ana, reader.Public(), Reader, "reader", now))
	tests := []struct {
		name string
		err  error
	}{
		{"writer adds", l.Add(writer, other.Public(), Reader, "x", now)},
		{"writer removes", l.Remove(writer, reader.Public(), nil, "", now)},
		{"reader promotes itself", l.SetRole(reader, reader.Public(), Writer, "", now)},
		{"admin removes the owner", l.Remove(admin, ana.Public(), nil, "", now)},
		{"admin makes an owner", l.Add(admin, other.Public(), Owner, "x", now)},
		{"admin demotes the owner", l.SetRole(admin, ana.Public(), Reader, "", now)},
		{"stranger adds itself", l.Add(other, other.Public(), Writer, "x", now)},
		{"adding twice", l.Add(ana, reader.Public(), Writer, "x", now)},
	}
	for _, tt := range tests {
		if !errors.Is(tt.err, ErrRole) {
			t.Errorf("%s: %v", tt.name, tt.err)
		}
	}
	if _, err := l.Invite(writer, Reader, 1, now.Add(1), now); !errors.Is(err, ErrRole) {
		t.Errorf("writer invites: %v", err)
	}
	if err := l.Remove(ana, other.Public(), nil, "", now); !errors.Is(err, ErrNoMember) {
		t.Errorf("remove a stranger: %v", err)
	}
	must(t, l.Remove(reader, reader.Public(), make([]byte, 2*maxMinorBytes), "left", now)) // anyone may leave
	if got := names(l); got != "admin:admin ana:owner writer:writer" {
		t.Errorf("members %s", got)
	}
}

func TestTicketThatAdmitsNobody(t *testing.T) {
	l, ana := create(t)
	secret, err := l.Invite(ana, Writer, 1, now.Add(time.Hour), now)
	must(t, err)
	late := now.Add(2 * time.Hour)
	if err := accept(l, ana, seeded(2), secret, "ben", late); !errors.Is(err, ErrTicketExpired) {
		t.Errorf("expired: %v", err)
	}
	must(t, accept(l, ana, seeded(2), secret, "ben", now))
	before := l.Len()
	must(t, accept(l, ana, seeded(2), secret, "ben", now)) // asked again
	if l.Len() != before {
		t.Error("a second acceptance of the same device was recorded")
	}
	if err := accept(l, ana, seeded(3), secret, "cleo", now); !errors.Is(err, ErrTicketUsed) {
		t.Errorf("used: %v", err)
	}
	must(t, l.Remove(ana, seeded(2).Public(), nil, "", now))
	if err := accept(l, ana, seeded(2), secret, "ben", now); !errors.Is(err, ErrTicketRevoked) {
		t.Errorf("removed and back with the same ticket: %v", err)
	}
	if err := accept(l, ana, seeded(3), [16]byte{1}, "cleo", now); !errors.Is(err, ErrOp) {
		t.Errorf("unknown: %v", err)
	}
	open, err := l.Invite(ana, Writer, 5, now.Add(time.Hour), now)
	must(t, err)
	if n, err := l.Revoke(ana, now); err != nil || n != 1 {
		t.Errorf("revoked %d, %v", n, err)
	}
	if err := accept(l, ana, seeded(3), open, "cleo", now); !errors.Is(err, ErrTicketRevoked) {
		t.Errorf("revoked: %v", err)
	}
	tk := Ticket{Folder: l.id, Secret: secret}
	stolen := tk.Proof(seeded(4).Public(), "dan") // for another device
	if err := l.Accept(ana, tk.InviteKey().Public().(ed25519.PublicKey), seeded(3).Public(), "dan", stolen, now); !errors.Is(err, ErrOp) {
		t.Errorf("stolen proof: %v", err)
	}
}

func TestConcurrentAcceptsOfOneUse(t *testing.T) {
	l, ana := create(t)
	ben := seeded(2)
	must(t, l.Add(ana, ben.Public(), Writer, "ben", now))
	secret, err := l.Invite(ana, Writer, 1, now.Add(time.Hour), now)
	must(t, err)
	o := clone(t, l)
	must(t, accept(l, ana, seeded(3), secret, "cleo", now))
	must(t, accept(o, ben, seeded(4), secret, "dan", now))
	sync2(t, l, o)
	if l.Allowed(seeded(3).Public()) == l.Allowed(seeded(4).Public()) || names(l) != names(o) {
		t.Errorf("members %s and %s", names(l), names(o))
	}
	// Both were members somewhere for a while: what they wrote is taken by all.
	if l.MayAuthor(seeded(3).Public()) != nil || o.MayAuthor(seeded(3).Public()) != nil || l.MayAuthor(seeded(4).Public()) != nil {
		t.Error("a change that one member took is refused by others")
	}
}

func TestStrongRemoval(t *testing.T) {
	ana, ben, cleo, dan := seeded(1), seeded(2), seeded(3), seeded(4)
	tests := []struct {
		name string
		at   func(a, b *Log) // concurrently, on two devices
		want string
	}{
		{"what a removed admin does meanwhile does not count", func(a, b *Log) {
			must(t, a.Remove(ana, ben.Public(), nil, "", now))
			must(t, b.Add(ben, dan.Public(), Writer, "dan", now))
		}, "ana:owner cleo:admin"},
		{"nor what those it let in do", func(a, b *Log) {
			must(t, a.Remove(ana, ben.Public(), nil, "", now))
			must(t, b.Add(ben, dan.Public(), Admin, "dan", now))
			must(t, b.Remove(dan, cleo.Public(), nil, "", now))
		}, "ana:owner cleo:admin"},
		{"a removed admin removes nobody meanwhile, if the owner did it", func(a, b *Log) {
			must(t, a.Remove(ana, ben.Public(), nil, "", now))
			must(t, b.Remove(ben, cleo.Public(), nil, "", now))
		}, "ana:owner cleo:admin"},
		{"equals who remove each other are both out", func(a, b *Log) {
			must(t, a.Remove(cleo, ben.Public(), nil, "", now))
			must(t, b.Remove(ben, cleo.Public(), nil, "", now))
		}, "ana:owner"},
		{"a demotion counts like a removal", func(a, b *Log) {
			must(t, a.SetRole(ana, ben.Public(), Writer, "", now))
			must(t, b.Add(ben, dan.Public(), Writer, "dan", now))
		}, "ana:owner ben:writer cleo:admin"},
		{"a removal beats a role given meanwhile", func(a, b *Log) {
			must(t, a.Remove(ana, ben.Public(), nil, "", now))
			must(t, b.SetRole(cleo, ben.Public(), Reader, "", now))
			must(t, b.SetRole(cleo, ben.Public(), Writer, "", now))
		}, "ana:owner cleo:admin"},
		{"leaving does not undo what was done before", func(a, b *Log) {
			must(t, b.Add(ben, dan.Public(), Writer, "dan", now))
			must(t, b.Remove(ben, ben.Public(), nil, "", now))
		}, "ana:owner cleo:admin dan:writer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := create(t)
			must(t, a.Add(ana, ben.Public(), Admin, "ben", now))
			must(t, a.Add(ana, cleo.Public(), Admin, "cleo", now))
			b := clone(t, a)
			tt.at(a, b)
			sync2(t, a, b)
			if names(a) != tt.want || names(b) != tt.want {
				t.Errorf("members %q and %q, want %q", names(a), names(b), tt.want)
			}
		})
	}
}

func TestRevocationBeatsAConcurrentAccept(t *testing.T) {
	a, ana := create(t)
	ben := seeded(2)
	must(t, a.Add(ana, ben.Public(), Writer, "ben", now))
	secret, err := a.Invite(ana, Writer, 3, now.Add(time.Hour), now)
	must(t, err)
	b := clone(t, a)
	_, err = a.Revoke(ana, now)
	must(t, err)
	must(t, accept(b, ben, seeded(3), secret, "cleo", now))
	sync2(t, a, b)
	if names(a) != "ana:owner ben:writer" || names(b) != names(a) {
		t.Errorf("members %q and %q", names(a), names(b))
	}
}

func TestKindsOfLaterVersionsAreKeptAndRelayed(t *testing.T) {
	a, ana := create(t)
	must(t, a.append(ana, now, RotateKey, payload{}))
	must(t, a.append(ana, now, Kind(77), payload{label: "x"}))
	must(t, a.Add(ana, seeded(2).Public(), Writer, "ben", now))
	b := clone(t, a)
	if names(b) != "ana:owner ben:writer" || b.Len() != a.Len() {
		t.Errorf("members %q, %d ops of %d", names(b), b.Len(), a.Len())
	}
	if err := a.append(seeded(9), now, Kind(77), payload{}); !errors.Is(err, ErrRole) {
		t.Errorf("a stranger's op: %v", err)
	}
}

func TestForeignAndForgedOpsAreRefused(t *testing.T) {
	a, ana := create(t)
	other, err := Create(newKV(), ana, "other", "", "ana", now.Add(time.Second))
	must(t, err)
	must(t, other.Add(ana, seeded(2).Public(), Writer, "ben", now))
	if added, err := a.Merge(other.Since(nil)); added != 0 || !errors.Is(err, ErrOp) {
		t.Errorf("another folder's ops: %d, %v", added, err)
	}
	must(t, a.Add(ana, seeded(2).Public(), Writer, "ben", now))
	raw := slices.Clone(a.Since(nil)[1])
	for i := range raw {
		bad := slices.Clone(raw)
		bad[i] ^= 1
		c, err := Adopt(newKV(), a.id, a.settings, a.Since(nil)[:1])
		must(t, err)
		if added, _ := c.Merge([][]byte{bad}); added != 0 {
			t.Fatalf("byte %d changed and taken", i)
		}
	}
	if _, err := Adopt(newKV(), a.id, a.settings, other.Since(nil)); !errors.Is(err, ErrOp) {
		t.Errorf("adopt: %v", err)
	}
}

// History: devices act on their own copies and sync at random; then the ops
// reach fresh devices in random orders. All see the same members.
func TestAnyOrderOfOpsGivesTheSameMembers(t *testing.T) {
	for seed := range uint64(40) {
		history(t, seed)
	}
}

func history(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	first, ana := create(t)
	ids := []*Identity{ana}
	for n := range byte(5) {
		ids = append(ids, seeded(n+2))
	}
	must(t, first.Add(ana, ids[1].Public(), Owner, "2", now))
	must(t, first.Add(ana, ids[2].Public(), Admin, "3", now))
	logs := make([]*Log, len(ids))
	for i := range logs {
		logs[i] = clone(t, first)
	}
	secrets := [][16]byte{}
	for range 40 {
		i, j := r.IntN(len(ids)), r.IntN(len(ids))
		l, me, you := logs[i], ids[i], ids[j].Public()
		role := Role(1 + r.IntN(5))
		label := fmt.Sprint(j + 1)
		switch r.IntN(8) { // refused ops are part of the game
		case 0:
			_ = l.Add(me, you, role, label, now)
		case 1:
			_ = l.SetRole(me, you, role, "", now)
		case 2:
			_ = l.Remove(me, you, nil, "", now)
		case 3:
			if s, err := l.Invite(me, role, 1+r.IntN(2), now.Add(time.Hour), now); err == nil {
				secrets = append(secrets, s)
			}
		case 4:
			_, _ = l.Revoke(me, now)
		case 5, 6:
			if len(secrets) > 0 {
				_ = accept(l, me, ids[j], secrets[r.IntN(len(secrets))], label, now)
			}
		case 7:
			sync2(t, logs[i], logs[j])
		}
	}
	for range 2 {
		for i := range logs {
			sync2(t, logs[0], logs[i])
		}
	}
	want, ops := names(logs[0]), logs[0].Since(nil)
	for i, l := range logs {
		if names(l) != want {
			t.Fatalf("seed %d: device %d sees %q, the first %q", seed, i, names(l), want)
		}
	}
	for range 3 {
		l := newLog(newKV(), first.id, first.settings)
		_, err := l.Merge(ops[:1])
		must(t, err)
		for _, at := range r.Perm(len(ops)) {
			if _, err := l.Merge([][]byte{ops[at]}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		// What came too early and was of one not known yet comes again.
		_, err = l.Merge(ops)
		must(t, err)
		if names(l) != want || l.Len() != len(ops) {
			t.Fatalf("seed %d: in another order %q of %d ops, want %q of %d", seed, names(l), l.Len(), want, len(ops))
		}
	}
}
