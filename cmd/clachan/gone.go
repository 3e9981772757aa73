package main

import (
	"fmt"
	"io"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

func newGone(a *app) *cobra.Command {
	var in control.GoneRequest
	c := &cobra.Command{
		Use:   "gone NAME",
		Short: "Say what becomes of files that are gone from a plain directory",
		Long: `Where more than 100 files are gone from a plain directory at once, and more
than a tenth of all, or all, they are removed nowhere else before somebody has
said that it was meant: a disk may be broken, or another be in its place. This
tells how many there are; --accept removes them for all members, --restore
writes them again.

Exit code 5 where no files are gone.`,
		Example:           "  clachan gone Photos\n  clachan gone Photos --restore",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			in.Folder = args[0]
			out, err := ask(c.Context(), a, control.GoneFiles, in)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "%d of %d files are gone\n", out.Files, out.Of) })
		},
	}
	c.Flags().BoolVar(&in.Accept, "accept", false, "remove them for all members")
	c.Flags().BoolVar(&in.Restore, "restore", false, "write them again")
	c.MarkFlagsMutuallyExclusive("accept", "restore")
	return c
}
