package main

import (
	"fmt"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

// newTopics makes what help tells beside the verbs.
func newTopics() []*cobra.Command {
	return []*cobra.Command{
		topic("json", "What verbs print with --json", jsonTopic),
		topic("exit-codes", "What the exit codes mean", func() string {
			return "Exit codes are the same for all verbs:\n\n" + strings.TrimRight(control.WordList("Code"), "\n")
		}),
	}
}

func topic(name, short string, text func() string) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Example: "  clachan help " + name}
	c.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), text()) })
	return c
}

// jsonTopic is the schema of all that is printed.
func jsonTopic() string {
	var b strings.Builder
	b.WriteString(`With --json a verb that prints something prints one object in a line, and events,
status --watch and top one for each thing that happens. Errors are on stderr and
in the exit code all the same. "schema" is 1 for as long as no field goes or
changes; further ones may come. Sizes are in bytes, rates in bytes a second,
times in UTC (RFC 3339). The API at the socket gives the same answers.

`)
	control.WriteSchema(&b) // into memory: cannot fail
	return strings.TrimRight(b.String(), "\n")
}
