package main

import (
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

func newMount(a *app) *cobra.Command {
	var in control.MountRequest
	c := &cobra.Command{
		Use:   "mount NAME [DIR]",
		Short: "Mount a folder, at DIR from now on if given",
		Example: `  clachan mount Photos
  clachan mount Photos /srv/photos -o ro`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) (err error) {
			in.Folder = args[0]
			if in.Dir, err = absolute(arg(args, 1)); err != nil {
				return err
			}
			f, err := ask(c.Context(), a, control.MountFolder, in)
			if err != nil {
				return err
			}
			return a.folder(f)
		},
	}
	mountFlags(c, &in.Options)
	return c
}
