package syncer

import (
	"context"
	"errors"
	"io"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// An Ino is an inode number: local to this device, stable for the life of the
// database.
type Ino = index.Ino

// RootIno is the root directory of every folder.
const RootIno = index.RootIno

// What operations on the tree fail with. Each means one errno.
var (
	ErrNotExist    = errors.New("no such file or directory")
	ErrExist       = errors.New("file exists")
	ErrNotDir      = errors.New("not a directory")
	ErrIsDir       = errors.New("is a directory")
	ErrNotEmpty    = errors.New("directory not empty")
	ErrInvalid     = errors.New("invalid argument")
	ErrPerm        = errors.New("operation not permitted")
	ErrReadOnly    = errors.New("read-only folder")
	ErrNameTooLong = errors.New("file name too long")
	ErrNoAttr      = errors.New("no such attribute")
	ErrTooBig      = errors.New("attribute too large")
	ErrLinks       = errors.New("too many links")
	ErrNoSpace     = errors.New("no space for more attributes")
	ErrStale       = errors.New("stale inode")
	ErrFull        = blocks.ErrFull
	ErrOffline     = errors.New("no peer that has it is connected")
	ErrChanged     = errors.New("bytes changed while they were read")
	ErrClosed      = errors.New("folder is closed")
	ErrBug         = errors.New("a bug") // it panicked
)

// An Attr is what stat shows. Times are in ns since 1970.
type Attr struct {
	Ino                        Ino
	Kind                       model.Kind
	Mode                       uint32 // 07777
	UID, GID, Nlink, Rdev      uint32
	Size, Alloc                int64 // Alloc: bytes that are not holes
	Atime, Mtime, Ctime, Btime int64
}

// New is what a program asks of a new file.
type New struct {
	Kind     model.Kind
	Mode     uint32 // 07777
	UID, GID uint32
	Target   string // of a symlink
	Rdev     uint32
	By       Proc              // who makes it
	Xattrs   map[string][]byte // that stay on this machine: ACLs
}

// Set is what chmod, chown, utimensat and setting an ACL change: what is not nil.
type Set struct {
	Mode, UID, GID *uint32
	Atime, Mtime   *int64
	Xattrs         map[string][]byte // that stay on this machine; nil removes one
}

// IsZero says that nothing is to be changed.
func (s Set) IsZero() bool {
	return s.Mode == nil && s.UID == nil && s.GID == nil && s.Atime == nil && s.Mtime == nil && len(s.Xattrs) == 0
}

// A Version is the committed content of a file, as shown.
type Version struct {
	Content content.Content
	Orig    model.Dot // which version; zero: never committed
	Mtime   int64
}

// An Entry is one name of a directory.
type Entry struct {
	Cookie uint64 // List goes on after it; stable while the name exists, above 2
	Name   string
	Attr   Attr
}

// DirtyState is what the index remembers of a file that has bytes not cut yet,
// so that a crash loses nothing that was synced.
type DirtyState struct {
	Gen                       uint64 // newest staging layer
	From                      uint64 // the oldest
	Empty                     bool   // nothing is written yet
	Base                      model.Dot
	Open                      bool // a writer has it open
	Size, Alloc, Mtime, Ctime int64
	Zero                      []content.Range // punched: holes over what lies below
	Data                      []byte          // a small file's bytes; nil: they are in staging files
}

// A Layer is what Freeze holds still: the whole file as it was then. One that cannot be
// held still fails with ErrChanged. If it is an io.Closer, it is closed when all that was
// frozen with it was read.
type Layer interface {
	io.ReaderAt
	Gen() uint64
	Base() Version // what the layer lies over
	Size() int64
	Mtime() int64
	Ctime() int64
	Dirty() []content.Range // where it differs from Base, sorted; holes and zeros included
	Holes() []content.Range // known holes of the whole file, for sparse files
}

// A Surface shows a folder to programs: a mount, or a plain directory.
type Surface interface {
	// Freeze holds what was written so far still, of all the inodes at one
	// instant; later writes open new layers. A layer is nil if nothing is dirty.
	// It is called for several files at once.
	Freeze(ctx context.Context, inos ...Ino) ([]Layer, error)
	// Rebase follows the commit of a frozen layer: v is the file's new base, and
	// the layers up to gen can go. It must not block on the kernel.
	Rebase(ino Ino, gen uint64, v Version)
	// Busy tells whether the inode is open or dirty. It is called with the
	// folder locked and takes only the lock of its own table.
	Busy(ino Ino) bool
	// Writing tells how the inode is being written to: it is cut when it rests.
	// Like Busy, it may be called with the folder locked.
	Writing(ino Ino) Writing
	// Shown follows the commit of what others did: kernel caches are dropped and
	// watchers woken. It only queues.
	Shown(flips []Flip)
}

// A Flip is one change of the tree that its user did not make here.
type Flip struct {
	Dir      Ino // 0: not about a name
	Name     string
	Old, New Ino // what the name showed and shows; 0: nothing. The same twice: it is spelt anew
	OldDir   bool
	Content  Ino  // this inode has new bytes or attributes
	Attrs    bool // of Content: the bytes are those of before
}

// A Place is a name of a directory.
type Place = index.Place

// A Class orders fetches.
type Class uint8

// Someone waits; a pull; whenever there is time.
const (
	Waiting Class = iota
	Normal
	Background
)

// A Remote is the other members of a folder, as peers shows them.
type Remote interface {
	// Announce tells them what is durable here. It must not block.
	Announce(k model.VV)
	// Fetch returns when the verified block is in the store, ErrOffline if
	// nobody connected has it.
	Fetch(ctx context.Context, id blocks.ID, size int64, class Class) error
}
