package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/blocks"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// twins are names that some machines cannot tell apart.
var twins = []struct{ what, a, b string }{
	{"case", "TESTFILE", "testfile"},
	{"form", "caf\u00e9.txt", "cafe\u0301.txt"},
}

// root lists the root: what each name has, conflict copies as the names they are
// of with a mark.
func (p *peer) root() map[string]string {
	out := map[string]string{}
	p.must(p.List(RootIno, 0, func(e Entry) bool {
		name, rest, copied := strings.Cut(e.Name, model.ConflictMark)
		if copied {
			_, ext, _ := strings.Cut(rest, ")")
			name += ext + " (conflict)"
		}
		out[name] = p.read(e.Attr.Ino)
		return true
	}))
	return out
}

// Two names that other machines take for one, made on two sides: where names are
// bytes both stay as they are; in a portable folder one becomes a conflict copy
// of its own spelling. Neither is lost, and nothing else is ever renamed.
func TestLossTwinsBothSurvive(t *testing.T) {
	for _, tt := range twins {
		t.Run(tt.what, func(t *testing.T) {
			for _, policy := range []string{model.NamesBytes, model.NamesPortable} {
				w := newWorldOf(t, 2, policy)
				a, b := w.peers[0], w.peers[1]
				w.part(true)
				a.write("/"+tt.a, "A")
				b.write("/"+tt.b, "B")
				a.must(a.Cut(context.Background()))
				b.must(b.Cut(context.Background()))
				w.part(false)
				w.same()
				got := a.root()
				if policy == model.NamesBytes {
					if want := map[string]string{tt.a: "A", tt.b: "B"}; !maps.Equal(got, want) {
						t.Errorf("bytes: got %q, want %q", got, want)
					}
					continue
				}
				name := tt.a
				if _, ok := got[name]; !ok {
					name = tt.b
				}
				if has := got[name] + got[name+" (conflict)"]; len(got) != 2 || has != "AB" && has != "BA" {
					t.Errorf("portable: got %q", got)
				}
			}
		})
	}
}

// Of twins that a bytes folder has, one is removed elsewhere: the other stays.
func TestLossRemovingATwinSparesTheOther(t *testing.T) {
	for _, tt := range twins {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.write("/"+tt.a, "A")
		a.write("/"+tt.b, "B")
		w.same()
		b.must(b.Unlink(RootIno, tt.a))
		w.want("/" + tt.b + " 644 B")
	}
}

// In a portable folder a name is found however it is spelt, and stays as it was
// first written.
func TestPortableNamesAreFoundInAnySpelling(t *testing.T) {
	for _, tt := range twins {
		w := newWorldOf(t, 2, model.NamesPortable)
		a, b := w.peers[0], w.peers[1]
		a.write("/"+tt.a, "one")
		w.want("/" + tt.a + " 644 one")
		for _, p := range w.peers {
			x, err := p.Lookup(RootIno, tt.b)
			y, err2 := p.Lookup(RootIno, tt.a)
			if err != nil || err2 != nil || x.Ino != y.Ino {
				t.Errorf("%s: %s is %d (%v), %s is %d (%v)", p.name, tt.a, y.Ino, err2, tt.b, x.Ino, err)
			}
			if _, err := p.Create(RootIno, tt.b, New{Kind: model.File}); !errors.Is(err, ErrExist) {
				t.Errorf("%s: create %s: %v", p.name, tt.b, err)
			}
			if _, err := p.Link(x.Ino, RootIno, tt.b); !errors.Is(err, ErrExist) {
				t.Errorf("%s: link %s: %v", p.name, tt.b, err)
			}
		}
		b.write("/"+tt.b, "two") // the same file
		w.want("/" + tt.a + " 644 two")
		b.write("/new", "three")
		b.must(b.Rename(RootIno, "NEW", RootIno, tt.b, 0)) // over it
		w.want("/" + tt.a + " 644 three")
		a.must(a.Unlink(RootIno, tt.b))
		w.want("")
		a.write("/"+tt.b, "four") // a new name is spelt as it is written
		w.want("/" + tt.b + " 644 four")
	}
}

// A rename that changes only how a name is spelt is one, of files, of
// directories and of further names; others get it without a moment in which the
// name is not there.
func TestPortableRenameChangesTheSpelling(t *testing.T) {
	for _, flags := range []uint32{0, RenameNoReplace} {
		w := newWorldOf(t, 2, model.NamesPortable)
		a, b := w.peers[0], w.peers[1]
		a.write("/file", "F")
		a.mkdir("/dir")
		a.write("/dir/in", "I")
		w.want("/dir 755 /", "/dir/in 644 I", "/file 644 F")
		before, _ := b.Lookup(RootIno, "file")
		a.must(a.Rename(RootIno, "file", RootIno, "FILE", flags))
		a.must(a.Rename(RootIno, "Dir", RootIno, "DIR", flags))
		w.want("/DIR 755 /", "/DIR/in 644 I", "/FILE 644 F")
		if after, err := b.Lookup(RootIno, "file"); err != nil || after.Ino != before.Ino {
			t.Errorf("inode %d became %d: %v", before.Ino, after.Ino, err)
		}
		if flips := b.flipsOf("file"); len(flips) == 0 || slices.ContainsFunc(flips, func(f Flip) bool { return f.New != before.Ino }) {
			t.Errorf("flips are %+v", flips)
		}
		b.must(b.Rename(RootIno, "FILE", RootIno, "File", flags))
		b.write("/file", "G") // with an edit in one cut
		w.want("/DIR 755 /", "/DIR/in 644 I", "/File 644 G")
	}
}

// flipsOf returns what was told of a name of the root.
func (p *peer) flipsOf(name string) (out []Flip) {
	p.surf.mu.Lock()
	defer p.surf.mu.Unlock()
	for _, f := range p.surf.flips {
		if f.Dir == RootIno && f.Name == name {
			out = append(out, f)
		}
	}
	return out
}

// Spelt anew on both sides at once, a name stays one.
func TestPortableSpellingsOfBothSidesConverge(t *testing.T) {
	for _, edit := range []bool{false, true} {
		w := newWorldOf(t, 2, model.NamesPortable)
		a, b := w.peers[0], w.peers[1]
		a.write("/file", "F")
		a.mkdir("/dir")
		w.same()
		w.part(true)
		a.must(a.Rename(RootIno, "file", RootIno, "FILE", 0))
		b.must(b.Rename(RootIno, "file", RootIno, "File", 0))
		a.must(a.Rename(RootIno, "dir", RootIno, "DIR", 0))
		if edit {
			b.write("/fILE", "G")
			b.write("/dIR/in", "I")
		} else {
			b.must(b.Rename(RootIno, "dir", RootIno, "Dir", 0))
		}
		a.must(a.Cut(context.Background()))
		b.must(b.Cut(context.Background()))
		w.part(false)
		tree := w.same()
		want := 2
		if edit {
			want = 3
		}
		if n := len(strings.Split(tree, "\n")); n != want || edit && !strings.Contains(tree, " G") {
			t.Errorf("edit %v: got\n%s", edit, tree)
		}
	}
}

// A folder's name policy is for good: with another it is not opened.
func TestPolicyOfAFolderCannotChange(t *testing.T) {
	for _, policy := range []string{model.NamesBytes, model.NamesPortable} {
		w := newWorldOf(t, 1, policy)
		a := w.peers[0]
		a.write("/f", "F")
		a.must(a.Cut(context.Background()))
		w.talk.Lock()
		a.stop()
		o := a.opts
		disk, err := blocks.OpenDisk(a.fs, "data", blocks.DiskOptions{})
		a.must(err)
		o.Disk = disk
		for _, other := range []string{model.NamesBytes, model.NamesPortable, "windows"} {
			if o.Names = other; other == policy {
				continue
			}
			if _, err := Open(o); !errors.Is(err, model.ErrNames) || !strings.Contains(err.Error(), fmt.Sprintf("%q", other)) {
				t.Errorf("%s as %s: %v", policy, other, err)
			}
		}
		a.must(disk.Close())
		a.opts.Names = "" // as it is
		a.start()
		w.talk.Unlock()
		if a.Policy() != policy {
			t.Errorf("was %s, is %s", policy, a.Policy())
		}
	}
}

// The folder's own name in the root is its own in each spelling.
func TestPortableReservedNameIsReservedInAnySpelling(t *testing.T) {
	for policy, want := range map[string]error{model.NamesBytes: nil, model.NamesPortable: ErrPerm} {
		w := newWorldOf(t, 1, policy)
		if _, err := w.peers[0].Create(RootIno, ".Clachan", New{Kind: model.Dir}); !errors.Is(err, want) {
			t.Errorf("%s: %v", policy, err)
		}
	}
}
