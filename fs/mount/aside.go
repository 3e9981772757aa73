package mount

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// While a daemon is away, programs find the directory below its mount, and may write there. The mount would hide that;
// and to refuse to mount would leave everybody without it. So it is put beside the mountpoint: under another name, on
// the same disk, with whatever has it open.
type aside struct {
	below *os.File // the mountpoint as it is without a mount
	dir   string
	to    string // empty: nothing was there
	at    time.Time
}

// openAside looks below a mountpoint.
func openAside(dir string) (*aside, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("mountpoint: %w", err)
	}
	return &aside{below: f, dir: dir}, nil
}

func (a *aside) Close() error { return a.below.Close() }

// clear puts aside what is there now. It works under a mount too.
func (a *aside) clear(now time.Time) error {
	for {
		if _, err := a.below.Seek(0, io.SeekStart); err != nil {
			return err
		}
		names, err := a.below.Readdirnames(1000)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.make(now); err != nil {
			return err
		}
		for _, name := range names {
			if err := unix.Renameat(int(a.below.Fd()), name, unix.AT_FDCWD, filepath.Join(a.to, name)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
}

// make makes the directory beside the mountpoint, once.
func (a *aside) make(now time.Time) error {
	if a.to != "" {
		return nil
	}
	base := fmt.Sprintf("%s (found under the mount, %s)", a.dir, now.Format("2006-01-02 15.04.05"))
	for i := 1; ; i++ {
		to := base
		if i > 1 {
			to = fmt.Sprintf("%s %d", base, i)
		}
		err := os.Mkdir(to, 0o700)
		if errors.Is(err, os.ErrExist) && i < 100 {
			continue
		}
		if err != nil {
			return err
		}
		a.to, a.at = to, now
		st, err := a.below.Stat()
		if err != nil {
			return err
		}
		return os.Chmod(to, st.Mode().Perm()) // who could reach what he wrote still can
	}
}

// putAside is openAside and clear, for a mount that is about to be.
func (m *Mount) putAside() (*aside, error) {
	a, err := openAside(m.dir)
	if err != nil {
		return nil, err
	}
	if err := a.clear(time.Now()); err != nil {
		os.Remove(a.to) // fails where something is in it, and must
		return nil, errors.Join(fmt.Errorf("%w: what is in %s cannot be put aside (%w); move it, or take another directory", ErrNotEmptyDir, m.dir, err), a.Close())
	}
	return a, nil
}

// mounted puts aside what came in the last moment.
func (m *Mount) mounted(a *aside) {
	if err := errors.Join(a.clear(time.Now()), a.Close()); err != nil {
		m.log.Error("files are hidden below the mount", slog.String("dir", m.dir), slog.Any("err", err))
	}
	if a.to != "" {
		m.found.Store(a)
		m.log.Warn("what programs wrote below the mount is put aside", slog.String("to", a.to))
	}
}

// Found is the directory that has what programs wrote at the mountpoint while nothing was mounted there, and when that
// was put there; empty if they wrote nothing.
func (m *Mount) Found() (dir string, at time.Time) {
	if a := m.found.Load(); a != nil {
		return a.to, a.at
	}
	return "", time.Time{}
}
