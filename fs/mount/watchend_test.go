package mount_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// churn has the peer do what is told to watchers on the other side, until it is stopped.
func churn(t *testing.T, s *server) (stop func()) {
	t.Helper()
	a, b := s.mnt(0), s.mnt(1)
	w := watch(t, usual, b)
	n := 0
	stop = busy(1, func(int) {
		for i := range 50 {
			n++
			name := filepath.Join(a, fmt.Sprint("f", i))
			os.WriteFile(name, fmt.Append(nil, n), 0o644)
			os.Rename(name, name+"x")
		}
		for end := time.Now().Add(time.Second); !holds(b+"/f49x", fmt.Sprint(n))() && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	})
	within(t, 10*time.Second, "something is heard", func() bool { return len(w.heard()) > 100 })
	return stop
}

func TestMountEndsWhileWatchersAreWoken(t *testing.T) {
	for range 3 {
		s := newServer(t, 2, "")
		stop := churn(t, s)
		start := time.Now()
		s.stop()
		if took := time.Since(start); took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
		stop()
		if l := s.logs(); strings.Contains(l, "mount is in use") {
			t.Error(l)
		}
	}
}

// Whoever unmounts by hand need not wait until nothing is told any more.
func TestWakingKeepsNobodyFromUnmounting(t *testing.T) {
	s := newServer(t, 2, "")
	stop := churn(t, s)
	within(t, 5*time.Second, "unmounted", func() bool { return unix.Unmount(s.mnt(1), 0) == nil })
	stop()
	if err := s.cmd.Wait(); err == nil || !strings.Contains(s.logs(), "unmounted from outside") {
		t.Errorf("server: %v", err)
	}
	s.cmd = nil
}

// What is mounted over the mount, or into it, hears nothing of ours and keeps what it has.
func TestWhatIsMountedOverIsLeftAlone(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	w := watch(t, usual, b)
	must(t, os.Mkdir(a+"/d", 0o755))
	// Until the kernel has been told of the new name, it may forget what is on it.
	within(t, 10*time.Second, "the directory", func() bool { return w.has("CREATE,ISDIR " + b + "/d") })
	for _, dir := range []string{b + "/d", b} {
		must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
		write(t, dir+"/mine", "1")
		write(t, filepath.Join(a, strings.TrimPrefix(dir, b), "mine"), "theirs")
		write(t, filepath.Join(a, strings.TrimPrefix(dir, b), "other"), "theirs")
		s.tell("cut")
		s.tell("synced")
		must(t, os.Remove(filepath.Join(a, strings.TrimPrefix(dir, b), "mine")))
		write(t, a+"/last", dir)
		s.tell("cut")
		s.tell("synced")
		es, err := os.ReadDir(dir)
		if err != nil || len(es) != 1 || read(t, dir+"/mine") != "1" {
			t.Errorf("%s: %v, %v", dir, es, err)
		}
		must(t, unix.Unmount(dir, 0))
	}
	within(t, 10*time.Second, "what came meanwhile", holds(b+"/last", b))
	within(t, 10*time.Second, "what came meanwhile", holds(b+"/d/other", "theirs"))
}

// One who watches hears of what happens in a directory that he himself may not change.
func TestWatchersHearOfDirectoriesThatNobodyMayChange(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	must(t, os.Mkdir(a+"/d", 0o755))
	must(t, os.Chown(a+"/d", 12345, 12345))
	must(t, os.Chmod(a+"/d", 0o555))
	within(t, 10*time.Second, "the directory", func() bool {
		fi, err := os.Stat(b + "/d")
		return err == nil && fi.Mode().Perm() == 0o555
	})
	must(t, os.Chown(b+"/d", 12345, 12345))
	w := watch(t, usual, b+"/d")
	write(t, a+"/d/f", "1")
	must(t, os.Chmod(a+"/d/f", 0o400))
	within(t, 10*time.Second, "the file", func() bool { return w.has("CLOSE_WRITE " + b + "/d/f") })
	must(t, os.Remove(a+"/d/f"))
	within(t, 10*time.Second, "its end", func() bool { return w.has("DELETE " + b + "/d/f") })
}

// tail -F goes on when a peer adds to what it follows.
func TestFollowersOfAnOpenFileHearOfAnother(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0)+"/log", s.mnt(1)+"/log"
	write(t, a, "one\n")
	within(t, 10*time.Second, "the file", holds(b, "one\n"))
	f, err := os.Open(b)
	must(t, err)
	defer f.Close()
	w := watch(t, usual, b, s.mnt(1)) // of the file itself, and of its name
	write(t, a, "one\ntwo\n")
	within(t, 10*time.Second, "another file has the name", func() bool { return w.has("ATTRIB "+b) && w.has("CLOSE_WRITE "+b) })
	if got := read(t, b); got != "one\ntwo\n" {
		t.Errorf("the name shows %q", got)
	}
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Size != 4 {
		t.Errorf("the open file has %d bytes", st.Size)
	}
	must(t, f.Close())
	within(t, 10*time.Second, "the end of the old file", func() bool { return w.has("DELETE_SELF " + b) })
}
