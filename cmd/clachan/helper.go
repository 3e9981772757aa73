package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

// helperName is the name under which mount(8) calls this program, for lines of fstab of type clachan.
const helperName = "mount.clachan"

// What the helper exits with, as mount(8) says.
const (
	helperUsage  = 1
	helperFailed = 32
)

// helper is mount.clachan: SOURCE DIR [-sfnv] [-o OPTIONS]. It returns the exit code.
func (a *app) helper(ctx context.Context, args []string) int {
	code := helperUsage
	c := &cobra.Command{
		Use: helperName + " NAME DIR", Short: "Mount a folder of clachan",
		Args: cobra.ExactArgs(2), SilenceErrors: true, SilenceUsage: true,
	}
	var options []string
	var fake bool
	c.Flags().StringArrayVarP(&options, "options", "o", nil, "options of the mount")
	c.Flags().BoolVarP(&fake, "fake", "f", false, "do all but mount")
	c.Flags().StringP("type", "t", "", "left aside")
	for _, short := range []string{"s", "n", "v"} { // sloppy, no mtab, verbose
		c.Flags().BoolP("flag-"+short, short, false, "left aside")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		code = helperFailed
		if fake {
			return nil
		}
		err := a.mountAt(c.Context(), args[0], args[1], helperOptions(options))
		if noDaemon(err) {
			err = fmt.Errorf("%w; in fstab: x-systemd.requires=clachan.service", err)
		}
		return err
	}
	c.SetArgs(args)
	if err := c.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(a.stderr, "%s: %v\n", helperName, err)
		return code
	}
	return 0
}

// helperOptions are the options that are not mount's own or systemd's.
func helperOptions(list []string) (own []string) {
	for _, w := range strings.Split(strings.Join(list, ","), ",") {
		if w != "" && !strings.HasPrefix(w, "x-") && !strings.HasPrefix(w, "X-") && !strings.HasPrefix(w, "comment=") {
			own = append(own, w)
		}
	}
	return own
}

// mountAt mounts a folder at dir, unless it is.
func (a *app) mountAt(ctx context.Context, name, dir string, options []string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	list, err := soon(ctx, a, control.ListFolders, control.None{})
	if err != nil {
		return err
	}
	for _, f := range list.Folders {
		if f.Name == name && f.Dir == dir && f.Mounted {
			return nil // the daemon did so when it started
		}
	}
	_, err = ask(ctx, a, control.MountFolder, control.MountRequest{Folder: name, Dir: dir, Options: options, Again: true})
	return err
}
