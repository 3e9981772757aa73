package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/fs/mount"
)

// Somebody is a user without privileges, with a home of his own in these tests.
const somebody = 65534

// again runs this test once more in a mount namespace of its own, in which everybody may open /dev/fuse, as somebody or
// as root. There /etc is a copy.
func again(t *testing.T, uid string) {
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
		cp -a /etc "$TMPDIR/etc"
		mount --bind "$TMPDIR/etc" /etc
		rm -f /etc/fuse.conf
		mount -t fusectl none /sys/fs/fuse/connections || true # as it is where systemd is
		mkdir "$HOME" "$TMPDIR/roots"
		chown "$3:$3" "$TMPDIR" "$HOME"
		cd "$HOME"
		exec setpriv --reuid "$3" --regid "$3" --clear-groups "$TMPDIR/test" -test.run "^$2$" -test.v`
	cmd := exec.Command("sh", "-c", script, "sh", exe, t.Name(), uid)
	cmd.Env = append(os.Environ(), userEnv+"="+uid, "TMPDIR="+dir, "HOME="+filepath.Join(dir, "home"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
}

// ordinary runs this test again as a user without privileges.
func ordinary(t *testing.T) {
	t.Helper()
	again(t, "65534")
}

// own has the server run as somebody, who owns all it works with.
func (s *server) own() {
	s.t.Helper()
	s.user = somebody
	must(s.t, os.Chown(s.dir, somebody, somebody))
	must(s.t, os.Chown(s.mnt(0), somebody, somebody))
	for path := s.dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		must(s.t, os.Chmod(path, 0o755))
	}
}

// may tells whether a user can do something in the shell.
func may(uid uint32, cmd string, args ...string) bool {
	c := exec.Command("sh", append([]string{"-c", cmd, "sh"}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return c.Run() == nil
}

func TestUsersLetOthersInOnlyIfTheySaySo(t *testing.T) {
	if os.Getenv(userEnv) == "" {
		again(t, "0")
		return
	}
	const stranger = 1234
	for _, tt := range []struct {
		options       string
		strangers     bool // may come in
		root, rwowner bool
	}{
		{"", false, false, true},
		{"allow_other", true, true, true},
		{"allow_other,ro", true, true, false},
	} {
		t.Run(tt.options, func(t *testing.T) {
			must(t, os.WriteFile("/etc/fuse.conf", []byte("# who\n user_allow_other \n"), 0o644))
			s := idleServer(t, 1, tt.options)
			s.own()
			s.start()
			shell := func(uid uint32, cmd string) bool { return may(uid, cmd, s.mnt(0)) }
			if got := shell(somebody, `echo text >$1/open && echo text >$1/closed && chmod 600 $1/closed`); got != tt.rwowner {
				t.Errorf("the owner may write: %v", got)
			}
			if _, err := os.ReadDir(s.mnt(0)); (err == nil) != tt.root {
				t.Errorf("root: %v", err)
			}
			if got := shell(stranger, `ls $1`); got != tt.strangers {
				t.Errorf("a stranger may list: %v", got)
			}
			if !tt.rwowner {
				return
			}
			if got := shell(stranger, `cat $1/open`); got != tt.strangers {
				t.Errorf("a stranger may read: %v", got)
			}
			for _, cmd := range []string{`cat $1/closed`, `echo x >$1/open`, `echo x >$1/new`, `rm -f $1/open`, `chmod 777 $1/open`} {
				if shell(stranger, cmd) {
					t.Errorf("a stranger may %s", cmd)
				}
			}
		})
	}
}

func TestWhoCreatesWhatHasJustComeNeedsTheRightToOpenIt(t *testing.T) {
	s := newServer(t, 1, "")
	for path := s.dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		must(t, os.Chmod(path, 0o755))
	}
	must(t, os.Chmod(s.mnt(0), 0o777))
	if !may(somebody, `ls $1`, s.mnt(0)) {
		t.Fatal("somebody cannot come in")
	}
	if may(somebody, `cat $1/f`, s.mnt(0)) { // now the kernel knows that there is nothing
		t.Fatal("there is a file")
	}
	s.tell("make f")
	const add = `echo line >>$1/f`
	if may(somebody, add, s.mnt(0)) {
		t.Error("somebody could write to a file of root with mode 600")
	}
	if !may(0, add, s.mnt(0)) {
		t.Error("its owner cannot open it")
	}
	if got := read(t, s.mnt(0)+"/f"); got != "line\n" {
		t.Errorf("the file has %q", got)
	}
}

// The access list is of one machine, the mode of all: a chmod elsewhere takes from a list what it would take here.
func TestModesOfOthersBoundAccessLists(t *testing.T) {
	s := newServer(t, 2, "")
	for path := s.dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		must(t, os.Chmod(path, 0o755))
	}
	a, b := s.path("f"), s.mnt(1)+"/f"
	write(t, a, "text")
	must(t, unix.Chmod(a, 0o660))
	list := posixACL([3]uint32{0x01, 6, noID}, [3]uint32{0x02, 6, somebody}, [3]uint32{0x04, 0, noID}, [3]uint32{0x10, 6, noID}, [3]uint32{0x20, 0, noID})
	must(t, unix.Setxattr(a, "system.posix_acl_access", list, 0))
	mode := func(path string, want uint32) {
		t.Helper()
		within(t, 10*time.Second, fmt.Sprintf("%s with mode %o", path, want), func() bool {
			var st unix.Stat_t
			return unix.Stat(path, &st) == nil && st.Mode&0o777 == want
		})
	}
	mode(b, 0o660)
	if !may(somebody, `echo more >>"$1"`, a) {
		t.Error("somebody on the list may not write")
	}
	must(t, unix.Chmod(b, 0o640))
	mode(a, 0o640)
	if may(somebody, `echo more >>"$1"`, a) {
		t.Error("somebody may write, though the mode gives no more than reading to who is on the list")
	}
	if !may(somebody, `cat "$1"`, a) {
		t.Error("somebody on the list may not read")
	}
}

func TestUsersHearWhyTheyMayNotMount(t *testing.T) {
	if os.Getenv(userEnv) == "" {
		ordinary(t)
		return
	}
	dir := t.TempDir()
	o := mount.Defaults()
	for _, tt := range []struct {
		what string
		o    mount.Options
		dir  string
		err  error
		says string
	}{
		{"allow_other", mount.Options{AllowOther: true}, dir, mount.ErrOption, "echo user_allow_other >>/etc/fuse.conf"},
		{"suid", mount.Options{Suid: true}, dir, mount.ErrOption, "need root"},
		{"dev", mount.Options{Dev: true}, dir, mount.ErrOption, "need root"},
		{"a directory of root", o, os.Getenv("TMPDIR") + "/roots", mount.ErrNoFuse, "take a directory that is"},
	} {
		_, err := mount.New(nil, tt.dir, tt.o)
		if err == nil || tt.err != nil && !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	t.Setenv("PATH", "/nonexistent")
	if _, err := mount.New(nil, dir, o); !errors.Is(err, mount.ErrNoFuse) || !strings.Contains(err.Error(), "apt install fuse3") {
		t.Errorf("without fusermount3: %v", err)
	}
}

func TestUsersWorkInTheirMount(t *testing.T) {
	if os.Getenv(userEnv) == "" {
		ordinary(t)
		return
	}
	s := newServer(t, 1, "noexec,noatime,sync")
	disk := t.TempDir()
	compare(t, s.mnt(0), disk, userTries())
	text, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, " "+s.mnt(0)+" ") {
			continue
		}
		for _, flag := range []string{"nosuid", "nodev", "noexec", "noatime", "sync"} {
			if !strings.Contains(line, flag) {
				t.Errorf("mounted without %s: %s", flag, line)
			}
		}
	}
	write(t, s.path("kept"), "kept")
	f, err := os.Open(s.path("kept"))
	must(t, err)
	must(t, f.Sync())
	s.kill()
	f.Close()
	s.start()
	if got := read(t, s.path("kept")); got != "kept" {
		t.Errorf("after a crash: %q", got)
	}
	f, err = os.Open(s.path("kept")) // busy
	must(t, err)
	defer f.Close()
	s.stop()
	if _, err := os.Stat(s.path("kept")); !os.IsNotExist(err) {
		t.Errorf("after the end: %v", err)
	}
}

// userTries are what a user does in a directory of his own, and what he may not.
func userTries() []try {
	return []try{
		{what: "create", call: in("f", func(p string) error { return os.WriteFile(p, []byte("text"), 0o644) })},
		{what: "size", call: in("f", size(4))},
		{what: "append", call: with("f", unix.O_WRONLY|unix.O_APPEND, pwrite(4, 0))},
		{what: "mkdir", call: in("d", func(p string) error { return unix.Mkdir(p, 0o755) })},
		{what: "rename", call: func(d string) error { return os.Rename(d+"/f", d+"/d/g") }},
		{what: "link", call: func(d string) error { return os.Link(d+"/d/g", d+"/f") }},
		{what: "symlink", call: func(d string) error { return os.Symlink("d/g", d+"/s") }},
		{what: "through it", call: in("s", size(8))},
		{what: "rmdir of what is not empty", call: in("d", unix.Rmdir)},
		{what: "xattr", call: in("f", func(p string) error { return unix.Setxattr(p, "user.a", []byte("x"), 0) })},
		{what: "xattr of root", call: in("f", func(p string) error { return unix.Setxattr(p, "trusted.a", []byte("x"), 0) })},
		{what: "fallocate", call: with("f", unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, 0, 0, 100000) })},
		{what: "O_TMPFILE", call: with(".", unix.O_TMPFILE|unix.O_RDWR, pwrite(4, 0))},
		{what: "lock", call: with("f", unix.O_RDWR, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })},
		{what: "map", call: with("f", unix.O_RDWR, func(fd int) error {
			b, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			b[0] = 'T'
			return errors.Join(unix.Msync(b, unix.MS_SYNC), unix.Munmap(b))
		})},
		{what: "fifo", call: in("fifo", func(p string) error { return unix.Mkfifo(p, 0o600) })},
		{what: "device", call: in("null", func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, 1<<8|3) })},
		{what: "chmod", call: in("f", func(p string) error { return unix.Chmod(p, 0o400) })},
		{what: "write to what is read-only", call: with("f", unix.O_WRONLY, pwrite(4, 0))},
		{what: "chown to another", call: in("f", func(p string) error { return unix.Chown(p, 1, -1) })},
		{what: "chgrp to another", call: in("f", func(p string) error { return unix.Chown(p, -1, 1) })},
		{what: "times", call: in("f", func(p string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, p, make([]unix.Timespec, 2), 0) })},
		{what: "closed directory", call: in("d", func(p string) error { return unix.Chmod(p, 0) })},
		{what: "into it", call: in("d/g", size(8))},
		{what: "opened again", call: in("d", func(p string) error { return unix.Chmod(p, 0o700) })},
		{what: "unlink", call: in("f", unix.Unlink)},
		{what: "all", call: in("d", os.RemoveAll)},
		{what: "statfs", call: func(d string) error { return unix.Statfs(d, &unix.Statfs_t{}) }},
	}
}
