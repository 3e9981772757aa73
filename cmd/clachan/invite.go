package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"
)

// ticketLife is how long a ticket is good unless somebody says otherwise.
const ticketLife = 24 * time.Hour

func newInvite(a *app) *cobra.Command {
	var in control.InviteRequest
	roles := []string{"reader", "writer", "admin"}
	c := &cobra.Command{
		Use:   "invite NAME",
		Short: "Print a ticket with which somebody can join a folder",
		Long: `Print a ticket for the folder NAME, alone on stdout. Any member that is online
can let its bearer in, until it expires or is used up.`,
		Example: `  clachan invite Photos
  clachan invite Photos --role reader --uses 5 --expires 168h`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			in.Folder = args[0]
			switch {
			case !slices.Contains(roles, in.Role):
				return control.Errorf(control.Usage, "the role must be one of %s, not %q", strings.Join(roles, ", "), in.Role)
			case in.Expires < time.Second:
				return control.Errorf(control.Usage, "a ticket must be good for a second at least")
			case in.Uses < 1:
				return control.Errorf(control.Usage, "a ticket must be good for one use at least")
			}
			inv, err := soon(c.Context(), a, control.Invite, in)
			if err != nil {
				return err
			}
			return a.ticket(inv)
		},
	}
	c.Flags().StringVar(&in.Role, "role", "writer", "what the new member may do: "+strings.Join(roles, ", "))
	completes(c, "role", cobra.FixedCompletions(roles, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().DurationVar(&in.Expires, "expires", ticketLife, "how long the ticket is good")
	c.Flags().IntVar(&in.Uses, "uses", 1, "how often the ticket is good")
	return c
}

// ticket prints a ticket on stdout, and for cameras on a terminal's stderr.
func (a *app) ticket(inv control.Invitation) error {
	if isTerminal(a.stderr) && !a.quiet {
		qrterminal.GenerateHalfBlock(inv.Ticket, qrterminal.L, a.stderr)
	}
	return a.print(inv, func(w io.Writer) { fmt.Fprintln(w, inv.Ticket) })
}
