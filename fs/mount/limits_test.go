package mount_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A try is a call in a directory, and what it said.
type try struct {
	what string
	call func(dir string) error
	// differs is what the mount says in place of what the disk does, with the reason.
	differs, why string
}

// said is what a call answered, as one word.
func said(err error) string {
	var no syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &no):
		return unix.ErrnoName(no)
	}
	return err.Error()
}

// compare makes the same calls, in order, on the mount and on the disk.
func compare(t *testing.T, mnt, disk string, tries []try) {
	t.Helper()
	for _, x := range tries {
		got, want := said(x.call(mnt)), said(x.call(disk))
		switch {
		case x.differs != "" && got == x.differs && want != got:
		case x.differs != "":
			t.Errorf("%s: the mount says %s, the disk %s; expected %s of the mount, since %s", x.what, got, want, x.differs, x.why)
		case got != want:
			t.Errorf("%s: the mount says %s, the disk %s", x.what, got, want)
		}
	}
}

func in(name string, call func(path string) error) func(string) error {
	return func(dir string) error { return call(filepath.Join(dir, name)) }
}

// with opens a file, calls, and closes it.
func with(name string, flags int, call func(fd int) error) func(string) error {
	return in(name, func(path string) error {
		fd, err := unix.Open(path, flags, 0o644)
		if err != nil {
			return err
		}
		return errors.Join(call(fd), unix.Close(fd))
	})
}

func pwrite(n int, off int64) func(int) error {
	return func(fd int) error {
		k, err := unix.Pwrite(fd, bytes.Repeat([]byte("new."), n/4), off)
		if err == nil && k < n {
			return fmt.Errorf("%d of %d written", k, n)
		}
		return err
	}
}

func size(want int64) func(string) error {
	return func(path string) error {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return err
		}
		if st.Size != want {
			return fmt.Errorf("%d bytes", st.Size)
		}
		return nil
	}
}

// RLIMIT_FSIZE is that of the caller, who is another process here.
const (
	limitEnv = "CLACHAN_TEST_LIMIT_DIRS"
	fsize    = 64 << 10
)

func TestFileSizeLimitIsThatOfTheCaller(t *testing.T) {
	if dirs := os.Getenv(limitEnv); dirs != "" {
		mnt, disk, _ := strings.Cut(dirs, "\n")
		signal.Ignore(syscall.SIGXFSZ)
		must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: fsize, Max: fsize}))
		compare(t, mnt, disk, sizeTries())
		return
	}
	s := newServer(t, 1, "")
	disk := t.TempDir()
	for _, dir := range []string{s.mnt(0), disk} {
		for _, name := range []string{"f", "large"} {
			must(t, os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("old."), 32<<10), 0o644))
		}
		must(t, os.Truncate(filepath.Join(dir, "f"), 100))
	}
	exe, err := os.Executable()
	must(t, err)
	c := exec.Command(exe, "-test.run", "^"+t.Name()+"$")
	c.Env = append(os.Environ(), limitEnv+"="+s.mnt(0)+"\n"+disk)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, dir := range []string{s.mnt(0), disk} { // the signal, where it is not ignored
		c := exec.Command("bash", "-c", fmt.Sprintf("ulimit -f 64; exec dd if=/dev/zero of=%s/dd bs=1M count=1", dir))
		err := c.Run()
		ws, ok := c.ProcessState.Sys().(syscall.WaitStatus)
		if !ok || ws.Signal() != syscall.SIGXFSZ {
			t.Errorf("dd in %s ended with %v, not by SIGXFSZ", dir, err)
		}
	}
}

func sizeTries() []try {
	return []try{
		{what: "write up to the limit", call: with("f", unix.O_WRONLY, pwrite(fsize, 0))},
		{what: "write across it", call: with("f", unix.O_WRONLY, pwrite(8192, fsize-4096))},
		{what: "size after that", call: in("f", size(fsize))},
		{what: "write at it", call: with("f", unix.O_WRONLY, pwrite(4, fsize))},
		{what: "write beyond it", call: with("f", unix.O_WRONLY, pwrite(4, fsize+100))},
		{what: "append", call: with("f", unix.O_WRONLY|unix.O_APPEND, pwrite(4, 0))},
		{what: "direct write at it", call: with("f", unix.O_WRONLY|unix.O_SYNC, pwrite(4096, fsize))},
		{what: "truncate beyond", call: in("f", func(p string) error { return unix.Truncate(p, fsize+1) })},
		{what: "ftruncate beyond", call: with("f", unix.O_RDWR, func(fd int) error { return unix.Ftruncate(fd, fsize+1) })},
		{what: "truncate to it", call: in("f", func(p string) error { return unix.Truncate(p, fsize) })},
		{what: "fallocate beyond", call: with("f", unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, 0, 0, fsize+4096) })},
		{what: "fallocate within", call: with("f", unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, 0, 0, fsize) })},
		{what: "size at last", call: in("f", size(fsize))},
		{what: "overwrite what is beyond in a large file", call: with("large", unix.O_WRONLY, pwrite(4, fsize+100))},
		{what: "shorten a large file", call: in("large", func(p string) error { return unix.Truncate(p, fsize+100) })},
		{what: "copy beyond", call: func(dir string) error {
			return with("large", unix.O_RDONLY, func(src int) error {
				return with("f", unix.O_RDWR, func(dst int) error {
					from, to := int64(0), int64(fsize)
					_, err := unix.CopyFileRange(src, &from, dst, &to, 4096, 0)
					return err
				})(dir)
			})(dir)
		}},
	}
}

// fillUp writes until nothing more goes in, what cannot be made smaller, and
// returns how much did.
func fillUp(t *testing.T, name string) int64 {
	t.Helper()
	f, err := os.Create(name)
	if errors.Is(err, syscall.ENOSPC) {
		return 0
	}
	must(t, err)
	defer f.Close()
	buf := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for n, at := int64(len(buf)), int64(0); ; {
		for i := 0; i < int(n); i += 8 {
			binary.LittleEndian.PutUint64(buf[i:], r.Uint64())
		}
		k, err := f.WriteAt(buf[:n], at)
		at += int64(k)
		if errors.Is(err, syscall.ENOSPC) {
			if n == 4096 {
				return at
			}
			n = max(n/16, 4096)
		} else if err != nil {
			t.Fatalf("fill %s: %v", name, err)
		}
	}
}

// smallDisk mounts an ext4 of its own, or a tmpfs where there is no loop device.
func smallDisk(t *testing.T, dir string, mib int) (tmpfs bool) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	image := filepath.Join(t.TempDir(), "image")
	script := fmt.Sprintf(`truncate -s %dM %s && mkfs.ext4 -q -m 0 %s && mount -o loop %s %s`, mib, image, image, image, dir)
	if err := exec.Command("sh", "-c", script).Run(); err != nil {
		must(t, unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)))
		tmpfs = true
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return tmpfs
}

// fullTries are what is done on a full disk; old is what its file old holds.
func fullTries(old []byte, tmpfs bool) []try {
	intact := in("old", func(p string) error {
		b, err := os.ReadFile(p)
		if err == nil && !bytes.Equal(b, old) {
			err = errors.New("other bytes")
		}
		return err
	})
	var tries []try
	if !tmpfs { // where a directory takes no room
		tries = append(tries, try{what: "mkdir", call: in("dir", func(p string) error { return os.Mkdir(p, 0o755) })})
	}
	return append(tries, []try{
		{what: "append", call: with("old", unix.O_WRONLY|unix.O_APPEND, pwrite(8192, 0))},
		{what: "the version before", call: intact},
		{what: "fallocate", call: with("old", unix.O_WRONLY, func(fd int) error { return unix.Fallocate(fd, 0, 1<<20, 1<<20) })},
		{what: "size as before", call: in("old", func(p string) error {
			if size(int64(len(old)))(p) != nil {
				return errors.New("grown")
			}
			return nil
		})},
		{what: "overwrite", call: with("old", unix.O_WRONLY, pwrite(8192, 0)),
			differs: "ENOSPC", why: "the version before is kept beside the new one"},
		{what: "a new file", call: in("new", func(p string) error { return os.WriteFile(p, nil, 0o644) })},
		{what: "bytes in a new file", call: with("new", unix.O_WRONLY, pwrite(8192, 0))},
		{what: "size of a new file", call: in("new", size(0))},
		{what: "symlink", call: in("sym", func(p string) error { return os.Symlink("old", p) })},
		{what: "link", call: func(dir string) error { return os.Link(dir+"/old", dir+"/link") }},
		{what: "rename over", call: func(dir string) error { return os.Rename(dir+"/new", dir+"/saved") }},
		{what: "chmod", call: in("old", func(p string) error { return os.Chmod(p, 0o600) })},
		{what: "utimes", call: in("old", func(p string) error { return os.Chtimes(p, time.Now(), time.Now()) })},
		{what: "small xattr", call: in("old", func(p string) error { return unix.Setxattr(p, "user.a", []byte("x"), 0) })},
		{what: "fsync", call: with("old", unix.O_WRONLY, unix.Fsync)},
		{what: "shorten", call: in("old", func(p string) error { return unix.Truncate(p, 5000) })},
		{what: "unlink", call: in("gone", os.Remove)},
	}...)
}

func TestFullDiskIsLikeAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		needFuse(t)
		t.Skip("needs root to mount a small disk")
	}
	s := idleServer(t, 1, "")
	smallDisk(t, filepath.Join(s.dir, "a"), 160)
	disk := filepath.Join(t.TempDir(), "disk")
	tmpfs := smallDisk(t, disk, 48)
	s.start()
	old := bytes.Repeat([]byte("old."), 64<<10)
	for _, dir := range []string{s.mnt(0), disk} {
		for _, name := range []string{"old", "saved", "gone"} {
			must(t, os.WriteFile(filepath.Join(dir, name), old, 0o644))
		}
	}
	s.tell("cut")
	for _, dir := range []string{s.mnt(0), disk} {
		must(t, os.Mkdir(filepath.Join(dir, "fill"), 0o755))
		for quiet := 0; quiet < 5; quiet++ { // what the daemon writes down of it gives some room back
			time.Sleep(200 * time.Millisecond)
			if fillUp(t, filepath.Join(dir, "fill", fmt.Sprint(time.Now().UnixNano()))) > 0 {
				quiet = 0
			}
		}
	}
	compare(t, s.mnt(0), disk, fullTries(old, tmpfs))
	for _, dir := range []string{s.mnt(0), disk} {
		must(t, os.RemoveAll(filepath.Join(dir, "fill")))
		within(t, 20*time.Second, "room in "+dir+" again", func() bool {
			return os.WriteFile(filepath.Join(dir, "again"), old, 0o644) == nil
		})
	}
	if got := read(t, s.path("old")); got != string(old[:5000]) {
		t.Errorf("the file that was shortened on a full disk has %d bytes", len(got))
	}
	s.stop()
	s.start()
	if got := read(t, s.path("old")) + read(t, s.path("again")); got != string(old[:5000])+string(old) {
		t.Errorf("after a restart: %d bytes", len(got))
	}
}

// smallStaging is a mount with little room for what is not cut, and where that is. The server is to end before it.
func smallStaging(t *testing.T) (s *server, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		needFuse(t)
		t.Skip("needs root to mount a small disk")
	}
	s = idleServer(t, 1, "")
	dir = filepath.Join(s.dir, "a", "staging")
	smallDisk(t, dir, 8)
	s.start()
	return s, dir
}

// Other programs may leave no room at all, not even for the rest: then too a file is cut short, or not.
func TestShorteningNeedsNoRoom(t *testing.T) {
	s, staging := smallStaging(t)
	old := bytes.Repeat([]byte("old."), 64<<10)
	must(t, os.WriteFile(s.path("f"), old, 0o644))
	s.tell("cut all")
	f, err := os.OpenFile(s.path("f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("new."), 0)
	must(t, err)
	fillUp(t, filepath.Join(staging, "fill"))
	must(t, f.Truncate(100<<10))
	want := "new." + string(old[4:100<<10])
	if got := read(t, s.path("f")); got != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	must(t, os.Remove(filepath.Join(staging, "fill")))
	must(t, f.Close())
	s.stop()
	s.start()
	if got := read(t, s.path("f")); got != want {
		t.Errorf("after a restart: %d bytes, want %d", len(got), len(want))
	}
}

// What a program has stored in a mapping, and was told does not fit, is not shown as if it were in the file.
func TestPagesThatDoNotFitAreNotShown(t *testing.T) {
	s, staging := smallStaging(t)
	old := strings.Repeat("old.", 64<<10)
	write(t, s.path("f"), old)
	s.tell("cut all")
	f, err := os.OpenFile(s.path("f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	pages, err := unix.Mmap(int(f.Fd()), 0, len(old), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	fillUp(t, filepath.Join(staging, "fill"))
	for i := 0; i < len(pages); i += 4096 {
		copy(pages[i:], "new.")
	}
	if err := unix.Msync(pages, unix.MS_SYNC); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("msync: %v", err)
	}
	within(t, 5*time.Second, "the file as it is", func() bool { return read(t, s.path("f")) == old })
	must(t, os.Remove(filepath.Join(staging, "fill")))
	must(t, unix.Munmap(pages))
	must(t, f.Close())
	s.stop() // before the small disk goes
}

// Where a member may only read, its mount says what a disk that is mounted read-only does.
func TestReadOnlyMemberIsLikeAReadOnlyDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		needFuse(t)
		t.Skip("needs root to mount a disk read-only")
	}
	t.Setenv(readersEnv, "1")
	s := newServer(t, 2, "")
	disk := t.TempDir()
	for _, dir := range []string{s.mnt(0), disk} {
		must(t, os.MkdirAll(filepath.Join(dir, "dir", "sub"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "dir", "g"), []byte("text"), 0o644))
		must(t, os.Symlink("f", filepath.Join(dir, "sym")))
	}
	within(t, 20*time.Second, "the folder at the reader", func() bool {
		_, err := os.Lstat(filepath.Join(s.mnt(1), "sym"))
		return err == nil && holds(filepath.Join(s.mnt(1), "f"), "text")() && holds(filepath.Join(s.mnt(1), "dir", "g"), "text")()
	})
	must(t, unix.Mount(disk, disk, "", unix.MS_BIND, ""))
	defer unix.Unmount(disk, unix.MNT_DETACH)
	must(t, unix.Mount("", disk, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	compare(t, s.mnt(1), disk, readOnlyTries())
	for _, name := range []string{"f", "dir/g"} {
		if got := read(t, filepath.Join(s.mnt(1), name)); got != "text" {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

// whyFirst is a difference in order alone.
const whyFirst = "the kernel does not know that nothing can be changed, and looks at the name first"

func readOnlyTries() []try {
	none := func(int) error { return nil }
	two := func(call func(a, b string) error, a, b string) func(string) error {
		return func(dir string) error { return call(filepath.Join(dir, a), filepath.Join(dir, b)) }
	}
	tries := []try{
		{what: "mkdir", call: in("new", func(p string) error { return unix.Mkdir(p, 0o755) })},
		{what: "mkdir where something is", call: in("dir", func(p string) error { return unix.Mkdir(p, 0o755) })},
		{what: "rmdir", call: in("dir/sub", unix.Rmdir)},
		{what: "rmdir of what is not empty", call: in("dir", unix.Rmdir)},
		{what: "rmdir of nothing", call: in("none", unix.Rmdir),
			differs: "ENOENT", why: whyFirst},
		{what: "unlink", call: in("f", unix.Unlink)},
		{what: "unlink of nothing", call: in("none", unix.Unlink),
			differs: "ENOENT", why: whyFirst},
		{what: "unlink of a directory", call: in("dir", unix.Unlink),
			differs: "EISDIR", why: whyFirst},
		{what: "symlink", call: in("new", func(p string) error { return unix.Symlink("f", p) })},
		{what: "symlink where something is", call: in("f", func(p string) error { return unix.Symlink("f", p) })},
		{what: "link", call: two(unix.Link, "f", "new")},
		{what: "link of nothing", call: two(unix.Link, "none", "new")},
		{what: "link over", call: two(unix.Link, "f", "dir/g")},
		{what: "rename", call: two(unix.Rename, "f", "new")},
		{what: "rename over", call: two(unix.Rename, "f", "dir/g")},
		{what: "rename of nothing", call: two(unix.Rename, "none", "new"),
			differs: "ENOENT", why: whyFirst},
		{what: "mkfifo", call: in("new", func(p string) error { return unix.Mkfifo(p, 0o644) })},
		{what: "chmod", call: in("f", func(p string) error { return unix.Chmod(p, 0o600) })},
		{what: "chown", call: in("f", func(p string) error { return unix.Chown(p, 1, 1) })},
		{what: "lchown of a symlink", call: in("sym", func(p string) error { return unix.Lchown(p, 1, 1) })},
		{what: "truncate", call: in("f", func(p string) error { return unix.Truncate(p, 0) })},
		{what: "utimes", call: in("f", func(p string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, p, make([]unix.Timespec, 2), 0) })},
		{what: "setxattr", call: in("f", func(p string) error { return unix.Setxattr(p, "user.a", []byte("x"), 0) })},
		{what: "removexattr", call: in("f", func(p string) error { return unix.Removexattr(p, "user.a") })},
		{what: "O_TMPFILE", call: with(".", unix.O_TMPFILE|unix.O_RDWR, none)},
		{what: "fchmod", call: with("f", unix.O_RDONLY, func(fd int) error { return unix.Fchmod(fd, 0o600) })},
		{what: "fsync", call: with("f", unix.O_RDONLY, unix.Fsync)},
		{what: "access to write", call: in("f", func(p string) error { return unix.Access(p, unix.W_OK) }),
			differs: "ok", why: "the kernel asks the mode alone, which others may have set"},
	}
	for what, flags := range map[string]int{
		"read": unix.O_RDONLY, "write": unix.O_WRONLY, "both": unix.O_RDWR, "truncate": unix.O_WRONLY | unix.O_TRUNC,
		"create": unix.O_RDWR | unix.O_CREAT, "create alone": unix.O_RDWR | unix.O_CREAT | unix.O_EXCL,
		"read or create": unix.O_RDONLY | unix.O_CREAT, "read, truncate": unix.O_RDONLY | unix.O_TRUNC,
	} {
		for _, name := range []string{"f", "new", "dir"} {
			tries = append(tries, try{what: "open of " + name + " to " + what, call: with(name, flags, none)})
		}
	}
	return tries
}

// The kernel asks for ranges beyond the largest size too, since it knows none.
func TestLargestSizeIsThatOfTheDisk(t *testing.T) {
	s := newServer(t, 1, "")
	disk := t.TempDir()
	var st unix.Statfs_t
	must(t, unix.Statfs(disk, &st))
	if st.Type != unix.EXT4_SUPER_MAGIC || st.Bsize != 4096 {
		t.Skip("the limits of ext4 with blocks of 4 KiB are compared")
	}
	const largest = 1<<44 - 4096
	old := bytes.Repeat([]byte("old."), 64<<10)
	for _, dir := range []string{s.mnt(0), disk} {
		must(t, os.WriteFile(filepath.Join(dir, "f"), old, 0o644))
	}
	s.tell("cut")
	fallocate := func(mode uint32, off, n int64) func(string) error {
		return with("f", unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, mode, off, n) })
	}
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	compare(t, s.mnt(0), disk, []try{
		{what: "punch beyond it", call: fallocate(punch, 0, 1<<50)},
		{what: "zero beyond it", call: fallocate(unix.FALLOC_FL_ZERO_RANGE, 4096, 1<<62)},
		{what: "room beyond it", call: fallocate(0, 0, 1<<50)},
		{what: "write across it", call: with("g", unix.O_RDWR|unix.O_CREAT, pwrite(8192, largest-4096))},
		{what: "size then", call: in("g", size(largest))},
		{what: "write at it", call: with("g", unix.O_RDWR, pwrite(4, largest))},
		{what: "nothing at it", call: with("g", unix.O_RDWR, pwrite(0, largest))},
	})
	s.stop() // and the kernel's pages go
	s.start()
	if got := read(t, s.path("f")); got != string(old) {
		t.Error("what was refused has changed the file")
	}
}
