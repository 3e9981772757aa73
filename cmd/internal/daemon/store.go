package daemon

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskOptions are those of the store. Its format is that of all that is kept in
// the data folder.
func diskOptions(o Options) blocks.DiskOptions {
	return blocks.DiskOptions{
		Log: o.Log, MetaCache: 72 << 20, BlockCache: 24 << 20,
		Beside: []string{filepath.Base(o.Places.Identity()), filepath.Base(o.Places.Staging())},
	}
}

// StoreVersion looks at the store of an instance that no daemon has open.
func StoreVersion(places config.Places) (*control.StoreVersion, error) {
	v, err := blocks.ReadVersions(vfs.Default, places.Data, blocks.DiskOptions{})
	return storeVersions(v), err
}

func storeVersions(v blocks.Versions) *control.StoreVersion {
	return &control.StoreVersion{Format: v.Format, Meta: v.Meta, Blocks: v.Blocks}
}

// checkpoint copies the data folder.
func (d *Daemon) checkpoint(ctx context.Context, in control.CheckpointRequest) (out control.CheckpointMade, err error) {
	out = control.CheckpointMade{Schema: control.Schema, Dir: in.Dir}
	if in.Dir == "" {
		out.Dir = d.disk.NextCheckpoint()
		return out, d.disk.Checkpoint(ctx, out.Dir)
	}
	if err := d.outside(in.Dir); err != nil {
		return out, err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(in.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return out, control.Errorf(control.Usage, "%s does not exist: make it first", filepath.Dir(in.Dir))
	}
	if err == nil {
		err = d.outside(parent)
	}
	if err == nil {
		err = d.disk.Checkpoint(ctx, in.Dir)
	}
	if errors.Is(err, fs.ErrExist) {
		err = control.Errorf(control.Usage, "%s exists: take another directory", in.Dir)
	}
	return out, err
}

// outside refuses to copy the data folder into a folder: the copy would wait for
// this daemon, and be shared with others, key and all.
func (d *Daemon) outside(path string) error {
	for _, f := range d.all() {
		if v := d.view(f); inside(path, v.rec.Dir) {
			return control.Errorf(control.Usage, "%s is in the folder %s: take a directory outside", path, v.rec.Name)
		}
	}
	return nil
}
