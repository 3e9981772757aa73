package syncer_test

import (
	"context"
	"strings"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
)

// What is changed here and not cut yet wins for the attributes it is about, and
// undoes nothing of what came meanwhile.
func TestAttributesMergeByKey(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "one")
	_, name := a.at("/f")
	was, err := a.Lookup(RootIno, name)
	a.must(err)
	a.must(a.Setxattr(was.Ino, "user.old", []byte("1"), 0))
	a.must(a.Setxattr(was.Ino, "user.both", []byte("0"), 0))
	w.settle()
	h := a.edit("/f") // what is told of it waits for its writer
	defer h.close()
	h.write(0, "two")
	mode := uint32(0o600)
	_, err = a.SetAttr(h.ino, Set{Mode: &mode})
	a.must(err)
	a.must(a.Setxattr(h.ino, "user.both", []byte("a"), 0))
	at, err := b.Lookup(RootIno, name)
	b.must(err)
	b.must(b.Setxattr(at.Ino, "user.new", []byte("b"), 0))
	b.must(b.Setxattr(at.Ino, "user.both", []byte("b"), 0))
	b.must(b.Removexattr(at.Ino, "user.old"))
	b.must(b.Cut(context.Background()))
	w.sync()
	want := " user.both=a user.new=b"
	if got := a.xattrs(h.ino); got != want { // theirs are shown at once
		t.Errorf("before the cut: %q, want %q", got, want)
	}
	h.surf.mu.Lock()
	h.surf.using[h.ino] = Writing{}
	h.surf.mu.Unlock()
	w.want("/f 600 two")
	for _, p := range w.peers {
		at, err := p.Lookup(RootIno, name)
		p.must(err)
		if got := p.xattrs(at.Ino); got != want || strings.Contains(p.tree(), "conflict") {
			t.Errorf("%s: %q, want %q", p.name, got, want)
		}
	}
}

// sync waits until all know what is durable anywhere.
func (w *world) sync() {
	w.talk.Lock()
	defer w.talk.Unlock()
	for _, p := range w.peers {
		p.must(p.Sync())
	}
	for _, p := range w.peers {
		for _, q := range w.peers {
			if p != q {
				w.send(context.Background(), p, q)
			}
		}
	}
}
