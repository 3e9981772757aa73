package crashfs

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is Pebble's crashable MemFS, with a Link that can run beside CrashClone:
// MemFS.Link takes the read side of one lock twice, so a CrashClone that asks
// for the write side in between would stop both for good.
type FS struct {
	*vfs.MemFS
	mu sync.RWMutex // read: a Link runs; write: a CrashClone does
}

// New returns an empty filesystem.
func New() *FS { return &FS{MemFS: vfs.NewCrashableMem()} }

// Link gives a file a second name.
func (fs *FS) Link(old, name string) error {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.MemFS.Link(old, name)
}

// CrashClone returns what a loss of power now would leave.
func (fs *FS) CrashClone(cfg vfs.CrashCloneCfg) *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return &FS{MemFS: fs.MemFS.CrashClone(cfg)}
}
