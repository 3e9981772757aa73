package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/clachanfs/clachan/cmd/internal/control"
)

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

func TestMissingMountpointIsMadeAndTakenBack(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b", "c")
	real, undo, err := makeDir(dir, false)
	if err != nil || real != dir || !exists(dir) {
		t.Fatalf("made %q, %v", real, err)
	}
	undo()
	if exists(filepath.Join(top, "a")) {
		t.Error("a is still there")
	}
}

func TestPresentMountpointStays(t *testing.T) {
	dir := t.TempDir()
	_, undo, err := makeDir(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	undo()
	if !exists(dir) {
		t.Error("a directory we did not make is gone")
	}
}

func TestMountpointThatCannotServe(t *testing.T) {
	top := t.TempDir()
	full, file := filepath.Join(top, "full"), filepath.Join(top, "full", "file")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(top, "link")
	if err := os.Symlink(full, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{full, link, file, filepath.Join(file, "below")} {
		if _, _, err := makeDir(dir, false); err == nil {
			t.Errorf("%s was taken", dir)
		} else if dir != filepath.Join(file, "below") && Code(err) != control.Usage {
			t.Errorf("%s: code %d: %v", dir, Code(err), err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

func TestSymlinkedMountpointIsResolved(t *testing.T) {
	top := t.TempDir()
	link := filepath.Join(top, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	real, _, err := makeDir(link, false)
	if err != nil || real == link {
		t.Errorf("%q, %v", real, err)
	}
}

func TestInside(t *testing.T) {
	for _, tt := range []struct {
		path, dir string
		want      bool
	}{{"/a/b", "/a", true}, {"/a", "/a", true}, {"/ab", "/a", false}, {"/", "/a", false}, {"/a/..b", "/a", true}} {
		if inside(tt.path, tt.dir) != tt.want {
			t.Errorf("%s in %s: want %v", tt.path, tt.dir, tt.want)
		}
	}
}
