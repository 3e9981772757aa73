package mount_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const bulkFiles = 10_000

// bulk has so many files of a kibibyte made elsewhere come in at once, into a directory that is watched by who does
// not read what it hears, and returns how long that took and what was heard in the end.
func bulk(t testing.TB, s *server, dir string, files int) (time.Duration, []heard) {
	t.Helper()
	a, b := filepath.Join(s.mnt(0), dir), filepath.Join(s.mnt(1), dir)
	must(t, os.Mkdir(a, 0o755))
	within(t, 10*time.Second, "the directory", func() bool { _, err := os.Stat(b); return err == nil })
	w := attend(t, unix.IN_ALL_EVENTS, b)
	s.tell("part")
	for i := range files {
		write(t, filepath.Join(a, fmt.Sprintf("file%05d", i)), strings.Repeat(fmt.Sprintf("%08d", i), 128))
	}
	s.tell("cut")
	start := time.Now()
	s.tell("join")
	s.tell("synced")
	took := time.Since(start)
	es, err := os.ReadDir(b)
	if err != nil || len(es) != files {
		t.Fatalf("%d files, %v", len(es), err)
	}
	w.listen(t)
	last := 0
	within(t, 10*time.Second, "no more events", func() bool {
		n := len(w.heard())
		rests := n == last && n > 0 && time.Since(w.heard()[n-1].at) > 700*time.Millisecond
		last = n
		return rests
	})
	return took, w.heard()
}

func TestManyFilesAtOnceDoNotDrownWatchers(t *testing.T) {
	s := newServer(t, 2, "")
	_, got := bulk(t, s, "many", bulkFiles)
	made := 0
	for _, h := range got {
		if strings.Contains(h.what, "Q_OVERFLOW") {
			t.Fatal("the watcher's queue ran over")
		}
		if h.what == "CREATE" {
			made++
		}
	}
	if made < 100 || made > bulkFiles/2 {
		t.Errorf("%d files were told one by one", made)
	}
	s.tell("silent")
}

// Of a tree that a peer removes at once, who watches each directory hears that each is gone, though not of each file.
func TestWatchersHearOfEachDirectoryThatGoes(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := filepath.Join(s.mnt(0), "tree"), filepath.Join(s.mnt(1), "tree")
	const dirs, files = 100, 30 // more files than are told one by one
	var watched []string
	for i := range dirs {
		d := fmt.Sprintf("/%03d", i)
		must(t, os.MkdirAll(a+d, 0o755))
		for j := range files {
			write(t, fmt.Sprint(a, d, "/", j), "some text")
		}
		watched = append(watched, b+d)
	}
	s.tell("cut all")
	s.tell("synced")
	for _, d := range watched {
		es, err := os.ReadDir(d)
		must(t, err)
		for _, e := range es {
			stat(t, d+"/"+e.Name()) // it is known to the kernel
		}
	}
	w := watch(t, usual, watched...)
	s.tell("part")
	must(t, os.RemoveAll(a))
	s.tell("cut all")
	s.tell("join")
	s.tell("synced")
	within(t, time.Minute, "the tree is gone", func() bool { _, err := os.Lstat(b); return os.IsNotExist(err) })
	gone := func() (n int) {
		for _, h := range w.heard() {
			if h.what == "IGNORED" {
				n++
			}
		}
		return n
	}
	within(t, time.Minute, "all directories are heard of", func() bool { return gone() == dirs })
}

// The same files with watchers woken and not, by turns.
func BenchmarkBulk(b *testing.B) {
	var took [2][]float64
	most := 0
	for range b.N {
		for i := range 10 {
			deaf := i % 2
			b.Setenv(deafEnv, strings.Repeat("1", deaf))
			s := newServer(b, 2, "")
			d, got := bulk(b, s, "many", bulkFiles)
			if slices.ContainsFunc(got, func(h heard) bool { return strings.Contains(h.what, "Q_OVERFLOW") }) {
				b.Fatal("the watcher's queue ran over")
			}
			took[deaf] = append(took[deaf], d.Seconds())
			if deaf == 0 {
				most = max(most, len(got))
			}
			s.stop()
		}
	}
	for i, name := range []string{"s-woken", "s-not-woken"} {
		slices.Sort(took[i])
		b.ReportMetric(took[i][len(took[i])/2], name)
	}
	b.ReportMetric(float64(most), "events-max")
	b.Logf("woken %v, not woken %v", took[0], took[1])
}
