package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

func newLeave(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "leave NAME",
		Short: "Leave a folder and forget what is here of it",
		Long: `Unmount a folder, tell its members that this device left, and delete what is
here of it. The others keep their files. Files that are on this machine only
would be lost: --yes is needed then.`,
		Example:           "  clachan leave Photos",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			st, err := soon(c.Context(), a, control.GetStatus, control.StatusRequest{Folder: args[0]})
			if err != nil {
				return err
			}
			if err := a.confirmLeave(st, yes); err != nil {
				return err
			}
			return during(c.Context(), a, a.inStatus(args[0], "leaving", toSave), func(ctx context.Context) error {
				_, err := ask(ctx, a, control.LeaveFolder, control.LeaveRequest{Folder: args[0]})
				return err
			})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// confirmLeave asks on a terminal; elsewhere it lets pass only what loses nothing.
func (a *app) confirmLeave(st control.Status, yes bool) error {
	if yes || len(st.Folders) != 1 {
		return nil
	}
	f := st.Folders[0]
	lost, least := f.OnlyHere, ""
	if f.OnlyHereMore {
		least = "at least "
	}
	if len(st.Peers) == 0 {
		lost = f.Files
	}
	if isTerminal(a.stdin) && isTerminal(a.stderr) {
		if lost > 0 {
			a.say("%s%s on this machine only and will be lost.", least, count(lost, "file is", "files are"))
		}
		fmt.Fprintf(a.stderr, "Leave %s and delete what is here of it? [y/N] ", f.Name)
		answer, err := bufio.NewReader(a.stdin).ReadString('\n')
		if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y") {
			return control.Errorf(control.Other, "nothing was done")
		}
		return nil
	}
	if lost > 0 {
		return control.Errorf(control.Usage, "%s on this machine only and would be lost; say --yes to leave all the same",
			count(lost, "file is", "files are"))
	}
	return nil
}
