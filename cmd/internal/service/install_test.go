package service

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/contrib/systemd"
)

// scope keeps what systemctl is asked for.
func scope(t *testing.T, user bool) (s Scope, asked *[]string) {
	dir := t.TempDir()
	asked = new([]string)
	return Scope{User: user, Dir: filepath.Join(dir, "made"), Vendor: filepath.Join(dir, "vendor"),
		Run: func(_ context.Context, args ...string) error {
			*asked = append(*asked, strings.Join(args, " "))
			return nil
		}}, asked
}

func TestAServiceIsInstalledAndRemoved(t *testing.T) {
	for _, user := range []bool{false, true} {
		s, asked := scope(t, user)
		path, err := s.Install(t.Context(), "/opt/my tools/clachan")
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(text); strings.Contains(got, systemd.Program) || !strings.Contains(got, "\nExecStart=\"/opt/my tools/clachan\" daemon\n") {
			t.Errorf("user %v: the unit is\n%s", user, got)
		}
		if want := []string{"daemon-reload", "enable clachan.service", "enable --now clachan-scrub.timer", "restart clachan.service"}; !slices.Equal(*asked, want) {
			t.Errorf("systemctl %q, want %q", *asked, want)
		}
		scrub, err := os.ReadFile(filepath.Join(s.Dir, "clachan-scrub.service"))
		if got := string(scrub); err != nil || strings.Contains(got, systemd.Program) || !strings.Contains(got, "\nExecStart=\"/opt/my tools/clachan\" scrub ") ||
			strings.Contains(got, " --system") == user {
			t.Errorf("user %v: the unit is\n%s%v", user, got, err)
		}
		timer, err := os.ReadFile(filepath.Join(s.Dir, Timer))
		if err != nil || !strings.Contains(string(timer), "\nRandomizedDelaySec=") {
			t.Errorf("user %v: the timer is\n%s%v", user, timer, err)
		}
		*asked = nil
		if err := s.Uninstall(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
			t.Errorf("units stay: %v, %v", left, err)
		}
		if want := []string{"disable --now clachan-scrub.timer", "disable --now clachan.service", "daemon-reload"}; !slices.Equal(*asked, want) {
			t.Errorf("systemctl %q, want %q", *asked, want)
		}
	}
}

func TestTheUnitOfAPackageIsTaken(t *testing.T) {
	s, _ := scope(t, false)
	vendor := filepath.Join(s.Vendor, Unit)
	if err := errors.Join(os.MkdirAll(s.Vendor, 0o755), os.WriteFile(vendor, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	made, err := s.Install(t.Context(), "/opt/clachan")
	if err != nil || made == vendor {
		t.Errorf("another program: %q, %v", made, err)
	}
	if path, err := s.Install(t.Context(), systemd.Program); err != nil || path != vendor {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := os.Stat(made); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was made before is taken: %v", err)
	}
	if err := s.Uninstall(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(vendor); err != nil {
		t.Errorf("the package's unit: %v", err)
	}
}

func TestProgramsThatNoUnitCanNameAreRefused(t *testing.T) {
	for _, program := range []string{"/a%b", "/a$b", "/a\"b", "/a\\b", "/a\nExecStart=/bin/evil", "/a'b"} {
		s, asked := scope(t, false)
		if _, err := s.Install(t.Context(), program); err == nil || len(*asked) > 0 {
			t.Errorf("%q: %v, systemctl %q", program, err, *asked)
		}
	}
}

// What these do is to give the service a mount namespace of its own, where nobody sees its mounts.
func TestUnitsHideNoMounts(t *testing.T) {
	err := fs.WalkDir(systemd.Units, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := systemd.Units.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			key, _, _ := strings.Cut(line, "=")
			for _, bad := range []string{"ProtectSystem", "ProtectHome", "Private", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths",
				"ProtectKernel", "ProtectProc", "ProcSubset", "ProtectControlGroups", "DynamicUser", "MountFlags"} {
				if strings.HasPrefix(key, bad) {
					t.Errorf("%s: %s", path, key)
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
