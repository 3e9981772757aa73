package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/spf13/cobra"
)

// version is the release; the linker sets it for packages.
var version = "0.1.0"

// buildVersion is version with the commit it was built from, if that is known.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + "+" + s.Value[:12]
		}
	}
	return version
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `Print the version of this program; with --json also those of the formats it
writes and of the protocol it speaks to peers.`,
		Example: "  clachan version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := ownVersion()
			return a.print(v, func(w io.Writer) { fmt.Fprintf(w, "clachan %s\n", v.Version) })
		},
	}
}

// ownVersion tells what this program is.
func ownVersion() control.Version {
	return control.Version{
		Schema: control.Schema, Version: buildVersion(), Go: runtime.Version(),
		Format: blocks.Format, Protocol: wire.Version,
	}
}
