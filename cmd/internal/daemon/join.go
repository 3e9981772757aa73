package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer/model"
)

// joinTimeout bounds the search for a member that lets us in.
const joinTimeout = 60 * time.Second

// initFolder makes a folder and mounts it.
func (d *Daemon) initFolder(_ context.Context, in control.InitRequest) (control.Folder, error) {
	d.ops.Lock()
	defer d.ops.Unlock()
	return d.create(in)
}

func (d *Daemon) create(in control.InitRequest) (control.Folder, error) {
	if err := checkName(in.Name); err != nil {
		return control.Folder{}, err
	}
	if _, err := model.FoldOf(in.Names); err != nil {
		return control.Folder{}, control.Errorf(control.Usage, "names are %s or %s, not %q", model.NamesBytes, model.NamesPortable, in.Names)
	}
	name := freeName(in.Name, d.taken)
	f, err := d.add(name, way{in.Dir, in.Options, in.Plain}, func() (peers.Grant, error) { return d.node.Create(name, in.Names) })
	if err != nil {
		if f != nil { // nobody else knows of it: take it back
			err = errors.Join(err, d.leave(context.WithoutCancel(d.workCtx), f, true))
		}
		return control.Folder{}, err
	}
	return d.info(f), nil
}

// joinFolder makes this device a member of a folder and mounts it.
func (d *Daemon) joinFolder(ctx context.Context, in control.JoinRequest) (control.Folder, error) {
	d.ops.Lock()
	defer d.ops.Unlock()
	return d.join(ctx, in)
}

func (d *Daemon) join(ctx context.Context, in control.JoinRequest) (control.Folder, error) {
	ticket, err := trust.ParseTicket(in.Ticket)
	if err != nil {
		return control.Folder{}, err
	}
	if in.Name != "" {
		if err := checkName(in.Name); err != nil {
			return control.Folder{}, err
		}
	}
	if f := d.byID(ticket.Folder); f != nil {
		return control.Folder{}, control.Errorf(control.Usage, "this device is a member of that folder already: %s", d.view(f).rec.Name)
	}
	f, err := d.add(in.Name, way{in.Dir, in.Options, in.Plain}, func() (peers.Grant, error) {
		ctx, cancel := context.WithTimeout(ctx, joinTimeout)
		defer cancel()
		g, err := d.node.Join(ctx, in.Ticket, "")
		if errors.Is(err, context.DeadlineExceeded) {
			err = control.Errorf(control.Offline, "nobody the ticket names answers: %v", err)
		}
		return g, err
	})
	if err != nil {
		return control.Folder{}, err
	}
	return d.info(f), nil
}

func (d *Daemon) byID(id trust.FolderID) *folder {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.folders[id]
}

// add gets a grant for a folder new on this device, remembers it and mounts it
// at dir. All that can be refused is refused before the grant is asked for. An
// error with a folder means that it is known, but not mounted as it should be;
// a ticket cannot be used twice, so who joined stays a member.
func (d *Daemon) add(name string, w way, grant func() (peers.Grant, error)) (*folder, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	dir := w.dir
	if dir == "" && name != "" {
		dir = d.defaultDir(freeName(name, d.taken))
	}
	undo := func() {}
	if dir != "" {
		var err error
		if dir, undo, err = d.place(dir, w.plain); err != nil {
			return nil, err
		}
	}
	w.dir = dir
	g, err := grant()
	if err != nil {
		undo()
		return nil, err
	}
	rec, err := d.newRecord(g, name, w)
	if err == nil {
		err = d.records.save(g.ID, rec)
	}
	if err != nil {
		undo()
		return nil, err
	}
	f := &folder{grant: g, rec: rec}
	d.put(f)
	if dir == "" { // below the usual place, under the name that the others use
		dir, undo, err = d.place(rec.Dir, w.plain)
	}
	if err == nil {
		err = d.update(f, func(r *record) { r.Dir, r.Mounted = dir, true })
	}
	if err = errors.Join(err, d.start(f)); err != nil && undo != nil {
		undo()
	}
	return f, err
}

// A way is how and where a folder is to be shown.
type way struct {
	dir     string
	options []string // of a mount
	plain   bool
}

func (w way) check() error {
	if w.plain && len(w.options) > 0 {
		return control.Errorf(control.Usage, "a plain directory has no mount options")
	}
	_, err := mountOptions(w.options)
	return err
}

// place makes dir ready to be mounted at, or to be kept the same if it is plain: then what is in
// it is taken in.
func (d *Daemon) place(dir string, plain bool) (real string, undo func(), err error) {
	if err := d.checkPlace(dir); err != nil {
		return "", nil, err
	}
	if err := free(dir); err != nil {
		return "", nil, err
	}
	if real, undo, err = makeDir(dir, plain); err != nil {
		return "", nil, err
	}
	if err := d.checkPlace(real); err != nil { // a symlink may have led elsewhere
		undo()
		return "", nil, err
	}
	return real, undo, nil
}

// upFolder gets a folder mounted, whatever that takes: it opens the folder
// that is there, joins the one a ticket is for, or makes one. To repeat it
// changes nothing.
func (d *Daemon) upFolder(ctx context.Context, in control.UpRequest) (control.Folder, error) {
	d.ops.Lock()
	defer d.ops.Unlock()
	if in.Ticket != "" && in.Names != "" {
		return control.Folder{}, control.Errorf(control.Usage, "--names is for a new folder: one that is joined has those it was made with")
	}
	if in.Ticket != "" {
		ticket, err := trust.ParseTicket(in.Ticket)
		if err != nil {
			return control.Folder{}, err
		}
		if f := d.byID(ticket.Folder); f != nil {
			return d.mountAt(f, in.Dir, in.Options, false)
		}
		return d.join(ctx, control.JoinRequest{Ticket: in.Ticket, Dir: in.Dir, Name: in.Name, Options: in.Options})
	}
	if f := d.present(in); f != nil {
		if is := f.grant.Log.Names(); in.Names != "" && in.Names != is {
			return control.Folder{}, control.Errorf(control.Usage, "%s was made with --names %s, which cannot change", d.view(f).rec.Name, is)
		}
		return d.mountAt(f, in.Dir, in.Options, false)
	}
	if in.Name == "" {
		in.Name = "Shared"
		if in.Dir != "" {
			in.Name = filepath.Base(in.Dir)
		}
		if err := checkName(in.Name); err != nil {
			return control.Folder{}, control.Errorf(control.Usage, "%v; choose one with --name", err)
		}
	}
	return d.create(control.InitRequest{Name: in.Name, Dir: in.Dir, Names: in.Names, Options: in.Options})
}

// present is the folder that up without a ticket means, if there is one: that
// at the directory; without a directory that of the name; with neither the
// only one.
func (d *Daemon) present(in control.UpRequest) *folder {
	all := d.all()
	if in.Dir == "" && in.Name == "" && len(all) == 1 {
		return all[0]
	}
	dir := in.Dir
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for _, f := range all {
		rec := d.view(f).rec
		if (dir != "" && (rec.Dir == dir || rec.Dir == in.Dir)) || (dir == "" && rec.Name == in.Name) {
			return f
		}
	}
	return nil
}

// invite makes a ticket for a folder.
func (d *Daemon) invite(_ context.Context, in control.InviteRequest) (control.Invitation, error) {
	f, err := d.find(in.Folder)
	if err != nil {
		return control.Invitation{}, err
	}
	role, err := trust.ParseRole(in.Role)
	if err != nil {
		return control.Invitation{}, control.Errorf(control.Usage, "%v", err)
	}
	ticket, err := d.node.Invite(f.grant.ID, role, in.Expires, in.Uses)
	if errors.Is(err, trust.ErrRole) {
		err = control.Errorf(control.Denied, "only the owner and admins of %s can invite: ask one of them for a ticket", d.view(f).rec.Name)
	}
	if err != nil {
		return control.Invitation{}, err
	}
	return control.Invitation{
		Schema: control.Schema, Ticket: ticket, Folder: d.view(f).rec.Name, Role: in.Role,
		Expires: time.Now().Add(in.Expires).UTC().Truncate(time.Second), Uses: in.Uses,
	}, nil
}
