package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Options say which instance a daemon is.
type Options struct {
	Places  config.Places
	Config  config.Config
	Version control.Version
	Log     *slog.Logger
	Recent  func() []byte                 // the last of the log, without names of files
	Reread  func() (config.Config, error) // the settings as they are now; takes over those of the log
}

// Daemon owns one instance.
type Daemon struct {
	o       Options
	log     *slog.Logger
	lock    *os.File
	disk    *blocks.Disk
	records records
	id      *trust.Identity
	node    *peers.Node

	// The group that runs the store, the peers and the folders, set by Run
	// before anything that uses it.
	work    *errgroup.Group
	workCtx context.Context

	watch *watch // what happens, for clients
	rates rates
	tasks tasks

	stuck atomic.Bool // a mount has ended, and requests to it go on

	closing sync.RWMutex // held while Alive and Summary read the store, and guards closed
	closed  bool

	scrubbing sync.Mutex // held while blocks are verified, before no other

	ops sync.Mutex // orders operations that change folders

	mu      sync.Mutex // guards folders and the fields of each, and o.Config.Mounts
	folders map[trust.FolderID]*folder
}

// Open takes the lock of the instance and opens all it has. It starts nothing.
func Open(o Options) (_ *Daemon, err error) {
	d := &Daemon{o: o, log: o.Log, folders: map[trust.FolderID]*folder{}, watch: newWatch(time.Now())}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := o.Places.MakeDirs(); err != nil {
		return nil, control.Errorf(control.State, "%v", err)
	}
	if d.lock, err = takeLock(o.Places.Lock()); err != nil {
		return nil, err
	}
	if d.disk, err = blocks.OpenDisk(vfs.Default, o.Places.Data, diskOptions(o)); err != nil { // before anything is written
		if Code(err) == control.Other && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, blocks.ErrFull) { // to start again will not mend it
			err = &control.Error{Code: control.State, Message: err.Error()}
		}
		return nil, err
	}
	if d.id, err = trust.LoadIdentity(o.Places.Identity()); err != nil {
		return nil, err
	}
	kv := index.NewDevice(d.disk.Meta())
	d.records = records{kv}
	d.node, err = peers.Open(peers.Config{
		Identity: d.id, KV: kv, Name: o.Config.Device, Version: "clachan/" + o.Version.Version,
		Listen: o.Config.Listen, NoDiscovery: !o.Config.Discovery, Log: o.Log, Tell: d.watch.wake,
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Close closes what Open opened. Run has returned, or was never called.
func (d *Daemon) Close() error {
	d.closing.Lock() // whoever asks after the store has been answered
	d.closed = true
	d.closing.Unlock()
	var errs []error
	if d.node != nil {
		errs = append(errs, d.node.Close())
	}
	switch {
	case d.disk == nil:
	case d.stuck.Load(): // it is in use until the process ends
		errs = append(errs, d.disk.Sync())
	default:
		errs = append(errs, d.disk.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

// Reload reads the settings again and takes over what may change while it runs. The others wait for the next start.
func (d *Daemon) Reload(context.Context, control.None) (control.Reloaded, error) {
	out := control.Reloaded{Schema: control.Schema, Waiting: []string{}}
	c, err := d.o.Reread()
	if err != nil {
		return out, err
	}
	for _, s := range config.Settings {
		if !s.Live && !s.Same(c, d.o.Config) {
			out.Waiting = append(out.Waiting, s.Key)
		}
	}
	d.mu.Lock()
	d.o.Config.Mounts = c.Mounts
	d.mu.Unlock()
	d.log.Info("settings read again", "file", d.o.Places.Config, "at_the_next_start", out.Waiting)
	return out, nil
}

// Run runs the daemon until ctx ends, ready returns an error, or the store or
// the peers fail. ready is called when the API answers and every folder that
// should be mounted is, or shows why not; it may last.
func (d *Daemon) Run(ctx context.Context, ready func(context.Context) error) error {
	workCtx, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	d.work, d.workCtx = errgroup.WithContext(workCtx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(d.workCtx, stop) // whatever fails behind ends the front

	d.work.Go(func() error { return d.disk.Run(d.workCtx) })
	d.work.Go(func() error { return d.node.Run(d.workCtx) })
	d.work.Go(func() error {
		defer stopWork()
		err := d.front(ctx, ready)
		d.stopAll()
		return err
	})
	return d.work.Wait()
}

// front is what the outside sees: the API and the mounts.
func (d *Daemon) front(ctx context.Context, ready func(context.Context) error) error {
	l, err := control.Listen(d.o.Places.Socket)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.server().Serve(ctx, l) })
	g.Go(func() error { return d.serveMetrics(ctx) })
	g.Go(func() error {
		if err := d.startAll(ctx); err != nil {
			return err
		}
		g.Go(func() error { return d.runWatch(ctx) })
		d.log.Info("ready", "peer", d.node.ID(), "addrs", d.node.Addrs())
		return ready(ctx)
	})
	return g.Wait()
}

// server registers the operations of the API.
func (d *Daemon) server() *control.Server {
	s := control.NewServer(Code, d.log)
	control.Handle(s, control.InitFolder, d.initFolder)
	control.Handle(s, control.JoinFolder, d.joinFolder)
	control.Handle(s, control.UpFolder, d.upFolder)
	control.Handle(s, control.Invite, d.invite)
	control.Handle(s, control.ListFolders, d.listFolders)
	control.Handle(s, control.MountFolder, d.mountFolder)
	control.Handle(s, control.GoneFiles, d.goneFiles)
	control.Handle(s, control.UmountFolder, d.umountFolder)
	control.Handle(s, control.LeaveFolder, d.leaveFolder)
	control.Handle(s, control.GetStatus, d.status)
	control.Handle(s, control.ListPeers, d.listPeers)
	control.Handle(s, control.GetID, d.identity)
	control.Handle(s, control.Wait, d.wait)
	control.Handle(s, control.CheckStore, d.check)
	control.Handle(s, control.Checkpoint, d.checkpoint)
	control.Handle(s, control.Scrub, d.scrub)
	control.Handle(s, control.GetLacking, d.lacking)
	control.Handle(s, control.Reload, d.Reload)
	control.Handle(s, control.GetVersion, d.version)
	s.Show("/metrics", d.metrics())
	s.Show("/debug/log", http.HandlerFunc(d.recent))
	s.HandleEvents(d.watch.events)
	return s
}

// startAll brings every folder back as it was.
func (d *Daemon) startAll(ctx context.Context) error {
	d.ops.Lock()
	defer d.ops.Unlock()
	known, err := d.records.load()
	if err != nil {
		return err
	}
	grants, err := d.node.Grants()
	if err != nil {
		return err
	}
	for _, g := range grants {
		rec, ok := known[g.ID]
		delete(known, g.ID)
		switch {
		case rec.Leaving:
			if err := d.forget(ctx, g.ID, rec); err != nil {
				return err
			}
			continue
		case !ok: // a crash between becoming a member and remembering where
			if rec, err = d.newRecord(g, "", way{}); err != nil {
				return err
			}
			if err := d.records.save(g.ID, rec); err != nil {
				return err
			}
		}
		f := &folder{grant: g, rec: rec}
		d.put(f)
		if err := d.startAs(f, true); err != nil {
			d.log.Error("folder not started", "folder", rec.Name, "err", err)
		}
	}
	for id, rec := range known { // no membership any more: a crash amid leaving
		if err := d.forget(ctx, id, rec); err != nil {
			return err
		}
	}
	return nil
}

// stopAll stops every folder, all at once: unmounting may have to wait.
func (d *Daemon) stopAll() {
	d.ops.Lock()
	defer d.ops.Unlock()
	var g errgroup.Group
	for _, f := range d.all() {
		g.Go(func() error {
			if err := d.stop(f, true); err != nil {
				d.log.Error("folder not stopped cleanly", "folder", f.rec.Name, "err", err)
			}
			return nil
		})
	}
	g.Wait() // its functions return nil
}

// newRecord makes the record of a folder that is new on this device.
func (d *Daemon) newRecord(g peers.Grant, name string, w way) (record, error) {
	if name == "" {
		name = g.Name
	}
	if checkName(name) != nil { // as its owner calls it, who may be of another version
		name = "folder"
	}
	num, err := d.records.next()
	if err != nil {
		return record{}, err
	}
	name = freeName(name, d.taken)
	if w.dir == "" {
		w.dir = d.defaultDir(name)
	}
	return record{Num: num, Name: name, Dir: w.dir, Options: w.options, Plain: w.plain}, nil
}

func (d *Daemon) identity(context.Context, control.None) (control.Identity, error) {
	return control.Identity{Schema: control.Schema, Device: d.o.Config.Device, PeerID: d.node.ID(), Addrs: d.addrs()}, nil
}

func (d *Daemon) version(context.Context, control.None) (control.Version, error) {
	v := d.o.Version
	v.Config, v.Data = d.o.Places.Config, d.o.Places.Data
	v.Store = storeVersions(d.disk.Versions())
	return v, nil
}

// addrs are where others reach this device, with its id.
func (d *Daemon) addrs() []string {
	addrs := []string{}
	for _, a := range d.node.Addrs() {
		addrs = append(addrs, fmt.Sprintf("%s/p2p/%s", a, d.node.ID()))
	}
	return addrs
}

// recent shows the last of the log.
func (d *Daemon) recent(w http.ResponseWriter, _ *http.Request) {
	if _, err := w.Write(d.o.Recent()); err != nil {
		d.log.Debug("answer not delivered", "err", err)
	}
}
