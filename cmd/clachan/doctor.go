package main

import (
	"context"
	"fmt"
	"io"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/cmd/internal/doctor"
	"github.com/spf13/cobra"
)

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what keeps folders from working here, and the cure",
		Long: `Look at what a folder needs on this machine: FUSE, the settings, the data folder
and its disk, the clock, limits, mounts that a daemon left behind, and what the
daemon says of its folders. It changes nothing.

Exit code 7 when something is wrong.`,
		Example: "  clachan doctor",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := a.look(c.Context())
			if err != nil {
				return err
			}
			rep := control.Findings{Schema: control.Schema, Findings: doctor.Examine(m)}
			if err := a.print(rep, func(w io.Writer) { writeFindings(w, rep.Findings, a.quiet) }); err != nil || a.json {
				return err
			}
			n := 0
			for _, f := range rep.Findings {
				if f.Level == control.LevelFail || f.Level == control.LevelWarn {
					n++
				}
			}
			if n > 0 {
				return control.Errorf(control.Attention, "%s to look at", count(uint64(n), "thing", "things"))
			}
			return nil
		},
	}
}

// look is what can be seen of this machine and its daemon.
func (a *app) look(ctx context.Context) (doctor.Machine, error) {
	places, running, asked := a.places(ctx)
	if asked != nil && places.Data == "" {
		return doctor.Machine{}, asked
	}
	m, err := doctor.Look(places, a.env)
	if err != nil {
		return m, err
	}
	m.Own, m.Running, m.DaemonErr = buildVersion(), running.Version, asked
	if asked == nil {
		m.Status, m.DaemonErr = soon(ctx, a, control.GetStatus, control.StatusRequest{})
	}
	return m, nil
}

func writeFindings(w io.Writer, all []control.Finding, quiet bool) {
	for _, f := range all {
		if quiet && f.Level == control.LevelOK {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Level, f.What, f.Text)
		if f.Cure != "" {
			fmt.Fprintf(w, "\t\t  %s\n", f.Cure)
		}
	}
}
