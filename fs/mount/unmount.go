package mount

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	unmountWait = time.Second     // how long users of the mount may hold up the end
	drainWait   = 2 * time.Second // how long after that the last requests may take
	saveWait    = 10 * time.Second
)

var (
	// ErrCovered says that another filesystem is mounted over a mount.
	ErrCovered = errors.New("mount is covered by another")
	// ErrStuck says that requests did not end after the unmount: they go on using the Folder.
	ErrStuck = errors.New("requests are still being served")
)

// Unmount unmounts unless programs use the mount. Run returns then.
func (m *Mount) Unmount() error {
	dir, err := m.place()
	if err != nil || dir == "" {
		return err
	}
	return unmount(dir)
}

// detach unmounts what is still mounted, whoever uses it.
func (m *Mount) detach() error {
	dir, err := m.place()
	if err != nil || dir == "" {
		return err
	}
	return detach(dir)
}

// place is where the mount is now, since a directory above may have been renamed; empty if it is nowhere. What others
// have mounted over it stays: it is theirs.
func (m *Mount) place() (string, error) {
	if m.at == nil {
		return m.dir, nil
	}
	all, err := mounts()
	if err != nil {
		return "", err
	}
	dir := ""
	for _, e := range all {
		if e.id == m.at.id {
			dir = e.dir
		}
	}
	for _, e := range all {
		if e.parent == m.at.id && e.dir == dir {
			return "", fmt.Errorf("%w: first unmount what is over %s (%s, of type %s)", ErrCovered, dir, e.source, e.fsType)
		}
	}
	return dir, nil
}

// unmount ends the mount: politely first, then without those who use it.
func (m *Mount) unmount(served <-chan struct{}) error {
	m.unmap()
	err := m.saveAll()
	deadline := time.After(unmountWait)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		uerr := m.Unmount()
		if uerr == nil {
			break
		}
		if busy := !errors.Is(uerr, ErrCovered); busy {
			select {
			case <-served:
				return err
			case <-time.After(wait):
				continue
			case <-deadline:
			}
		}
		m.log.Warn("mount is in use: its users are cut off", slog.String("dir", m.dir), slog.Any("err", uerr))
		if derr := m.detach(); derr != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w; it stays, dead, until `clachan umount --stale`", m.dir, derr))
		}
		m.unmap()
		m.abort()
		break
	}
	for range 2 {
		select {
		case <-served:
			return err
		case <-time.After(drainWait):
			m.abort()
		}
	}
	return errors.Join(err, ErrStuck)
}

// unmap has the kernel hand over what programs have stored in mappings. It does not wait for long.
func (m *Mount) unmap() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var g errgroup.Group // a file of which a block is waited for must not keep the others waiting
		g.SetLimit(64)
		for _, ino := range m.table.written() {
			g.Go(func() error {
				m.server.InodeNotify(uint64(ino), 0, 0)
				return nil
			})
		}
		_ = g.Wait()
	}()
	select {
	case <-done:
	case <-time.After(drainWait):
	}
}

// abort cuts the connection to the kernel.
func (m *Mount) abort() {
	m.abandon()
	if m.at != nil {
		abort(m.at.dev, m.log)
	}
}
