package trust

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"
)

// What each release wrote is in testdata/RELEASE.json: a ticket, an identity, and a
// log with an op of each kind. It is read for ever, and written from the same
// values to the same bytes, which are signed. Another release gets another file
// from: go test ./peers/trust -run Golden -args -write
var write = flag.Bool("write", false, "write the golden file if it is missing")

type goldenFile struct {
	Ticket, Identity string
	Ops              [][]byte
}

const goldenName = "testdata/0.1.json"

// goldenOps are a log with all there is, each op after the one before.
func goldenOps(t *testing.T) []*op {
	t.Helper()
	secret := [16]byte{0: 7, 15: 9}
	var ops []*op
	add := func(by byte, kind Kind, p payload) {
		o := &op{kind: kind, time: uint64(now.Unix()), payload: p}
		if n := len(ops); n > 0 {
			o.folder, o.prev, o.lamport = ops[0].folder, []Hash{ops[n-1].hash}, uint64(n)
		}
		o, err := o.sign(seeded(by).key)
		must(t, err)
		ops = append(ops, o)
	}
	of := func(n byte) key { return key(seeded(n).Public()) }
	add(1, Genesis, payload{device: of(1), role: Owner, label: "ana", nonce: bytes.Repeat([]byte{5}, 16), suite: suite1, names: "portable", x25519: bytes.Repeat([]byte{6}, 32)})
	ticket := goldenTicket(ops[0].folder, secret)
	invite := key(ticket.InviteKey().Public().(ed25519.PublicKey))
	add(1, Add, payload{device: of(2), role: Admin, label: "ben"})
	add(2, Add, payload{device: of(3), role: Reader, label: "cleo"})
	add(1, SetRole, payload{device: of(3), role: Writer, label: "cleo's phone"})
	add(2, Invite, payload{invite: invite, role: Writer, uses: 3, expires: uint64(now.Add(time.Hour).Unix())})
	add(3, Accept, payload{invite: invite, device: of(4), label: "dora", proof: ticket.Proof(seeded(4).Public(), "dora")})
	add(1, RevokeInvite, payload{invite: invite})
	add(1, Remove, payload{device: of(3), known: []byte{1, 2, 3}, reason: "lost"})
	return ops
}

func goldenTicket(folder FolderID, secret [16]byte) Ticket {
	return Ticket{Folder: folder, Inviter: seeded(2).PeerID(), Addrs: []string{"/ip4/1.2.3.4/tcp/22170", "/ip6/::1/udp/22170/quic-v1"},
		Secret: secret, Role: Writer, Expires: now.Add(time.Hour)}
}

func TestGoldenTicketsAndOpsAreReadForEver(t *testing.T) {
	ops := goldenOps(t)
	ticket := goldenTicket(ops[0].folder, [16]byte{0: 7, 15: 9})
	if _, err := os.Stat(goldenName); *write && os.IsNotExist(err) {
		file := goldenFile{Ticket: ticket.String(), Identity: fmt.Sprintf("%s %s\n", identityHeader, base64.StdEncoding.EncodeToString(seeded(9).key.Seed()))}
		for _, o := range ops {
			file.Ops = append(file.Ops, o.raw)
		}
		text, err := json.MarshalIndent(file, "", " ")
		must(t, err)
		must(t, os.WriteFile(goldenName, append(text, '\n'), 0o644))
	}
	text, err := os.ReadFile(goldenName)
	must(t, err)
	var file goldenFile
	must(t, json.Unmarshal(text, &file))

	if got, err := ParseTicket(file.Ticket); err != nil || !reflect.DeepEqual(got, ticket) || ticket.String() != file.Ticket {
		t.Errorf("ticket: %+v, %v, want %+v", got, err, ticket)
	}
	path := t.TempDir() + "/identity"
	must(t, os.WriteFile(path, []byte(file.Identity), 0o600))
	if id, err := LoadIdentity(path); err != nil || !id.Public().Equal(seeded(9).Public()) {
		t.Errorf("identity: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != file.Identity {
		t.Errorf("identity is %q now, %v", now, err)
	}
	kinds := map[Kind]bool{}
	for i, raw := range file.Ops {
		o, err := decodeOp(raw)
		must(t, err)
		if w := ops[i]; !reflect.DeepEqual(o, w) || !bytes.Equal(w.raw, raw) {
			t.Errorf("op %d: %+v, want %+v", i, o, w)
		}
		kinds[o.kind] = true
	}
	if want := map[Kind]bool{Genesis: true, Add: true, SetRole: true, Remove: true, Invite: true, Accept: true, RevokeInvite: true}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("kinds %v", kinds)
	}
	l, err := Adopt(newKV(), ops[0].folder, Settings{Name: "photos"}, file.Ops)
	must(t, err)
	if got, want := names(l), "ana:owner ben:admin dora:writer"; got != want {
		t.Errorf("members %q, want %q", got, want)
	}
	if l.Names() != "portable" {
		t.Errorf("names are %q", l.Names())
	}
}
