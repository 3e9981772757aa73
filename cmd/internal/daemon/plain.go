package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/plain"
	"github.com/clachanfs/clachan/syncer"
)

// openPlain prepares the directory of a folder to show it. The first time it is marked; from
// then on one without the mark is away.
func (d *Daemon) openPlain(f *folder, core *syncer.Folder) (*plain.Dir, error) {
	p, err := plain.New(core, f.rec.Dir, plain.Options{Log: d.log.With("folder", f.rec.Name), New: !f.rec.Taken})
	if err != nil || f.rec.Taken {
		return p, err
	}
	return p, d.update(f, func(r *record) { r.Taken = true })
}

// goneFiles tells of files that are gone from a plain directory, or decides about them.
func (d *Daemon) goneFiles(_ context.Context, in control.GoneRequest) (out control.Gone, err error) {
	f, err := d.find(in.Folder)
	if err != nil {
		return out, err
	}
	v := d.view(f)
	if v.run == nil || v.run.plain == nil {
		return out, control.Errorf(control.Usage, "%s is no plain directory here: what is removed in a mount is removed", v.rec.Name)
	}
	out = control.Gone{Schema: control.Schema, Folder: v.rec.Name}
	out.Files, out.Of = v.run.plain.Held()
	switch {
	case in.Accept:
		err = v.run.plain.Accept()
	case in.Restore:
		err = v.run.plain.Restore()
	}
	if errors.Is(err, plain.ErrNothingHeld) {
		err = control.Errorf(control.NotFound, "no files are gone from %s that are not removed elsewhere", v.rec.Dir)
	}
	return out, err
}

// demote has the bytes stored that stand in the plain directory of a folder, before it is shown
// in another: nothing can be read there any more. One that was moved there bears the mark.
func (d *Daemon) demote(f *folder, dir string) error {
	v := d.view(f)
	if !v.rec.Plain || v.rec.Dir == dir || plain.Marked(dir, f.grant.ID) {
		return nil
	}
	if v.run == nil || v.run.plain == nil {
		return control.Errorf(control.State, "%s is not read now, and files are nowhere else: mount %s there first, or move the directory itself", v.rec.Dir, v.rec.Name)
	}
	if err := v.run.plain.Demote(context.Background()); err != nil {
		return fmt.Errorf("store what is in %s (or move the directory itself): %w", v.rec.Dir, err)
	}
	return nil
}
