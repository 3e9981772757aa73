package main

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newUmount(a *app) *cobra.Command {
	var in control.UmountRequest
	var stale bool
	c := &cobra.Command{
		Use:     "umount NAME",
		Aliases: []string{"unmount"},
		Short:   "Unmount a folder until it is mounted again",
		Long: `Unmount a folder. It goes on syncing, and stays unmounted when the daemon
starts again.

With --stale, clear the mounts that a daemon left behind when it was killed:
this needs no daemon.`,
		Example: `  clachan umount Photos
  clachan umount --stale`,
		Args: func(c *cobra.Command, args []string) error {
			if stale {
				return cobra.NoArgs(c, args)
			}
			return cobra.ExactArgs(1)(c, args)
		},
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			if stale {
				return a.clearStale()
			}
			in.Folder = args[0]
			out, err := ask(c.Context(), a, control.UmountFolder, in)
			if err != nil {
				return err
			}
			if out.OnlyHere > 0 {
				a.say("%s on this machine only", count(out.OnlyHere, "file is", "files are"))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&stale, "stale", false, "clear mounts whose daemon is gone")
	c.Flags().BoolVar(&in.Lazy, "lazy", false, "unmount even while programs use it")
	return c
}

// clearStale unmounts whatever a killed daemon of this user left mounted.
func (a *app) clearStale() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range deadMounts(string(text), statfs) {
		if err := mount.ClearStale(dir); err != nil {
			errs = append(errs, err)
			continue
		}
		a.say("unmounted %s", dir)
	}
	return errors.Join(errs...)
}

// deadMounts lists our mount points in mountinfo whose daemon is gone.
func deadMounts(mountinfo string, statfs func(string) error) []string {
	var dead []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.Contains(line, " - fuse.clachan ") {
			continue
		}
		dir := mountPath.Replace(fields[4])
		if errors.Is(statfs(dir), unix.ENOTCONN) && !slices.Contains(dead, dir) {
			dead = append(dead, dir)
		}
	}
	return dead
}

// mountPath undoes how mountinfo writes what would break its lines.
var mountPath = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func statfs(dir string) error {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st)
}
