package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWhatIsBelowAMountIsPutBesideItWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mnt")
	now := time.Date(2026, 11, 27, 9, 30, 0, 0, time.UTC)
	taken := dir + " (found under the mount, 2026-11-27 09.30.00)"
	for _, d := range []string{dir, taken} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a, err := openAside(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.clear(now); err != nil || a.to != "" {
		t.Fatalf("of nothing: %q, %v", a.to, err)
	}
	const files = 2500 // more than are listed at once
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.clear(now); err != nil || a.to != taken+" 2" {
		t.Fatalf("%q, %v", a.to, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "late", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := a.clear(now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	found, err2 := os.ReadDir(a.to)
	if err != nil || err2 != nil || len(left) != 0 || len(found) != files+1 {
		t.Errorf("%d are left, %d found, %v, %v", len(left), len(found), err, err2)
	}
	if _, err := os.Stat(filepath.Join(a.to, "late", "deep")); err != nil {
		t.Error(err)
	}
}
