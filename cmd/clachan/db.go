package main

import (
	"fmt"
	"io"

	"github.com/clachanfs/clachan/cmd/internal/control"
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
			rep, err := ask(c.Context(), a, control.CheckStore, control.None{})
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
	return group("db", "Look after the store", check)
}
