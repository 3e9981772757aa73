package daemon

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

func TestAStoppedFolderSaysWhy(t *testing.T) {
	disk, err := blocks.OpenDisk(vfs.NewMem(), "data", blocks.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	_, device, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	broken := false
	core, err := syncer.Open(syncer.Options{Disk: disk, Number: 1, Device: device, Now: func() time.Time {
		if broken {
			panic("broken clock")
		}
		return time.Now()
	}})
	if err != nil {
		t.Fatal(err)
	}
	f := folder{run: &run{core: core}}
	if err := f.failure(); err != nil {
		t.Fatal(err)
	}
	broken = true
	if _, err := core.Create(syncer.RootIno, "name", syncer.New{Kind: model.File}); !errors.Is(err, syncer.ErrBug) {
		t.Fatalf("amid a panic: %v", err)
	}
	if err := f.failure(); !errors.Is(err, syncer.ErrBug) {
		t.Errorf("a stopped folder says %v", err)
	}
}
