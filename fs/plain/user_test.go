package plain

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What an ordinary user may not read or write.

const userEnv = "CLACHAN_TEST_PLAIN_USER" // this runs as an ordinary user, in that directory

// asUser runs a test again as an ordinary user, if this is root, and does as root what it asks for.
func asUser(t *testing.T, do map[string]func(dir string) error) (done bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv(userEnv) == "" {
			t.Skip("only root can keep somebody out")
		}
		return false
	}
	tmp := t.TempDir()
	for d := tmp; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	must(t, os.Chown(tmp, 65534, 65534))
	exe := filepath.Join(tmp, "test")
	b, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(exe, b, 0o755))
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), userEnv+"="+tmp, "TMPDIR="+tmp)
	cmd.Dir = tmp
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			for what, f := range do {
				ask := filepath.Join(tmp, what)
				if dir, err := os.ReadFile(ask); err == nil && len(dir) > 0 {
					if err := f(string(dir)); err != nil {
						t.Error(err)
					}
					os.Remove(ask)
				}
			}
		}
	}()
	out, err := cmd.CombinedOutput()
	close(stop)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	return true
}

// asRoot has root do something to a directory.
func asRoot(t *testing.T, what, dir string) {
	t.Helper()
	ask := filepath.Join(os.Getenv(userEnv), what)
	must(t, os.WriteFile(ask+".new", []byte(dir), 0o644))
	must(t, os.Rename(ask+".new", ask))
	within(t, patience, "root does it", func() bool { _, err := os.Stat(ask); return err != nil })
}

func TestWhatCannotBeReadOrWrittenIsSaidAndRemovesNothing(t *testing.T) {
	t.Parallel()
	own := func(uid int, mode os.FileMode) func(string) error {
		return func(dir string) error { return errors.Join(os.Chown(dir, uid, uid), os.Chmod(dir, mode)) }
	}
	if asUser(t, map[string]func(string) error{"close": own(0, 0o700), "lock": own(0, 0o755), "free": own(65534, 0o755)}) {
		return
	}
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	must(t, os.MkdirAll(a.path("dir"), 0o755))
	write(t, a.path("dir", "in"), "1")
	write(t, a.path("fixed"), "1")
	w.still()
	says := func(m *member, want string) func() bool {
		return func() bool {
			for _, n := range m.plain.Notices() {
				if strings.Contains(n.Text, want) && strings.Contains(n.Text, "chmod") {
					return true
				}
			}
			return false
		}
	}
	write(t, b.path("secret"), "0")
	asRoot(t, "close", b.path("secret"))
	write(t, b.path("other"), "1")
	within(t, patience, "what comes after it is there", func() bool { _, err := os.Stat(a.path("other")); return err == nil })
	asRoot(t, "close", b.path("dir"))
	must(t, b.plain.Scan(t.Context()))
	within(t, patience, "a directory that cannot be read is said", says(b, "dir"))
	time.Sleep(2 * goneFor)
	if got, err := os.ReadFile(a.path("dir", "in")); err != nil || string(got) != "1" {
		t.Fatal(got, err)
	}
	asRoot(t, "lock", b.path("dir"))
	write(t, a.path("dir", "in"), "2")
	write(t, a.path("dir", "more"), "2")
	within(t, patience, "what cannot be written is said", says(b, "dir/more"))
	asRoot(t, "free", b.path("dir"))
	asRoot(t, "free", b.path("secret"))
	w.same("dir/", `dir/in -rw-r--r-- "2"`, `dir/more -rw-r--r-- "2"`, `fixed -rw-r--r-- "1"`, `other -rw-r--r-- "1"`, `secret -rwxr-xr-x "0"`)
	within(t, patience, "all is well", func() bool { return len(b.plain.Notices()) == 0 })
}

func TestAFileThatCannotBeReadIsNotShared(t *testing.T) {
	t.Parallel()
	if asUser(t, map[string]func(string) error{
		"secret": func(dir string) error { return os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600) },
		"free":   func(dir string) error { return os.Chown(filepath.Join(dir, "secret"), 65534, 65534) },
	}) {
		return
	}
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	asRoot(t, "secret", b.dir)
	within(t, patience, "it is said", func() bool {
		n := b.plain.Notices()
		return len(n) == 1 && strings.Contains(n[0].Text, "secret: cannot read it")
	})
	if is := shows(a.dir); is != "" {
		t.Errorf("shows %s", is)
	}
	asRoot(t, "free", b.dir)
	w.same(`secret -rw------- "x"`)
}
