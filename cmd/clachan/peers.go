package main

import (
	"io"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

func newPeers(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "peers",
		Short:   "List the other members of the folders of this device",
		Example: "  clachan peers",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := soon(c.Context(), a, control.ListPeers, control.None{})
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) { writePeers(w, list.Peers) })
		},
	}
}
