package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"golang.org/x/sys/unix"
)

// makeDir makes dir a directory to mount at, and returns its real path and how
// to take back what was made. A directory that is not empty is refused: what is
// in it would be hidden; unless it may be full for now.
func makeDir(dir string, full bool) (real string, undo func(), err error) {
	made, err := mkdirAll(dir)
	undo = func() {
		for _, d := range made {
			os.Remove(d) // fails where something is in it by now, and must
		}
	}
	if err == nil {
		real, err = filepath.EvalSymlinks(dir)
	}
	if err == nil && !full {
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
			return nil, control.Errorf(control.Usage, "%s is not a directory: move it, or take another one to mount at", d)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) { // a file above is found on the way up
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
	return control.Errorf(control.Usage, "%s is not empty: a mount would hide what is in it; move that, or take another directory", dir)
}

// free takes away the mount of a daemon that was killed, if dir is one, and
// reports one that is alive. Nothing else here may be asked of a mount whose
// daemon hangs.
func free(dir string) error {
	err := mount.Taken(dir)
	if errors.Is(err, mount.ErrMounted) {
		if err = mount.ClearStale(dir); err == nil {
			err = mount.Taken(dir)
		}
	}
	if errors.Is(err, unix.ENOTDIR) { // mkdirAll says which is not
		err = nil
	}
	return err
}

// inside reports whether path is dir or lies below it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
