package mount_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// busy runs fn in n goroutines until the returned function is called.
func busy(n int, fn func(i int)) (stop func()) {
	var over atomic.Bool
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for !over.Load() {
				fn(i)
			}
		})
	}
	return func() { over.Store(true); wg.Wait() }
}

// Whoever lists, looks up and reads what changes, all the time, does not take the event from those who watch.
func TestWatchersHearAllWhileOthersLook(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	must(t, os.Mkdir(a+"/d", 0o755))
	within(t, 10*time.Second, "the directory", func() bool { _, err := os.Stat(b + "/d"); return err == nil })
	w := watch(t, usual, b, b+"/d")
	stop := busy(2, func(i int) {
		if i == 0 {
			filepath.WalkDir(b, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					os.ReadFile(path)
				}
				return nil
			})
		}
		for _, name := range []string{"f", "g", "e", "h", "d/g", "d/h"} {
			os.Lstat(filepath.Join(b, name))
		}
	})
	defer stop()
	for round := range 15 {
		for _, x := range []struct {
			do   func() error
			want []string
		}{
			{func() error { return os.WriteFile(a+"/f", []byte("one"), 0o644) }, []string{"CREATE f", "MODIFY f", "CLOSE_WRITE f"}},
			{func() error { return os.WriteFile(a+"/f", []byte(fmt.Sprint("two", round)), 0o644) }, []string{"MODIFY f", "CLOSE_WRITE f"}},
			{func() error { return os.Rename(a+"/f", a+"/g") }, []string{"MOVED_FROM f", "MOVED_TO g"}},
			{func() error { return os.Rename(a+"/g", a+"/d/g") }, []string{"MOVED_FROM g", "MOVED_TO d/g"}},
			{func() error { return os.Mkdir(a+"/e", 0o755) }, []string{"CREATE,ISDIR e"}},
			{func() error { return os.Rename(a+"/e", a+"/d/h") }, []string{"MOVED_FROM,ISDIR e", "MOVED_TO,ISDIR d/h"}},
			{func() error { return os.Rename(a+"/d/h", a+"/h") }, []string{"MOVED_FROM,ISDIR d/h", "MOVED_TO,ISDIR h"}},
			{func() error { return os.Remove(a + "/h") }, []string{"DELETE,ISDIR h"}},
			{func() error { return os.Remove(a + "/d/g") }, []string{"DELETE d/g"}},
		} {
			w.clear()
			must(t, x.do())
			for _, want := range x.want {
				what, name, _ := strings.Cut(want, " ")
				for end := time.Now().Add(5 * time.Second); !w.has(what + " " + filepath.Join(b, name)); time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("round %d: not heard: %s, but %s", round, want, w.inside(b))
					}
				}
			}
		}
	}
	stop()
	s.tell("silent")
}

// A directory that others move, or remove and bring back, is one that programs can work in.
func TestDirectoriesThatOthersMovedCanBeWorkedIn(t *testing.T) {
	for name, deaf := range map[string]string{"watchers are woken": "", "they are not": "1"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(deafEnv, deaf)
			workInMoved(t)
		})
	}
}

func workInMoved(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	must(t, os.Mkdir(a+"/d", 0o755))
	within(t, 10*time.Second, "the directory", func() bool { _, err := os.Stat(b + "/d"); return err == nil })
	watch(t, usual, b, b+"/d")
	d, err := os.Open(b + "/d") // the kernel keeps what was moved
	must(t, err)
	defer d.Close()
	must(t, os.Rename(a+"/d", a+"/e"))
	within(t, 10*time.Second, "the move", func() bool { _, err := os.Stat(b + "/e"); return err == nil })
	fd, err := unix.Openat(int(d.Fd()), "f", unix.O_CREAT|unix.O_WRONLY, 0o644) // by who works in it
	must(t, err)
	must(t, unix.Close(fd))
	write(t, b+"/e/f", "1")
	within(t, 10*time.Second, "the file", holds(a+"/e/f", "1"))
	for range 5 { // one removes it, the other puts something into it
		must(t, os.RemoveAll(a+"/e/f"))
		within(t, 10*time.Second, "an empty directory", func() bool { es, err := os.ReadDir(b + "/e"); return err == nil && len(es) == 0 })
		s.tell("part")
		f, err := os.Open(a + "/e") // the kernel keeps what is removed
		must(t, err)
		defer f.Close()
		must(t, os.Remove(a+"/e"))
		write(t, b+"/e/f", "2")
		s.tell("cut")
		s.tell("join")
		within(t, 10*time.Second, "it comes back", holds(a+"/e/f", "2"))
		write(t, a+"/e/g", "3")
		within(t, 10*time.Second, "the file of who removed it", holds(b+"/e/g", "3"))
		must(t, os.Remove(b+"/e/g"))
		within(t, 10*time.Second, "the file gone", func() bool { _, err := os.Stat(a + "/e/g"); return os.IsNotExist(err) })
	}
}

// A directory in use that another took the name of, and that others have put something into meanwhile, is no dead one.
func TestReplacedDirectoriesThatComeBackCanBeWorkedIn(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	must(t, os.MkdirAll(a+"/new/sub", 0o755))
	must(t, os.Mkdir(a+"/d", 0o755))
	within(t, 10*time.Second, "the directories", func() bool {
		_, err := os.Stat(b + "/d")
		_, err2 := os.Stat(b + "/new/sub")
		return err == nil && err2 == nil
	})
	s.tell("part")
	d, err := os.Open(a + "/d") // the kernel keeps what is replaced
	must(t, err)
	defer d.Close()
	must(t, unix.Rename(a+"/new", a+"/d"))
	write(t, b+"/d/f", "1")
	s.tell("cut all")
	s.tell("join")
	within(t, 10*time.Second, "it comes back", holds(a+"/d/f", "1"))
	write(t, a+"/d/g", "2")
	within(t, 10*time.Second, "the file of who replaced it", holds(b+"/d/g", "2"))
}

// tree is what a mount shows.
func tree(root string) (string, error) {
	var out strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		fmt.Fprintf(&out, "%s %o %d", name, st.Mode, st.Nlink)
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %q", data)
		}
		out.WriteByte('\n')
		return nil
	})
	return out.String(), err
}

// Programs on both sides do the same at the same time, and are watched: what the kernel shows is what there is, and
// both sides agree.
func TestReplaysChangeNothingWhateverProgramsDoMeanwhile(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := newServer(t, 2, "")
	watch(t, usual, s.mnt(0), s.mnt(1))
	over := time.Now().Add(6 * time.Second)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			path := func() string {
				p := s.mnt(i)
				for range r.IntN(3) {
					p += "/" + string(rune('p'+r.IntN(3)))
				}
				return p + "/" + string(rune('p'+r.IntN(3)))
			}
			for n := 0; time.Now().Before(over); n++ {
				switch r.IntN(9) {
				case 0, 1:
					os.WriteFile(path(), fmt.Append(nil, i, n), 0o644)
				case 2, 3:
					os.Mkdir(path(), 0o755)
				case 4, 5:
					os.Rename(path(), path())
				case 6:
					os.Remove(path())
				case 7:
					os.RemoveAll(path())
				case 8:
					os.ReadDir(path())
				}
				if n%10 == 0 {
					time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	s.tell("cut")
	var want, other string
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var errs [2]error
		want, errs[0] = tree(s.mnt(0))
		other, errs[1] = tree(s.mnt(1))
		if errs == [2]error{} && want == other {
			break
		}
		if time.Now().After(end) {
			s.stop()
			s.start()
			now, _ := tree(s.mnt(0))
			now1, _ := tree(s.mnt(1))
			t.Fatalf("they differ: %v\n%s\n%s\nafter a remount:\n%s\n%s", errs, want, other, now, now1)
		}
	}
	s.stop()
	if l := s.logs(); strings.Contains(l, "mount is in use") {
		t.Error(l)
	}
	s.start()
	if got, err := tree(s.mnt(0)); err != nil || got != want {
		t.Errorf("after a remount: %v\n%s\nbefore:\n%s", err, got, want)
	}
}
