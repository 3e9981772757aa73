package staging

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestUnknownFilesAreSwept(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"5.1", "6.2", "5.3.tmp", "README"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := openDir(t, dir, Options{})
	defer d.Close()
	if err := d.Sweep(func(ino uint64) bool { return ino == 6 }); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	want := fmt.Sprint([]string{filepath.Join(dir, "6.2"), filepath.Join(dir, "README"), filepath.Join(dir, "boot")})
	if fmt.Sprint(left) != want {
		t.Errorf("left %v, want %v", left, want)
	}
	if g := d.nextGen(0); g != 3 {
		t.Errorf("next generation %d, want 3", g)
	}
}
