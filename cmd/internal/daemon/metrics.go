package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/cmd/internal/metrics"
)

// state is all there is to tell of how the daemon does.
func (d *Daemon) state() (metrics.State, error) {
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return metrics.State{}, errors.New("the daemon has stopped")
	}
	st, err := d.status(context.Background(), control.StatusRequest{})
	if err != nil {
		return metrics.State{}, err
	}
	s := metrics.State{Version: d.o.Version, Status: st, Folders: make([]metrics.Folder, len(st.Folders))}
	for i, fs := range st.Folders {
		f, err := d.find(fs.ID)
		if err != nil {
			continue // it was left meanwhile
		}
		v := d.view(f)
		if v.core() != nil {
			if s.Folders[i].Space, err = v.core().Store().Space(); err != nil {
				return s, err
			}
		}
		if v.run != nil && v.run.mount != nil {
			s.Folders[i].Ops = v.run.mount.Ops()
		}
	}
	s.Meta, s.Packs = d.disk.Metrics()
	s.DiskTotal, s.DiskFree, _, err = d.disk.Usage()
	return s, err
}

// metrics answers scrapes.
func (d *Daemon) metrics() http.Handler { return metrics.Handler(d.state) }

// serveMetrics answers scrapes where the settings say, if they do. Folders go on without.
func (d *Daemon) serveMetrics(ctx context.Context) error {
	if d.o.Config.Metrics == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", d.o.Config.Metrics)
	if err != nil {
		d.log.Error("no metrics: choose another address with: clachan config set metrics HOST:PORT", "err", err)
		return nil
	}
	d.log.Info("metrics", "url", "http://"+l.Addr().String()+"/metrics")
	return metrics.Serve(ctx, l, d.state, d.log)
}
