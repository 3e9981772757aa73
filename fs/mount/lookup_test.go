package mount

import (
	"context"
	"crypto/ed25519"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// unmounted is a mount that the kernel knows nothing of.
func unmounted(t *testing.T) *Mount {
	t.Helper()
	disk, err := blocks.OpenDisk(vfs.NewMem(), "data", blocks.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	_, device, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := syncer.Open(syncer.Options{Disk: disk, Number: 1, Device: device})
	if err != nil {
		t.Fatal(err)
	}
	m := &Mount{folder: folder, replay: newReplayer(), life: context.Background()}
	m.table.init()
	return m
}

// unmountedFile is unmounted with a new file that is open for writing.
func unmountedFile(t *testing.T) (*Mount, syncer.Attr, *live) {
	t.Helper()
	m := unmounted(t)
	var err error
	if m.stage, err = staging.Open(t.TempDir(), staging.Options{}); err != nil {
		t.Fatal(err)
	}
	a, err := m.folder.Create(syncer.RootIno, "file", syncer.New{Kind: model.File})
	if err != nil {
		t.Fatal(err)
	}
	m.table.lookup(a.Ino, m.folder.Hold)
	l, _ := m.table.open(a.Ino, true)
	return m, a, l
}

// The kernel does not see that a change of others has overtaken such an answer: it would be believed for an hour.
func TestAnswersToChangesHoldForNoTime(t *testing.T) {
	m := unmounted(t)
	a, err := m.folder.Create(syncer.RootIno, "file", syncer.New{Kind: model.File})
	if err != nil {
		t.Fatal(err)
	}
	set := fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: fuse.InHeader{NodeId: uint64(a.Ino)}, Valid: fuse.FATTR_MODE, Mode: 0o600}}
	var got fuse.AttrOut
	if st := m.SetAttr(nil, &set, &got); !st.Ok() || got.Mode&0o777 != 0o600 || got.AttrValid != 0 || got.AttrValidNsec != 0 {
		t.Errorf("setattr: %v, mode %o for %d.%09d s", st, got.Mode, got.AttrValid, got.AttrValidNsec)
	}
	link := fuse.LinkIn{InHeader: fuse.InHeader{NodeId: uint64(syncer.RootIno)}, Oldnodeid: uint64(a.Ino)}
	var out fuse.EntryOut
	if st := m.Link(nil, &link, "link", &out); !st.Ok() || out.Nlink != 2 || out.AttrValid != 0 || out.AttrValidNsec != 0 {
		t.Errorf("link: %v, %d links for %d.%09d s", st, out.Nlink, out.AttrValid, out.AttrValidNsec)
	}
}

func TestWhatCannotBeEnteredIsNotHeld(t *testing.T) {
	m := unmounted(t)
	folder := m.folder
	a, err := folder.Create(syncer.RootIno, "file", syncer.New{Kind: model.File})
	if err != nil {
		t.Fatal(err)
	}
	if err := folder.Unlink(syncer.RootIno, "file"); err != nil { // after it was found
		t.Fatal(err)
	}
	var out fuse.EntryOut
	if err := m.enter(context.Background(), a, &out); !gone(err) {
		t.Fatalf("entered what is gone: %v", err)
	}
	if m.table.known(a.Ino) {
		t.Error("its number is held until the mount ends")
	}
}
