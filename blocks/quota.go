package blocks

import (
	"errors"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// quotaFS tells Pebble of a used-up quota as of a full disk, the one error of a
// write that it survives (by the ballast).
type quotaFS struct{ vfs.FS }

type quotaFile struct{ vfs.File }

func asFull(err error) error {
	if errors.Is(err, syscall.EDQUOT) {
		return syscall.ENOSPC
	}
	return err
}

func wrapQuota(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, asFull(err)
	}
	return quotaFile{f}, nil
}

func (q quotaFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return wrapQuota(q.FS.Create(name, c))
}

func (q quotaFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return wrapQuota(q.FS.ReuseForWrite(old, name, c))
}

func (q quotaFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return wrapQuota(q.FS.OpenReadWrite(name, c, opts...))
}

func (q quotaFS) Link(old, name string) error   { return asFull(q.FS.Link(old, name)) }
func (q quotaFS) Rename(old, name string) error { return asFull(q.FS.Rename(old, name)) }

func (q quotaFS) MkdirAll(dir string, perm os.FileMode) error {
	return asFull(q.FS.MkdirAll(dir, perm))
}

func (q quotaFS) Unwrap() vfs.FS { return q.FS }

func (f quotaFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, asFull(err)
}

func (f quotaFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, asFull(err)
}

func (f quotaFile) Sync() error     { return asFull(f.File.Sync()) }
func (f quotaFile) SyncData() error { return asFull(f.File.SyncData()) }

func (f quotaFile) SyncTo(n int64) (bool, error) {
	full, err := f.File.SyncTo(n)
	return full, asFull(err)
}
