package main

import (
	"context"
	"fmt"
	"io"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/cmd/internal/daemon"
	"github.com/spf13/cobra"
)

func newDB(a *app) *cobra.Command {
	check := &cobra.Command{
		Use:   "check",
		Short: "Check every row and every block of the store",
		Long: `Compare the rows of every folder with one another and with what they were made
of, and hash every block again. The folders stay usable meanwhile.

Exit code 11 when something is damaged.`,
		Example: "  clachan db check",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var rep control.CheckReport
			err := during(c.Context(), a, a.inStatus("", "checking", task(control.TaskCheck)), func(ctx context.Context) (err error) {
				rep, err = ask(ctx, a, control.CheckStore, control.None{})
				return err
			})
			if err != nil {
				return err
			}
			err = a.print(rep, func(w io.Writer) {
				for _, p := range rep.Problems {
					fmt.Fprintln(w, p)
				}
			})
			if err != nil {
				return err
			}
			if n := len(rep.Problems); n > 0 {
				return control.Errorf(control.Damaged, "%s found", count(uint64(n), "problem", "problems"))
			}
			a.say("%s checked, all is well", count(uint64(rep.Folders), "folder", "folders"))
			return nil
		},
	}
	version := &cobra.Command{
		Use:   "version",
		Short: "Print the formats of the store",
		Long: `Print in which format the store is on the disk, those of its two databases as
their library counts them, and the protocol spoken to peers. Without a daemon
the store is looked at and not changed.

Exit code 10 when it is of a newer format than this program knows.`,
		Example: "  clachan db version --json",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.dbVersion(c.Context()) },
	}
	checkpoint := &cobra.Command{
		Use:   "checkpoint [DIR]",
		Short: "Make a copy of the store to back up",
		Long: `Make a copy of the data folder in DIR, which must not exist, or in the data
folder, and print where. It is of one moment, tells what was not yet cut of open
files too, and takes next to no space on the same disk: what never changes is
linked. What a plain directory has is not in it. Remove it when it is backed up, as what was removed since stays in it.

To go back, stop the daemon and put a copy in the place of the data folder. Its
members notice, and nothing is lost of what they have. The key of this device is
in it: whoever has a copy can act as this device.`,
		Example: `  clachan db checkpoint
  clachan db checkpoint ~/backup/clachan`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := absolute(arg(args, 0))
			if err != nil {
				return err
			}
			var made control.CheckpointMade
			err = during(c.Context(), a, going("copying"), func(ctx context.Context) (err error) {
				made, err = ask(ctx, a, control.Checkpoint, control.CheckpointRequest{Dir: dir})
				return err
			})
			if err != nil {
				return err
			}
			return a.print(made, func(w io.Writer) { fmt.Fprintln(w, made.Dir) })
		},
	}
	return group("db", "Look after the store", check, checkpoint, version)
}

// dbVersion asks the daemon, or looks at the store if none runs.
func (a *app) dbVersion(ctx context.Context) error {
	places, v, err := a.places(ctx)
	if noDaemon(err) {
		v = ownVersion()
		v.Data = places.Data
		v.Store, err = daemon.StoreVersion(places)
	}
	if err != nil {
		return err
	}
	err = a.print(v, func(w io.Writer) {
		fmt.Fprintf(w, "store\tformat %d, in %s\n", v.Store.Format, v.Data)
		fmt.Fprintf(w, "databases\tmeta %d, blocks %d\n", v.Store.Meta, v.Store.Blocks)
		fmt.Fprintf(w, "program\tformat %d, protocol %d\n", v.Format, v.Protocol)
	})
	if err == nil && v.Store.Format > v.Format {
		return control.Errorf(control.Newer, "the store is newer than this program: install a newer clachan")
	}
	return err
}
