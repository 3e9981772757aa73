package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

const (
	checkpointsName = "checkpoints"
	stampLayout     = "20060102T150405.000Z"
	keepUpgraded    = 7 * 24 * time.Hour
	partSuffix      = ".part" // of a checkpoint that is not whole
)

func (d *Disk) checkpointDir(name string) string {
	return d.fs.PathJoin(d.dir, checkpointsName, name)
}

// NextCheckpoint returns a name below the directory that a checkpoint can have.
func (d *Disk) NextCheckpoint() string {
	return d.checkpointDir(time.Now().UTC().Format(stampLayout))
}

// Checkpoint makes dir, which must not exist, a copy of the data directory that
// can be opened as one: what was committed until now is in it, and of what others
// keep beside what a crash of the process would leave. Tables are linked, if dir
// is on the same filesystem, and everything else is copied.
func (d *Disk) Checkpoint(ctx context.Context, dir string) (err error) {
	if _, err := d.fs.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("checkpoint %s: %w", dir, errors.Join(fs.ErrExist, err))
	}
	select {
	case d.keep <- struct{}{}:
		defer func() { <-d.keep }()
	case <-ctx.Done():
		return fmt.Errorf("checkpoint: %w", ctx.Err())
	}
	part := dir + partSuffix
	if err = d.fs.RemoveAll(part); err == nil {
		err = d.checkpoint(part)
	}
	if err == nil {
		err = d.fs.Rename(part, dir)
	}
	if err == nil {
		err = syncDir(d.fs, d.fs.PathDir(dir))
	}
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", dir, errors.Join(err, d.fs.RemoveAll(part)))
	}
	return nil
}

// checkpoint makes dir. A row of meta names packs that there are, so meta goes
// first, and no pack is given back before both are taken. Files beside are linked
// before and after it, so that none which its rows speak of is missed because it
// was made or deleted in between; then copied, since they are written in place.
func (d *Disk) checkpoint(dir string) error {
	if err := makeDir(d.fs, dir); err != nil {
		return err
	}
	beside := func(do func(from, to string) error) error {
		for _, name := range d.beside {
			if err := do(d.fs.PathJoin(d.dir, name), d.fs.PathJoin(dir, name)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
	link := func(from, to string) error { return linkAll(d.fs, from, to) }
	if err := beside(link); err != nil {
		return err
	}
	if err := d.meta.Checkpoint(d.fs.PathJoin(dir, "meta"), pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	if err := d.blocks.Checkpoint(d.fs.PathJoin(dir, "blocks"), pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("blocks: %w", err)
	}
	if err := beside(link); err != nil {
		return err
	}
	if err := beside(func(_, to string) error { return ownAll(d.fs, to) }); err != nil {
		return err
	}
	return syncDir(d.fs, dir)
}

// letGo removes the checkpoints of upgrades that are old at now, and what is left
// of others that were not finished.
func (d *Disk) letGo(now time.Time) error {
	names, err := d.fs.List(d.checkpointDir(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		_, stamp, _ := strings.Cut(name, "-") // who asked for one removes it
		at, bad := time.Parse(stampLayout, stamp)
		if strings.HasSuffix(name, partSuffix) || bad == nil && now.Sub(at) > keepUpgraded {
			d.log.Info("removing a checkpoint", "dir", d.checkpointDir(name))
			err = errors.Join(err, d.fs.RemoveAll(d.checkpointDir(name)))
		}
	}
	return err
}

// list returns the names in a directory, or no directory if name is a file or
// nothing.
func list(fsys vfs.FS, name string) (names []string, isDir bool, err error) {
	fi, err := fsys.Stat(name)
	if err != nil || !fi.IsDir() {
		return nil, false, err
	}
	names, err = fsys.List(name)
	return names, true, err
}

// linkAll gives the files from names below to as well, as far as to has none of
// that name. What is gone meanwhile is left out.
func linkAll(fsys vfs.FS, from, to string) error {
	names, isDir, err := list(fsys, from)
	if err == nil && !isDir {
		err = fsys.Link(from, to)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // on another filesystem
			err = copyFile(fsys, from, to)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !isDir {
		return err
	}
	if err := fsys.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		if err := linkAll(fsys, fsys.PathJoin(from, name), fsys.PathJoin(to, name)); err != nil {
			return err
		}
	}
	return nil
}

// ownAll makes copies of files that may be links.
func ownAll(fsys vfs.FS, path string) error {
	names, isDir, err := list(fsys, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !isDir:
		if err := copyFile(fsys, path, path+partSuffix); err != nil {
			return err
		}
		return fsys.Rename(path+partSuffix, path)
	}
	for _, name := range names {
		if err := ownAll(fsys, fsys.PathJoin(path, name)); err != nil {
			return err
		}
	}
	return syncDir(fsys, path)
}

// replace makes what is at to like what is at from. A directory stays the one it
// is. Tables never change, and are linked.
func replace(fsys vfs.FS, from, to string) error {
	names, isDir, err := list(fsys, from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fsys.RemoveAll(to)
	case err != nil:
		return err
	case !isDir:
		if err := fsys.RemoveAll(to); err != nil {
			return err
		}
		if strings.HasSuffix(to, ".sst") || strings.HasSuffix(to, ".blob") {
			return vfs.LinkOrCopy(fsys, from, to)
		}
		return copyFile(fsys, from, to)
	}
	if err := fsys.MkdirAll(to, 0o700); err != nil {
		return err
	}
	old, err := fsys.List(to)
	if err != nil {
		return err
	}
	for _, name := range old {
		if err := fsys.RemoveAll(fsys.PathJoin(to, name)); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := replace(fsys, fsys.PathJoin(from, name), fsys.PathJoin(to, name)); err != nil {
			return err
		}
	}
	return syncDir(fsys, to)
}

// copyFile makes to a copy of from that is durable but for its name, and as
// sparse, of the same mode and age where the filesystem knows of that.
func copyFile(fsys vfs.FS, from, to string) (err error) {
	in, err := fsys.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := fsys.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if in.Fd() == vfs.InvalidFd || out.Fd() == vfs.InvalidFd {
		_, err = io.Copy(out, in)
	} else {
		err = copySparse(in, out)
	}
	if err != nil {
		return err
	}
	return out.Sync()
}

func copySparse(in, out vfs.File) error {
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	for off := int64(0); ; {
		a, err := unix.Seek(int(in.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return err
		}
		if off, err = unix.Seek(int(in.Fd()), a, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, a), io.NewSectionReader(in, a, off-a)); err != nil {
			return err
		}
	}
	fd, mtime := int(out.Fd()), unix.NsecToTimeval(fi.ModTime().UnixNano())
	if err := unix.Ftruncate(fd, fi.Size()); err != nil {
		return err
	}
	return errors.Join(unix.Fchmod(fd, uint32(fi.Mode().Perm())), unix.Futimes(fd, []unix.Timeval{mtime, mtime}))
}

func syncDir(fsys vfs.FS, dir string) error {
	f, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
