package mount

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotEmptyDir says that a mount would hide files.
	ErrNotEmptyDir = errors.New("mountpoint is not empty")
	// ErrMounted says that a filesystem is mounted there already.
	ErrMounted = errors.New("already a mountpoint")
)

const fsType = "fuse.clachan"

// entry is a line of /proc/self/mountinfo.
type entry struct{ id, parent, dev, dir, fsType, source string }

// mounts lists what this process sees mounted, what is over something else after it.
func mounts() ([]entry, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return parse(string(b)), nil
}

func parse(mountinfo string) (all []entry) {
	for line := range strings.Lines(mountinfo) {
		head, tail, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(head), strings.Fields(tail)
		if ok && len(f) >= 5 && len(g) >= 2 {
			all = append(all, entry{f[0], f[1], f[2], unescape(f[4]), g[0], unescape(g[1])})
		}
	}
	return all
}

// mountAt returns the topmost mount at dir, or nil.
func mountAt(dir string) (*entry, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	var found *entry
	for i := range all {
		if all[i].dir == dir {
			found = &all[i]
		}
	}
	return found, nil
}

// unescape turns the octal escapes of mountinfo back.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ClearStale removes the mount that a killed daemon left at dir.
func ClearStale(dir string) error {
	dir, err := clean(dir)
	if err != nil {
		return err
	}
	for {
		stale, err := isStale(dir)
		if err != nil || !stale {
			return err
		}
		if err := detach(dir); err != nil {
			return fmt.Errorf("clear stale mount: %w", err)
		}
	}
}

// isStale tells whether a killed daemon left a mount at a clean path.
func isStale(dir string) (bool, error) {
	e, err := mountAt(dir)
	if err != nil || e == nil || e.fsType != fsType {
		return false, err
	}
	return dead(dir), nil
}

const statWait = 2 * time.Second

// dead tells whether the daemon of a mount is gone. One that is stopped, or hangs, does not answer, but is not gone.
func dead(dir string) bool {
	got := make(chan error, 1)
	go func() { // whoever asks it waits for as long as it hangs
		var st unix.Statfs_t
		got <- unix.Statfs(dir, &st)
	}()
	select {
	case err := <-got:
		return errors.Is(err, syscall.ENOTCONN)
	case <-time.After(statWait):
		return false
	}
}

// Stale lists the mounts of folders whose daemon is gone.
func Stale() ([]string, error) {
	all, err := mounts()
	return stale(all, dead), err
}

func stale(all []entry, dead func(dir string) bool) (dirs []string) {
	for _, e := range all {
		if e.fsType == fsType && !slices.Contains(dirs, e.dir) && dead(e.dir) {
			dirs = append(dirs, e.dir)
		}
	}
	return dirs
}

// clean returns the path as mountinfo has it. The last element may be a dead mount, so only its parent is resolved.
func clean(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("mountpoint: %w", err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", fmt.Errorf("mountpoint: %w", err)
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	if to, err := os.Readlink(dir); err == nil {
		if !filepath.IsAbs(to) {
			to = filepath.Join(parent, to)
		}
		return clean(to)
	}
	return dir, nil
}

// detach unmounts lazily: those who still have files open keep them.
func detach(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	return fusermount("-uz", dir)
}

// unmount unmounts if nobody uses the mount.
func unmount(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, 0)
	}
	return fusermount("-u", dir)
}

func fusermount(arg, dir string) error {
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		if bin, err = exec.LookPath("fusermount"); err != nil {
			return err
		}
	}
	if out, err := exec.Command(bin, arg, "--", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), err)
	}
	return nil
}

// connections is where the kernel lets a connection be cut.
const connections = "/sys/fs/fuse/connections"

// abort cuts the connection of a device number, so that programs with open files get errors instead of hanging.
func abort(dev string, log *slog.Logger) {
	_, minor, ok := strings.Cut(dev, ":")
	if !ok {
		return
	}
	err := os.WriteFile(filepath.Join(connections, minor, "abort"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) && os.Geteuid() == 0 {
		err = abortUnmounted(minor)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Warn("connection not cut", slog.Any("err", err))
	}
}

// abortUnmounted is abort where nobody has mounted the control filesystem.
func abortUnmounted(minor string) (err error) {
	dir, err := os.MkdirTemp("", "fusectl.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := unix.Mount("none", dir, "fusectl", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount fusectl: %w", err)
	}
	err = os.WriteFile(filepath.Join(dir, minor, "abort"), []byte("1"), 0)
	return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
}

// Taken says that a folder is mounted at dir, by a daemon that is alive or not. It does not ask the daemon, which may
// hang.
func Taken(dir string) error {
	dir, err := clean(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return takenAt(dir)
}

func takenAt(dir string) error {
	e, err := mountAt(dir)
	if err == nil && e != nil && (e.fsType == fsType || strings.HasPrefix(e.source, "clachan:")) {
		err = fmt.Errorf("%w: %s is where %s is mounted; take another directory, or unmount that one first", ErrMounted, dir, e.source)
	}
	return err
}

// checkDir says why dir cannot be mounted on: that something is in it, say, unless it is full for now.
func checkDir(dir string, full bool) error {
	if err := takenAt(dir); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("mountpoint: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if err != nil && err != io.EOF {
		return fmt.Errorf("mountpoint: %w", err)
	}
	if len(names) > 0 && !full {
		return &notEmpty{dir, names[0]}
	}
	if os.Geteuid() != 0 && unix.Access(dir, unix.W_OK) != nil { // fusermount3 would refuse, and say so in the log
		return fmt.Errorf("%w: %s is not this user's to write in: take a directory that is", ErrNoFuse, dir)
	}
	return nil
}

// notEmpty is ErrNotEmptyDir of a directory, with a name in it.
type notEmpty struct{ dir, name string }

func (e *notEmpty) Error() string { return e.say(strconv.Quote(e.name)) }

// Nameless is the text without the name, for logs.
func (e *notEmpty) Nameless() string { return e.say("something") }

func (e *notEmpty) say(what string) string {
	return fmt.Sprintf("%v: %s has %s, which a mount would hide; move what is in it, or take another directory", ErrNotEmptyDir, e.dir, what)
}

func (e *notEmpty) Unwrap() error { return ErrNotEmptyDir }
