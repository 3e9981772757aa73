package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func b32(c byte) []byte { return bytes.Repeat([]byte{c}, 32) }

func samples() []Message {
	return []Message{
		&Hello{Version: 1, Device: "ana's laptop", Agent: "clachan/1", Addrs: []string{"/ip4/1.2.3.4/tcp/1"}},
		&FolderState{Folder: b32(1), Heads: [][]byte{b32(2), b32(3)}, Knowledge: []byte{1}, Role: 3, Missing: 7, Epoch: 1,
			Opening: &Opening{Own: 2, Knowledge: []byte{1}, Horizon: []byte{1}, Marks: []byte{2}, Returning: true}},
		&Batch{Folder: b32(1), Header: []byte("header"), Body: []byte("body"), Epoch: 2},
		&CatchUp{Folder: b32(1), Knowledge: []byte{1}},
		&Ack{Folder: b32(1), Knowledge: []byte{1}, Received: 4},
		&MemberOps{Folder: b32(1), Ops: [][]byte{{1}, {2}}},
		&MemberWant{Folder: b32(1), Heads: [][]byte{b32(9)}},
		&Presence{Addrs: []string{"/ip4/1.2.3.4/tcp/1"}, Seen: []*Seen{{Peer: b32(1), Addrs: []string{"/ip4/1.2.3.5/tcp/1"}}}},
		&Ping{Nonce: 1}, &Pong{Nonce: 2}, &Close{Code: 7, Text: "bye"},
		&Knock{Folder: b32(1), Invite: b32(2), Proof: make([]byte, 64), Label: "ben"},
		&Answer{Code: uint32(OK), Name: "photos", IdKey: b32(1), ChunkSeed: b32(2), Ops: 1, Members: []*Seen{{Peer: b32(3)}}},
	}
}

func TestEveryMessageRoundTrips(t *testing.T) {
	var buf bytes.Buffer
	for _, m := range samples() {
		if TypeOf(m) == 0 || newMessage(TypeOf(m)) == nil {
			t.Fatalf("%T has no type", m)
		}
		if err := Write(&buf, m); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&buf, MaxFrame)
	for _, want := range samples() {
		got, err := r.Read()
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%T: %v, %v", want, got, err)
		}
	}
	if _, err := r.Read(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func frame(typ Type, body []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(len(body))+1)
	return append(append(b, byte(typ)), body...)
}

func TestUnknownFramesAndFieldsAreSkipped(t *testing.T) {
	b := frame(200, bytes.Repeat([]byte("x"), 100<<10))
	body, err := proto.Marshal(&Ping{Nonce: 5})
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, frame(TypePing, append(body, 0xfa, 0x07, 1, 'z'))...)
	m, err := NewReader(bytes.NewReader(b), MaxFrame).Read()
	if p, ok := m.(*Ping); err != nil || !ok || p.Nonce != 5 {
		t.Errorf("read %v, %v", m, err)
	}
}

// Each decoded message keeps its bytes although frame buffers are reused.
func TestMessagesKeepNoFrameBuffer(t *testing.T) {
	var buf bytes.Buffer
	for c := range byte(10) {
		if err := Write(&buf, &Batch{Folder: b32(c), Header: []byte{c}, Body: bytes.Repeat([]byte{c}, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&buf, MaxFrame)
	var all []*Batch
	for range 10 {
		m, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.(*Batch))
	}
	for c, m := range all {
		if !bytes.Equal(m.Body, bytes.Repeat([]byte{byte(c)}, 1000)) {
			t.Errorf("message %d was overwritten", c)
		}
	}
}

func TestFramesOutOfBoundsAreRefused(t *testing.T) {
	many := func(tag byte, n int) []byte { return bytes.Repeat([]byte{tag, 0}, n) }
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"length over the frame", binary.AppendUvarint(nil, MaxFrame+1), ErrTooBig},
		{"length over any", binary.AppendUvarint(nil, 1<<63), ErrTooBig},
		{"empty", []byte{0}, ErrFrame},
		{"cut", frame(TypePing, []byte{8, 1})[:2], io.ErrUnexpectedEOF},
		{"not protobuf", frame(TypePing, []byte{0xff, 0xff}), ErrFrame},
		{"too big for its type", frame(TypePing, make([]byte, 65<<10)), ErrTooBig},
		{"many small fields", frame(TypeMemberOps, many(2<<3|2, 1<<20)), ErrFrame},
		{"folder id too short", frame(TypeCatchUp, []byte{1<<3 | 2, 2, 1, 1}), ErrFrame},
		{"long name", marshal(t, &Hello{Device: strings.Repeat("x", MaxText+1)}), ErrTooBig},
		{"many addrs", marshal(t, &Hello{Addrs: make([]string, MaxAddrs+1)}), ErrTooBig},
		{"head of 31 bytes", marshal(t, &MemberWant{Folder: b32(1), Heads: [][]byte{b32(1)[1:]}}), ErrFrame},
		{"body too big", marshal(t, &Batch{Folder: b32(1), Body: make([]byte, MaxBody+1)}), ErrTooBig},
		{"key of 5 bytes", marshal(t, &Answer{Code: uint32(OK), IdKey: []byte("short")}), ErrFrame},
		{"knock without proof", marshal(t, &Knock{Folder: b32(1)}), ErrFrame},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if m, err := NewReader(bytes.NewReader(tt.b), MaxFrame).Read(); !errors.Is(err, tt.want) {
				t.Errorf("read %v, %v", m, err)
			}
		})
	}
}

func marshal(t *testing.T, m Message) []byte {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return frame(TypeOf(m), body)
}

// endless is a peer that claims a large frame and sends nothing.
type endless struct{ head []byte }

func (e *endless) Read(p []byte) (int, error) {
	if len(e.head) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, e.head)
	e.head = e.head[n:]
	return n, nil
}

func TestALengthAloneCostsNothing(t *testing.T) {
	head := append(binary.AppendUvarint(nil, MaxFrame), byte(TypeMemberOps))
	n := testing.AllocsPerRun(10, func() {
		if _, err := NewReader(&endless{bytes.Clone(head)}, MaxFrame).Read(); err == nil {
			t.Fatal("read")
		}
	})
	res := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_, _ = NewReader(&endless{bytes.Clone(head)}, MaxFrame).Read()
		}
	})
	if res.AllocedBytesPerOp() > 256<<10 {
		t.Errorf("%d bytes (%v allocations) for a frame that never came", res.AllocedBytesPerOp(), n)
	}
}

func FuzzRead(f *testing.F) {
	for _, m := range samples() {
		var buf bytes.Buffer
		if err := Write(&buf, m); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	f.Add(frame(99, []byte("later")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), MaxFrame)
		for {
			m, err := r.Read()
			if err != nil {
				return
			}
			if err := m.check(); err != nil {
				t.Fatal("out of bounds")
			}
		}
	})
}

func FuzzReadRequest(f *testing.F) {
	f.Add(Request{Op: Get, Class: 1, Folder: 2, ID: 3, Size: 4, Hash: [32]byte{5}}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ReadRequest(bytes.NewReader(b))
		if err == nil && !bytes.Equal(q.AppendTo(nil), b[:requestLen]) {
			t.Fatal("not the same")
		}
	})
}

func FuzzReadReply(f *testing.F) {
	f.Add(Reply{Status: StatusOK, Flags: 1, ID: 3, Size: 4, Wire: 5}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ReadReply(bytes.NewReader(b))
		if err == nil && (a.Wire > MaxBlock || a.Size > MaxBlock) {
			t.Fatal("out of bounds")
		}
	})
}

func TestOpeningsOutOfBoundsAreRefused(t *testing.T) {
	for _, o := range []*Opening{
		{Marks: make([]byte, maxMarks+1)},
		{Horizon: make([]byte, maxVV+1)},
		{Knowledge: make([]byte, maxVV+1)},
	} {
		if err := (&FolderState{Folder: make([]byte, 32), Opening: o}).check(); !errors.Is(err, ErrTooBig) {
			t.Errorf("%d, %d and %d bytes: %v", len(o.Marks), len(o.Horizon), len(o.Knowledge), err)
		}
	}
}
