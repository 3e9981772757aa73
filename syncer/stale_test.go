package syncer_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A program runs on a peer as one process.
type program struct {
	*peer
	is Proc
}

// load opens a file and reads it.
func (p program) load(path string) string {
	p.t.Helper()
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	p.must(err)
	p.Opened(a.Ino, p.is, true)
	return p.read(a.Ino)
}

// put makes or overwrites a file without reading it.
func (p program) put(path, data string) {
	p.t.Helper()
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	if err != nil {
		a, err = p.Create(dir, name, New{Kind: model.File, Mode: 0o644, By: p.is})
	}
	p.must(err)
	p.Hold(a.Ino)
	v, err := p.Content(a.Ino)
	p.must(err)
	base := v.Orig
	if seen, stale := p.Opened(a.Ino, p.is, false); stale {
		base = seen
	}
	now := time.Now().UnixNano()
	p.surf.mu.Lock()
	p.gen++
	gen := p.gen
	p.surf.dirty[a.Ino] = &memLayer{Reader: bytes.NewReader([]byte(data)), gen: gen, base: v, mtime: now}
	p.surf.mu.Unlock()
	p.must(p.Dirty(a.Ino, DirtyState{Gen: gen, Base: base, Size: int64(len(data)), Alloc: int64(len(data)), Mtime: now, Ctime: now, Whole: true}))
	p.Closed(a.Ino)
	p.forget(a.Ino)
	p.Release(a.Ino)
}

// replace saves by renaming over.
func (p program) replace(path, data string) {
	p.t.Helper()
	p.put(path+".new", data)
	p.rename(path+".new", path)
}

func (p program) rename(from, to string) {
	p.t.Helper()
	d1, n1 := p.at(from)
	d2, n2 := p.at(to)
	p.must(p.RenameBy(p.is, d1, n1, d2, n2, 0))
}

func TestStaleSavesKeepWhatTheyNeverSaw(t *testing.T) {
	const A, B = Proc(7), Proc(8)
	tests := []struct {
		name  string
		first func(a program) // before the other peer writes "theirs"
		then  func(a, b program)
		copy  bool
	}{
		{"renames over", func(a program) { a.load("/f") }, func(a, b program) { a.replace("/f", "mine") }, true},
		{"truncates and writes", func(a program) { a.load("/f") }, func(a, b program) { a.put("/f", "mine") }, true},
		{"moves aside and writes", func(a program) { a.load("/f") }, func(a, b program) {
			a.rename("/f", "/f~")
			a.put("/f", "mine")
			a.rm("/f~")
		}, true},
		{"removes and writes", func(a program) { a.load("/f") }, func(a, b program) { a.rm("/f"); a.put("/f", "mine") }, true},
		{"saved before", func(a program) { a.load("/f"); a.replace("/f", "earlier") }, func(a, b program) { a.replace("/f", "mine") }, true},
		{"made it", func(a program) { a.rm("/f"); a.put("/f", "earlier") }, func(a, b program) { a.put("/f", "mine") }, true},
		{"loads again", func(a program) { a.load("/f") }, func(a, b program) { a.load("/f"); a.replace("/f", "mine") }, false},
		{"another that loads", func(a program) { a.load("/f") }, func(a, b program) { b.load("/f"); b.replace("/f", "mine") }, false},
		{"another that never loaded", func(a program) { a.load("/f") }, func(a, b program) { b.put("/f", "mine") }, false},
		{"after another here", func(a program) { a.load("/f") }, func(a, b program) {
			b.load("/f")
			b.put("/f", "both")
			a.must(a.Cut(context.Background()))
			a.replace("/f", "mine")
		}, false},
		{"writes, and another replaces that", func(a program) { a.load("/f") }, func(a, b program) {
			ino := a.ino("/f")
			a.open(ino, true) // so it is not cut
			a.put("/f", "stale")
			b.replace("/f", "mine")
			a.shut(ino)
		}, true},
		{"writes what is there", func(a program) { a.load("/f") }, func(a, b program) { a.put("/f", "theirs") }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := program{w.peers[0], A}, program{w.peers[0], B}
			a.write("/f", "first")
			w.settle()
			tt.first(a)
			w.same()
			w.peers[1].write("/f", "theirs")
			w.same()
			tt.then(a, b)
			tree := w.same()
			if kept := strings.Contains(tree, ") 644 theirs"); kept != tt.copy || strings.Count(tree, "conflict") > 1 {
				t.Errorf("copy kept: %v, want %v:\n%s", kept, tt.copy, tree)
			}
			if want := "/f 644 mine"; tt.name != "writes what is there" && !strings.Contains(tree, want) {
				t.Errorf("not saved:\n%s", tree)
			}
		})
	}
}

// Who removes or moves a file may, whatever version of it was read.
func TestStaleReadersMayRemoveAndMove(t *testing.T) {
	w := newWorld(t, 2)
	a := program{w.peers[0], 7}
	a.write("/f", "one")
	a.write("/g", "one")
	w.settle()
	a.load("/f")
	a.load("/g")
	w.peers[1].write("/f", "two")
	w.peers[1].write("/g", "two")
	w.same()
	a.rm("/f")
	a.rename("/g", "/h")
	w.want("/h 644 two")
}

// What is remembered is bounded; the latest stays.
func TestReadingsAreBounded(t *testing.T) {
	w := newWorld(t, 2)
	a := program{w.peers[0], 1 << 40}
	a.write("/f", "one")
	w.settle()
	a.load("/f")
	for p := range Proc(5000) {
		program{w.peers[0], p + 1}.load("/f")
	}
	last := program{w.peers[0], 5000}
	w.peers[1].write("/f", "two")
	w.same()
	last.replace("/f", "three")
	if tree := w.same(); strings.Count(tree, "conflict") != 1 {
		t.Errorf("the latest reading is forgotten:\n%s", tree)
	}
}
