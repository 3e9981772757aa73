package mount_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What was written to a file that is unlinked before it is cut goes with its name.
// Where others have moved the file, it is shown with the bytes that they know.
func TestUnlinkedFileComesBackWithoutItsBytes(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	must(t, os.Mkdir(filepath.Join(a, "d"), 0o755))
	write(t, filepath.Join(a, "f"), "agreed upon")
	within(t, 10*time.Second, "the file", holds(filepath.Join(b, "f"), "agreed upon"))
	s.tell("part")
	must(t, os.Rename(filepath.Join(a, "f"), filepath.Join(a, "d", "g")))
	s.tell("cut")

	old, err := os.OpenFile(filepath.Join(b, "f"), os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	_, err = old.WriteString("staged")
	must(t, err)
	must(t, os.Rename(filepath.Join(b, "f"), filepath.Join(b, "f~")))
	f, err := os.Create(filepath.Join(b, "f")) // as long as it is open, nothing of this is cut
	must(t, err)
	_, err = f.WriteString("new")
	must(t, err)
	must(t, old.Close())
	must(t, os.Remove(filepath.Join(b, "f~")))

	s.tell("join")
	g := filepath.Join(b, "d", "g")
	within(t, 10*time.Second, "what others have moved", func() bool { _, err := os.Stat(g); return err == nil })
	shows := func(when string) {
		fi, err := os.Stat(g)
		must(t, err)
		if got := read(t, g); got != "agreed upon" || fi.Size() != int64(len(got)) {
			t.Errorf("%s the cut: %q, of size %d", when, got, fi.Size())
		}
	}
	shows("before")
	must(t, f.Close())
	s.tell("cut")
	within(t, 10*time.Second, "the new file", holds(filepath.Join(a, "f"), "new"))
	shows("after")
}
