package main

import (
	"context"
	"slices"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

// answerLate is what a daemon may be late with saying that the time ran out.
const answerLate = 5 * time.Second

func newWait(a *app) *cobra.Command {
	var in control.WaitRequest
	c := &cobra.Command{
		Use:   "wait [NAME]",
		Short: "Wait until what was written is safe",
		Long: `Wait until everything that was written and closed before is durable here and
announced, and no block is missing here. With --on, wait also until that
member, or all of them, hold every block of every current version. Files that
are still open for writing do not count.

Exit codes: 9 when the time ran out, 5 for an unknown folder or member.`,
		Example: `  clachan wait Photos --on nas
  clachan wait --on all --timeout 10m`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			in.Folder = arg(args, 0)
			if in.Timeout <= 0 {
				return control.Errorf(control.Usage, "the time-out must be longer than nothing")
			}
			how := a.inStatus(in.Folder, "waiting", func(p *progress, st control.Status) {
				toCome(p, st)
				toSave(p, st)
				if on := waitsFor(st); p.more == "" && in.On != "" && len(on) > 0 {
					p.more = "for " + list(on, ", ", 3)
				}
			})
			return during(c.Context(), a, how, func(ctx context.Context) error {
				cl, err := a.client(ctx)
				if err != nil {
					return err
				}
				return a.attend(ctx, cl, func(ctx context.Context) error {
					_, err := control.Wait.CallWithin(ctx, cl, in.Timeout+answerLate, in)
					return err
				})
			})
		},
	}
	c.Flags().StringVar(&in.On, "on", "", "a `PEER` by name or id, or all")
	completes(c, "on", a.peerNames)
	c.Flags().DurationVar(&in.Timeout, "timeout", time.Minute, "give up after this time")
	return c
}

// waitsFor names the members that have not got all there is.
func waitsFor(st control.Status) (names []string) {
	for _, f := range st.Folders {
		names = append(names, f.WaitingFor...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
