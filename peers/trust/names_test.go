package trust

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

func TestAllMembersHaveTheNamePolicyOfTheFounder(t *testing.T) {
	for _, tt := range []struct{ given, want string }{
		{"", model.NamesBytes}, {model.NamesBytes, model.NamesBytes}, {model.NamesPortable, model.NamesPortable},
	} {
		l, err := Create(newKV(), seeded(1), "photos", tt.given, "ana", now)
		must(t, err)
		must(t, l.Add(seeded(1), seeded(2).Public(), Writer, "ben", now))
		again, err := Open(l.kv, l.id)
		must(t, err)
		for _, x := range []*Log{l, again, clone(t, l)} {
			if got := x.Names(); got != tt.want {
				t.Errorf("founded with %q: %q", tt.given, got)
			}
		}
	}
	if got := Nobody.Names(); got != model.NamesBytes {
		t.Errorf("of no folder: %q", got)
	}
}

// A later version may know policies that are not known here: whoever took names
// otherwise than the others would have another tree.
func TestAnUnknownNamePolicyIsRefused(t *testing.T) {
	refused := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrOp) || !errors.Is(err, model.ErrNames) || !strings.Contains(err.Error(), "update Clachan") {
			t.Errorf("got %v", err)
		}
	}
	kv := newKV()
	_, err := Create(kv, seeded(1), "photos", "windows", "ana", now)
	refused(err)

	g := &op{kind: Genesis, time: unix(now), author: key(seeded(1).Public()),
		payload: payload{label: "ana", nonce: make([]byte, 16), suite: suite1, names: "windows"}}
	body := g.encodeBody()
	raw := appendBytes(appendBytes(nil, 1, body), 2, ed25519.Sign(seeded(1).Key(), append([]byte(opDomain), body...)))
	_, err = Adopt(kv, hashBody(body), Settings{Name: "photos"}, [][]byte{raw})
	refused(err)
	if len(kv.m) > 0 {
		t.Errorf("%d keys are stored", len(kv.m))
	}
}
