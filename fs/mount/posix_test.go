package mount_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPOSIX holds what programs rely on, all on one mount.
func TestPOSIX(t *testing.T) {
	s := newServer(t, 1, "")
	for name, fn := range map[string]func(t *testing.T, dir string){
		"unlinked file goes on": testUnlinked, "tmpfile gets a name": testTmpfile, "holes": testHoles,
		"exchange and noreplace": testRename, "two appenders": testAppend, "mmap moves mtime": testMmap,
		"removing while listing": testListing, "xattr sizes and flags": testXattr, "default ACL": testACL,
		"suid falls": testSuid, "dirty stat is exact": testStat, "times to the nanosecond": testTimes,
		"links and directories": testLinks, "special files": testSpecial, "copy_file_range": testCopy,
	} {
		t.Run(name, func(t *testing.T) {
			dir := s.path(strings.ReplaceAll(name, " ", "-"))
			must(t, os.Mkdir(dir, 0o755))
			fn(t, dir)
		})
	}
}

func stat(t testing.TB, path string) (st unix.Stat_t) {
	t.Helper()
	must(t, unix.Lstat(path, &st))
	return st
}

func testUnlinked(t *testing.T, dir string) {
	name := filepath.Join(dir, "u")
	write(t, name, "before")
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, os.Remove(name))
	_, err = f.WriteAt([]byte("AFTER"), 0)
	must(t, err)
	must(t, f.Chmod(0o600))
	must(t, f.Truncate(3))
	must(t, unix.Fsetxattr(int(f.Fd()), "user.k", []byte("v"), 0))
	must(t, os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), time.Unix(1, 0), time.Unix(2, 0)))
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Nlink != 0 || st.Size != 3 || st.Mode&0o777 != 0o600 || st.Mtim.Sec != 2 {
		t.Errorf("unlinked file: %+v", st)
	}
	g, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	must(t, err)
	defer g.Close()
	if b, err := io.ReadAll(g); err != nil || string(b) != "AFT" {
		t.Errorf("reopened: %q, %v", b, err)
	}
}

func testTmpfile(t *testing.T, dir string) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o640)
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("anonymous"))
	must(t, err)
	must(t, unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, filepath.Join(dir, "named"), unix.AT_SYMLINK_FOLLOW))
	if got := read(t, filepath.Join(dir, "named")); got != "anonymous" {
		t.Errorf("content %q", got)
	}
	if st := stat(t, filepath.Join(dir, "named")); st.Nlink != 1 || st.Mode&0o777 != 0o640 {
		t.Errorf("%d links, mode %o", st.Nlink, st.Mode)
	}
}

func testHoles(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(1<<40))
	_, err = f.WriteAt(bytes.Repeat([]byte{1}, 4096), 1<<30)
	must(t, err)
	fd := int(f.Fd())
	seek := func(off int64, whence int, want int64) {
		t.Helper()
		if got, err := unix.Seek(fd, off, whence); err != nil || got != want {
			t.Errorf("seek %d whence %d: %d, %v; want %d", off, whence, got, err, want)
		}
	}
	seek(0, unix.SEEK_DATA, 1<<30)
	seek(1<<30, unix.SEEK_HOLE, 1<<30+4096)
	if _, err := unix.Seek(fd, 1<<31, unix.SEEK_DATA); err != unix.ENXIO {
		t.Errorf("no data after: %v", err)
	}
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	if st.Size != 1<<40 || st.Blocks != 8 {
		t.Errorf("size %d, %d sectors", st.Size, st.Blocks)
	}
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<30, 4096))
	must(t, unix.Fstat(fd, &st))
	if st.Size != 1<<40 || st.Blocks != 0 {
		t.Errorf("after the punch: size %d, %d sectors", st.Size, st.Blocks)
	}
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 1<<40, 10))
	must(t, unix.Fallocate(fd, 0, 1<<40, 20))
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 1<<40, 30))
	must(t, unix.Fstat(fd, &st))
	if st.Size != 1<<40+20 {
		t.Errorf("size %d after fallocate", st.Size)
	}
	if err := unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096); err != unix.EOPNOTSUPP {
		t.Errorf("collapse: %v", err)
	}
	// What was cut off does not come back.
	must(t, f.Truncate(100))
	_, err = f.WriteAt([]byte("abc"), 97)
	must(t, err)
	must(t, f.Truncate(98))
	must(t, f.Truncate(200))
	got := make([]byte, 200)
	_, err = f.ReadAt(got, 0)
	must(t, err)
	if got[97] != 'a' || !bytes.Equal(got[98:], make([]byte, 102)) {
		t.Errorf("after shrinking and growing: %q", got[90:])
	}
}

func testRename(t *testing.T, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "A")
	write(t, b, "B")
	rename := func(from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	}
	if err := rename(a, b, unix.RENAME_NOREPLACE); err != unix.EEXIST {
		t.Errorf("noreplace: %v", err)
	}
	must(t, rename(a, b, unix.RENAME_EXCHANGE))
	if read(t, a) != "B" || read(t, b) != "A" {
		t.Errorf("exchange: %q, %q", read(t, a), read(t, b))
	}
	if err := rename(a, b, unix.RENAME_WHITEOUT); err != unix.EINVAL {
		t.Errorf("whiteout: %v", err)
	}
	f, err := os.Open(b)
	must(t, err)
	defer f.Close()
	must(t, os.Rename(a, b))
	if got, err := io.ReadAll(f); err != nil || string(got) != "A" {
		t.Errorf("replaced file that is open: %q, %v", got, err)
	}
	sub := filepath.Join(dir, "d")
	must(t, os.MkdirAll(filepath.Join(sub, "e"), 0o755))
	if err := os.Rename(sub, filepath.Join(sub, "e", "f")); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("directory into itself: %v", err)
	}
}

func testAppend(t *testing.T, dir string) {
	name := filepath.Join(dir, "log")
	write(t, name, "")
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for range 200 {
				if _, err := f.Write(bytes.Repeat([]byte{byte('a' + i)}, 50)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := read(t, name)
	if len(got) != 3*200*50 {
		t.Fatalf("%d bytes", len(got))
	}
	for i := 0; i < len(got); i += 50 {
		if strings.Count(got[i:i+50], got[i:i+1]) != 50 {
			t.Fatalf("torn at %d: %q", i, got[i:i+50])
		}
	}
}

func testMmap(t *testing.T, dir string) {
	name := filepath.Join(dir, "m")
	must(t, os.WriteFile(name, make([]byte, 8192), 0o644))
	must(t, os.Chtimes(name, time.Unix(5, 0), time.Unix(5, 0)))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	copy(m[4090:], "mapped")
	must(t, unix.Msync(m, unix.MS_SYNC))
	must(t, unix.Munmap(m))
	if st := stat(t, name); st.Mtim.Sec == 5 {
		t.Error("mtime did not move")
	}
	if got := read(t, name); got[4090:4096] != "mapped" {
		t.Errorf("content %q", got[4080:4100])
	}
}

func testListing(t *testing.T, dir string) {
	const n = 1500
	for i := range n {
		write(t, filepath.Join(dir, fmt.Sprintf("f%04d", i)), "")
	}
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	seen := map[string]bool{}
	for {
		names, err := f.Readdirnames(97)
		for _, name := range names {
			if seen[name] {
				t.Fatalf("%s twice", name)
			}
			seen[name] = true
			must(t, os.Remove(filepath.Join(dir, name)))
		}
		if err == io.EOF {
			break
		}
		must(t, err)
	}
	if len(seen) != n {
		t.Errorf("%d of %d listed", len(seen), n)
	}
	must(t, os.Remove(dir))
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Nlink != 0 {
		t.Errorf("removed directory has %d links", st.Nlink)
	}
}

func testXattr(t *testing.T, dir string) {
	name := filepath.Join(dir, "x")
	write(t, name, "")
	must(t, unix.Setxattr(name, "user.a", []byte("1"), unix.XATTR_CREATE))
	if err := unix.Setxattr(name, "user.a", []byte("2"), unix.XATTR_CREATE); err != unix.EEXIST {
		t.Errorf("create twice: %v", err)
	}
	if err := unix.Setxattr(name, "user.b", nil, unix.XATTR_REPLACE); err != unix.ENODATA {
		t.Errorf("replace nothing: %v", err)
	}
	must(t, unix.Setxattr(name, "user.big", bytes.Repeat([]byte("y"), 1000), 0))
	if _, err := unix.Getxattr(name, "user.big", make([]byte, 10)); err != unix.ERANGE {
		t.Errorf("short buffer: %v", err)
	}
	if n, err := unix.Getxattr(name, "user.big", nil); err != nil || n != 1000 {
		t.Errorf("size: %d, %v", n, err)
	}
	if err := unix.Setxattr(name, "bogus.a", nil, 0); err != unix.EOPNOTSUPP {
		t.Errorf("unknown namespace: %v", err)
	}
	must(t, unix.Removexattr(name, "user.big"))
	buf := make([]byte, 100)
	n, err := unix.Listxattr(name, buf)
	if err != nil || string(buf[:n]) != "user.a\x00" {
		t.Errorf("list: %q, %v", buf[:max(n, 0)], err)
	}
}

const noID = ^uint32(0)

// posixACL is the value of an attribute with these tags, permissions and ids.
func posixACL(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

func testACL(t *testing.T, dir string) {
	def := posixACL([3]uint32{0x01, 7, noID}, [3]uint32{0x02, 6, 12345}, [3]uint32{0x04, 5, noID}, [3]uint32{0x10, 7, noID}, [3]uint32{0x20, 0, noID})
	must(t, unix.Setxattr(dir, "system.posix_acl_default", def, 0))
	name := filepath.Join(dir, "f")
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_WRONLY, 0o664)
	must(t, err)
	unix.Close(fd)
	if st := stat(t, name); st.Mode&0o777 != 0o660 {
		t.Errorf("mode %o with a default ACL", st.Mode&0o777)
	}
	buf := make([]byte, 200)
	n, err := unix.Getxattr(name, "system.posix_acl_access", buf)
	must(t, err)
	want := posixACL([3]uint32{0x01, 6, noID}, [3]uint32{0x02, 6, 12345}, [3]uint32{0x04, 5, noID}, [3]uint32{0x10, 6, noID}, [3]uint32{0x20, 0, noID})
	if !bytes.Equal(buf[:n], want) {
		t.Errorf("access ACL %x, want %x", buf[:n], want)
	}
	must(t, os.Chmod(name, 0o640))
	n, err = unix.Getxattr(name, "system.posix_acl_access", buf)
	must(t, err)
	if mask := buf[4+3*8+2]; n != len(want) || mask != 4 {
		t.Errorf("mask %d after chmod 640", mask)
	}
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o777))
	if n, err := unix.Getxattr(filepath.Join(dir, "sub"), "system.posix_acl_default", buf); err != nil || !bytes.Equal(buf[:n], def) {
		t.Errorf("default ACL of a subdirectory: %v", err)
	}
}

func testSuid(t *testing.T, dir string) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	name := filepath.Join(dir, "s")
	for _, cmd := range []string{"echo more >>%s", "truncate -s 3 %s", "echo new >%s"} {
		write(t, name, "program")
		must(t, os.Chmod(name, 0o777))
		must(t, unix.Chmod(name, 0o6777))
		c := exec.Command("sh", "-c", fmt.Sprintf(cmd, name))
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
			os.Chmod(p, 0o755)
		}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", cmd, err, out)
		}
		if st := stat(t, name); st.Mode&0o7777 != 0o777 {
			t.Errorf("%s: mode %o", cmd, st.Mode&0o7777)
		}
	}
	must(t, unix.Chmod(name, 0o6755))
	must(t, os.Chown(name, 1, 1))
	if st := stat(t, name); st.Mode&0o7777 != 0o755 {
		t.Errorf("chown: mode %o", st.Mode&0o7777)
	}
}

// testStat writes to a file at random and compares with a file on the disk below.
func testStat(t *testing.T, dir string) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	here, err := os.Create(filepath.Join(dir, "f"))
	must(t, err)
	defer func() { here.Close() }()
	there, err := os.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	defer there.Close()
	const size = 500 << 10
	for i := range 200 {
		off, n := r.Int64N(size), 1+r.Int64N(30<<10)
		op := r.IntN(10)
		for _, f := range []*os.File{here, there} {
			switch {
			case op < 6:
				_, err = f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, int(n)), off)
			case op < 8:
				err = f.Truncate(off)
			default:
				err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
			}
			must(t, err)
		}
		if r.IntN(20) == 0 { // cut in between
			must(t, here.Close())
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			here, err = os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR, 0)
			must(t, err)
		}
		var a, b unix.Stat_t
		must(t, unix.Fstat(int(here.Fd()), &a))
		must(t, unix.Fstat(int(there.Fd()), &b))
		if a.Size != b.Size {
			t.Fatalf("step %d: size %d, want %d", i, a.Size, b.Size)
		}
		x, y := make([]byte, a.Size), make([]byte, b.Size)
		here.ReadAt(x, 0)
		there.ReadAt(y, 0)
		if !bytes.Equal(x, y) {
			t.Fatalf("step %d: content differs", i)
		}
	}
}

func testTimes(t *testing.T, dir string) {
	name := filepath.Join(dir, "f")
	write(t, name, "x")
	at, mt := time.Unix(100, 123456789), time.Unix(-5, 987654321)
	must(t, os.Chtimes(name, at, mt))
	st := stat(t, name)
	if st.Atim != (unix.Timespec{Sec: 100, Nsec: 123456789}) || st.Mtim != (unix.Timespec{Sec: -5, Nsec: 987654321}) {
		t.Errorf("atime %v, mtime %v", st.Atim, st.Mtim)
	}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}, 0))
	after := stat(t, name)
	if after.Atim != st.Atim || time.Since(time.Unix(after.Mtim.Unix())) > time.Minute {
		t.Errorf("after OMIT and NOW: atime %v, mtime %v", after.Atim, after.Mtim)
	}
	if time.Unix(after.Ctim.Unix()).Before(time.Unix(st.Ctim.Unix())) {
		t.Error("ctime went back")
	}
}

func testLinks(t *testing.T, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "x")
	before := stat(t, a)
	must(t, os.Link(a, b))
	x, y := stat(t, a), stat(t, b)
	if x.Ino != y.Ino || x.Nlink != 2 || y.Nlink != 2 || x.Ctim == before.Ctim {
		t.Errorf("link: %+v, %+v", x, y)
	}
	f, err := os.OpenFile(b, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("yz")
	must(t, err)
	must(t, f.Close())
	if stat(t, a).Size != 3 {
		t.Errorf("size by the other name: %d", stat(t, a).Size)
	}
	must(t, os.Remove(a))
	if stat(t, b).Nlink != 1 {
		t.Errorf("%d links after unlink", stat(t, b).Nlink)
	}
	d := stat(t, dir)
	must(t, os.Mkdir(filepath.Join(dir, "s"), 0o755))
	if e := stat(t, dir); e.Nlink != d.Nlink+1 || e.Mtim == d.Mtim {
		t.Errorf("directory: %d links before, %d after; mtime moved: %v", d.Nlink, e.Nlink, e.Mtim != d.Mtim)
	}
	if err := os.Link(dir, filepath.Join(dir, "s", "dir")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("hard link of a directory: %v", err)
	}
	if err := os.Remove(dir); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("rmdir of a full directory: %v", err)
	}
}

func testSpecial(t *testing.T, dir string) {
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	if st := stat(t, fifo); st.Mode&unix.S_IFMT != unix.S_IFIFO {
		t.Errorf("fifo has mode %o", st.Mode)
	}
	must(t, os.Symlink("some/target", filepath.Join(dir, "l")))
	if to, err := os.Readlink(filepath.Join(dir, "l")); err != nil || to != "some/target" {
		t.Errorf("link to %q, %v", to, err)
	}
	if st := stat(t, filepath.Join(dir, "l")); st.Size != 11 {
		t.Errorf("link of size %d", st.Size)
	}
	if _, err := unix.IoctlGetInt(openFD(t, dir), unix.FS_IOC_GETFLAGS); err == nil {
		t.Error("an ioctl was answered")
	}
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	if st.Namelen != 255 || st.Files == 0 || st.Blocks == 0 || st.Bfree > st.Blocks {
		t.Errorf("statfs %+v", st)
	}
}

func openFD(t testing.TB, path string) int {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

func testCopy(t *testing.T, dir string) {
	a, err := os.Create(filepath.Join(dir, "a"))
	must(t, err)
	defer a.Close()
	b, err := os.Create(filepath.Join(dir, "b"))
	must(t, err)
	defer b.Close()
	data := bytes.Repeat([]byte("copy me "), 40<<10)
	_, err = a.WriteAt(data, 1<<20)
	must(t, err)
	size := int64(1<<20 + len(data))
	for in, out := int64(0), int64(0); in < size; {
		n, err := unix.CopyFileRange(int(a.Fd()), &in, int(b.Fd()), &out, int(size-in), 0)
		must(t, err)
		if n == 0 {
			t.Fatalf("copy stops at %d", in)
		}
	}
	x, y := read(t, a.Name()), read(t, b.Name())
	if x != y || int64(len(x)) != size {
		t.Errorf("copy differs: %d and %d bytes", len(x), len(y))
	}
	if st := stat(t, b.Name()); st.Blocks*512 > int64(len(data))+8192 {
		t.Errorf("hole was filled: %d sectors", st.Blocks)
	}
}
