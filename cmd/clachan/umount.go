package main

import (
	"context"
	"errors"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/spf13/cobra"
)

func newUmount(a *app) *cobra.Command {
	var in control.UmountRequest
	var stale bool
	c := &cobra.Command{
		Use:     "umount NAME",
		Aliases: []string{"unmount"},
		Short:   "Unmount a folder until it is mounted again",
		Long: `Unmount a folder. It goes on syncing, and stays unmounted when the daemon
starts again.

With --stale, clear the mounts that a daemon left behind when it was killed:
this needs no daemon.`,
		Example: `  clachan umount Photos
  clachan umount --stale`,
		Args: func(c *cobra.Command, args []string) error {
			if stale {
				return cobra.NoArgs(c, args)
			}
			return cobra.ExactArgs(1)(c, args)
		},
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			if stale {
				return a.clearStale()
			}
			in.Folder = args[0]
			var out control.Unmounted
			err := during(c.Context(), a, a.inStatus(in.Folder, "unmounting", toSave), func(ctx context.Context) (err error) {
				out, err = ask(ctx, a, control.UmountFolder, in)
				return err
			})
			if err != nil {
				return err
			}
			if a.json {
				return a.print(out, nil)
			}
			if out.More {
				a.say("something is on this machine only, and still on its way")
			} else if out.OnlyHere > 0 {
				a.say("%s on this machine only", count(out.OnlyHere, "file is", "files are"))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&stale, "stale", false, "clear mounts whose daemon is gone")
	c.Flags().BoolVar(&in.Lazy, "lazy", false, "unmount even while programs use it")
	return c
}

// clearStale unmounts whatever a killed daemon of this user left mounted.
func (a *app) clearStale() error {
	dirs, err := mount.Stale()
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		if err := mount.ClearStale(dir); err != nil {
			errs = append(errs, err)
			continue
		}
		a.say("unmounted %s", dir)
	}
	return errors.Join(errs...)
}
