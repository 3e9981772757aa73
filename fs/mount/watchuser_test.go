package mount_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// ordinary runs this test again as a user without privileges, in a namespace in which he may open /dev/fuse.
func ordinary(t *testing.T) {
	t.Helper()
	needFuse(t)
	dir := t.TempDir()
	exe, err := os.Executable()
	must(t, err)
	for path := dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		must(t, os.Chmod(path, 0o755))
	}
	const script = `set -e
		mount --make-rprivate /
		cp "$1" "$TMPDIR/test"
		mknod "$TMPDIR/fuse" c 10 229
		chmod 666 "$TMPDIR/fuse"
		mount --bind "$TMPDIR/fuse" /dev/fuse
		chown 65534:65534 "$TMPDIR"
		cd "$TMPDIR"
		exec setpriv --reuid 65534 --regid 65534 --clear-groups "$TMPDIR/test" -test.run "^$2$" -test.v`
	cmd := exec.Command("sh", "-c", script, "sh", exe, t.Name())
	cmd.Env = append(os.Environ(), userEnv+"=1", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestOrdinaryUsersHearWhatAPeerDoes(t *testing.T) {
	if os.Getenv(userEnv) == "" {
		ordinary(t)
		return
	}
	s := newServer(t, 2, "")
	hearDeeds(t, s)

	// Where the daemon itself may not do it, watchers hear of the directory.
	a, b := s.mnt(0)+"/d", s.mnt(1)+"/d"
	must(t, os.Mkdir(a, 0o755))
	must(t, os.Chmod(a, 0o555))
	within(t, 10*time.Second, "the directory", func() bool {
		fi, err := os.Stat(b)
		return err == nil && fi.Mode().Perm() == 0o555
	})
	s.tell("part")
	must(t, os.Chmod(a, 0o755))
	write(t, a+"/f", "1")
	must(t, os.Chmod(a, 0o555))
	s.tell("cut")
	w := watch(t, usual, b)
	s.tell("join")
	within(t, 10*time.Second, "something is new", func() bool { return w.has("ATTRIB,ISDIR " + b) })
	if got := read(t, b+"/f"); got != "1" {
		t.Errorf("the file has %q", got)
	}
	s.tell("silent")
}
