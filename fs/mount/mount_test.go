package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/fs/mount"
)

// within polls until ok, or fails. What it waits for comes from another process.
func within(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, data string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(data), 0o644))
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func holds(path, want string) func() bool {
	return func() bool {
		b, err := os.ReadFile(path)
		return err == nil && string(b) == want
	}
}

func TestOptionsNameWhatTheyKnow(t *testing.T) {
	for _, tt := range []struct {
		words string
		want  func(o mount.Options) bool
		bad   bool
	}{
		{words: "sync", want: func(o mount.Options) bool { return o.Sync }},
		{words: "sync,async", want: func(o mount.Options) bool { return !o.Sync }},
		{words: "ro,noatime,noexec", want: func(o mount.Options) bool { return o.ReadOnly && o.NoAtime && o.NoExec }},
		{words: "suid,dev,uid=7,gid=8", want: func(o mount.Options) bool { return o.Suid && o.Dev && *o.UID == 7 && *o.GID == 8 }},
		{words: "ro,rw", want: func(o mount.Options) bool { return !o.ReadOnly }},
		{words: "defaults,_netdev,x-systemd.automount,,allow_other", want: func(o mount.Options) bool { return o.AllowOther }},
		{words: "uid=-1", bad: true},
		{words: "uid=4294967295", bad: true},
		{words: "bogus", bad: true},
	} {
		var o mount.Options
		err := o.Parse(tt.words)
		if tt.bad {
			if !errors.Is(err, mount.ErrOption) {
				t.Errorf("%s: %v", tt.words, err)
			}
			continue
		}
		if err != nil || !tt.want(o) {
			t.Errorf("%s: %+v, %v", tt.words, o, err)
		}
	}
	var o mount.Options
	if err := o.Parse("bogus"); !bytes.Contains([]byte(err.Error()), []byte("noatime")) {
		t.Errorf("error does not list the options: %v", err)
	}
}

func TestFilesSurviveAKilledDaemon(t *testing.T) {
	s := newServer(t, 1, "")
	big := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	must(t, os.WriteFile(s.path("big"), big, 0o644))
	write(t, s.path("small"), "closed")
	must(t, os.MkdirAll(s.path("d", "e"), 0o755))

	f, err := os.Create(s.path("synced"))
	must(t, err)
	_, err = f.WriteString("fsynced, still open")
	must(t, err)
	must(t, f.Sync())
	g, err := os.OpenFile(s.path("big"), os.O_RDWR, 0)
	must(t, err)
	_, err = g.WriteAt([]byte("patched"), 5000)
	must(t, err)
	must(t, g.Truncate(300<<10))
	must(t, g.Sync())
	copy(big[5000:], "patched")
	s.kill()
	f.Close()
	g.Close()

	s.start()
	if got := read(t, s.path("synced")); got != "fsynced, still open" {
		t.Errorf("synced file: %q", got)
	}
	if got := read(t, s.path("big")); got != string(big[:300<<10]) {
		t.Errorf("patched file differs: %d bytes", len(got))
	}
	s.tell("cut")
	s.stop()
	s.start()
	if got := read(t, s.path("big")); got != string(big[:300<<10]) {
		t.Errorf("patched file differs after its cut: %d bytes", len(got))
	}
	if got := read(t, s.path("small")); got != "closed" {
		t.Errorf("closed file: %q", got)
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "a", "staging", "*.*"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("staging files left: %v", left)
	}
}

// What is written and survives has moved the times, of which others see it; what was
// only moved to the disk has not.
func TestWritesThatSurviveAKillMoveTheTimes(t *testing.T) {
	s := newServer(t, 1, "")
	long := time.Now().Add(-time.Hour)
	const written, touched, synced, punched = "written", "then touched", "then touched and synced", "punched and closed"
	files := map[string]*os.File{written: nil, touched: nil, synced: nil, punched: nil}
	for name := range files {
		must(t, os.WriteFile(s.path(name), bytes.Repeat([]byte("0123456789abcdef"), 64<<10), 0o644))
		must(t, os.Chtimes(s.path(name), long, long))
	}
	s.tell("cut")
	for name := range files {
		f, err := os.OpenFile(s.path(name), os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		n := 512 << 10 // too much for memory
		if name == synced {
			n = 100
		}
		_, err = f.WriteAt(bytes.Repeat([]byte("new."), n/4), 256<<10)
		must(t, err)
		if name == touched || name == synced {
			must(t, os.Chtimes(s.path(name), long, long))
		}
		files[name] = f
	}
	time.Sleep(20 * time.Millisecond) // more than a tick of the disk's clock
	must(t, files[punched].Sync())
	must(t, unix.Fallocate(int(files[punched].Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 300<<10, 8<<10))
	fi, err := files[punched].Stat()
	must(t, err)
	then := fi.ModTime()
	must(t, files[punched].Close())
	must(t, files[synced].Sync()) // with it, the rows before it
	s.kill()
	s.start()
	for name := range files {
		fi, err := os.Stat(s.path(name))
		must(t, err)
		if got := read(t, s.path(name)); got[256<<10:][:4] != "new." {
			t.Errorf("%s: the write did not survive", name)
		}
		is := fi.ModTime()
		if ok := map[string]bool{written: is.After(long), touched: is.Equal(long), synced: is.Equal(long), punched: is.Equal(then)}[name]; !ok {
			t.Errorf("%s: the time is %v", name, is)
		}
	}
}

func TestSyncMountsKeepEachWrite(t *testing.T) {
	s := newServer(t, 1, "sync")
	f, err := os.Create(s.path("f"))
	must(t, err)
	defer f.Close()
	for i := range 20 {
		_, err = fmt.Fprintln(f, "line", i)
		must(t, err)
	}
	s.kill()
	s.start()
	if got := read(t, s.path("f")); !strings.HasSuffix(got, "line 19\n") {
		t.Errorf("after a kill it has %q", got)
	}
}

func TestInodeNumbersFollowPOSIX(t *testing.T) {
	s := newServer(t, 1, "")
	ino := func(name string) uint64 {
		var st unix.Stat_t
		must(t, unix.Lstat(s.path(name), &st))
		return st.Ino
	}
	write(t, s.path("old"), "old")
	s.tell("cut")
	write(t, s.path("new"), "new")
	n := ino("new")
	must(t, os.Rename(s.path("new"), s.path("old")))
	if got := ino("old"); got != n {
		t.Errorf("after the rename: inode %d, want %d", got, n)
	}
	s.tell("cut")
	if got := ino("old"); got != n {
		t.Errorf("after the cut: inode %d, want %d", got, n)
	}
	s.stop()
	s.start()
	if got := ino("old"); got != n {
		t.Errorf("after a remount: inode %d, want %d", got, n)
	}
	if got := read(t, s.path("old")); got != "new" {
		t.Errorf("content %q", got)
	}
}

func TestRemoteChangesAppearAtOnce(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	// Missing names are cached too.
	if _, err := os.Stat(filepath.Join(b, "f")); !os.IsNotExist(err) {
		t.Fatal(err)
	}
	write(t, filepath.Join(a, "f"), "one")
	within(t, 10*time.Second, "new file on the other side", holds(filepath.Join(b, "f"), "one"))

	write(t, filepath.Join(a, "f"), "two, longer")
	within(t, 10*time.Second, "new content", holds(filepath.Join(b, "f"), "two, longer"))
	must(t, os.Chmod(filepath.Join(a, "f"), 0o600))
	within(t, 10*time.Second, "new mode", func() bool {
		fi, err := os.Stat(filepath.Join(b, "f"))
		return err == nil && fi.Mode().Perm() == 0o600
	})

	must(t, os.Mkdir(filepath.Join(a, "d"), 0o755))
	must(t, os.Rename(filepath.Join(a, "f"), filepath.Join(a, "d", "g")))
	within(t, 10*time.Second, "moved file", holds(filepath.Join(b, "d", "g"), "two, longer"))
	within(t, 10*time.Second, "old name gone", func() bool {
		_, err := os.Stat(filepath.Join(b, "f"))
		return os.IsNotExist(err)
	})
	must(t, os.Symlink("g", filepath.Join(a, "d", "l")))
	within(t, 10*time.Second, "listing with the link", func() bool {
		es, err := os.ReadDir(filepath.Join(b, "d"))
		return err == nil && len(es) == 2
	})
	must(t, os.RemoveAll(filepath.Join(a, "d")))
	within(t, 10*time.Second, "removed directory", func() bool {
		es, err := os.ReadDir(b)
		return err == nil && len(es) == 0
	})
}

func TestOpenFileKeepsItsBytes(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := filepath.Join(s.mnt(0), "f"), filepath.Join(s.mnt(1), "f")
	old := bytes.Repeat([]byte("old"), 100<<10)
	must(t, os.WriteFile(a, old, 0o644))
	within(t, 10*time.Second, "file on the other side", holds(b, string(old)))
	f, err := os.Open(b)
	must(t, err)
	defer f.Close()
	write(t, a, "new")
	within(t, 10*time.Second, "new content by name", holds(b, "new"))
	got := make([]byte, len(old)+1)
	n, _ := f.ReadAt(got, 0)
	if !bytes.Equal(got[:n], old) {
		t.Errorf("open file has %d other bytes", n)
	}
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Size != int64(len(old)) || st.Nlink != 0 {
		t.Errorf("open file: size %d, %d links", st.Size, st.Nlink)
	}
}

func TestBothSidesOfAConflictStay(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	write(t, filepath.Join(a, "f"), "base")
	within(t, 10*time.Second, "base", holds(filepath.Join(b, "f"), "base"))
	s.tell("part")
	write(t, filepath.Join(a, "f"), "from a")
	write(t, filepath.Join(b, "f"), "from b")
	s.tell("cut")
	s.tell("join")
	for _, dir := range []string{a, b} {
		within(t, 10*time.Second, "both versions in "+dir, func() bool {
			es, err := os.ReadDir(dir)
			if err != nil || len(es) != 2 {
				return false
			}
			x, err1 := os.ReadFile(filepath.Join(dir, es[0].Name()))
			y, err2 := os.ReadFile(filepath.Join(dir, es[1].Name()))
			got := fmt.Sprint(string(x), "+", string(y))
			return err1 == nil && err2 == nil && (got == "from a+from b" || got == "from b+from a")
		})
	}
}

func TestReservedAndLongNamesAreRefused(t *testing.T) {
	s := newServer(t, 1, "")
	if err := os.Mkdir(s.path(".clachan"), 0o755); !errors.Is(err, syscall.EPERM) {
		t.Errorf("mkdir .clachan: %v", err)
	}
	write(t, s.path("x"), "")
	if err := os.Rename(s.path("x"), s.path(".clachan")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("rename to .clachan: %v", err)
	}
	for _, n := range []int{256, 300, 1000} {
		name := string(bytes.Repeat([]byte("n"), n))
		if err := os.WriteFile(s.path(name), nil, 0o644); !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Errorf("name of %d bytes: %v", n, err)
		}
		if _, err := os.Stat(s.path(name)); !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Errorf("stat of %d bytes: %v", n, err)
		}
	}
	write(t, s.path(string(bytes.Repeat([]byte("n"), 255))), "fits")
}

func TestMountpointsInUseAreRefused(t *testing.T) {
	s := newServer(t, 1, "")
	o := mount.Defaults()
	if _, err := mount.New(nil, s.mnt(0), o); !errors.Is(err, mount.ErrMounted) {
		t.Errorf("mounted twice: %v", err)
	}
	full := t.TempDir()
	write(t, filepath.Join(full, "file"), "")
	if _, err := mount.New(nil, full, o); !errors.Is(err, mount.ErrNotEmptyDir) {
		t.Errorf("mounted over files: %v", err)
	}
	s.kill()
	if _, err := os.Stat(s.mnt(0)); !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("mount of a killed daemon: %v", err)
	}
	must(t, mount.ClearStale(s.mnt(0)))
	if _, err := os.Stat(s.mnt(0)); err != nil {
		t.Errorf("after clearing: %v", err)
	}
	s.start()
}

func TestReadOnlyMountRefusesWrites(t *testing.T) {
	s := newServer(t, 1, "ro")
	if err := os.WriteFile(s.path("f"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("create: %v", err)
	}
}

// mapped maps a new file and stores in it, of which the kernel says nothing before it has to.
func mapped(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	must(t, f.Truncate(3*4096))
	m, err := unix.Mmap(int(f.Fd()), 0, 3*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	copy(m[4096:], "before")
	must(t, f.Close())
	return m
}

// ending waits until a mount takes no new writers.
func ending(t *testing.T, path string) {
	within(t, 10*time.Second, "the end of the mount", func() bool {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			f.Close()
		}
		return err != nil
	})
}

func stored(t *testing.T, path string) {
	t.Helper()
	if got := read(t, path); got[4096:][:6] != "before" || got[8192:][:5] != "after" {
		t.Errorf("file that was mapped: %q and %q", got[4096:][:6], got[8192:][:5])
	}
}

func TestUnmountDoesNotWaitForUsersForever(t *testing.T) {
	s := newServer(t, 1, "")
	f, err := os.Create(s.path("busy"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("not lost")
	must(t, err)
	m := mapped(t, s.path("mapped"))
	defer unix.Munmap(m)
	done := make(chan bool)
	go func() {
		defer close(done)
		ending(t, s.path("mapped"))
		copy(m[8192:], "after")
	}()
	s.stop() // fails the test if the server does not end well
	<-done
	s.start()
	if got := read(t, s.path("busy")); got != "not lost" {
		t.Errorf("file that was open at the end: %q", got)
	}
	stored(t, s.path("mapped"))
}

func TestProgramsThatEndAfterTheMountLoseNothing(t *testing.T) {
	s := newServer(t, 1, "")
	m := mapped(t, s.path("mapped"))
	done := make(chan bool)
	go func() {
		defer close(done)
		ending(t, s.path("mapped"))
		copy(m[8192:], "after")
		unix.Munmap(m)
	}()
	s.stop()
	<-done
	s.start()
	stored(t, s.path("mapped"))
}

// Programs that are at work when the mount ends get an error, soon; and what fsync has told one of them stays.
func TestStoppingUnderLoadEndsAndLosesNothing(t *testing.T) {
	s := newServer(t, 1, "")
	var told [4]atomic.Int64
	var wg sync.WaitGroup
	must(t, os.Mkdir(s.path("dir"), 0o755))
	for w := range told {
		name := s.path("dir", fmt.Sprint("w", w)) // nothing of that path is below the mount
		write(t, name, "")
		wg.Go(func() {
			for i := int64(1); appendSynced(name, i) == nil; i++ {
				told[w].Store(i)
			}
		})
		wg.Go(func() {
			for i := 0; os.Mkdir(s.path("dir", fmt.Sprint("d", w, "-", i)), 0o755) == nil; i++ {
				os.ReadDir(s.mnt(0))
			}
		})
	}
	for w := range told {
		within(t, 20*time.Second, "writers at work", func() bool { return told[w].Load() > 20 })
	}
	begun := time.Now()
	s.stop() // fails the test if the server does not end well
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("the end took %v", took)
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("programs hang in a mount that has ended")
	}
	s.start()
	for w := range told {
		if got, want := strings.Count(read(t, s.path("dir", fmt.Sprint("w", w))), "\n"), told[w].Load(); int64(got) < want {
			t.Errorf("writer %d: %d lines are left of %d that were synced", w, got, want)
		}
	}
}

func appendSynced(name string, i int64) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, i)
	return errors.Join(err, f.Sync(), f.Close())
}

// One who writes to the same files again and again, while they are cut, is not in conflict with himself.
func TestRewritingIsNoConflict(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	want := make([]map[string]string, 4)
	var wg sync.WaitGroup
	for w := range want {
		want[w] = map[string]string{}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
				name := fmt.Sprintf("w%d-%d", w, r.IntN(4))
				data := strings.Repeat(fmt.Sprint(r.Uint64()), 1+r.IntN(2000))
				if err := rewrite(filepath.Join(a, name), data, r.IntN(4)); err != nil {
					t.Error(err)
					return
				}
				if r.IntN(4) == 0 {
					time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
				}
				want[w][name] = data
			}
		})
	}
	wg.Wait()
	s.tell("cut")
	all := map[string]string{}
	for _, m := range want {
		for name, data := range m {
			all[name] = data
		}
	}
	for _, dir := range []string{a, b} {
		within(t, 20*time.Second, fmt.Sprintf("%d files as written in %s", len(all), dir), func() bool {
			es, err := os.ReadDir(dir)
			if err != nil || len(es) != len(all) {
				return false
			}
			for name, data := range all {
				if !holds(filepath.Join(dir, name), data)() {
					return false
				}
			}
			return true
		})
	}
}

// rewrite gives a file new content in one of the ways that programs do.
func rewrite(name, data string, how int) error {
	switch how {
	case 0: // beside, then over
		if err := os.WriteFile(name+".tmp", []byte(data), 0o644); err != nil {
			return err
		}
		return os.Rename(name+".tmp", name)
	case 1: // in place, then the end cut off
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = f.WriteString(data)
		return errors.Join(err, f.Truncate(int64(len(data))), f.Sync(), f.Close())
	case 2: // away, then anew
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return os.WriteFile(name, []byte(data), 0o644)
}
