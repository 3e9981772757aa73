package mount

import (
	"fmt"
	"log/slog"
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
	a, err := openAside(dir, slog.New(slog.DiscardHandler))
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
	if err := os.WriteFile(filepath.Join(dir, "7"), []byte("again"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.clear(now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	found, err2 := os.ReadDir(a.to)
	if err != nil || err2 != nil || len(left) != 0 || len(found) != files+2 {
		t.Errorf("%d are left, %d found, %v, %v", len(left), len(found), err, err2)
	}
	for name, want := range map[string]string{"7": "text", "7 2": "again"} {
		if got, err := os.ReadFile(filepath.Join(a.to, name)); string(got) != want {
			t.Errorf("%s has %q, %v", name, got, err)
		}
	}
	if got := Found(dir); len(got) != 2 {
		t.Errorf("found %q", got)
	}
	if _, err := os.Stat(filepath.Join(a.to, "late", "deep")); err != nil {
		t.Error(err)
	}
}

// A link in the place of the mountpoint, or a directory above it that others may change, is not for the daemon to empty.
func TestNothingIsPutAsideWhereOthersRule(t *testing.T) {
	top := t.TempDir()
	dir, elsewhere := filepath.Join(top, "open", "mnt"), filepath.Join(top, "elsewhere")
	for _, d := range []string{dir, elsewhere} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	link := filepath.Join(top, "link")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	if _, err := openAside(link, log); err == nil {
		t.Error("a link is followed")
	}
	if err := os.Chmod(filepath.Dir(dir), 0o777); err != nil {
		t.Fatal(err)
	}
	a, err := openAside(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if os.Geteuid() != 0 {
		return // what follows is of root
	}
	if err := a.clear(time.Now()); err == nil || a.to != "" {
		t.Errorf("%q, %v", a.to, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	}
}
