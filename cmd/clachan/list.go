package main

import (
	"fmt"
	"io"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

func newList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the folders of this device",
		Example: "  clachan list --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := soon(c.Context(), a, control.ListFolders, control.None{})
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				for _, f := range list.Folders {
					state := "mounted"
					switch {
					case f.Error != "":
						state = f.Error
					case !f.Mounted:
						state = "not mounted"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Name, f.Dir, f.Role, state)
				}
			})
		},
	}
}
