package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/cmd/internal/daemon"
	"github.com/spf13/cobra"
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
and Ctrl-C end it: it saves and unmounts everything first.

Exit code 3 when another daemon runs on the same home or the configuration is
wrong.`,
		Example: `  clachan daemon
  clachan daemon --home /tmp/a --listen 127.0.0.1:0 --no-discovery`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.openDaemon(flags, slog.LevelInfo)
			if err != nil {
				return err
			}
			return runDaemon(c.Context(), d, func(context.Context) error {
				_, err := fmt.Fprintln(a.stdout, "ready")
				return err
			})
		},
	}
	flags.add(c)
	return c
}

// unlimit has the daemon make files as large as it may: the limit that whoever
// starts it has set for himself is not that of the programs that use a mount.
func unlimit() {
	signal.Ignore(unix.SIGXFSZ) // what is beyond a hard limit fails
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &l) == nil {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &l) // then it fails too
	}
}

// openDaemon opens the daemon of this instance. floor is the least level of
// what it logs where the settings ask for less.
func (a *app) openDaemon(flags daemonFlags, floor slog.Level) (*daemon.Daemon, error) {
	unlimit()
	places, err := config.Find(a.flags, a.env)
	if err != nil {
		return nil, control.Errorf(control.State, "%v", err)
	}
	conf, err := config.Load(places, a.env)
	if err != nil {
		return nil, err
	}
	if len(flags.listen) > 0 {
		conf.Listen = flags.listen
	}
	if flags.noDiscovery {
		conf.Discovery = false
	}
	if err := conf.Validate(); err != nil {
		return nil, control.Errorf(control.Usage, "%v", err)
	}
	return daemon.Open(daemon.Options{
		Places: places, Config: conf, Version: buildVersion(),
		Log: newLogger(a.stderr, conf.Log, floor, a.verbose, a.env),
	})
}

// runDaemon runs d until ctx ends, and ready once it is. An error of ready
// stops it.
func runDaemon(ctx context.Context, d *daemon.Daemon, ready func(context.Context) error) error {
	err := d.Run(ctx, ready)
	return errors.Join(err, d.Close())
}
