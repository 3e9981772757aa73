package mount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// While a daemon is away, programs find the directory below its mount, and may write there. The mount would hide that;
// and to refuse to mount would leave everybody without it. So it is put beside the mountpoint: under another name, on
// the same disk, with whatever has it open. Nothing is ever replaced. Where somebody else could change what the names
// mean meanwhile, nothing is moved: then the mountpoint has to be cleared by hand.
type aside struct {
	below *os.File // the mountpoint as it is without a mount
	dir   string
	to    string // empty: nothing was there
	log   *slog.Logger
}

// openAside looks below a mountpoint.
func openAside(dir string, log *slog.Logger) (*aside, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("mountpoint: %w", err)
	}
	return &aside{below: f, dir: dir, log: log}, nil
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
			if err := a.move(name); err != nil {
				return &fs.PathError{Op: "move", Path: name, Err: err}
			}
		}
	}
}

// move moves a name. It is there already if it was written again since.
func (a *aside) move(name string) error {
	return numbered(filepath.Join(a.to, name), func(to string) error {
		return unix.Renameat2(int(a.below.Fd()), name, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	})
}

// numbered calls fn with a name, and with others like it while that is taken.
func numbered(name string, fn func(string) error) error {
	err := fn(name)
	for i := 2; i <= 1000 && errors.Is(err, os.ErrExist); i++ {
		err = fn(fmt.Sprintf("%s %d", name, i))
	}
	return err
}

// foundMark is in the name of directories with what was put aside.
const foundMark = " (found under the mount, "

// make makes the directory beside the mountpoint, once, for those who may use the mountpoint.
func (a *aside) make(now time.Time) error {
	if a.to != "" {
		return nil
	}
	if err := guarded(a.dir); err != nil {
		return err
	}
	err := numbered(a.dir+foundMark+now.Format("2006-01-02 15.04.05")+")", func(to string) error {
		err := os.Mkdir(to, 0o700)
		if err == nil {
			a.to = to
		}
		return err
	})
	if err != nil {
		return err
	}
	a.log.Warn("what programs wrote below the mount is put aside", slog.String("to", a.to))
	st, err := a.below.Stat()
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		err = os.Chown(a.to, int(sys.Uid), int(sys.Gid))
	}
	return errors.Join(err, os.Chmod(a.to, st.Mode().Perm()))
}

// guarded says that others could have root move what they like: whoever owns a directory above dir may replace it, and
// who may write to one, unless it is sticky. What another user's daemon moves is his own.
func guarded(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	for d := filepath.Dir(dir); ; d = filepath.Dir(d) {
		st, err := os.Lstat(d)
		if err != nil {
			return err
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok || !st.IsDir() || sys.Uid != 0 || st.Mode().Perm()&0o022 != 0 && st.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("%s is in the hands of others", d)
		}
		if d == "/" {
			return nil
		}
	}
}

// putAside is openAside and clear, for a mount that is about to be.
func (m *Mount) putAside() (*aside, error) {
	a, err := openAside(m.dir, m.log)
	if err != nil {
		return nil, err
	}
	if err := a.clear(time.Now()); err != nil {
		if a.to != "" {
			err = fmt.Errorf("%w; some of it is in %s", err, a.to)
		}
		return nil, errors.Join(fmt.Errorf("%w: what is in %s cannot be put aside (%w); move it, or take another directory", ErrNotEmptyDir, m.dir, err), a.Close())
	}
	return a, nil
}

// mounted puts aside what came in the last moment.
func (m *Mount) mounted(a *aside) {
	if err := errors.Join(a.clear(time.Now()), a.Close()); err != nil {
		m.log.Error("files are hidden below the mount", slog.String("dir", m.dir), slog.Any("err", err))
	}
}

// Found are the directories beside a mountpoint that have what programs wrote there while nothing was mounted.
func Found(dir string) (found []string) {
	all, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return nil // then nothing was put there
	}
	for _, e := range all {
		if e.IsDir() && strings.HasPrefix(e.Name(), filepath.Base(dir)+foundMark) {
			found = append(found, filepath.Join(filepath.Dir(dir), e.Name()))
		}
	}
	return found
}
