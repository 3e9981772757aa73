package main

import (
	"context"
	"errors"
	"log/slog"
	"syscall"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// up is the verb that does everything.
type up struct {
	*app
	in     control.UpRequest
	flags  daemonFlags
	detach bool
}

func newUp(a *app) *cobra.Command {
	u := up{app: a}
	c := &cobra.Command{
		Use:   "up [DIR]",
		Short: "Make or join a folder, mount it at DIR and show how it is",
		Long: `Make a folder, or join one with --join, mount it at DIR, print a ticket for the
next machine, and show how the folder is doing. A folder that is at DIR already
is opened.

If no daemon runs, this is the daemon: Ctrl-C saves, unmounts and ends it, and
so does the end of the program that started it. If one runs, Ctrl-C ends only
what is shown. With --detach a daemon is left running in the background.`,
		Example: `  clachan up ~/Shared
  clachan up ~/Shared --join clachan1…
  clachan up ~/Shared --detach`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if u.in.Dir, err = absolute(arg(args, 0)); err != nil {
				return err
			}
			if u.in.Ticket != "" {
				if err := checkTicket(u.in.Ticket); err != nil {
					return err
				}
			}
			return u.run(c.Context())
		},
	}
	c.Flags().StringVar(&u.in.Name, "name", "", "call the folder `NAME` (default: as DIR is called)")
	c.Flags().StringVar(&u.in.Ticket, "join", "", "join the folder that `TICKET` invites to")
	c.Flags().BoolVar(&u.detach, "detach", false, "leave the daemon running in the background and return")
	namesFlag(c, &u.in.Names)
	mountFlags(c, &u.in.Options)
	u.flags.add(c)
	return c
}

// run finds a daemon or is one, and does the rest as its client. Whoever runs
// it, it ends with the process that started it, as `go run` leaves its child
// behind when it is killed.
func (u *up) run(ctx context.Context) error {
	client, err := u.client(ctx)
	switch {
	case noDaemon(err) && u.detach:
		return u.leaveRunning(ctx)
	case noDaemon(err):
		return u.asDaemon(ctx)
	case err != nil:
		return err
	case u.detach:
		return u.open(ctx, client)
	}
	return u.asClient(ctx, client)
}

// leaveRunning starts a daemon that stays when this process ends, unless there
// is no folder for it.
func (u *up) leaveRunning(ctx context.Context) error {
	daemon, err := u.startDetached(ctx, u.flags)
	if err != nil {
		return err
	}
	client, err := u.client(ctx)
	if err == nil {
		err = u.open(ctx, client)
	}
	if err != nil {
		daemon.Process.Signal(syscall.SIGTERM) // unless it ended by itself
		daemon.Wait()                          // err says what went wrong first
		return err
	}
	return daemon.Process.Release()
}

func noDaemon(err error) bool {
	e, ok := errors.AsType[*control.Error](err)
	return ok && e.Code == control.NoDaemon
}

// asDaemon is the daemon and its own first client.
func (u *up) asDaemon(ctx context.Context) error {
	floor := slog.LevelInfo
	if isTerminal(u.stdout) {
		floor = slog.LevelWarn // the status is shown, and the log would go through it
	}
	places, conf, err := u.settings(u.flags)
	if err != nil {
		return err
	}
	d, err := u.openDaemon(places, conf, u.flags, newLogger(u.stderr, conf.Log, floor, u.verbose, u.env))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return runDaemon(ctx, d, func(ctx context.Context) error {
		client, err := u.client(ctx)
		if err != nil {
			return err
		}
		err = u.asClient(ctx, client)
		if ctx.Err() != nil { // told to stop, perhaps amid a request
			return nil
		}
		cancel()
		return err
	})
}

// asClient opens the folder and shows the status until it is interrupted.
func (u *up) asClient(ctx context.Context, client *control.Client) error {
	g, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.Go(func() error {
		orphaned(ctx, u.parent)
		cancel()
		return nil
	})
	g.Go(func() error {
		defer cancel()
		if err := u.open(ctx, client); err != nil {
			return err
		}
		return u.linger(ctx, client)
	})
	return g.Wait()
}

// open gets the folder mounted and prints a ticket for it.
func (u *up) open(ctx context.Context, client *control.Client) error {
	f, err := control.UpFolder.Call(ctx, client, u.in)
	if err != nil {
		return err
	}
	u.say("%s is mounted at %s", f.Name, f.Dir)
	inv, err := control.Invite.Call(ctx, client, control.InviteRequest{Folder: f.Name, Role: "writer", Expires: ticketLife, Uses: 1})
	if e, ok := errors.AsType[*control.Error](err); ok && e.Code == control.Denied {
		u.say("ask an admin of the folder for a ticket for the next machine")
		return nil
	}
	if err != nil {
		return err
	}
	u.say("on the next machine: clachan up DIR --join TICKET (this one is good for 24 hours, once)")
	return u.ticket(inv)
}

// linger shows the status on a terminal, and elsewhere only waits: stdout then
// holds the ticket alone.
func (u *up) linger(ctx context.Context, client *control.Client) error {
	v := view{app: u.app, client: client}
	if !isTerminal(u.stdout) {
		return v.wait(ctx)
	}
	return v.run(ctx)
}
