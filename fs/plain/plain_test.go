package plain

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

func TestWhatIsWrittenOnOneDiskIsOnTheOther(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	must(t, os.MkdirAll(a.path("d", "e"), 0o755))
	write(t, a.path("d", "e", "f"), "one")
	must(t, os.Symlink("e/f", a.path("d", "l")))
	w.same("d/", "d/e/", `d/e/f -rw-r--r-- "one"`, "d/l -> e/f")
	write(t, b.path("d", "e", "f"), "two")
	must(t, os.Chmod(b.path("d", "e", "f"), 0o600))
	w.same("d/", "d/e/", `d/e/f -rw------- "two"`, "d/l -> e/f")
	must(t, os.Rename(a.path("d"), a.path("x")))
	w.same("x/", "x/e/", `x/e/f -rw------- "two"`, "x/l -> e/f")
	must(t, os.RemoveAll(b.path("x", "e")))
	w.same("x/", "x/l -> e/f")
	old := time.Unix(1e9, 5000)
	write(t, a.path("y"), "t")
	must(t, os.Chtimes(a.path("y"), old, old))
	w.same("x/", "x/l -> e/f", `y -rw-r--r-- "t"`)
	within(t, patience, "the time is that of the other", func() bool {
		info, err := os.Stat(b.path("y"))
		return err == nil && info.ModTime().Equal(old)
	})
}

func TestWhatHappensWhileADaemonIsAwayIsFound(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	must(t, os.MkdirAll(a.path("p", "q"), 0o755))
	for _, n := range []string{"edit", "go", "move"} {
		write(t, a.path("p", "q", n), n)
	}
	w.still()
	b.end()
	write(t, b.path("p", "q", "edit"), "edited")
	must(t, os.Remove(b.path("p", "q", "go")))
	must(t, os.Rename(b.path("p", "q", "move"), b.path("moved")))
	must(t, os.Rename(b.path("p"), b.path("dir")))
	write(t, b.path("dir", "new"), "new")
	write(t, a.path("p", "theirs"), "theirs")
	b.start()
	w.same("dir/", "dir/q/", `dir/q/edit -rw-r--r-- "edited"`, `dir/new -rw-r--r-- "new"`, `dir/theirs -rw-r--r-- "theirs"`, `moved -rw-r--r-- "move"`)
}

// inode tells which file is at a path.
func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st.Ino
}

func TestATreeThatIsRenamedMovesNoData(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	must(t, os.MkdirAll(a.path("old", "deep"), 0o755))
	for i := range 50 {
		write(t, a.path("old", "deep", fmt.Sprint(i)), strings.Repeat(fmt.Sprint(i), 100_000))
	}
	w.still()
	had := map[string]uint64{}
	for i := range 50 {
		had[fmt.Sprint(i)] = inode(t, b.path("old", "deep", fmt.Sprint(i)))
	}
	must(t, os.Mkdir(a.path("into"), 0o755))
	must(t, os.Rename(a.path("old"), a.path("into", "new")))
	within(t, patience, "it is there", func() bool { _, err := os.Stat(b.path("into", "new", "deep", "7")); return err == nil })
	for n, ino := range had {
		if is := inode(t, b.path("into", "new", "deep", n)); is != ino {
			t.Errorf("%s was written anew", n)
		}
	}
	if n := b.plain.wrote.Load(); n != 50 {
		t.Errorf("%d files written for 50", n)
	}
}

func TestWhatChangesPlacesChangesThemEverywhere(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	for _, d := range []string{"x", "y", "z"} {
		must(t, os.Mkdir(a.path(d), 0o755))
		write(t, a.path(d, d), d)
		write(t, a.path("file"+d), d)
	}
	w.still()
	inos := map[string]uint64{}
	for _, d := range []string{"x", "y", "z"} {
		inos[d] = inode(t, b.path(d, d))
	}
	swap := func(m *member, p, q string) {
		must(t, unix.Renameat2(unix.AT_FDCWD, m.path(p), unix.AT_FDCWD, m.path(q), unix.RENAME_EXCHANGE))
	}
	swap(a, "x", "y")
	swap(a, "y", "z") // x: y's, y: z's, z: x's
	swap(a, "filex", "filey")
	w.same("x/", "y/", "z/", `x/y -rw-r--r-- "y"`, `y/z -rw-r--r-- "z"`, `z/x -rw-r--r-- "x"`,
		`filex -rw-r--r-- "y"`, `filey -rw-r--r-- "x"`, `filez -rw-r--r-- "z"`)
	for in, of := range map[string]string{"x": "y", "y": "z", "z": "x"} {
		if inode(t, b.path(in, of)) != inos[of] {
			t.Errorf("%s/%s was written anew", in, of)
		}
	}
	must(t, os.Rename(b.path("x"), b.path("y", "x"))) // a directory into its neighbour, which goes into a new one
	must(t, os.Mkdir(b.path("n"), 0o755))
	must(t, os.Rename(b.path("y"), b.path("n", "x")))
	w.same("n/", "n/x/", "n/x/x/", `n/x/x/y -rw-r--r-- "y"`, `n/x/z -rw-r--r-- "z"`, "z/", `z/x -rw-r--r-- "x"`,
		`filex -rw-r--r-- "y"`, `filey -rw-r--r-- "x"`, `filez -rw-r--r-- "z"`)
}

// saves are the ways in which editors write a file anew.
var saves = map[string]func(path, data string) error{
	"in place": func(p, d string) error { return os.WriteFile(p, []byte(d), 0o644) },
	"rename over": func(p, d string) error { // gedit, VS Code, most
		return errors.Join(os.WriteFile(p+".tmp", []byte(d), 0o644), os.Rename(p+".tmp", p))
	},
	"backup by rename": func(p, d string) error { // vim
		return errors.Join(os.Rename(p, p+"~"), os.WriteFile(p, []byte(d), 0o644), os.Remove(p+"~"))
	},
	"backup that stays": func(p, d string) error { // emacs
		return errors.Join(os.Rename(p, p+"~"), os.WriteFile(p, []byte(d), 0o644))
	},
	"removed and made anew": func(p, d string) error {
		return errors.Join(os.Remove(p), os.WriteFile(p, []byte(d), 0o644))
	},
	"lock beside": func(p, d string) error { // LibreOffice
		lock := filepath.Join(filepath.Dir(p), ".~lock."+filepath.Base(p)+"#")
		return errors.Join(os.WriteFile(lock, []byte("me"), 0o644), os.WriteFile(p+".new", []byte(d), 0o644), os.Rename(p+".new", p), os.Remove(lock))
	},
}

func TestAFileThatEditorsSaveMakesNoConflict(t *testing.T) {
	t.Parallel()
	for name, save := range saves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, 2)
			a, b := w.members[0], w.members[1]
			write(t, a.path("doc"), "0")
			w.same(`doc -rw-r--r-- "0"`)
			for i, m := range []*member{a, b, a, a} {
				data := fmt.Sprint(i + 1)
				must(t, save(m.path("doc"), data))
				want := []string{fmt.Sprintf("doc -rw-r--r-- %q", data)}
				if name == "backup that stays" {
					want = append(want, fmt.Sprintf("doc~ -rw-r--r-- %q", fmt.Sprint(i)))
				}
				w.same(want...)
			}
		})
	}
}

func TestBothSidesOfAConflictAreOnEveryDisk(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	write(t, a.path("f"), "0")
	write(t, a.path("edited and removed"), "0")
	w.still()
	w.apart.Store(true)
	write(t, a.path("f"), "a")
	write(t, b.path("f"), "b")
	write(t, a.path("edited and removed"), "1")
	must(t, os.Remove(b.path("edited and removed")))
	write(t, a.path("new"), "of a")
	write(t, b.path("new"), "of b")
	within(t, patience, "all is cut", func() bool {
		return a.folder.Knowledge().Get(a.folder.Replica()) > 3 && b.folder.Knowledge().Get(b.folder.Replica()) > 1
	})
	time.Sleep(goneFor + time.Second)
	w.apart.Store(false)
	got := w.still()
	for _, want := range []string{`"a"`, `"b"`, `"of a"`, `"of b"`, `edited and removed -rw-r--r-- "1"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is nowhere:\n%s", want, got)
		}
	}
	if n := strings.Count(got, model.ConflictMark); n != 2 {
		t.Errorf("%d conflict copies:\n%s", n, got)
	}
}

func TestADirectoryThatIsFullIsTakenInWhenItJoins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	a, b := w.members[0], w.members[1]
	for _, m := range w.members {
		must(t, os.MkdirAll(m.path("d"), 0o755))
		write(t, m.path("d", "same"), strings.Repeat("same", 100_000))
		write(t, m.path("d", "differs"), m.name)
		write(t, m.path("only "+m.name), m.name)
	}
	a.start()
	within(t, patience, "the first has its own", func() bool { return a.folder.Knowledge().Get(a.folder.Replica()) > 3 })
	was := inode(t, b.path("d", "same"))
	b.start()
	got := w.still()
	lines := strings.Split(got, "\n")
	if len(lines) != 6 || strings.Count(got, model.ConflictMark) != 1 || !strings.Contains(got, `d/differs -rw-r--r-- "a"`) || !strings.Contains(got, `"b"`) {
		t.Errorf("shows\n%s", got)
	}
	if inode(t, b.path("d", "same")) != was {
		t.Error("what was there was written anew")
	}
}

func TestADatabaseGoesWithItsJournal(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	for i, m := range []*member{a, b, a} {
		data := strings.Repeat(fmt.Sprint(i), 100_000)
		write(t, m.path("x.db"), data)
		write(t, m.path("x.db-wal"), data+"wal")
		within(t, patience, "both are there", func() bool {
			for _, m := range w.members {
				x, err := os.ReadFile(m.path("x.db"))
				y, err2 := os.ReadFile(m.path("x.db-wal"))
				if err != nil || err2 != nil || string(x) != data || string(y) != data+"wal" {
					return false
				}
			}
			return true
		})
	}
}

func TestHardLinksAreOneFileOnEveryDisk(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	write(t, a.path("one"), "1")
	w.same(`one -rw-r--r-- "1"`)
	must(t, os.Link(a.path("one"), a.path("two")))
	w.same(`one -rw-r--r-- "1"`, `two -rw-r--r-- "1"`)
	if inode(t, b.path("one")) != inode(t, b.path("two")) {
		t.Error("two files")
	}
	f, err := os.OpenFile(b.path("two"), os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	_, err = f.WriteString("2")
	must(t, errors.Join(err, f.Close()))
	w.same(`one -rw-r--r-- "2"`, `two -rw-r--r-- "2"`)
	write(t, a.path("tmp"), "3")
	must(t, os.Rename(a.path("tmp"), a.path("one")))
	w.same(`one -rw-r--r-- "3"`, `two -rw-r--r-- "2"`)
}

func TestExtendedAttributesGoBothWays(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	write(t, a.path("f"), "1")
	if err := unix.Setxattr(a.path("f"), "user.of", []byte("a"), 0); err == unix.ENOTSUP {
		t.Skip("the disk has none")
	}
	has := func(m *member, want string) func() bool {
		return func() bool {
			buf := make([]byte, 100)
			n, err := unix.Getxattr(m.path("f"), "user.of", buf)
			return err == nil && string(buf[:n]) == want
		}
	}
	within(t, patience, "b has a's", has(b, "a"))
	must(t, unix.Setxattr(b.path("f"), "user.of", []byte("b"), 0))
	within(t, patience, "a has b's", has(a, "b"))
}

func TestWhatIsIgnoredStaysHere(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	write(t, a.path(IgnoreFile), "# comment\n*.o\n/build/\n!keep.o\nsub/**/x\n")
	must(t, os.MkdirAll(a.path("build", "in"), 0o755))
	must(t, os.MkdirAll(a.path("sub", "deep"), 0o755))
	for _, n := range []string{"a.o", "keep.o", "build/in/f", "sub/deep/x", "sub/deep/y", "c"} {
		write(t, a.path(n), n)
	}
	within(t, patience, "the rest is there", func() bool {
		_, err := os.Stat(b.path("c"))
		_, err2 := os.Stat(b.path("sub", "deep", "y"))
		_, err3 := os.Stat(b.path("keep.o"))
		return errors.Join(err, err2, err3) == nil
	})
	time.Sleep(time.Second)
	for _, n := range []string{"a.o", "build", "sub/deep/x"} {
		if _, err := os.Stat(b.path(n)); err == nil {
			t.Errorf("%s is there", n)
		}
	}
	must(t, os.RemoveAll(b.path("sub"))) // a directory with something ignored in it stays, for its member alone
	within(t, patience, "what was shared is gone", func() bool { _, err := os.Stat(a.path("sub", "deep", "y")); return err != nil })
	time.Sleep(2 * time.Second)
	if _, err := os.Stat(a.path("sub", "deep", "x")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.path("sub")); err == nil {
		t.Errorf("it came back:\n%v\n%v", a, b)
	}
	write(t, a.path("sub", "more"), "not ignored")
	within(t, patience, "it comes back with what is new", func() bool { _, err := os.Stat(b.path("sub", "more")); return err == nil })
}

func TestNamesThatDifferInCase(t *testing.T) {
	t.Parallel()
	t.Run("are two where names are bytes", func(t *testing.T) {
		w := start(t, 2)
		write(t, w.members[0].path("Twin"), "T")
		write(t, w.members[1].path("twin"), "t")
		w.same(`Twin -rw-r--r-- "T"`, `twin -rw-r--r-- "t"`)
	})
	t.Run("are one where they are portable", func(t *testing.T) {
		w := newWorld(t, 2)
		for _, m := range w.members {
			m.names = model.NamesPortable
			m.start()
		}
		a, b := w.members[0], w.members[1]
		write(t, a.path("Twin"), "T")
		w.same(`Twin -rw-r--r-- "T"`)
		write(t, a.path("twin"), "t")
		got := ""
		within(t, patience, "both are there, under names that differ", func() bool {
			got = shows(b.dir)
			return strings.Contains(got, `Twin -rw-r--r-- "T"`) && strings.Contains(got, `"t"`) && strings.Count(got, "\n") == 1
		})
		if strings.Contains(got, "twin -rw") {
			t.Error(got)
		}
		must(t, os.Rename(b.path("Twin"), b.path("TWIN")))
		within(t, patience, "it is spelt anew", func() bool { _, err := os.Stat(a.path("TWIN")); return err == nil })
	})
}

func TestAFileThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	f, err := os.Create(a.path("log"))
	must(t, err)
	defer f.Close()
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	stop := time.Now().Add(2 * time.Second)
	n := 0
	for time.Now().Before(stop) { // closed and opened again, so that it is tried
		for range 4 {
			_, err := f.Write(block)
			must(t, err)
			n++
		}
		must(t, f.Close())
		f, err = os.OpenFile(a.path("log"), os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		if b, err := os.ReadFile(b.path("log")); err == nil && len(b)%len(block) != 0 {
			t.Fatalf("a torn file of %d bytes is there", len(b))
		}
	}
	must(t, f.Close())
	within(t, patience, "all of it is there", func() bool {
		info, err := os.Stat(b.path("log"))
		return err == nil && info.Size() == int64(n*len(block))
	})
	x, err := os.ReadFile(b.path("log"))
	must(t, err)
	if !bytes.Equal(x, bytes.Repeat(block, n)) {
		t.Error("other bytes are there")
	}
}

func TestALayerFailsOnceItsFileHasChanged(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	a.end()
	a.on.Store(true)
	path := a.path("f")
	write(t, path, "one")
	f, err := os.Open(path)
	must(t, err)
	st, err := statFd(int(f.Fd()))
	must(t, err)
	l := &layer{f: f, was: st}
	l.group = []*layer{l}
	buf := make([]byte, 3)
	if _, err := l.ReadAt(buf, 0); err != nil || string(buf) != "one" {
		t.Fatalf("%q, %v", buf, err)
	}
	time.Sleep(20 * time.Millisecond) // the clock of a filesystem is coarse
	write(t, path, "two")
	if _, err := l.ReadAt(buf, 0); !errors.Is(err, syncer.ErrChanged) {
		t.Errorf("reads %q, %v", buf, err)
	}
	must(t, l.Close())
	a.on.Store(false)
}

func TestAFileThatIsOpenForWritingWaits(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	f, err := os.Create(a.path("f"))
	must(t, err)
	_, err = f.WriteString("half")
	must(t, err)
	time.Sleep(settle + time.Second)
	if _, err := os.Stat(b.path("f")); err == nil {
		t.Error("half of it is there")
	}
	_, err = f.WriteString(", and all")
	must(t, errors.Join(err, f.Close()))
	w.same(`f -rw-r--r-- "half, and all"`)
}

var manyFiles = flag.Int("many", 2000, "how many files TestManyFilesGoBothWays has")

func TestManyFilesGoBothWays(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	w := start(t, 2)
	n := *manyFiles / 2 // on each
	for _, m := range w.members {
		for i := range n {
			dir := m.path(m.name, fmt.Sprint(i/100))
			if i%100 == 0 {
				must(t, os.MkdirAll(dir, 0o755))
			}
			write(t, filepath.Join(dir, fmt.Sprint(i)), fmt.Sprintf("%d of %s", i, m.name))
		}
	}
	count := func(m *member) (files int) {
		filepath.Walk(m.dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() && !strings.Contains(path, "/"+ours) {
				files++
			}
			return nil
		})
		return files
	}
	within(t, 4*time.Minute+time.Duration(n)*50*time.Millisecond, "all are on both", func() bool {
		time.Sleep(200 * time.Millisecond)
		return count(w.members[0]) == 2*n && count(w.members[1]) == 2*n
	})
	if w.members[0].dir, w.members[1].dir = w.members[1].dir, w.members[0].dir; shows(w.members[0].dir) != shows(w.members[1].dir) {
		t.Error("they differ")
	}
	w.members[0].dir, w.members[1].dir = w.members[1].dir, w.members[0].dir
}
