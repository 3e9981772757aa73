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
