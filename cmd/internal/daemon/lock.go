package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"golang.org/x/sys/unix"
)

// takeLock makes this process the one daemon of a data folder, until the file
// is closed or the process ends, however it does. The file tells its pid.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = flock(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = control.Errorf(control.State, "another daemon%s runs on %s", holder(f), path)
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// dying is how long a process that was killed may take to let go of its files:
// its memory and its mounts go first.
const dying = 2 * time.Second

// flock takes the lock, after a little while if its holder is about to end.
func flock(f *os.File) error {
	for end := time.Now().Add(dying); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// holder names the process in the lock file, which may just be starting.
func holder(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	pid, perr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || perr != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}
