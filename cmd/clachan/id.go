package main

import (
	"fmt"
	"io"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

func newID(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "id",
		Short:   "Print the peer id of this device",
		Example: "  clachan id",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := soon(c.Context(), a, control.GetID, control.None{})
			if err != nil {
				return err
			}
			return a.print(id, func(w io.Writer) { fmt.Fprintln(w, id.PeerID) })
		},
	}
}
