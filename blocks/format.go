package blocks

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format is the version of all that is in a data directory: the rows of meta,
// whoever's they are, packs, and what others keep beside (DiskOptions.Beside).
// Whoever changes any of it so that an older program could not read it, or this
// one not what an older wrote, raises it and adds a Step.
const Format = 1

// steps lead from every format there was to Format.
var steps = []Step{}

// formatKey is where it stands: in the pack table of folder 0, the device,
// which has no packs.
var formatKey = tableKey(0, tabPacks)

// A Step takes a data directory from one format to a later one. It reads and
// writes rows as they were in those, with code of its own, since that of other
// packages goes on. A file outside of the databases is replaced, and synced.
type Step struct {
	From, To int
	Do       func(*Old) error
}

// Old is a data directory under a Step.
type Old struct {
	FS           vfs.FS
	Dir          string
	Meta, Blocks *pebble.DB
}

// Versions are those of a data directory: its format, and the major versions of
// the format of its two instances of Pebble. 0 is of what is not there.
type Versions struct{ Format, Meta, Blocks int }

// Versions returns those of the disk.
func (d *Disk) Versions() Versions {
	return Versions{d.format, int(d.meta.FormatMajorVersion()), int(d.blocks.FormatMajorVersion())}
}

// ReadVersions returns those of a directory that no Disk has open, which may be
// newer than Format, and changes nothing.
func ReadVersions(fsys vfs.FS, dir string, o DiskOptions) (v Versions, err error) {
	o.defaults(0)
	d := &Disk{fs: fsys, dir: dir, log: o.Log, fatal: o.Fatal}
	meta, err := d.peek("meta")
	packs, err2 := d.peek("blocks")
	v.Meta, v.Blocks = int(meta.FormatMajorVersion), int(packs.FormatMajorVersion)
	if err = errors.Join(err, err2); err == nil && meta.Exists {
		v.Format, err = d.readFormat()
	}
	if err != nil {
		return v, fmt.Errorf("read versions of %s: %w", dir, err)
	}
	return v, nil
}

// peek describes a database, without opening it.
func (d *Disk) peek(db string) (desc pebble.DBDesc, err error) {
	found, err := pebble.Peek(d.fs.PathJoin(d.dir, db), d.fs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return desc, nil
	case err != nil && strings.Contains(err.Error(), "unknown format major version"):
		return desc, fmt.Errorf("%w: %w: install a newer clachan", ErrNewerFormat, err)
	case err != nil || !found.Exists:
		return desc, err
	}
	return *found, nil
}

// readFormat reads the row of a meta that is there, 0 if it has none.
func (d *Disk) readFormat() (format int, err error) {
	db, err := pebble.Open(d.fs.PathJoin(d.dir, "meta"), &pebble.Options{FS: d.fs, ReadOnly: true, Logger: logger{d.log, d.fatal},
		EventListener: listener(d.log, "meta", func(error) {})})
	if err != nil {
		return 0, fmt.Errorf("look at meta: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	v, closer, err := db.Get(formatKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read format: %w", err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	if len(v) != 1 || v[0] == 0 {
		return 0, fmt.Errorf("%w: its format is %x, this is %d: install a newer clachan", ErrNewerFormat, v, Format)
	}
	return int(v[0]), nil
}

// checkFormat returns the format of what is there, 0 if there is nothing yet. It
// refuses what a newer version has written, before anything is changed.
func (d *Disk) checkFormat() (format int, err error) {
	hasMeta, err := d.exists("meta")
	if err != nil {
		return 0, fmt.Errorf("look at meta: %w", err)
	}
	if hasMeta { // a crash before the first row leaves 0
		if format, err = d.readFormat(); err != nil {
			return 0, err
		}
		if err := d.known(format); err != nil {
			return 0, err
		}
	}
	hasBlocks, err := d.exists("blocks")
	if err != nil {
		return 0, fmt.Errorf("look at blocks: %w", err)
	}
	if format == 0 && hasBlocks {
		return 0, ErrNoMeta
	}
	return format, nil
}

// known refuses a format that is newer than this program's.
func (d *Disk) known(format int) error {
	if format > d.format {
		return fmt.Errorf("%w: written by clachan format %d, this is %d: install a newer clachan", ErrNewerFormat, format, d.format)
	}
	return nil
}

// exists reports whether there is a Pebble instance of that name.
func (d *Disk) exists(db string) (bool, error) {
	desc, err := d.peek(db)
	if err != nil || !desc.Exists {
		return false, err
	}
	return d.whole(d.fs.PathJoin(d.dir, db), desc.ManifestFilename)
}

// whole reports whether the instance in dir has the manifest it names. A crash
// while it was made can leave the name alone; then it is removed. If it holds
// anything it is left for Pebble to refuse.
func (d *Disk) whole(dir, manifest string) (bool, error) {
	if _, err := d.fs.Stat(manifest); !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	names, err := d.fs.List(dir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		fi, err := d.fs.Stat(d.fs.PathJoin(dir, name))
		if err != nil {
			return false, err
		}
		kind := name[strings.LastIndexByte(name, '.')+1:]
		if kind == "sst" || kind == "blob" || kind == "log" && fi.Size() > 0 {
			return true, nil
		}
	}
	d.log.Warn("removing a database that a crash has left unmade", "dir", dir)
	return false, d.fs.RemoveAll(dir)
}
