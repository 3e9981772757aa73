package syncer_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	. "github.com/clachanfs/clachan/syncer"
)

// named is how an inode is reached: by the names on the way.
func (p *peer) named(path string) string {
	at, way, ok := p.Named(p.ino(path))
	if !ok {
		return "none"
	}
	s := ""
	for _, d := range append(way, at) {
		s += "/" + d.Name
	}
	return s
}

func TestAnInodeIsFoundByWhereTheTreeHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.mkdir("/d")
		a.mkdir("/d/e")
		a.write("/d/e/f", "1")
		w.settle()
		for _, path := range []string{"/d", "/d/e", "/d/e/f"} {
			if got := b.named(path); got != path {
				t.Errorf("%s: %s", path, got)
			}
		}
		w.part(true)
		b.mv("/d/e", "/x") // not cut yet
		b.write("/x/new", "2")
		if got := b.named("/x/f"); got != "/x/f" {
			t.Errorf("moved here: %s", got)
		}
		if got := b.named("/x/new"); got != "/x/new" {
			t.Errorf("made here: %s", got)
		}
		gone := b.ino("/x/new")
		b.rm("/x/new")
		if _, _, ok := b.Named(gone); ok {
			t.Error("what was removed has a name")
		}
		if _, _, ok := b.Named(RootIno); ok {
			t.Error("the root has a name")
		}
	})
}

func TestFlipsTellBytesFromAttributesAndDirectoriesFromFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.mkdir("/d")
		a.write("/f", "1")
		w.settle()
		dir, file := b.ino("/d"), b.ino("/f")
		for _, tt := range []struct {
			what string
			do   func()
			want Flip
		}{
			{"mode", func() { mode := uint32(0o600); a.must(second(a.SetAttr(a.ino("/f"), Set{Mode: &mode}))) }, Flip{Content: file, Attrs: true}},
			{"mtime", func() { at := int64(5e9); a.must(second(a.SetAttr(a.ino("/f"), Set{Mtime: &at}))) }, Flip{Content: file, Attrs: true}},
			{"bytes", func() { a.write("/f", "2") }, Flip{Content: file}},
			{"removed file", func() { a.rm("/f") }, Flip{Dir: RootIno, Name: "f", Old: file}},
			{"removed directory", func() { a.rm("/d") }, Flip{Dir: RootIno, Name: "d", Old: dir, OldDir: true}},
		} {
			b.surf.flips = nil
			tt.do()
			w.settle()
			if got := b.surf.flips; !slices.Contains(got, tt.want) || slices.Contains(got, Flip{Content: file}) != (tt.what == "bytes") {
				t.Errorf("%s: %s, want %+v", tt.what, fmt.Sprintf("%+v", got), tt.want)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }
