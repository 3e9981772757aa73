package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// A fresh reader reads packs as they are on the disk now, past the caches of
// Pebble and of the kernel. It keeps some packs open.
type fresh struct {
	s      *Store
	tables map[uint64]string // the file of each pack
	opened map[uint64]*sstable.Reader
}

const freshPacks = 16 // that are open at once

// fresh returns a reader of the packs there are.
func (s *Store) fresh() (*fresh, error) {
	levels, err := s.d.blocks.SSTables()
	if err != nil {
		return nil, err
	}
	f := &fresh{s: s, tables: map[uint64]string{}, opened: map[uint64]*sstable.Reader{}}
	for _, level := range levels {
		for _, t := range level {
			if pack, _, ok := parsePackKey(t.Smallest.UserKey); ok {
				f.tables[pack] = s.d.fs.PathJoin(s.d.dir, "blocks", t.BackingSSTNum.String()+".sst")
			}
		}
	}
	return f, nil
}

// read is Store.read. Of what is no longer, or not yet, where it looks, Pebble knows.
func (f *fresh) read(id ID, loc location, buf []byte) (out []byte, err error) {
	if loc.flags&flagSmall != 0 {
		return f.s.read(id, loc, buf)
	}
	r, err := f.open(loc.pack)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return f.s.read(id, loc, buf)
	}
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	kv := it.SeekGE(packKey(loc.pack, loc.index), 0)
	if kv == nil {
		return nil, errors.Join(pebble.ErrNotFound, it.Error())
	}
	if pack, index, ok := parsePackKey(kv.K.UserKey); !ok || pack != loc.pack || index != loc.index {
		return nil, pebble.ErrNotFound
	}
	v, _, err := kv.Value(nil)
	if err != nil {
		return nil, err
	}
	return f.s.verify(id, loc.flags, loc.size, v, buf)
}

// open opens a pack. It is nil if that has no file.
func (f *fresh) open(pack uint64) (*sstable.Reader, error) {
	if r := f.opened[pack]; r != nil {
		return r, nil
	}
	if len(f.opened) >= freshPacks {
		if err := f.close(); err != nil {
			return nil, err
		}
	}
	name, ok := f.tables[pack]
	if !ok {
		return nil, nil
	}
	file, err := checkedFS{f.s.d.fs}.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // given back meanwhile
	}
	if err != nil {
		return nil, err
	}
	fi, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r, err := sstable.NewReader(context.Background(), &freshFile{file, fi.Size()}, f.s.d.packReader)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open pack %s: %w", name, err), file.Close())
	}
	f.opened[pack] = r
	return r, nil
}

func (f *fresh) close() error {
	var errs []error
	for _, r := range f.opened {
		errs = append(errs, r.Close())
	}
	clear(f.opened)
	return errors.Join(errs...)
}

// A freshFile has the kernel forget what it is about to be asked for.
type freshFile struct {
	f    vfs.File
	size int64
}

func (f *freshFile) ReadAt(_ context.Context, p []byte, off int64) error {
	if fd := f.f.Fd(); fd != vfs.InvalidFd {
		page := int64(os.Getpagesize())
		from, to := off/page*page, (off+int64(len(p))+page-1)/page*page
		_ = unix.Fadvise(int(fd), from, to-from, unix.FADV_DONTNEED) // it is but advice
	}
	n, err := f.f.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the file ends before %d", pebble.ErrCorruption, off+int64(len(p)))
	}
	return err
}

func (f *freshFile) Close() error { return f.f.Close() }
func (f *freshFile) Size() int64  { return f.size }

func (f *freshFile) NewReadHandle(objstorage.ReadBeforeSize) objstorage.ReadHandle {
	h := objstorage.MakeNoopReadHandle(f)
	return &h
}
