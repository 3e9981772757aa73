package model

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func randomMarks(r *rand.Rand, n int) (out []Mark) {
	for range n {
		m := Mark{Dot: Dot{Replica(r.Uint64()), 1 + r.Uint64N(1<<40)}}
		m.Lo = m.Dot.Seq - min(m.Dot.Seq-1, r.Uint64N(MaxBatchChanges))
		for i := range m.Hash {
			m.Hash[i] = byte(r.Uint32())
		}
		out = append(out, m)
	}
	return out
}

func TestMarksSurviveTheirEncoding(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	want := randomMarks(r, 300)
	b := EncodeMarks(want)
	got, err := DecodeMarks(b)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%d marks of %d, %v", len(got), len(want), err)
	}
	for i := 1; i < 24; i++ { // the smallest has 26 bytes
		if _, err := DecodeMarks(b[:len(b)-i]); err == nil {
			t.Fatalf("took %d bytes of %d", len(b)-i, len(b))
		}
	}
	for what, b := range map[string][]byte{
		"more than the bound":       EncodeMarks(randomMarks(r, MaxMarks+1)),
		"a batch that cannot be":    EncodeMarks([]Mark{{Dot: Dot{1, 1 << 30}, Lo: 1}}),
		"a batch before the first":  EncodeMarks([]Mark{{Dot: Dot{1, 5}, Lo: 0}}),
		"a batch that ends nowhere": EncodeMarks([]Mark{{Dot: Dot{1, 0}, Lo: 0}}),
	} {
		if _, err := DecodeMarks(b); err == nil {
			t.Error("took ", what)
		}
	}
}

func TestReplicasAreOfOneDevice(t *testing.T) {
	ours, theirs := make([]byte, 32), make([]byte, 32)
	theirs[3] = 1
	a, b := NewReplica(ours), NewReplica(ours)
	if !a.Of(ours) || a.Of(theirs) || NewReplica(theirs).Of(ours) || !a.SameDevice(b) || a == b {
		t.Errorf("%x and %x", a, b)
	}
}
