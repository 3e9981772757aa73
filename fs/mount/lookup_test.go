package mount

import (
	"context"
	"crypto/ed25519"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

func TestWhatCannotBeEnteredIsNotHeld(t *testing.T) {
	disk, err := blocks.OpenDisk(vfs.NewMem(), "data", blocks.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	_, device, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := syncer.Open(syncer.Options{Disk: disk, Number: 1, Device: device})
	if err != nil {
		t.Fatal(err)
	}
	m := &Mount{folder: folder}
	m.table.init()
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
