package mount_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who writes to a file that others have changed or removed since it was opened finds
// that under a name.
func TestWritersLoseNothingToOthers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		do    func(t *testing.T, path string)
		plain string // what is there under the name in the end
		copy  string // and under that of a conflict copy
	}{
		{"changed", func(t *testing.T, path string) { write(t, path, "theirs") }, "theirs", "oldmine"},
		{"replaced", func(t *testing.T, path string) {
			write(t, path+".new", "theirs")
			must(t, os.Rename(path+".new", path))
		}, "theirs", "oldmine"},
		{"removed", func(t *testing.T, path string) { must(t, os.Remove(path)) }, "oldmine", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, 2, "")
			a, b := filepath.Join(s.mnt(0), "log"), filepath.Join(s.mnt(1), "log")
			write(t, a, "old")
			within(t, 10*time.Second, "file on the other side", holds(b, "old"))
			f, err := os.OpenFile(b, os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			defer f.Close()
			tt.do(t, a)
			within(t, 10*time.Second, "what others did", func() bool {
				data, err := os.ReadFile(b)
				return string(data) == "theirs" || os.IsNotExist(err)
			})
			_, err = f.WriteString("mine")
			must(t, err)
			must(t, f.Sync())
			var st unix.Stat_t
			must(t, unix.Fstat(int(f.Fd()), &st))
			if st.Nlink != 1 {
				t.Errorf("%d links", st.Nlink)
			}
			must(t, f.Close())
			for i := range 2 {
				dir := s.mnt(i)
				within(t, 10*time.Second, "all of it in "+dir, func() bool {
					copied := ""
					es, err := os.ReadDir(dir)
					must(t, err)
					for _, e := range es {
						if strings.Contains(e.Name(), "(conflict, ") {
							data, _ := os.ReadFile(filepath.Join(dir, e.Name()))
							copied += string(data)
						}
					}
					data, _ := os.ReadFile(filepath.Join(dir, "log"))
					return string(data) == tt.plain && copied == tt.copy
				})
			}
		})
	}
}

// What writes nothing brings nothing back.
func TestRefusedWritesBringNothingBack(t *testing.T) {
	for name, do := range map[string]func(fd int) error{
		"a write that is refused": func(fd int) error { _, err := unix.Pwrite(fd, []byte("x"), 1<<62); return err },
		"its own size":            func(fd int) error { return unix.Ftruncate(fd, 3) },
		"room that is refused":    func(fd int) error { return unix.Fallocate(fd, 0, 0, 1<<50) },
		"room":                    func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, 2, "")
			a, b := filepath.Join(s.mnt(0), "log"), filepath.Join(s.mnt(1), "log")
			write(t, a, "old")
			within(t, 10*time.Second, "file on the other side", holds(b, "old"))
			f, err := os.OpenFile(b, os.O_RDWR, 0)
			must(t, err)
			must(t, os.Remove(a))
			within(t, 10*time.Second, "what others did", func() bool { _, err := os.Stat(b); return os.IsNotExist(err) })
			t.Log(do(int(f.Fd())))
			f.Close()
			s.tell("cut")
			for _, path := range []string{a, b} {
				if data, err := os.ReadFile(path); err == nil {
					t.Errorf("%s is back: %q", path, data)
				}
			}
		})
	}
}
