package mount_test

import (
	"encoding/binary"
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
)

// TestLikeOnDisk holds the small things that a comparison with ext4, call by call, has found wrong.
func TestLikeOnDisk(t *testing.T) {
	s := newServer(t, 1, "")
	for name, fn := range map[string]func(t *testing.T, dir string){
		"fallocate moves times": testFallocateTimes, "chown of nothing moves ctime": testChownNothing,
		"sgid stays for its group": testSgid, "atime before 1970": testAtime, "dotdot of a moved directory": testDotDot,
		"an ACL that is not there can be removed": testNoACL, "trusted names are for root": testTrusted,
		"an ACL that is there moves no ctime": testSameACL,
		"atime moves as with relatime":        testRelatime, "as many attributes as can be listed": testListed,
		"no file in a directory that is gone": testGoneTmpfile,
		"create and replace at once":          testCreateReplace, "a copy has what a mapping has": testMapped,
	} {
		t.Run(name, func(t *testing.T) {
			dir := s.path(strings.ReplaceAll(name, " ", "-"))
			must(t, os.Mkdir(dir, 0o755))
			for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
				os.Chmod(p, 0o755) // others come here too
			}
			fn(t, dir)
		})
	}
}

// as runs a shell command as somebody else.
func as(t *testing.T, uid, gid uint32, groups []uint32, cmd string, args ...any) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	c := exec.Command("sh", "-c", fmt.Sprintf(cmd, args...))
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", c, err, out)
	}
	return string(out)
}

func testFallocateTimes(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("some text")
	must(t, err)
	for _, mode := range []uint32{0, unix.FALLOC_FL_KEEP_SIZE} {
		was := stat(t, f.Name())
		must(t, unix.Fallocate(int(f.Fd()), mode, 0, 5))
		if is := stat(t, f.Name()); is.Mtim == was.Mtim || is.Ctim == was.Ctim || is.Size != was.Size {
			t.Errorf("mode %d: %+v, before %+v", mode, is, was)
		}
	}
}

func testChownNothing(t *testing.T, dir string) {
	was := stat(t, dir)
	must(t, os.Chown(dir, -1, -1))
	if is := stat(t, dir); is.Ctim == was.Ctim || is.Mtim != was.Mtim || is.Mode != was.Mode {
		t.Errorf("%+v, before %+v", is, was)
	}
}

func testSgid(t *testing.T, dir string) {
	name := filepath.Join(dir, "f")
	for _, tt := range []struct {
		who    string
		gid    uint32
		groups []uint32
		mode   uint32
	}{
		{"a stranger", 77, nil, 0o666},
		{"one whose group it is", 55, nil, 0o2666},
		{"one who is in it too", 77, []uint32{66, 55}, 0o2666},
	} {
		write(t, name, "text")
		must(t, os.Chown(name, 0, 55))
		must(t, unix.Chmod(name, 0o6666))
		as(t, 1234, tt.gid, tt.groups, "echo more >>%s", name)
		if mode := stat(t, name).Mode & 0o7777; mode != tt.mode {
			t.Errorf("after a write of %s: mode %o, want %o", tt.who, mode, tt.mode)
		}
	}
	must(t, unix.Chmod(name, 0o2666))
	must(t, os.Chown(name, 1, 56))
	if mode := stat(t, name).Mode & 0o7777; mode != 0o2666 {
		t.Errorf("after a chown by root: mode %o", mode)
	}
}

func testAtime(t *testing.T, dir string) {
	name := filepath.Join(dir, "f")
	write(t, name, "text")
	for _, sec := range []int64{-1, -86400, 0} {
		want := unix.Timespec{Sec: sec, Nsec: 5}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{want, {Sec: 9}}, 0))
		if is := stat(t, name).Atim; is != want {
			t.Errorf("atime %v, want %v", is, want)
		}
	}
}

// dotdot is the number that a listing gives for "..".
func dotdot(t *testing.T, dir string) uint64 {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	found := uint64(0)
	for buf := make([]byte, 4096); ; { // to the end: then the kernel keeps the listing
		n, err := unix.Getdents(fd, buf)
		must(t, err)
		if n == 0 {
			return found
		}
		for b := buf[:n]; len(b) > 0; b = b[binary.NativeEndian.Uint16(b[16:]):] {
			if string(b[19:22]) == "..\x00" {
				found = binary.NativeEndian.Uint64(b)
			}
		}
	}
}

func testDotDot(t *testing.T, dir string) {
	at := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	for _, d := range []string{"a", "b", "a/one", "b/two"} {
		must(t, os.Mkdir(at(d), 0o755))
	}
	check := func(d string) {
		t.Helper()
		if got, want := dotdot(t, at(d)), stat(t, filepath.Dir(at(d))).Ino; got != want {
			t.Errorf("%s: .. is %d, want %d", d, got, want)
		}
	}
	check("a/one")
	check("b/two")
	must(t, os.Rename(at("a/one"), at("b/one")))
	check("b/one")
	must(t, os.Rename(at("b/one"), at("a/one")))
	check("a/one")
	must(t, unix.Renameat2(unix.AT_FDCWD, at("a/one"), unix.AT_FDCWD, at("b/two"), unix.RENAME_EXCHANGE))
	check("a/one")
	check("b/two")
}

func testNoACL(t *testing.T, dir string) {
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		if err := unix.Removexattr(dir, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := unix.Removexattr(dir, "user.none"); !errors.Is(err, unix.ENODATA) {
		t.Errorf("user.none: %v", err)
	}
}

func testSameACL(t *testing.T, dir string) {
	name := filepath.Join(dir, "f")
	must(t, os.WriteFile(name, nil, 0o640))
	must(t, os.Chmod(name, 0o640))
	mode := posixACL([3]uint32{0x01, 6, noID}, [3]uint32{0x04, 4, noID}, [3]uint32{0x20, 0, noID})
	more := posixACL([3]uint32{0x01, 6, noID}, [3]uint32{0x02, 4, 12345}, [3]uint32{0x04, 4, noID}, [3]uint32{0x10, 4, noID}, [3]uint32{0x20, 0, noID})
	for _, x := range []struct {
		acl   []byte
		moves bool
	}{{mode, false}, {more, true}, {more, false}, {mode, true}} {
		was := stat(t, name).Ctim
		time.Sleep(20 * time.Millisecond) // a tick of the disk
		must(t, unix.Setxattr(name, "system.posix_acl_access", x.acl, 0))
		if moved := stat(t, name).Ctim != was; moved != x.moves {
			t.Errorf("%x: ctime moved: %v", x.acl, moved)
		}
	}
}

func testTrusted(t *testing.T, dir string) {
	must(t, unix.Setxattr(dir, "user.seen", []byte("x"), 0))
	must(t, unix.Setxattr(dir, "trusted.hidden", []byte("x"), 0))
	if out := as(t, 1234, 1234, nil, "getfattr -d -m - %s", dir); !strings.Contains(out, "user.seen") || strings.Contains(out, "hidden") {
		t.Errorf("somebody else sees %q", out)
	}
	buf := make([]byte, 100)
	n, err := unix.Listxattr(dir, buf)
	must(t, err)
	if !strings.Contains(string(buf[:n]), "trusted.hidden") {
		t.Errorf("root sees %q", buf[:n])
	}
}

func testCreateReplace(t *testing.T, dir string) {
	const both = unix.XATTR_CREATE | unix.XATTR_REPLACE
	if err := unix.Setxattr(dir, "user.a", []byte("x"), both); !errors.Is(err, unix.ENODATA) {
		t.Errorf("without one: %v", err)
	}
	must(t, unix.Setxattr(dir, "user.a", []byte("x"), 0))
	if err := unix.Setxattr(dir, "user.a", []byte("y"), both); !errors.Is(err, unix.EEXIST) {
		t.Errorf("with one: %v", err)
	}
}

func testMapped(t *testing.T, dir string) {
	name := filepath.Join(dir, "f")
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(1<<20))
	m, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(m)
	seek := func(off int64, whence int, want int64) {
		t.Helper()
		if got, err := unix.Seek(int(f.Fd()), off, whence); err != nil || got != want {
			t.Errorf("seek %d from %d: %d (%v), want %d", whence, off, got, err, want)
		}
	}
	first := int64(1 << 20)
	for _, b := range []int64{210 << 12, 100 << 12, 102 << 12} {
		copy(m[b:], "in memory")
		first = min(first, b)
		seek(0, unix.SEEK_DATA, first)
	}
	copy(m[101<<12:], "in memory")
	seek(100<<12, unix.SEEK_HOLE, 103<<12)
	seek(0, unix.SEEK_HOLE, 0)
	copy(m[0:], "in memory")
	copy(m[200<<12:], "in memory")
	seek(150<<12, unix.SEEK_HOLE, 150<<12)
	if out, err := exec.Command("sh", "-c", fmt.Sprintf("cd %s && cp f g && cmp f g", dir)).CombinedOutput(); err != nil {
		t.Errorf("a copy differs: %s", out)
	}
}

// A file handle, as NFS has them, is good as long as the file is there, whatever the kernel has forgotten.
func TestHandlesOutliveTheMount(t *testing.T) {
	s := newServer(t, 1, "")
	must(t, os.MkdirAll(s.path("d", "e"), 0o755))
	write(t, s.path("d", "e", "f"), "text")
	write(t, s.path("gone"), "text")
	handles := map[string]unix.FileHandle{}
	for _, name := range []string{"d/e", "d/e/f", "gone"} {
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, s.path(name), 0)
		must(t, err)
		handles[name] = h
	}
	must(t, os.Remove(s.path("gone")))
	s.stop()
	s.start()
	root, err := os.Open(s.mnt(0))
	must(t, err)
	defer root.Close()
	for name, h := range handles {
		fd, err := unix.OpenByHandleAt(int(root.Fd()), h, unix.O_RDONLY)
		if name == "gone" {
			if err != unix.ESTALE {
				t.Errorf("what was removed: %v", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var st unix.Stat_t
		must(t, unix.Fstat(fd, &st))
		if st.Ino != stat(t, s.path(name)).Ino {
			t.Errorf("%s is another", name)
		}
		if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); name == "d/e" && path != s.path(name) {
			t.Errorf("%s is %s: %v", name, path, err)
		}
		must(t, unix.Close(fd))
	}
}

// A directory that somebody has open and somebody else has moved is no dead one: it can be listed, with its new "..",
// and written to.
func TestDirectoriesInUseFollowRemoteMoves(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	must(t, os.MkdirAll(filepath.Join(a, "from", "d"), 0o755))
	must(t, os.Mkdir(filepath.Join(a, "to"), 0o755))
	there := func(elem ...string) func() bool {
		return func() bool {
			_, err := os.Stat(filepath.Join(append([]string{b}, elem...)...))
			return err == nil
		}
	}
	within(t, 10*time.Second, "both directories", func() bool { return there("from", "d")() && there("to")() })
	if got, want := dotdot(t, filepath.Join(b, "from", "d")), stat(t, filepath.Join(b, "from")).Ino; got != want {
		t.Fatalf(".. is %d, want %d", got, want)
	}
	open, err := os.Open(filepath.Join(b, "from", "d")) // so the kernel keeps the inode
	must(t, err)
	defer open.Close()
	must(t, os.Rename(filepath.Join(a, "from", "d"), filepath.Join(a, "to", "d")))
	within(t, 10*time.Second, "the move", there("to", "d"))
	if got, want := dotdot(t, filepath.Join(b, "to", "d")), stat(t, filepath.Join(b, "to")).Ino; got != want {
		t.Errorf("after the move .. is %d, want %d", got, want)
	}
	fd, err := unix.Openat(int(open.Fd()), "new", unix.O_CREAT|unix.O_WRONLY, 0o600)
	must(t, err)
	must(t, unix.Close(fd))
	within(t, 10*time.Second, "what was made in it", func() bool {
		_, err := os.Stat(filepath.Join(a, "to", "d", "new"))
		return err == nil
	})
}

// Suid, sgid and capabilities are what somebody here trusts the bytes of a file with: those of others go without, as
// those of an unprivileged writer do. A chmod of others, and new bytes here, take nothing.
func TestBytesOfOthersCostPrivileges(t *testing.T) {
	for name, open := range map[string]bool{"at rest": false, "in use": true} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, 2, "suid")
			a, b := s.path("f"), s.mnt(1)+"/f"
			write(t, a, "trusted")
			must(t, unix.Chmod(a, 0o6755))
			must(t, unix.Setxattr(a, "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
			within(t, 10*time.Second, "the file", func() bool {
				var st unix.Stat_t
				return unix.Stat(b, &st) == nil && st.Mode&0o777 == 0o755 && holds(b, "trusted")()
			})
			if open {
				f, err := os.Open(a)
				must(t, err)
				defer f.Close()
			}
			shows := func(mode uint32, caps error) {
				t.Helper()
				within(t, 10*time.Second, fmt.Sprintf("mode %o", mode), func() bool { return stat(t, a).Mode&0o7777 == mode })
				if _, err := unix.Getxattr(a, "security.capability", make([]byte, 64)); err != caps {
					t.Errorf("capabilities: %v, want %v", err, caps)
				}
			}
			must(t, unix.Chmod(b, 0o711))
			shows(0o6711, nil)
			write(t, b, "others'")
			within(t, 10*time.Second, "the bytes of others", holds(a, "others'"))
			shows(0o711, unix.ENODATA)
		})
	}
}

func testRelatime(t *testing.T, dir string) {
	name := filepath.Join(dir, "f")
	write(t, name, strings.Repeat("text", 3000))
	hold, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer hold.Close()
	for _, x := range []struct {
		flags int
		moves bool
	}{{unix.O_NOATIME, false}, {0, true}, {0, false}} {
		if x.moves { // for it is older than this
			_, err := hold.WriteAt([]byte("more"), 0)
			must(t, err)
		}
		was := stat(t, name).Atim
		time.Sleep(20 * time.Millisecond) // a tick of the disk
		f, err := os.OpenFile(name, os.O_RDONLY|x.flags, 0)
		must(t, err)
		must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
		_, err = f.Read(make([]byte, 10))
		must(t, errors.Join(err, f.Close()))
		if moved := stat(t, name).Atim != was; moved != x.moves {
			t.Errorf("flags %#x: atime moved: %v", x.flags, moved)
		}
	}
}

func testListed(t *testing.T, dir string) {
	name := filepath.Join(dir, "f")
	write(t, name, "text")
	for i := range 1000 {
		if err := unix.Setxattr(name, fmt.Sprintf("user.%0240d", i), nil, 0); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n, err := unix.Listxattr(name, make([]byte, 64<<10)); err != nil || n < 1000 {
		t.Errorf("listed %d, %v", n, err)
	}
}

func testGoneTmpfile(t *testing.T, dir string) {
	gone := filepath.Join(dir, "d")
	must(t, os.Mkdir(gone, 0o755))
	d, err := os.Open(gone)
	must(t, err)
	defer d.Close()
	must(t, os.Remove(gone))
	if _, err := unix.Openat(int(d.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR, 0o600); !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
}
