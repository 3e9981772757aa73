package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/clachanfs/clachan/fs/plain"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/syncer"
	"golang.org/x/sync/errgroup"
)

// A run is a folder at work, from start to stop.
type run struct {
	core   *syncer.Folder
	mount  *mount.Mount // nil: not mounted
	plain  *plain.Dir   // nil: not plain
	keeps  bool         // plain is kept the same
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	err    error         // how, after done
}

// start opens f, mounts it if its record says so, and lets peers at it. When
// only the mount fails, the folder runs without, f.err says why, and so does
// the error. The caller holds ops.
func (d *Daemon) start(f *folder) error { return d.startAs(f, false) }

// startAs is start; again: it was mounted there when the daemon ended, and programs may have written there since.
func (d *Daemon) startAs(f *folder, again bool) error {
	var failed error
	if f.rec.Mounted {
		r, err := d.open(f, true, again)
		if err == nil {
			d.set(f, r, nil)
			return nil
		}
		failed = fmt.Errorf("mount %s: %w", f.rec.Dir, err)
	}
	r, err := d.open(f, false, false)
	if err != nil {
		err = errors.Join(failed, fmt.Errorf("open folder: %w", err))
		d.set(f, nil, err)
		return err
	}
	d.set(f, r, failed)
	return failed
}

// open makes a run of f and sees it begin.
func (d *Daemon) open(f *folder, mounted, again bool) (*run, error) {
	if mounted && !f.rec.Plain { // a crash may have left a dead mount, or somebody have tidied up
		if mount.Taken(f.rec.Dir) == nil {
			if _, err := mkdirAll(f.rec.Dir); err != nil {
				return nil, err
			}
		}
	}
	core, err := d.openCore(f)
	if err != nil {
		return nil, err
	}
	r := &run{core: core, done: make(chan struct{})}
	switch {
	case f.rec.Plain:
		r.keeps = mounted
		if r.plain, err = d.openPlain(f, core); err != nil {
			return nil, err
		}
	case mounted:
		if r.mount, err = d.openMount(f, core, again); err != nil {
			return nil, err
		}
		core.SetSurface(r.mount)
	default:
		s, err := newResting(core)
		if err != nil {
			return nil, err
		}
		core.SetSurface(s)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(d.workCtx)
	d.work.Go(func() error {
		d.keep(ctx, f, r)
		return nil
	})
	d.work.Go(func() error {
		if err := core.Store().Survey(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("what is damaged is not known", "folder", f.rec.Name, "err", err)
		}
		return nil
	})
	if r.keeps {
		d.work.Go(func() error {
			d.watchScan(ctx, f.rec.Name, r.plain, core)
			return nil
		})
	}
	if r.mount != nil {
		select {
		case <-r.mount.Ready():
		case <-r.done:
			return nil, r.err
		}
	}
	err = d.node.AddFolder(peers.Share{ID: f.grant.ID, Folder: core, Store: core.Store(), Mode: peers.Full})
	if err != nil {
		r.cancel()
		<-r.done
		return nil, err
	}
	return r, nil
}

// keep runs r until ctx ends or it fails.
func (d *Daemon) keep(ctx context.Context, f *folder, r *run) {
	r.err = r.serve(ctx)
	close(r.done)
	if r.err != nil {
		d.log.Debug("folder ended", "folder", f.grant.ID, "err", r.err)
	}
	if ctx.Err() == nil {
		d.work.Go(func() error {
			d.lost(f, r)
			return nil
		})
	}
}

// serve runs a folder and its mount. The mount ends first: what was written to
// the last is cut then.
func (r *run) serve(ctx context.Context) error {
	var show func(context.Context) error
	switch {
	case r.mount != nil:
		show = r.mount.Run
	case r.keeps:
		show = r.plain.Run
	default:
		return r.core.Run(ctx)
	}
	coreCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return r.core.Run(coreCtx) })
	err := show(ctx)
	stop()
	return errors.Join(err, g.Wait())
}

// lost follows the end of a run that nobody here asked for: somebody unmounted
// the folder, which is as good as asking us to, or it failed.
func (d *Daemon) lost(f *folder, r *run) {
	d.ops.Lock()
	defer d.ops.Unlock()
	if d.view(f).run != r || d.workCtx.Err() != nil {
		return
	}
	err := d.stop(f, true)
	if errors.Is(r.err, mount.ErrUnmounted) {
		d.log.Info("unmounted from outside", "folder", f.rec.Name)
		err = errors.Join(err, d.update(f, func(rec *record) { rec.Mounted = false }), d.start(f))
		if err != nil {
			d.log.Error("folder not started again", "folder", f.rec.Name, "err", err)
		}
		return
	}
	d.log.Error("folder failed", "folder", f.rec.Name, "err", errors.Join(r.err, err))
	d.set(f, nil, r.err)
}

// stop ends the run of f. With force the mount goes even where programs keep
// it busy; without it that is an error, and all stays as it was. The caller
// holds ops.
func (d *Daemon) stop(f *folder, force bool) error {
	ended, err := d.end(f, force)
	if ended {
		d.node.RemoveFolder(f.grant.ID)
	}
	return err
}

// end is stop, but peers can still be talked to about f when it has ended.
func (d *Daemon) end(f *folder, force bool) (ended bool, err error) {
	r := d.view(f).run
	if r == nil {
		return true, nil
	}
	if r.mount != nil && !force {
		if err := r.mount.Unmount(); errors.Is(err, mount.ErrCovered) {
			return false, err
		} else if err != nil {
			return false, control.Errorf(control.Other, "%s is in use by programs (%v)", r.mount.Dir(), err)
		}
	}
	r.cancel()
	<-r.done // all that is closed is cut now, and members were told
	d.set(f, nil, nil)
	if errors.Is(r.err, mount.ErrStuck) {
		d.stuck.Store(true)
	}
	if errors.Is(r.err, mount.ErrUnmounted) {
		return true, nil
	}
	return true, r.err
}

// set changes what f is doing.
func (d *Daemon) set(f *folder, r *run, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.run, f.err = r, err
	d.watch.wake()
}
