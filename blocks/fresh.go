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
// Pebble and of the kernel. It keeps one pack open: ask in the order of packs.
type fresh struct {
	s      *Store
	tables map[uint64]string // the file of each pack
	pack   uint64
	r      *sstable.Reader // of pack; nil: none is open
}

// fresh returns a reader of the packs there are.
func (s *Store) fresh() (*fresh, error) {
	levels, err := s.d.blocks.SSTables()
	if err != nil {
		return nil, err
	}
	f := &fresh{s: s, tables: map[uint64]string{}}
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
	if err := f.open(loc.pack); err != nil {
		return nil, err
	}
	if f.r == nil {
		return f.s.read(id, loc, buf)
	}
	it, err := f.r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
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

// open opens a pack, if it has a file.
func (f *fresh) open(pack uint64) error {
	if f.r != nil && f.pack == pack {
		return nil
	}
	if err := f.close(); err != nil {
		return err
	}
	name, ok := f.tables[pack]
	if !ok {
		return nil
	}
	file, err := checkedFS{f.s.d.fs}.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // given back meanwhile
	}
	if err != nil {
		return err
	}
	fi, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	r, err := sstable.NewReader(context.Background(), &freshFile{file, fi.Size()}, f.s.d.packReader)
	if err != nil {
		return errors.Join(fmt.Errorf("open pack %s: %w", name, err), file.Close())
	}
	f.pack, f.r = pack, r
	return nil
}

func (f *fresh) close() error {
	if f.r == nil {
		return nil
	}
	err := f.r.Close()
	f.r = nil
	return err
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
