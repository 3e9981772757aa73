package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// A trap panics in what handlers call: where they ask how full the disk is, with the lock of a staged file held; or
// what time it is, amid a transaction.
type trap struct{ disk, clock atomic.Int32 }

// spring panics if the trap is set and a handler of the mount has come.
func spring(set *atomic.Int32) {
	if set.Load() > 0 && bytes.Contains(debug.Stack(), []byte("handleRequest")) && set.Add(-1) >= 0 {
		panic("trapped")
	}
}

func (t *trap) now() time.Time {
	spring(&t.clock)
	return time.Now()
}

type trapDisk struct {
	vfs.FS
	trap *trap
}

func (d trapDisk) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	spring(&d.trap.disk)
	return d.FS.GetDiskUsage(path)
}

// returns fails if a call through the mount hangs. The server is killed then, which ends the call.
func (s *server) returns(what string, call func() error) error {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-done
		s.t.Fatalf("%s hangs", what)
		return nil
	}
}

// trapped repeats a call until it meets the trap, which is set again now and then: the end of what was closed before may
// have met it.
func (s *server) trapped(what, trap string, call func() error) {
	s.t.Helper()
	end := time.Now().Add(20 * time.Second)
	for i := 0; ; time.Sleep(20 * time.Millisecond) { // the disk is asked now and then
		if i++; i%100 == 1 {
			s.tell("trap " + trap)
		}
		if err := s.returns(what, call); errors.Is(err, syscall.EIO) {
			return
		} else if err != nil || time.Now().After(end) {
			s.t.Fatalf("%s: %v, want one EIO", what, err)
		}
	}
}

func TestAPanicCostsOneCall(t *testing.T) {
	s := newServer(t, 1, "")
	f, err := os.Create(s.path("open"))
	must(t, err)
	defer f.Close()
	text := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	_, err = f.WriteAt(text, 0)
	must(t, err)
	write(t, s.path("other"), "other")

	calls := []struct {
		what string
		call func() error
	}{
		{"write", func() error { _, err := f.WriteAt(text[:8], 16); return err }},
		{"again", func() error { _, err := f.WriteAt(text[:8], 16); return err }},
		{"append", func() error { return appendText(s.path("other"), "") }},
		{"fallocate", func() error { return unix.Fallocate(int(f.Fd()), 0, 0, 4096) }},
		{"create", func() error { return errors.Join(os.WriteFile(s.path("new"), nil, 0o644), os.Remove(s.path("new"))) }},
		{"mkdir", func() error { return errors.Join(os.Mkdir(s.path("dir"), 0o755), os.Remove(s.path("dir"))) }},
	}
	for _, c := range calls {
		s.trapped(c.what, "disk", c.call)
		must(t, s.returns("after "+c.what, func() error {
			g, err := os.OpenFile(s.path("other"), os.O_RDWR|os.O_TRUNC, 0)
			if err != nil {
				return err
			}
			_, err = g.WriteString("other")
			return errors.Join(err, g.Sync(), g.Close(), c.call(), f.Sync())
		}))
	}
	got := make([]byte, len(text))
	must(t, s.returns("read", func() error { _, err := f.ReadAt(got, 0); return err }))
	if copy(text[16:], text[:8]); !bytes.Equal(got, text) {
		t.Error("the file has other bytes than those written")
	}
	s.tell("cut")
	logged := func(what string) int { return strings.Count(s.logs(), what) }
	within(t, 5*time.Second, "each panic is logged", func() bool { return logged("bug in a filesystem operation") >= len(calls) })
	if n, all := logged(" stack="), logged("bug in a filesystem operation"); n >= all || n == 0 {
		t.Errorf("%d stacks of %d panics were logged, two of them the same", n, all)
	}
}

func appendText(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s.", text)
	return errors.Join(err, f.Close())
}

// What was in memory of a transaction that panicked must not become rows.
func TestAPanicAmongRowsStopsTheFolder(t *testing.T) {
	s := newServer(t, 1, "")
	f, err := os.Create(s.path("open"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("acknowledged")
	must(t, errors.Join(err, f.Sync()))
	write(t, s.path("closed"), "closed")
	s.tell("cut")

	s.trapped("create", "clock", func() error { return os.WriteFile(s.path("lost"), nil, 0o644) })
	for what, call := range map[string]func() error{
		"create": func() error { return os.WriteFile(s.path("new"), nil, 0o644) },
		"rename": func() error { return os.Rename(s.path("closed"), s.path("moved")) },
		"chmod":  func() error { return f.Chmod(0o600) },
		"fsync":  func() error { return f.Sync() },
	} {
		if err := s.returns(what, call); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s in a stopped folder: %v", what, err)
		}
	}
	must(t, s.returns("read", func() error {
		b, err := os.ReadFile(s.path("closed"))
		if err == nil && string(b) != "closed" {
			err = fmt.Errorf("holds %q", b)
		}
		return err
	}))
	within(t, 5*time.Second, "what to do is logged", func() bool { return strings.Contains(s.logs(), "restart the daemon") })
	if n := strings.Count(s.logs(), " stack="); n != 1 {
		t.Errorf("%d stacks are logged, want 1", n)
	}
	f.Close()
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.returns("stop", s.cmd.Wait); err == nil {
		t.Error("a stopped folder ends as if nothing had been")
	}
	s.start()
	if got := read(t, s.path("open")); got != "acknowledged" {
		t.Errorf("after a restart: %q", got)
	}
	if _, err := os.Stat(s.path("lost")); !os.IsNotExist(err) {
		t.Errorf("what failed is there: %v", err)
	}
	write(t, s.path("new"), "new")
}
