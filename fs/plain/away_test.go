package plain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is away, gone, or not heard of.

func TestADiskThatIsAwayRemovesNothing(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	w := newWorld(t, 2)
	a, b := w.members[0], w.members[1]
	disk := t.TempDir()
	must(t, unix.Mount(disk, b.dir, "", unix.MS_BIND, ""))
	mounted := true
	umount := func() {
		within(t, patience, "the disk can be taken out", func() bool { return unix.Unmount(b.dir, 0) == nil })
		mounted = false
	}
	t.Cleanup(func() {
		if mounted {
			unix.Unmount(b.dir, unix.MNT_DETACH)
		}
	})
	a.start()
	b.start()
	for i := range 200 {
		write(t, a.path(fmt.Sprint(i)), "x")
	}
	was := w.still()
	umount()
	write(t, a.path("while away"), "new")
	within(t, patience, "it is said", func() bool { return errors.Is(b.plain.Err(), ErrAway) })
	time.Sleep(2 * goneFor)
	if is := shows(a.dir); is != was+"\n"+`while away -rw-r--r-- "new"` {
		t.Fatalf("shows\n%s", is)
	}
	if all, _ := os.ReadDir(b.dir); len(all) > 0 {
		t.Errorf("%d files written where the disk was", len(all))
	}
	must(t, os.WriteFile(filepath.Join(disk, "7"), []byte("changed elsewhere"), 0o644))
	must(t, unix.Mount(disk, b.dir, "", unix.MS_BIND, ""))
	mounted = true
	within(t, patience, "it goes on", func() bool {
		x, err := os.ReadFile(b.path("while away"))
		y, err2 := os.ReadFile(a.path("7"))
		return err == nil && string(x) == "new" && err2 == nil && string(y) == "changed elsewhere"
	})
	umount() // and once more, for so short that nobody sees it
	must(t, os.WriteFile(filepath.Join(disk, "8"), []byte("again"), 0o644))
	must(t, unix.Mount(disk, b.dir, "", unix.MS_BIND, ""))
	mounted = true
	within(t, patience, "what was written while it was away is found", func() bool {
		x, err := os.ReadFile(a.path("8"))
		return err == nil && string(x) == "again"
	})
	b.end()
}

func TestADirectoryWithoutItsMarkIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	write(t, a.path("f"), "1")
	w.same(`f -rw-r--r-- "1"`)
	b.end()
	must(t, os.RemoveAll(b.dir))
	must(t, os.Mkdir(b.dir, 0o755)) // as whoever tidies up makes it
	write(t, b.path("g"), "not of the folder")
	b.start()
	if err := b.plain.Err(); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "disk") {
		t.Errorf("says %v", err)
	}
	time.Sleep(2 * goneFor)
	if is := shows(a.dir); is != `f -rw-r--r-- "1"` {
		t.Errorf("shows %s", is)
	}
	if is := shows(b.dir); is != `g -rw-r--r-- "not of the folder"` {
		t.Errorf("shows %s", is)
	}
	if _, err := New(b.folder, a.dir, Options{New: true}); !errors.Is(err, ErrForeign) {
		t.Errorf("takes the directory of another: %v", err)
	}
}

func TestManyFilesThatAreGoneAreAskedAbout(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	must(t, os.Mkdir(a.path("d"), 0o755))
	for i := range 150 {
		write(t, a.path("d", fmt.Sprint(i)), fmt.Sprint(i))
	}
	write(t, a.path("stays"), "1")
	was := w.still()
	held := func() bool { n, _ := b.plain.Held(); return n == 150 }
	must(t, os.RemoveAll(b.path("d")))
	within(t, patience, "it is asked", held)
	if n := b.plain.Notices(); len(n) != 1 || !strings.Contains(n[0].Text, "150 of 151 files are gone") {
		t.Errorf("says %v", n)
	}
	write(t, b.path("more"), "goes on")
	within(t, patience, "the rest goes on", func() bool { _, err := os.Stat(a.path("more")); return err == nil })
	if _, err := os.Stat(a.path("d", "7")); err != nil {
		t.Fatal(err)
	}
	must(t, b.plain.Restore())
	w.same(append(strings.Split(was, "\n"), `more -rw-r--r-- "goes on"`)...)
	if n, _ := b.plain.Held(); n != 0 {
		t.Errorf("%d held still", n)
	}
	must(t, os.RemoveAll(b.path("d")))
	within(t, patience, "it is asked again", held)
	must(t, b.plain.Accept())
	w.same(`more -rw-r--r-- "goes on"`, `stays -rw-r--r-- "1"`)
	if err := b.plain.Accept(); !errors.Is(err, ErrNothingHeld) {
		t.Errorf("accepts nothing: %v", err)
	}
}

func TestFilesThatAreGoneAndComeBackWereNeverGone(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	must(t, os.Mkdir(a.path("d"), 0o755))
	for i := range 150 {
		write(t, a.path("d", fmt.Sprint(i)), fmt.Sprint(i))
	}
	w.still()
	elsewhere := filepath.Join(t.TempDir(), "d")
	must(t, os.Rename(a.path("d"), elsewhere))
	within(t, patience, "it is asked", func() bool { n, _ := a.plain.Held(); return n == 150 })
	must(t, os.Rename(elsewhere, a.path("d")))
	within(t, patience, "it is no more", func() bool { n, _ := a.plain.Held(); return n == 0 })
	if n := len(a.plain.Notices()); n > 0 {
		t.Errorf("%d notices", n)
	}
}

func TestALostEventIsMadeUpFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	a, b := w.members[0], w.members[1]
	a.tune = func(d *Dir) { d.watch.burst, d.watch.c = 16, make(chan event, 16) }
	a.start()
	b.start()
	write(t, a.path("first"), "1")
	w.still()
	a.plain.mu.Lock() // nobody takes what the watcher tells
	for i := range 40 {
		must(t, os.Mkdir(a.path(fmt.Sprint(i)), 0o755))
		write(t, a.path(fmt.Sprint(i), "f"), "x")
	}
	a.plain.mu.Unlock()
	within(t, patience, "all is there", func() bool {
		for i := range 40 {
			if _, err := os.Stat(b.path(fmt.Sprint(i), "f")); err != nil {
				return false
			}
		}
		return true
	})
}

func TestAReaderWritesNothingToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	a, b := w.members[0], w.members[1]
	b.reader = true
	a.start()
	b.start()
	write(t, a.path("f"), "1")
	write(t, a.path("g"), "1")
	w.same(`f -rw-r--r-- "1"`, `g -rw-r--r-- "1"`)
	write(t, b.path("f"), "mine")
	write(t, b.path("own"), "mine")
	within(t, patience, "it is said", func() bool { return len(b.plain.Notices()) == 2 })
	write(t, a.path("f"), "2")
	within(t, patience, "theirs is there, and mine beside it", func() bool {
		got := shows(b.dir)
		return strings.Contains(got, `f -rw-r--r-- "2"`) && strings.Count(got, `"mine"`) == 2
	})
	if is := shows(a.dir); is != "f -rw-r--r-- \"2\"\ng -rw-r--r-- \"1\"" {
		t.Errorf("shows %s", is)
	}
}
