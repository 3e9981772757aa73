package syncer_test

import (
	"errors"
	"fmt"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// An access list and the mode that goes with it come as one: with one of them alone others might read more than they
// may. What does not fit is refused whole.
func TestAccessListsAndModesComeAsOne(t *testing.T) {
	const list = "system.posix_acl_access"
	p := newWorld(t, 1).peers[0]
	small, big := map[string][]byte{list: []byte("list")}, map[string][]byte{list: make([]byte, 64<<10)}
	if _, err := p.Create(RootIno, "big", New{Kind: model.File, Xattrs: big}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("create with too much: %v", err)
	}
	if _, err := p.Tmpfile(New{Kind: model.File, Xattrs: big}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a nameless file with too much: %v", err)
	}
	if _, err := p.Lookup(RootIno, "big"); !errors.Is(err, ErrNotExist) {
		t.Errorf("what could not be made is there: %v", err)
	}
	a, err := p.Create(RootIno, "small", New{Kind: model.File, Mode: 0o640, Xattrs: small})
	p.must(err)
	shows := func(mode uint32, val string) {
		t.Helper()
		got, err := p.Attr(a.Ino)
		p.must(err)
		v, err := p.Getxattr(a.Ino, list)
		if got.Mode != mode || string(v) != val || (val == "") != errors.Is(err, ErrNoAttr) {
			t.Errorf("mode %o, list %q (%v), want %o, %q", got.Mode, v, err, mode, val)
		}
	}
	shows(0o640, "list")
	mode := uint32(0o600)
	if _, err := p.SetAttr(a.Ino, Set{Mode: &mode, Xattrs: big}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("set too much: %v", err)
	}
	shows(0o640, "list")
	_, err = p.SetAttr(a.Ino, Set{Mode: &mode, Xattrs: map[string][]byte{list: []byte("other")}})
	p.must(err)
	shows(0o600, "other")
	for i := range model.MaxAttrs - 1 {
		p.must(p.Setxattr(a.Ino, fmt.Sprintf("user.%d", i), nil, 0))
	}
	_, err = p.SetAttr(a.Ino, Set{Xattrs: map[string][]byte{list: nil, "system.other": nil}}) // what goes takes no room
	p.must(err)
	shows(0o600, "")
}
