package daemon

import (
	"bytes"
	"os"
	"os/user"
	"path/filepath"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/chunker"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
	"golang.org/x/sys/unix"
)

// openCore opens the tree of a folder.
func (d *Daemon) openCore(f *folder) (*syncer.Folder, error) {
	o, err := mountOptions(f.rec.Options)
	if err != nil {
		return nil, err
	}
	uid, gid := owner(f.rec.Dir)
	if o.UID != nil {
		uid = *o.UID
	}
	if o.GID != nil {
		gid = *o.GID
	}
	pub := d.id.Public()
	where, err := place(d.o.Places.Data)
	if err != nil {
		return nil, err
	}
	return syncer.Open(syncer.Options{
		Disk: d.disk, Number: f.rec.Num, ID: f.grant.ID, Name: f.rec.Name,
		Key: blocks.Key(f.grant.IDKey), Seed: chunker.Seed(f.grant.ChunkSeed),
		Device: d.id.Key(), Label: model.Label{Author: username(), Device: d.o.Config.Device},
		Allowed: f.grant.Log.MayAuthor, Remote: d.node.Remote(f.grant.ID),
		Names: f.grant.Log.Names(), UID: uid, GID: gid, ReadOnly: !f.grant.Log.CanWrite(pub), Place: where, Log: d.log,
		Members: func() []string { return d.members(f) }, Tell: func(cs []syncer.Change) { d.watch.hear(f, cs) }, Joined: !bytes.Equal(f.grant.Log.Founder(), pub),
	})
}

// members are the others of a folder.
func (d *Daemon) members(f *folder) (out []string) {
	for _, m := range d.others(d.view(f)) {
		out = append(out, m.ID)
	}
	return out
}

// owner is who owns a mountpoint, and with it what others make in the folder.
func owner(dir string) (uid, gid uint32) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return uint32(os.Geteuid()), uint32(os.Getegid())
	}
	return st.Uid, st.Gid
}

// username names the author of what is done here, for conflict copies.
func username() string {
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "user"
	}
	return u.Username
}

// mountOptions are the options of a mount, from the words of -o.
func mountOptions(words []string) (mount.Options, error) {
	o := mount.Defaults()
	return o, o.Parse(words...)
}

// openMount mounts a folder where its record says.
func (d *Daemon) openMount(f *folder, core *syncer.Folder, again bool) (*mount.Mount, error) {
	o, err := mountOptions(f.rec.Options)
	if err != nil {
		return nil, err
	}
	o.Name, o.Staging, o.Log = f.rec.Name, d.stagingDir(f.rec), d.log.With("folder", f.rec.Name)
	real, err := filepath.EvalSymlinks(f.rec.Dir)
	o.Aside = again && err == nil && real == f.rec.Dir // no link has taken its place
	return mount.New(core, f.rec.Dir, o)
}

// dropRows deletes all rows and blocks of a folder that is not open.
func (d *Daemon) dropRows(num uint32) error {
	if err := d.disk.Drop(num); err != nil {
		return err
	}
	return index.Delete(d.disk.Meta(), num)
}
