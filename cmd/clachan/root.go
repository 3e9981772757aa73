package main

import (
	"context"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

// newRoot makes the whole command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "clachan",
		Short: "A folder shared by its members: no server, no account",
		Long: `Clachan mounts a folder that its members own. Work with its files in any
program, and every member has them: no server, no account, no upload button.`,
		Example: `  clachan up ~/Shared                     on the first machine: prints a ticket
  clachan up ~/Shared --join TICKET       on the second
  clachan status
  clachan invite Shared                   a ticket for one more`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              func(c *cobra.Command, args []string) error { return unknownVerb(c, args) },
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRun:  func(*cobra.Command, []string) { a.started = true },
		DisableAutoGenTag: true,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.flags.Home, "home", "", "keep everything of this instance under `DIR`")
	f.StringVar(&a.flags.Config, "config", "", "read the configuration from `FILE`")
	f.StringVar(&a.flags.Socket, "socket", "", "talk to the daemon at the socket `PATH`")
	f.BoolVar(&a.flags.System, "system", false, "use the places of the system service")
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.Var(colourFlag{&a.colour}, "color", "paint what is shown on a terminal: auto, always or never")
	completes(root, "color", cobra.FixedCompletions([]string{colourAuto, colourAlways, colourNever}, cobra.ShellCompDirectiveNoFileComp))
	f.DurationVar(&a.timeout, "timeout", answerIn, "give up a daemon that does not answer for so long")
	a.bars.add(f)
	f.BoolVarP(&a.quiet, "quiet", "q", false, "say only what was asked for")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log at level debug")

	root.AddGroup(&cobra.Group{ID: "folders", Title: "Folders:"},
		&cobra.Group{ID: "people", Title: "People:"}, &cobra.Group{ID: "daemon", Title: "Daemon:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("folders", newUp(a), newInit(a), newJoin(a), newList(a), newMount(a), newUmount(a), newGone(a), newLeave(a), newStatus(a), newWait(a), newTop(a), newEvents(a), newDemo(a))
	add("people", newInvite(a), newPeers(a), newID(a))
	add("daemon", newDaemon(a), newService(a), newConfig(a), newDoctor(a), newSupport(a), newScrub(a), newDB(a), newMan(a), newVersion(a))
	root.AddCommand(newTopics()...)
	root.SetCompletionCommandGroupID("daemon")
	root.SetHelpCommandGroupID("daemon")
	return root
}

// group makes a command that only has commands below it.
func group(use, short string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: func(c *cobra.Command, args []string) error { return unknownVerb(c, args) },
		RunE: func(c *cobra.Command, _ []string) error {
			return control.Errorf(control.Usage, "%s what? See: %s --help", c.Name(), c.CommandPath())
		},
	}
	c.AddCommand(cmds...)
	return c
}

// unknownVerb refuses any argument of a command that only has commands below it.
func unknownVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			names = append(names, sub.Name())
		}
	}
	if near := nearest(args[0], names); near != "" {
		return control.Errorf(control.Usage, "unknown verb %q; did you mean %q?", args[0], near)
	}
	return control.Errorf(control.Usage, "unknown verb %q; see: %s --help", args[0], c.CommandPath())
}

// nearest is the name most like word, or none if nothing is like it.
func nearest(word string, names []string) string {
	best, least := "", len(word)/2+1
	for _, name := range names {
		d := distance(strings.ToLower(word), name)
		if len(word) > 1 && strings.HasPrefix(name, strings.ToLower(word)) {
			d = 0
		}
		if d < least || (d == least && best == "") {
			best, least = name, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour to make b of a.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, row := rows[0], rows[1], rows[2]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		rows = [3][]int{prev, row, before}
	}
	return rows[1][len(b)]
}

// folderNames completes the names of folders, as far as the daemon answers.
func (a *app) folderNames(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	list, err := soon(ctx, a, control.ListFolders, control.None{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, f := range list.Folders {
		names = append(names, f.Name+"\t"+f.Dir)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// peerNames completes the names of members, as far as the daemon answers.
func (a *app) peerNames(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	list, err := soon(ctx, a, control.ListPeers, control.None{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := []string{"all"}
	for _, p := range list.Peers {
		names = append(names, p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completes has the value of a flag completed.
func completes(c *cobra.Command, flag string, fn cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, fn); err != nil {
		panic(err) // there is no such flag
	}
}
