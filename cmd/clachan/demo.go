package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/spf13/cobra"
)

func newDemo(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Try it: two members on this machine, gone when it ends",
		Long: `Start two members on this machine, ana and ben, who share a folder: each has it
mounted, with data of its own, below a temporary directory. What you do in one
folder is in the other. Nothing else of this machine is touched or contacted.
Ctrl-C ends both and removes all of it.`,
		Example: "  clachan demo",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			dir, err := os.MkdirTemp("", "clachan-demo-")
			if err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			d := demo{app: a, dir: dir}
			defer func() { err = errors.Join(err, d.end()) }()
			err = d.run(c.Context())
			if c.Context().Err() != nil { // told to stop, perhaps amid a request
				return nil
			}
			return err
		},
	}
}

// A demo is two members and where they are.
type demo struct {
	*app
	dir     string
	members []*member
}

type member struct {
	name   string
	folder string // where it is mounted
	daemon *exec.Cmd
	client *control.Client
}

func (d *demo) run(ctx context.Context) error {
	runtime.LockOSThread() // the daemons end with the thread that started them
	defer runtime.UnlockOSThread()
	for _, name := range []string{"ana", "ben"} {
		if err := d.start(ctx, name); err != nil {
			return err
		}
	}
	ana, ben := d.members[0], d.members[1]
	if _, err := control.InitFolder.Call(ctx, ana.client, control.InitRequest{Name: "Demo", Dir: ana.folder}); err != nil {
		return err
	}
	inv, err := control.Invite.Call(ctx, ana.client, control.InviteRequest{Folder: "Demo", Role: "writer", Expires: ticketLife, Uses: 1})
	if err != nil {
		return err
	}
	if _, err := control.JoinFolder.Call(ctx, ben.client, control.JoinRequest{Ticket: inv.Ticket, Dir: ben.folder}); err != nil {
		return err
	}
	if err := d.show(ctx, ana, ben, "welcome.txt", "Ana wrote this. Ben has it too.\n"); err != nil {
		return err
	}
	if err := d.show(ctx, ben, ana, "answer.txt", "And this is from Ben.\n"); err != nil {
		return err
	}
	fmt.Fprintf(d.stdout, "\nana's folder  %s\nben's folder  %s\n\nOpen both, and change what you like. Ctrl-C ends it and removes all of it.\n", ana.folder, ben.folder)
	v := view{app: d.app, client: ana.client}
	if isTerminal(d.stdout) {
		return v.run(ctx)
	}
	return v.wait(ctx)
}

// start makes a member.
func (d *demo) start(ctx context.Context, name string) error {
	home := filepath.Join(d.dir, name, ".clachan")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	args := []string{"daemon", "--home", home, "--listen", "127.0.0.1:0", "--no-discovery"}
	cmd, err := startDaemon(ctx, filepath.Join(home, "log"), args, []string{"CLACHAN_DEVICE=" + name}, &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM})
	if err != nil {
		return err
	}
	m := &member{name: name, folder: filepath.Join(d.dir, name, "Demo"), daemon: cmd}
	d.members = append(d.members, m)
	m.client, err = control.Dial(ctx, []string{filepath.Join(home, "api.sock")})
	return err
}

// show writes a file at one member and says when the other has it.
func (d *demo) show(ctx context.Context, from, to *member, name, text string) error {
	start := time.Now()
	if err := os.WriteFile(filepath.Join(from.folder, name), []byte(text), 0o644); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	for {
		got, err := os.ReadFile(filepath.Join(to.folder, name))
		if err == nil && bytes.Equal(got, []byte(text)) {
			fmt.Fprintf(d.stdout, "%s wrote %s, %s had it after %d ms\n", from.name, name, to.name, time.Since(start).Milliseconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// end ends both members and removes what there is of them.
func (d *demo) end() error {
	var errs []error
	for _, m := range d.members {
		errs = append(errs, m.daemon.Process.Signal(syscall.SIGTERM))
	}
	for _, m := range d.members {
		if err := m.daemon.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("demo: %s: %w", m.name, err))
		}
		errs = append(errs, mount.ClearStale(m.folder)) // of one that did not end well
		if err := mount.Taken(m.folder); err != nil {   // nothing is removed through a mount
			return errors.Join(append(errs, err)...)
		}
	}
	if err := os.RemoveAll(d.dir); err != nil {
		errs = append(errs, fmt.Errorf("demo: %w", err))
	}
	return errors.Join(errs...)
}
