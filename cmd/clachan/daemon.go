package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/cmd/internal/daemon"
	"github.com/clachanfs/clachan/cmd/internal/service"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// daemonFlags are the flags of the verbs that can be the daemon.
type daemonFlags struct {
	listen      []string
	noDiscovery bool
}

func (f *daemonFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.listen, "listen", nil, "listen for peers on `HOST:PORT`, port 0 for a free one (again for more)")
	c.Flags().BoolVar(&f.noDiscovery, "no-discovery", false, "do not look for members on the local network")
}

func newDaemon(a *app) *cobra.Command {
	var flags daemonFlags
	c := &cobra.Command{
		Use:   "daemon",
		Short: "Run the daemon in the foreground",
		Long: `Run the daemon in the foreground, logging to stderr. It prints ready on stdout
when it answers and every folder that was mounted is mounted again. SIGTERM
and Ctrl-C end it: it saves and unmounts everything first. SIGHUP has it read
its configuration again.

Exit code 3 when another daemon runs on the same home or the configuration is
wrong.`,
		Example: `  clachan daemon
  clachan daemon --home /tmp/a --listen 127.0.0.1:0 --no-discovery`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.serve(c.Context(), flags)
		},
	}
	flags.add(c)
	return c
}

// unlimit has the daemon make files as large as it may: the limit that whoever
// starts it has set for himself is not that of the programs that use a mount.
func unlimit() {
	signal.Ignore(unix.SIGPIPE) // it outlives who reads what it says
	signal.Ignore(unix.SIGXFSZ) // what is beyond a hard limit fails
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &l) == nil {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &l) // then it fails too
	}
}

// serve is the daemon, and tells systemd of it.
func (a *app) serve(ctx context.Context, flags daemonFlags) error {
	hup := make(chan os.Signal, 1) // what comes before it is ready is done then
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	places, conf, err := a.settings(flags)
	if err != nil {
		return err
	}
	log := newLogger(a.stderr, conf.Log, slog.LevelInfo, a.verbose, a.env)
	watch, err := service.NewWatch(log.Logger)
	if err != nil {
		return control.Errorf(control.State, "%v", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.Go(func() error { return watch.Run(ctx) })
	g.Go(func() error {
		defer stop()
		d, err := a.openDaemon(places, conf, flags, log)
		if err != nil {
			return err
		}
		return runDaemon(ctx, d, func(ctx context.Context) error {
			watch.Ready(d.Alive, d.Summary)
			if _, err := fmt.Fprintln(a.stdout, "ready"); err != nil {
				return err
			}
			reloads(ctx, hup, watch, d, log)
			return nil
		})
	})
	return g.Wait()
}

// reloads has the daemon read its settings again at each SIGHUP. What is wrong in them is logged, and changes nothing.
func reloads(ctx context.Context, hup <-chan os.Signal, watch *service.Watch, d *daemon.Daemon, log *logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		watch.Reload(func() {
			if _, err := d.Reload(ctx, control.None{}); err != nil {
				log.Error("settings stay as they are", "err", err)
			}
		})
	}
}

// settings are the places of this instance, and its settings with the flags applied.
func (a *app) settings(flags daemonFlags) (config.Places, config.Config, error) {
	places, err := config.Find(a.flags, a.env)
	if err != nil {
		return places, config.Config{}, control.Errorf(control.State, "%v", err)
	}
	conf, err := config.Load(places, a.env)
	if err != nil {
		return places, conf, err
	}
	if len(flags.listen) > 0 {
		conf.Listen = flags.listen
	}
	if flags.noDiscovery {
		conf.Discovery = false
	}
	if err := conf.Validate(); err != nil {
		return places, conf, control.Errorf(control.Usage, "%v", err)
	}
	return places, conf, nil
}

// openDaemon opens the daemon of this instance.
func (a *app) openDaemon(places config.Places, conf config.Config, flags daemonFlags, log *logger) (*daemon.Daemon, error) {
	unlimit()
	return daemon.Open(daemon.Options{
		Places: places, Config: conf, Version: ownVersion(), Log: log.Logger, Recent: log.last.text,
		Reread: func() (config.Config, error) {
			_, conf, err := a.settings(flags)
			if err == nil {
				log.apply(conf.Log)
			}
			return conf, err
		},
	})
}

// runDaemon runs d until ctx ends, and ready once it is. An error of ready
// stops it.
func runDaemon(ctx context.Context, d *daemon.Daemon, ready func(context.Context) error) error {
	err := d.Run(ctx, ready)
	return errors.Join(err, d.Close())
}
