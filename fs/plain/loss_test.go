package plain

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What could lose bytes, or remove what nobody has removed.

func TestWhatAProgramHasOpenForWritingIsNotReplaced(t *testing.T) {
	for name, others := range map[string]func(path string) error{
		"edited by others":  func(path string) error { return os.WriteFile(path, []byte("theirs"), 0o644) },
		"removed by others": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, 2)
			a, b := w.members[0], w.members[1]
			write(t, a.path("f"), "before")
			w.same(`f -rw-r--r-- "before"`)
			f, err := os.OpenFile(b.path("f"), os.O_RDWR, 0)
			must(t, err)
			must(t, others(a.path("f")))
			time.Sleep(settle + time.Second)
			_, err = f.WriteAt([]byte("mine, late"), 0)
			must(t, errors.Join(err, f.Close()))
			if got := w.still(); !strings.Contains(got, `"mine, late"`) {
				t.Errorf("shows\n%s", got)
			}
		})
	}
}

func TestAnOldCopyOverwritesNothing(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a := w.members[0]
	write(t, a.path("f"), "old")
	w.same(`f -rw-r--r-- "old"`)
	write(t, a.path("f"), "new")
	w.same(`f -rw-r--r-- "new"`)
	a.end()
	a.dir, a.opts.New = t.TempDir(), true // as if it were kept elsewhere from now on, where a backup is
	write(t, a.path("f"), "old")
	a.start()
	if got := w.still(); !strings.Contains(got, `f -rw-r--r-- "new"`) || !strings.Contains(got, `"old"`) {
		t.Errorf("shows\n%s", got)
	}
}

func TestADirectoryThatBecomesALinkIsAskedAbout(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	must(t, os.Mkdir(a.path("d"), 0o755))
	for i := range 150 {
		write(t, a.path("d", fmt.Sprint(i)), "x")
	}
	w.still()
	elsewhere := t.TempDir()
	must(t, os.Rename(b.path("d"), elsewhere+"/d"))
	must(t, os.Symlink(elsewhere+"/d", b.path("d")))
	within(t, patience, "it is asked", func() bool { n, _ := b.plain.Held(); return n == 150 })
	if _, err := os.Stat(a.path("d", "7")); err != nil {
		t.Fatal(err)
	}
	must(t, b.plain.Accept())
	w.same("d -> " + elsewhere + "/d")
}

func TestWhatIsAcceptedIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	must(t, os.Mkdir(a.path("d"), 0o755))
	for i := range 150 {
		write(t, a.path("d", fmt.Sprint(i)), fmt.Sprint(i))
	}
	w.still()
	elsewhere := t.TempDir() + "/d"
	held := func() bool { n, _ := a.plain.Held(); return n == 150 }
	must(t, os.Rename(a.path("d"), elsewhere))
	within(t, patience, "it is asked", held)
	must(t, os.Rename(elsewhere, a.path("d")))                    // it comes back as somebody says so
	if err := a.plain.Accept(); !errors.Is(err, ErrNothingHeld) { // that it is back was seen first
		must(t, err)
	}
	within(t, patience, "nothing is kept back", func() bool { n, _ := a.plain.Held(); return n == 0 })
	w.still()
	if st, err := a.folder.Stats(); err != nil || st.Files != 150 {
		t.Fatalf("%+v, %v", st, err)
	}
	must(t, os.Rename(a.path("d"), elsewhere))
	within(t, patience, "it is asked again", held)
}

func TestANewDirectoryInTheOldOnesPlaceStays(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	must(t, os.Mkdir(a.path("z"), 0o755))
	write(t, a.path("z", "f"), "1")
	w.still()
	a.end()
	must(t, os.Rename(a.path("z"), a.path("b")))
	must(t, os.Mkdir(a.path("z"), 0o755))
	a.start()
	w.same("b/", `b/f -rw-r--r-- "1"`, "z/")
	time.Sleep(2 * goneFor)
	w.same("b/", `b/f -rw-r--r-- "1"`, "z/")
}

func TestADirectoryThatNobodyMayWriteToIsFilled(t *testing.T) {
	if asUser(t, nil) {
		return
	}
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	must(t, os.Mkdir(a.path("d"), 0o555))
	must(t, os.Chmod(a.path("d"), 0o755))
	write(t, a.path("d", "f"), "1")
	must(t, os.Chmod(a.path("d"), 0o555)) // who may not write to it gets what is in it all the same
	within(t, patience, "it is there", func() bool { got, err := os.ReadFile(b.path("d", "f")); return err == nil && string(got) == "1" })
	must(t, os.Chmod(a.path("d"), 0o755))
}
