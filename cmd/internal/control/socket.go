package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what fits into a socket address with its final NUL.
const maxSocketPath = 107

// probeTimeout bounds the question whether somebody serves a socket.
const probeTimeout = 2 * time.Second

// Listen binds the API socket at path. A socket nobody serves any more is
// replaced; one that somebody serves is an error of code [State].
func Listen(path string) (net.Listener, error) {
	if c, err := connect(context.Background(), path, true); err == nil {
		c.Close()
		return nil, Errorf(State, "another daemon already answers at %s", path)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != fs.ModeSocket {
		return nil, Errorf(State, "%s is in the way of the API socket", path)
	}
	// Bound under another name and moved into place, the socket has its mode
	// from the first moment on and a stale one is replaced in one step.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("api socket: %w", err)
	}
	var l *net.UnixListener
	err := short(fresh, func(name string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("api socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it knows the first name only
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		l.Close()
		os.Remove(fresh)
		return nil, fmt.Errorf("api socket: %w", err)
	}
	return &listener{l, path}, nil
}

// listener removes its socket when it is closed.
type listener struct {
	*net.UnixListener
	path string
}

func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if rerr := os.Remove(l.path); err == nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	return err
}

// errForeign says that a socket where a daemon of this user would be is somebody else's.
var errForeign = errors.New("socket of another user")

// connect opens a connection to the daemon at path, if it is one to trust: root's or this user's, and to root anybody's
// whose socket was named.
func connect(ctx context.Context, path string, named bool) (net.Conn, error) {
	var c net.Conn
	err := short(path, func(name string) (err error) {
		d := net.Dialer{Timeout: probeTimeout}
		c, err = d.DialContext(ctx, "unix", name)
		return err
	})
	if err != nil {
		return nil, err
	}
	uid, err := peerUID(c)
	switch foreign := uid != 0 && uid != os.Geteuid(); {
	case err != nil:
	case foreign && os.Geteuid() != 0:
		err = Errorf(Denied, "the daemon at %s belongs to another user", path)
	case foreign && !named:
		err = errForeign
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// short calls fn with a name of the socket that fits into a socket address.
func short(path string, fn func(name string) error) error {
	if len(path) <= maxSocketPath {
		return fn(path)
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(dir)
	return fn(fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)))
}

// peerUID is the user at the other end of a unix connection, as the kernel
// recorded it when the connection was made.
func peerUID(c net.Conn) (int, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("peer credentials: %T is no unix connection", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(cerr, err); err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	return int(cred.Uid), nil
}
