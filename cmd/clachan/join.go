package main

import (
	"context"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/spf13/cobra"
)

// checkTicket refuses what is no ticket before anything is touched.
func checkTicket(ticket string) error {
	if _, err := trust.ParseTicket(ticket); err != nil {
		return control.Errorf(control.Usage, "%v", err)
	}
	return nil
}

func newJoin(a *app) *cobra.Command {
	var in control.JoinRequest
	c := &cobra.Command{
		Use:   "join TICKET [DIR]",
		Short: "Become a member of a folder and mount it",
		Long: `Become a member of the folder that TICKET invites to, and mount it at DIR.
The directory is made if it is missing, and must be empty if it is there.

With --plain nothing is mounted: the files stand in the directory itself. What
is there is taken in: a file that others have too, with the same bytes, is not
fetched again, and one that differs gets another name.

Exit codes: 2 for a ticket that is none, 6 for one that is used up, expired
or revoked, 8 when nobody named in it answers.`,
		Example: `  clachan join clachan1… ~/Photos
  clachan join clachan1… /srv/team --name team
  clachan join clachan1… ~/Music --plain`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) (err error) {
			in.Ticket = args[0]
			if err := checkTicket(in.Ticket); err != nil {
				return err
			}
			if in.Dir, err = absolute(arg(args, 1)); err != nil {
				return err
			}
			var f control.Folder
			how := func(context.Context) (progress, error) {
				return progress{what: "looking for a member that lets this device in"}, nil
			}
			err = during(c.Context(), a, how, func(ctx context.Context) (err error) {
				f, err = ask(ctx, a, control.JoinFolder, in)
				return err
			})
			if err != nil {
				return err
			}
			return a.folder(f)
		},
	}
	c.Flags().StringVar(&in.Name, "name", "", "call it `NAME` on this device")
	mountFlags(c, &in.Options)
	plainFlag(c, &in.Plain)
	return c
}
