package mount

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/syncer"
)

// Positions in a directory: cookies of entries are above them.
const (
	posDot    = 1
	posDotDot = 2
)

// OpenDir implements fuse.RawFileSystem. The kernel may keep a listing, unless ".." is another since.
func (m *Mount) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	if m.table.takeMoved(syncer.Ino(in.NodeId)) {
		out.OpenFlags = fuse.FOPEN_CACHE_DIR
	}
	return fuse.OK
}

// ReleaseDir implements fuse.RawFileSystem.
func (m *Mount) ReleaseDir(*fuse.ReleaseIn) {}

// FsyncDir implements fuse.RawFileSystem.
func (m *Mount) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return m.status("fsyncdir", syncer.Ino(in.NodeId), m.folder.Sync())
}

// ReadDir implements fuse.RawFileSystem.
func (m *Mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir := syncer.Ino(in.NodeId)
	if !m.dots(dir, in.Offset, func(e fuse.DirEntry) bool { return out.AddDirEntry(e) }) {
		return fuse.OK
	}
	err := m.folder.List(dir, after(in.Offset), func(e syncer.Entry) bool {
		return out.AddDirEntry(dirEntry(&e))
	})
	return m.listed(dir, err)
}

// ReadDirPlus implements fuse.RawFileSystem: each entry but the dots is a reference of the kernel.
func (m *Mount) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir, ctx := syncer.Ino(in.NodeId), m.ctxOf(cancel, &in.InHeader)
	if !m.dots(dir, in.Offset, func(e fuse.DirEntry) bool { return out.AddDirLookupEntry(e) != nil }) {
		return fuse.OK
	}
	err := m.folder.List(dir, after(in.Offset), func(e syncer.Entry) bool {
		slot := out.AddDirLookupEntry(dirEntry(&e))
		if slot == nil {
			return false
		}
		m.enterListed(ctx, e.Attr, slot)
		if m.replay.haunted(dir, e.Name) {
			slot.SetEntryTimeout(0)
		}
		return true
	})
	return m.listed(dir, err)
}

// enterListed is enter for an entry of a listing: if it is gone, the kernel gets the name alone.
func (m *Mount) enterListed(ctx context.Context, a syncer.Attr, out *fuse.EntryOut) {
	if err := m.enter(ctx, a, out); err != nil {
		*out = fuse.EntryOut{}
		if !gone(err) {
			m.status("readdirplus", a.Ino, err)
		}
	}
}

func dirEntry(e *syncer.Entry) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Ino: uint64(e.Attr.Ino), Mode: types[e.Attr.Kind], Off: e.Cookie}
}

// dots adds "." and ".." where the position asks for them, and says whether there is room for more.
func (m *Mount) dots(dir syncer.Ino, pos uint64, add func(fuse.DirEntry) bool) bool {
	if pos < posDot && !add(fuse.DirEntry{Name: ".", Ino: uint64(dir), Mode: syscall.S_IFDIR, Off: posDot}) {
		return false
	}
	if pos < posDotDot {
		return add(fuse.DirEntry{Name: "..", Ino: uint64(m.folder.Parent(dir)), Mode: syscall.S_IFDIR, Off: posDotDot})
	}
	return true
}

// after is where List goes on for a position.
func after(pos uint64) uint64 {
	if pos <= posDotDot {
		return 0
	}
	return pos
}

// listed is the answer to a listing. A removed directory that is still open is empty.
func (m *Mount) listed(dir syncer.Ino, err error) fuse.Status {
	if errors.Is(err, syncer.ErrNotExist) || errors.Is(err, syncer.ErrStale) {
		return fuse.OK
	}
	return m.status("readdir", dir, err)
}
