package plain

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	ours     = ".clachan" // at the top of the directory, never replicated
	markName = "folder"   // in it: which folder the directory is of
	partName = "part"     // in it: files in the making
	aboutWe  = "This directory is kept by Clachan. What is here says which folder it shows: without it nothing is synced.\n"
)

// What is wrong with the directory as a whole.
var (
	// ErrAway says that the directory is not there, or another is: a disk that is not plugged in.
	ErrAway = errors.New("the directory is not there")
	// ErrForeign says that it shows another folder.
	ErrForeign = errors.New("the directory shows another folder")
)

// A root is the directory, open for as long as something is done with it: a disk that
// is in use cannot be unplugged.
type root struct {
	fd         int
	path       string
	dev, mount uint64 // of the mount: never given twice since the machine started, where the kernel can
	uid, gid   uint32 // who owns it, and with it what others make
}

// openRoot opens the directory if it bears the mark.
func openRoot(dir string, mark []byte) (*root, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w (%s: %w)", ErrAway, dir, err)
	}
	r := &root{fd: fd, path: dir}
	st, err := statAt(fd, ".")
	if err == nil {
		r.dev, r.mount, r.uid, r.gid = st.dev, st.mount, st.uid, st.gid
		err = r.check(mark)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close lets go of the directory.
func (r *root) Close() { unix.Close(r.fd) }

// check looks for the mark.
func (r *root) check(mark []byte) error {
	is, err := readMark(r.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %s has no %s/%s: is its disk plugged in?", ErrAway, r.path, ours, markName)
	case err != nil:
		return fmt.Errorf("%w (%w)", ErrAway, err)
	case !bytes.Equal(is, mark):
		return fmt.Errorf("%w (%s)", ErrForeign, r.path)
	}
	return nil
}

func markFile(dir string) string { return filepath.Join(dir, ours, markName) }

// readMark returns the mark of a directory: its last line.
func readMark(dir string) ([]byte, error) {
	b, err := os.ReadFile(markFile(dir))
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSpace(b)
	return b[bytes.LastIndexByte(b, '\n')+1:], nil
}

// newMark makes up a mark for a folder.
func newMark(folder [32]byte) []byte {
	var b [16]byte
	rand.Read(b[:])
	return []byte(hex.EncodeToString(folder[:]) + " " + hex.EncodeToString(b[:]))
}

// setMark marks a directory, durably.
func setMark(dir string, mark []byte) error {
	if err := os.MkdirAll(filepath.Join(dir, ours, partName), 0o700); err != nil {
		return fmt.Errorf("mark directory: %w", err)
	}
	f, err := os.OpenFile(markFile(dir), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("mark directory: %w", err)
	}
	_, err = f.WriteString(aboutWe + string(mark) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Join(dir, ours)), syncDir(dir)); err != nil {
		return fmt.Errorf("mark directory: %w", err)
	}
	return nil
}

// Marked tells whether a directory bears a mark of the folder.
func Marked(dir string, folder [32]byte) bool {
	is, err := readMark(dir)
	return err == nil && bytes.HasPrefix(is, []byte(hex.EncodeToString(folder[:])))
}

// Unmark makes a directory an ordinary one that bore the mark of a folder. What is in it stays.
func Unmark(dir string, folder [32]byte) error {
	is, err := readMark(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && !bytes.HasPrefix(is, []byte(hex.EncodeToString(folder[:]))) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, ours))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// open opens what is at a path below the root, on the same disk, through no symlink.
func (r *root) open(name string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	for range 100 { // it gives up when something is renamed meanwhile
		fd, err := unix.Openat2(r.fd, name, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

func (r *root) openDir(name string) (int, error) {
	return r.open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
}

// parts opens where files are made.
func (r *root) parts() (int, error) {
	name := path.Join(ours, partName)
	fd, err := r.openDir(name)
	if err == unix.ENOENT {
		if err = unix.Mkdirat(r.fd, name, 0o700); err == nil || err == unix.EEXIST {
			fd, err = r.openDir(name)
		}
	}
	return fd, err
}
