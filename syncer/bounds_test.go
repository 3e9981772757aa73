package syncer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// together does what is cut as one: the file is open meanwhile.
func (p *peer) together(ino Ino, do func()) {
	p.t.Helper()
	p.open(ino, true)
	do()
	p.shut(ino)
	p.cutNow()
}

// plainly skips what takes minutes with the race detector, and in which one thing
// happens after the other.
func plainly(t *testing.T) {
	if racing {
		t.Skip("without the race detector")
	}
}

// links gives a file names, as many as it may have.
func (p *peer) links(ino Ino, tag string) (names []string) {
	p.t.Helper()
	for n := p.stat("/f").Nlink; n < model.MaxNames; n++ {
		name := fmt.Sprintf("%s%0249d", tag, n)
		_, err := p.Link(ino, RootIno, name)
		p.must(err)
		names = append(names, name)
	}
	return names
}

// A file with all the names and attributes that it may have, as long as they may
// be, is said in one change that others take in; and so is what becomes of them.
func TestChangesFitTheirBounds(t *testing.T) {
	plainly(t)
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	ino := a.stat("/f").Ino
	w.settle()
	w.part(true)
	var names []string
	a.together(ino, func() {
		names = a.links(ino, "a")
		if _, err := a.Link(ino, RootIno, "more"); !errors.Is(err, ErrLinks) {
			t.Fatalf("one name more: %v", err)
		}
		val := make([]byte, 64<<10/model.MaxAttrs-len("user.0000\x00"))
		for i := range model.MaxAttrs {
			a.must(a.Setxattr(ino, fmt.Sprintf("user.%04d", i), val, 0))
		}
		if err := a.Setxattr(ino, "user.0000", append(val, 0), 0); !errors.Is(err, ErrNoSpace) {
			t.Errorf("attributes that are too long: %v", err)
		}
		if err := a.Setxattr(ino, "user.0000", make([]byte, 64<<10+1), 0); !errors.Is(err, ErrTooBig) {
			t.Errorf("an attribute that is too long: %v", err)
		}
		a.must(a.Setxattr(ino, "user.0000", nil, 0))
		if err := a.Setxattr(ino, "user.x", nil, 0); !errors.Is(err, ErrNoSpace) {
			t.Errorf("one attribute more: %v", err)
		}
	})
	w.part(false)
	w.settle()
	w.part(true)
	a.together(ino, func() {
		for _, name := range names {
			a.mv("/"+name, "/b"+name[1:])
		}
	})
	w.part(false)
	w.settle()
	b := w.peers[1]
	there := b.stat("/b" + names[len(names)-1][1:])
	attrs, err := b.Listxattr(there.Ino)
	if b.must(err); there.Nlink != model.MaxNames || len(attrs) != model.MaxAttrs {
		t.Errorf("%d names and %d attributes are there", there.Nlink, len(attrs))
	}
	w.part(true)
	a.together(ino, func() {
		for _, name := range names {
			a.rm("/b" + name[1:])
		}
		a.rm("/f")
	})
	w.part(false)
	w.want()
}

// A file that several have given all the names they might while apart has more
// than any of them may give it: it gets no more, and can be removed.
func TestTooManyNamesTogetherCanBeRemoved(t *testing.T) {
	plainly(t)
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	w.settle()
	w.part(true)
	for _, p := range w.peers {
		ino := p.stat("/f").Ino
		p.together(ino, func() { p.links(ino, p.name) })
	}
	w.part(false)
	w.settle()
	x := a.stat("/f")
	if x.Nlink <= model.MaxNames {
		t.Fatalf("%d names", x.Nlink)
	}
	if _, err := a.Link(x.Ino, RootIno, "more"); !errors.Is(err, ErrLinks) {
		t.Errorf("one name more: %v", err)
	}
	w.part(true)
	var names []string
	a.must(a.List(RootIno, 0, func(e Entry) bool { names = append(names, e.Name); return true }))
	a.together(x.Ino, func() {
		for _, name := range names {
			a.rm("/" + name)
		}
	})
	w.part(false)
	w.want()
}

// What others would refuse is not signed: the folder stops, and says why.
func TestWhatOthersWouldRefuseIsNotLogged(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	w.same()
	k := a.Knowledge()
	w.part(true)
	a.Mislabel()
	a.write("/f", "G")
	if err := a.Cut(t.Context()); err == nil || !strings.Contains(err.Error(), "own batch") {
		t.Errorf("cut: %v", err)
	}
	for _, p := range w.peers {
		if !p.Knowledge().Equal(k) {
			t.Errorf("%s knows %v, had %v", p.name, p.Knowledge(), k)
		}
	}
	w.talk.Lock()
	if err := a.end(); err == nil {
		t.Error("it ended well")
	}
	a.start() // as it was before, but for the bytes in memory
	w.talk.Unlock()
	a.write("/f", "G")
	w.part(false)
	w.want("/f 644 G")
}
