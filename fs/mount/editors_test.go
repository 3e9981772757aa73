package mount_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// saveAs truncates a file and writes it anew, in two calls.
func saveAs(t testing.TB, path, data string, sync bool) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	_, err = f.WriteString(data[:len(data)/2])
	must(t, err)
	_, err = f.WriteString(data[len(data)/2:])
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

// Whatever the ways in which an editor saves, the file is one file elsewhere:
// it keeps its inode, is never missing, and gets no conflict copy.
func TestEditorSavesAreEdits(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s := newServer(t, 2, "")
	path, there := s.path("f.txt"), filepath.Join(s.mnt(1), "f.txt")
	ways := []func(data string){
		func(data string) { // vim
			must(t, os.Rename(path, path+"~"))
			saveAs(t, path, data, true)
			must(t, os.Remove(path+"~"))
		},
		func(data string) { // libreoffice
			saveAs(t, s.path(".~lock.f.txt#"), "me", false)
			saveAs(t, s.path("lu1.tmp"), data, true)
			must(t, os.Rename(s.path("lu1.tmp"), path))
			must(t, os.Remove(s.path(".~lock.f.txt#")))
		},
		func(data string) { saveAs(t, path, data, false) }, // vscode
		func(data string) { // keepassxc
			tmp := path + ".AbCdEf"
			saveAs(t, tmp, data, true)
			if got := read(t, tmp); got != data {
				t.Fatalf("reads back %q", got)
			}
			must(t, os.Rename(tmp, path))
		},
		func(data string) { // gedit
			saveAs(t, s.path(".goutputstream-X"), data, true)
			must(t, os.Rename(s.path(".goutputstream-X"), path))
		},
	}
	write(t, path, "save 0")
	var was, is unix.Stat_t
	sized := func(st *unix.Stat_t, data string) func() bool { // opened, it would get another inode
		return func() bool { return unix.Lstat(there, st) == nil && st.Size == int64(len(data)) }
	}
	within(t, 10*time.Second, "the file is there", sized(&was, "save 0"))
	for i := range 100 {
		ways[r.IntN(len(ways))](fmt.Sprint("save ", i+1))
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond) // a user
		if err := unix.Lstat(there, &is); err != nil {
			t.Fatalf("after save %d: %v", i+1, err)
		}
	}
	s.tell("cut")
	within(t, 10*time.Second, "the last save is there", sized(&is, "save 100"))
	if got := read(t, there); got != "save 100" {
		t.Errorf("the other has %q", got)
	}
	if is.Ino != was.Ino {
		t.Errorf("inode %d, was %d", is.Ino, was.Ino)
	}
	for i := range 2 {
		es, err := os.ReadDir(s.mnt(i))
		must(t, err)
		if len(es) != 1 || strings.Contains(es[0].Name(), "conflict") {
			t.Errorf("member %d has %v", i, es)
		}
	}
}
