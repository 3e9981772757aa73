package mount_test

import (
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onDisk is how many bytes the files of one member take.
func onDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() {
			n += fi.Size()
		}
		return nil
	}))
	return n
}

// copyAll copies a file as cp does.
func copyAll(t *testing.T, from, to string) (calls int) {
	t.Helper()
	a, err := os.Open(from)
	must(t, err)
	defer a.Close()
	b, err := os.Create(to)
	must(t, err)
	defer b.Close()
	for {
		n, err := unix.CopyFileRange(int(a.Fd()), nil, int(b.Fd()), nil, 1<<30, 0)
		must(t, err)
		if calls++; n == 0 {
			return calls
		}
	}
}

// A copy of a large file takes no room, and can be written to.
func TestCopyOfALargeFileSharesItsBlocks(t *testing.T) {
	s := newServer(t, 2, "")
	data := make([]byte, 40<<20)
	rand.New(rand.NewSource(1)).Read(data)
	must(t, os.WriteFile(s.path("f"), data, 0o644))
	s.tell("cut all")
	a := filepath.Join(s.dir, "a")
	before := onDisk(t, a)
	if n := copyAll(t, s.path("f"), s.path("copy")); n != 2 {
		t.Errorf("copied in %d calls", n)
	}
	if got := read(t, s.path("copy")); got != string(data) {
		t.Fatalf("the copy differs: %d bytes", len(got))
	}
	within(t, 20*time.Second, "the copy on the other side", holds(filepath.Join(s.mnt(1), "copy"), string(data)))
	copyAll(t, s.path("f"), s.path("another"))
	must(t, os.Rename(s.path("another"), s.path("copy"))) // its first one is in the history
	f, err := os.OpenFile(s.path("copy"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("patched"), 5000)
	must(t, err)
	_, err = f.WriteAt([]byte("grown"), int64(len(data)))
	must(t, err)
	must(t, f.Sync())
	must(t, os.Remove(s.path("f")))
	want := append(data, "grown"...)
	copy(want[5000:], "patched")
	s.kill()
	s.start()
	if got := read(t, s.path("copy")); got != string(want) {
		t.Errorf("after a kill the copy differs: %d bytes", len(got))
	}
	s.tell("cut all")
	if grown := onDisk(t, a) - before; grown > 8<<20 {
		t.Errorf("the copy takes %d bytes", grown)
	}
	within(t, 20*time.Second, "the copy on the other side", holds(filepath.Join(s.mnt(1), "copy"), string(want)))
}
