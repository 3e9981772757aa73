package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"golang.org/x/sys/unix"
)

// makeDir makes dir a directory to mount at, and returns its real path and how
// to take back what was made. A directory that is not empty is refused: what is
// in it would be hidden.
func makeDir(dir string) (real string, undo func(), err error) {
	made, err := mkdirAll(dir)
	undo = func() {
		for _, d := range made {
			os.Remove(d) // fails where something is in it by now, and must
		}
	}
	if err == nil {
		real, err = filepath.EvalSymlinks(dir)
	}
	if err == nil {
		err = checkEmpty(real)
	}
	if err != nil {
		undo()
		return "", nil, err
	}
	return real, undo, nil
}

// mkdirAll is os.MkdirAll that tells what it made, the deepest first.
func mkdirAll(dir string) (made []string, err error) {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		st, err := os.Stat(d)
		if err == nil && !st.IsDir() {
			return nil, control.Errorf(control.Usage, "%s is not a directory", d)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("mountpoint: %w", err)
		}
		missing = append(missing, d)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		err := os.Mkdir(missing[i], 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return made, fmt.Errorf("mountpoint: %w", err)
		}
		made = append([]string{missing[i]}, made...)
	}
	return made, nil
}

// checkEmpty reports whether a directory has nothing in it.
func checkEmpty(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("mountpoint: %w", err)
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mountpoint: %w", err)
	}
	return control.Errorf(control.Usage, "%s is not empty", dir)
}

// clearStale takes away the mount of a daemon that was killed, if dir is one.
func clearStale(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, unix.ENOTCONN) {
		return nil
	}
	return mount.ClearStale(dir)
}

// unmount unmounts dir unless programs use it.
func unmount(dir string) error {
	err := unix.Unmount(dir, 0)
	if errors.Is(err, unix.EPERM) { // users have a helper that may
		var out []byte
		if out, err = exec.Command("fusermount3", "-u", "--", dir).CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w", bytes.TrimSpace(out), err)
		}
	}
	if err != nil {
		return control.Errorf(control.Other, "%s is in use by programs (%v)", dir, err)
	}
	return nil
}

// inside reports whether path is dir or lies below it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
