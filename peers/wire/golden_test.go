package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What each release said to others is in testdata/RELEASE.txt, a frame a line, and
// is understood for ever. A release that says more gets a list here, and its file
// from: go test ./peers/wire -run Golden -args -write
// A file that is there is never changed.
var write = flag.Bool("write", false, "write the golden files that are missing")

// golden has every message of a release with all its fields set.
var golden = map[string][]Message{
	"0.1": {
		&Hello{Version: 1, Features: 5, Device: "ana's laptop", Agent: "clachan/0.1", Addrs: []string{"/ip4/1.2.3.4/tcp/1"}, Required: 4},
		&FolderState{Folder: b32(1), Heads: [][]byte{b32(2), b32(3)}, Knowledge: []byte{1}, Role: 3, Mode: 2, Missing: 7, Gone: true, Ask: true, Epoch: 1 << 40,
			Opening: &Opening{Own: 1 << 63, Knowledge: []byte{1, 2}, Horizon: []byte{3}, Marks: []byte{4}, Returning: true, Proofs: []byte{5}, Answers: true, Told: []byte{6}}},
		&Batch{Folder: b32(1), Header: []byte("header"), Body: []byte("body"), Epoch: 2},
		&CatchUp{Folder: b32(1), Knowledge: []byte{1}, Epoch: 3},
		&Ack{Folder: b32(1), Knowledge: []byte{1}, Missing: 9, Received: 4, Epoch: 5, Has: []byte{6}, Of: 7},
		&MemberOps{Folder: b32(1), Ops: [][]byte{{1}, {2}}},
		&MemberWant{Folder: b32(1), Heads: [][]byte{b32(9)}},
		&Presence{Addrs: []string{"/ip4/1.2.3.4/tcp/1"}, Seen: []*Seen{{Peer: b32(1), Addrs: []string{"/ip4/1.2.3.5/udp/1/quic-v1"}}}},
		&Ping{Nonce: 1 << 60}, &Pong{Nonce: 2}, &Close{Code: 7, Text: "bye"},
		&Knock{Folder: b32(1), Invite: b32(2), Proof: make([]byte, 64), Label: "ben", Ops: [][]byte{{3}}, Features: 5, Required: 4},
		&Answer{Code: uint32(OK), Name: "photos", IdKey: b32(1), ChunkSeed: b32(2), Ops: 1, Members: []*Seen{{Peer: b32(3), Addrs: []string{"/ip6/::1/tcp/2"}}}, Features: 5, Required: 4},
	},
}

// blockFrames are the headers of the block protocol, as a release wrote them.
var blockFrames = map[string]struct {
	q Request
	a Reply
}{
	"0.1": {
		Request{Op: Get, Class: 2, Folder: 3, ID: 0x01020304, Size: 0x50607, Hash: [32]byte(b32(8))},
		Reply{Status: StatusOK, Flags: 9, ID: 0x01020304, Size: 0x50607, Wire: 0x506},
	},
}

func TestGoldenFramesAreUnderstoodForEver(t *testing.T) {
	covered := map[protoreflect.FullName]bool{}
	for release, messages := range golden {
		name := "testdata/" + release + ".txt"
		if _, err := os.Stat(name); *write && os.IsNotExist(err) {
			writeGolden(t, name, messages, release)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := map[string][]byte{}
		for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
			what, frame, _ := strings.Cut(sc.Text(), " ")
			if lines[what], err = hex.DecodeString(frame); err != nil {
				t.Fatal(err)
			}
		}
		if len(lines) != len(messages)+2 {
			t.Errorf("%s has %d frames, want %d", name, len(lines), len(messages)+2)
		}
		for _, want := range messages {
			what := string(want.ProtoReflect().Descriptor().Name())
			got, err := NewReader(bytes.NewReader(lines[what]), MaxFrame).Read()
			if err != nil || !proto.Equal(got, want) {
				t.Errorf("release %s: %s: %v, %v, want %v", release, what, got, err, want)
			}
			cover(want.ProtoReflect(), covered)
		}
		blk := blockFrames[release]
		if q, err := ReadRequest(bytes.NewReader(lines["request"])); err != nil || q != blk.q || !bytes.Equal(q.AppendTo(nil), lines["request"]) {
			t.Errorf("release %s: request %+v, %v", release, q, err)
		}
		if a, err := ReadReply(bytes.NewReader(lines["reply"])); err != nil || a != blk.a || !bytes.Equal(a.AppendTo(nil), lines["reply"]) {
			t.Errorf("release %s: reply %+v, %v", release, a, err)
		}
	}
	messages := File_wire_proto.Messages()
	for i := range messages.Len() {
		for j := range messages.Get(i).Fields().Len() {
			if f := messages.Get(i).Fields().Get(j); !covered[f.FullName()] {
				t.Errorf("%s is in no golden file: add a release", f.FullName())
			}
		}
	}
}

// cover notes which fields are set.
func cover(m protoreflect.Message, covered map[protoreflect.FullName]bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		covered[f.FullName()] = true
		switch {
		case f.IsList() && f.Message() != nil:
			cover(v.List().Get(0).Message(), covered)
		case f.Message() != nil:
			cover(v.Message(), covered)
		}
		return true
	})
}

func writeGolden(t *testing.T, name string, messages []Message, release string) {
	t.Helper()
	var out bytes.Buffer
	for _, m := range messages {
		var frame bytes.Buffer
		if err := Write(&frame, m); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %x\n", m.ProtoReflect().Descriptor().Name(), frame.Bytes())
	}
	blk := blockFrames[release]
	fmt.Fprintf(&out, "request %x\nreply %x\n", blk.q.AppendTo(nil), blk.a.AppendTo(nil))
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
