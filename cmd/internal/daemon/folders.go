package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/plain"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
)

// A folder is one shared tree of this device. All but grant is guarded by
// Daemon.mu, and changed under Daemon.ops only.
type folder struct {
	grant peers.Grant
	rec   record
	run   *run  // nil: not started
	err   error // why it is not as the record says
}

// core is the tree of a folder that runs.
func (f folder) core() *syncer.Folder {
	if f.run == nil {
		return nil
	}
	return f.run.core
}

// failure is why it is not as the record says, or does not work though it runs.
func (f folder) failure() error {
	if f.err != nil || f.run == nil {
		return f.err
	}
	if err := f.run.core.Err(); err != nil || f.run.plain == nil {
		return err
	}
	return f.run.plain.Err()
}

// mounted reports whether programs can reach it.
func (f folder) mounted() bool {
	return f.run != nil && (f.run.mount != nil || f.run.plain != nil && f.rec.Mounted && f.run.plain.Err() == nil)
}

// kept is the directory that is kept the same as it.
func (f folder) kept() *plain.Dir {
	if f.run == nil || !f.run.keeps {
		return nil
	}
	return f.run.plain
}

// mode is how it is here.
func (r record) mode() string {
	if r.Plain {
		return "plain"
	}
	return "full"
}

// put adds f to the table.
func (d *Daemon) put(f *folder) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.folders[f.grant.ID] = f
	d.watch.wake()
}

// drop removes f from the table.
func (d *Daemon) drop(f *folder) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.folders, f.grant.ID)
	d.watch.wake()
}

// all lists the folders by name.
func (d *Daemon) all() []*folder {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*folder
	for _, f := range d.folders {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *folder) int { return cmp.Compare(a.rec.Name, b.rec.Name) })
	return all
}

// find gets a folder by its name or id.
func (d *Daemon) find(name string) (*folder, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.folders {
		if f.rec.Name == name || f.grant.ID.String() == name {
			return f, nil
		}
	}
	return nil, control.Errorf(control.NotFound, "no folder is called %q (see: clachan list)", name)
}

func (d *Daemon) taken(name string) bool {
	_, err := d.find(name)
	return err == nil
}

// view is a copy of the fields of f that change.
func (d *Daemon) view(f *folder) folder {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *f
}

// info is what clients see of f.
func (d *Daemon) info(f *folder) control.Folder {
	v := d.view(f)
	out := control.Folder{
		ID: v.grant.ID.String(), Name: v.rec.Name, Dir: v.rec.Dir, Mode: v.rec.mode(), Mounted: v.mounted(),
		Options: append([]string{}, v.rec.Options...), Role: d.role(v).String(),
		Names: v.grant.Log.Names(),
	}
	if err := v.failure(); err != nil {
		out.Error = err.Error()
	}
	return out
}

// role is what this device may do in a folder, which others can change.
func (d *Daemon) role(f folder) trust.Role {
	return f.grant.Log.Role(d.id.Public())
}

func (d *Daemon) defaultDir(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return filepath.Join(d.o.Config.Mounts, name)
}

// update stores a new record of f.
func (d *Daemon) update(f *folder, change func(*record)) error {
	rec := d.view(f).rec
	change(&rec)
	if err := d.records.save(f.grant.ID, rec); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f.rec = rec
	d.watch.wake()
	return nil
}

// checkPlace refuses directories where a mount would bite its own tail: inside
// another folder's mount, or around what the daemon itself works in.
func (d *Daemon) checkPlace(dir string) error {
	if !filepath.IsAbs(dir) {
		return control.Errorf(control.Usage, "the directory %q is not absolute", dir)
	}
	if inside(dir, d.o.Places.Data) || inside(d.o.Places.Data, dir) || inside(d.o.Places.Socket, dir) {
		return control.Errorf(control.Usage, "%s holds the data of clachan itself", dir)
	}
	for _, f := range d.all() {
		v := d.view(f)
		if v.rec.Mounted && v.rec.Dir == dir {
			return control.Errorf(control.Usage, "%s is where the folder %s is mounted", dir, v.rec.Name)
		}
		if v.rec.Mounted && inside(dir, v.rec.Dir) {
			return control.Errorf(control.Usage, "%s lies inside the folder %s", dir, v.rec.Name)
		}
	}
	return nil
}

func (d *Daemon) stagingDir(rec record) string {
	return filepath.Join(d.o.Places.Staging(), strconv.FormatUint(uint64(rec.Num), 10))
}

// mountFolder mounts a folder, perhaps elsewhere or otherwise than before.
func (d *Daemon) mountFolder(_ context.Context, in control.MountRequest) (control.Folder, error) {
	d.ops.Lock()
	defer d.ops.Unlock()
	f, err := d.find(in.Folder)
	if err != nil {
		return control.Folder{}, err
	}
	return d.mountAt(f, in.Dir, in.Options, in.Again)
}

// mountAt is mountFolder under ops: f is mounted at dir, where it was if that
// is empty, with the options it had if they are nil. Again: if it was there before, what programs wrote there since is
// put aside.
func (d *Daemon) mountAt(f *folder, dir string, options []string, again bool) (control.Folder, error) {
	v := d.view(f)
	if dir == "" {
		dir = v.rec.Dir
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	again = again && dir == v.rec.Dir
	if v.rec.Plain && options != nil {
		return control.Folder{}, control.Errorf(control.Usage, "a plain directory has no mount options")
	}
	if v.mounted() && v.err == nil && dir == v.rec.Dir && (options == nil || slices.Equal(options, v.rec.Options)) {
		return d.info(f), nil
	}
	if options == nil {
		options = v.rec.Options
	}
	if _, err := mountOptions(options); err != nil {
		return control.Folder{}, err
	}
	undo := func() {}
	if !v.mounted() || dir != v.rec.Dir {
		if !v.rec.Mounted || dir != v.rec.Dir {
			if err := d.checkPlace(dir); err != nil {
				return control.Folder{}, err
			}
		}
		var err error
		if err = free(dir); err == nil {
			dir, undo, err = makeDir(dir, again || v.rec.Plain)
		}
		if err != nil {
			return control.Folder{}, err
		}
	}
	if err := d.remount(f, v.rec, dir, options, again); err != nil {
		undo()
		return control.Folder{}, err
	}
	return d.info(f), nil
}

// remount restarts f mounted at dir. If that fails f is as it was before.
func (d *Daemon) remount(f *folder, old record, dir string, options []string, again bool) error {
	if err := d.demote(f, dir); err != nil {
		return err
	}
	if err := d.stop(f, false); err != nil {
		return err
	}
	err := d.update(f, func(r *record) { r.Taken = r.Taken && r.Dir == dir; r.Dir, r.Options, r.Mounted = dir, options, true })
	if err == nil {
		err = d.startAs(f, again)
	}
	if err == nil {
		return nil
	}
	back := d.stop(f, true)
	if back == nil {
		back = d.update(f, func(r *record) { *r = old })
	}
	if back == nil {
		back = d.start(f)
	}
	if back != nil {
		d.log.Error("folder not brought back", "folder", old.Name, "err", back)
	}
	return err
}

// umountFolder unmounts a folder, and remembers that.
func (d *Daemon) umountFolder(ctx context.Context, in control.UmountRequest) (out control.Unmounted, err error) {
	d.ops.Lock()
	defer d.ops.Unlock()
	f, err := d.find(in.Folder)
	if err != nil {
		return out, err
	}
	out.Schema = control.Schema
	if st, err := d.folderStatus(ctx, f); err == nil {
		out.OnlyHere, out.More = st.OnlyHere, st.OnlyHereMore
	}
	if !d.view(f).rec.Mounted {
		return out, nil
	}
	if err := d.stop(f, in.Lazy); err != nil {
		return out, err
	}
	if err := d.update(f, func(r *record) { r.Mounted = false }); err != nil {
		return out, errors.Join(err, d.start(f))
	}
	return out, d.start(f)
}

// leaveFolder forgets a folder.
func (d *Daemon) leaveFolder(ctx context.Context, in control.LeaveRequest) (control.None, error) {
	d.ops.Lock()
	defer d.ops.Unlock()
	f, err := d.find(in.Folder)
	if err != nil {
		return control.None{}, err
	}
	return control.None{}, d.leave(ctx, f, false)
}

// leave is leaveFolder under ops.
func (d *Daemon) leave(ctx context.Context, f *folder, force bool) error {
	ended, err := d.end(f, force)
	if ended { // forget does it after it has told the others
		defer d.node.RemoveFolder(f.grant.ID)
	}
	if err != nil {
		return err
	}
	if err := d.update(f, func(r *record) { r.Leaving = true }); err != nil {
		d.node.RemoveFolder(f.grant.ID)
		return errors.Join(err, d.start(f))
	}
	d.drop(f)
	return d.forget(ctx, f.grant.ID, f.rec)
}

// forget deletes what is left of a folder that is not started. It may be
// repeated.
func (d *Daemon) forget(ctx context.Context, id trust.FolderID, rec record) error {
	if err := d.node.Leave(ctx, id); err != nil && !errors.Is(err, trust.ErrNoFolder) {
		return fmt.Errorf("leave: %w", err)
	}
	if err := d.dropRows(rec.Num); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if rec.Plain {
		if err := plain.Unmark(rec.Dir, id); err != nil { // the disk is away, perhaps
			d.log.Warn("directory still marked", "dir", rec.Dir, "err", err)
		}
	}
	if err := os.RemoveAll(d.stagingDir(rec)); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if err := d.records.unscrub(id); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return d.records.remove(id)
}

func (d *Daemon) listFolders(context.Context, control.None) (control.FolderList, error) {
	list := control.FolderList{Schema: control.Schema, Folders: []control.Folder{}}
	for _, f := range d.all() {
		list.Folders = append(list.Folders, d.info(f))
	}
	return list, nil
}
