package metrics

import (
	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
)

// A State is what there is to tell at one moment.
type State struct {
	Version     control.Version
	Status      control.Status
	Folders     []Folder // those of Status, in its order
	Meta, Packs blocks.DBMetric
	DiskTotal   int64
	DiskFree    int64
}

// A Folder is what Status does not tell of one.
type Folder struct {
	Space blocks.Space
	Ops   []mount.Op // nil if it is not mounted
}
