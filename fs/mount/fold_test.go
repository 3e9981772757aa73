package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/clachanfs/clachan/syncer/model"
)

func names(t testing.TB, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	must(t, err)
	out := []string{}
	for _, e := range es {
		out = append(out, e.Name())
	}
	slices.Sort(out)
	return out
}

// Whatever is done to a name in one spelling is at once so in all others, though
// the kernel has met each: nothing it remembers of one outlives that.
func TestPortableSpellingsAreOneName(t *testing.T) {
	t.Setenv(namesEnv, model.NamesPortable)
	s := newServer(t, 1, "")
	for _, n := range []struct{ a, b, c string }{
		{"file.txt", "FILE.TXT", "File.txt"},
		{"caf\u00e9", "cafe\u0301", "CAFE\u0301"},
	} {
		a, b, c := s.path(n.a), s.path(n.b), s.path(n.c)
		met := func(want error) {
			t.Helper()
			for _, p := range []string{a, b, c} {
				if _, err := os.Stat(p); !errors.Is(err, want) {
					t.Errorf("stat %s: %v, want %v", filepath.Base(p), err, want)
				}
			}
		}
		for range 20 {
			met(os.ErrNotExist)
			write(t, a, "one")
			met(nil)
			write(t, b, "two") // the same file
			if got := read(t, c); got != "two" || !slices.Equal(names(t, s.mnt(0)), []string{n.a}) {
				t.Fatalf("%q in %q", got, names(t, s.mnt(0)))
			}
			if f, err := os.OpenFile(b, os.O_CREATE|os.O_EXCL, 0o644); !errors.Is(err, os.ErrExist) {
				f.Close()
				t.Fatalf("made twice: %v", err)
			}
			if err := os.Mkdir(c, 0o755); !errors.Is(err, os.ErrExist) {
				t.Fatalf("mkdir: %v", err)
			}
			write(t, s.path("new"), "three")
			must(t, os.Rename(s.path("NEW"), c)) // over it
			met(nil)
			if got := read(t, b); got != "three" || !slices.Equal(names(t, s.mnt(0)), []string{n.a}) {
				t.Fatalf("%q in %q", got, names(t, s.mnt(0)))
			}
			must(t, os.Rename(b, s.path("x"))) // spelt anew, in two steps
			met(os.ErrNotExist)
			must(t, os.Rename(s.path("x"), b))
			met(nil)
			if got := names(t, s.mnt(0)); !slices.Equal(got, []string{n.b}) {
				t.Fatalf("spelt %q", got)
			}
			must(t, os.Remove(c))
			met(os.ErrNotExist)
			must(t, os.Mkdir(b, 0o755))
			write(t, filepath.Join(a, "In"), "I")
			if got := read(t, filepath.Join(c, "iN")); got != "I" {
				t.Fatalf("in it: %q", got)
			}
			if err := os.Remove(a); !errors.Is(err, syscall.ENOTEMPTY) {
				t.Fatalf("rmdir: %v", err)
			}
			must(t, os.RemoveAll(c))
		}
	}
}

// What a member spells anew, or removes, is so for programs of the others, in
// each spelling they have met.
func TestPortableSpellingsFollowTheOthers(t *testing.T) {
	t.Setenv(namesEnv, model.NamesPortable)
	s := newServer(t, 2, "")
	at := func(name string) string { return filepath.Join(s.mnt(1), name) }
	write(t, s.path("file"), "one")
	must(t, os.Mkdir(s.path("dir"), 0o755))
	write(t, s.path("dir", "in"), "in")
	s.tell("cut")
	within(t, 5*time.Second, "the file comes", holds(at("FILE"), "one"))
	within(t, 5*time.Second, "and the directory", holds(at("DIR/in"), "in"))
	in, err := os.Open(at("Dir"))
	must(t, err)
	defer in.Close()
	for _, n := range []string{"file", "dir"} {
		must(t, os.Rename(s.path(n), s.path("x")))
		must(t, os.Rename(s.path("x"), s.path(map[string]string{"file": "File", "dir": "Dir"}[n])))
	}
	s.tell("cut")
	within(t, 5*time.Second, "the new spelling", func() bool { return slices.Equal(names(t, s.mnt(1)), []string{"Dir", "File"}) })
	if read(t, at("FILE")) != "one" || read(t, at("DIR/IN")) != "in" {
		t.Error("not found in another spelling")
	}
	must(t, os.WriteFile(filepath.Join(at("DIR"), "new"), []byte("new"), 0o644)) // what is open and spelt anew is as good as before
	must(t, os.Remove(s.path("fILE")))
	s.tell("cut")
	for _, n := range []string{"file", "File", "FILE", "fILE"} {
		within(t, 5*time.Second, n+" goes", func() bool { _, err := os.Stat(at(n)); return errors.Is(err, os.ErrNotExist) })
	}
	within(t, 5*time.Second, "what was made there comes", holds(s.path("dir", "NEW"), "new"))
}
