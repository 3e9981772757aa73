package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

// mountFlags adds the flag for mount options to a verb that mounts.
func mountFlags(c *cobra.Command, options *[]string) {
	c.Flags().StringSliceVarP(options, "options", "o", nil,
		"mount options: allow_other, default_permissions, ro, noatime, noexec, sync, suid, dev, uid=N, gid=N")
}

// namesFlag adds the flag for the name policy to a verb that makes folders.
func namesFlag(c *cobra.Command, names *string) {
	c.Flags().StringVar(names, "names", "",
		"which names are the same, for good and for all members: `bytes` (none, the default) or portable (those that differ in case or Unicode form only)")
	completes(c, "names", cobra.FixedCompletions([]string{"bytes", "portable"}, cobra.ShellCompDirectiveNoFileComp))
}

// plainFlag adds the flag for a folder that is no mount.
func plainFlag(c *cobra.Command, plain *bool) {
	c.Flags().BoolVar(plain, "plain", false, "no mount: keep ordinary files in the directory, and take in those that are there")
}

// folder prints where a folder is.
func (a *app) folder(f control.Folder) error {
	f.Schema = control.Schema
	return a.print(f, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\n", f.Name, f.Dir) })
}

func newInit(a *app) *cobra.Command {
	var in control.InitRequest
	c := &cobra.Command{
		Use:   "init NAME",
		Short: "Make a folder and mount it",
		Long: `Make a folder called NAME and mount it. The directory is made if it is
missing, and must be empty if it is there. Where the name is taken on this
device, the folder is called NAME-2.

With --plain nothing is mounted: the files stand in the directory itself, as
ordinary ones, and are kept the same as the folder. Those that are there are
taken in, but for what a .clachanignore says, in the syntax of .gitignore.`,
		Example: `  clachan init Photos --at ~/Photos
  clachan init Work --names portable
  clachan init Music --at ~/Music --plain
  clachan init team --at /srv/team -o allow_other,default_permissions`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			in.Name = args[0]
			if in.Dir, err = absolute(in.Dir); err != nil {
				return err
			}
			f, err := ask(c.Context(), a, control.InitFolder, in)
			if err != nil {
				return err
			}
			if err := a.folder(f); err != nil || !in.Plain || !a.showsProgress() {
				return err
			}
			return a.scanned(c.Context(), f.Name)
		},
	}
	c.Flags().StringVar(&in.Dir, "at", "", "mount it at `DIR` (default: below ~/Clachan)")
	namesFlag(c, &in.Names)
	mountFlags(c, &in.Options)
	plainFlag(c, &in.Plain)
	return c
}

// scanned shows how a plain directory is read for the first time. The daemon does that
// whether or not somebody looks.
func (a *app) scanned(ctx context.Context, folder string) error {
	return during(ctx, a, a.inStatus(folder, "reading", task(control.TaskScan)), func(ctx context.Context) error {
		for {
			st, err := soon(ctx, a, control.GetStatus, control.StatusRequest{Folder: folder})
			if err != nil || len(st.Tasks) == 0 {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(progressPause):
			}
		}
	})
}
