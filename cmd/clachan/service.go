package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/cmd/internal/service"
	"github.com/spf13/cobra"
)

func newService(a *app) *cobra.Command {
	var user bool
	verb := func(use, short, long, example string, run func(context.Context, service.Scope) error) *cobra.Command {
		c := &cobra.Command{
			Use: use, Short: short, Long: long, Example: example, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				scope, err := a.scope(user)
				if err != nil {
					return err
				}
				return run(c.Context(), scope)
			},
		}
		c.Flags().BoolVar(&user, "user", false, "the service of this user, not of the machine")
		return c
	}
	return group("service", "Run the daemon as a service of systemd",
		verb("install", "Start the daemon now and whenever the machine starts",
			`Have systemd run the daemon: now, and whenever the machine starts, or with
--user, whenever you log in. It runs this very program, so keep it where it is.
A service that is there is restarted with it. A timer has what is stored
verified once a week (see clachan scrub).

The service of the machine keeps its data in /var/lib/clachan and mounts new
folders below /srv. Talk to it as root.`,
			`  sudo clachan service install
  clachan service install --user
  loginctl enable-linger        then that runs without a login too`, a.installService),
		verb("uninstall", "Stop the daemon and let systemd forget it",
			`Stop the service and let systemd forget it. Folders and data stay where they
are.`,
			`  sudo clachan service uninstall
  clachan service uninstall --user`, a.uninstallService))
}

// scope is whose service is meant.
func (a *app) scope(user bool) (service.Scope, error) {
	if a.flags.Home != "" || a.flags.Config != "" || a.flags.Socket != "" || user && a.flags.System {
		return service.Scope{}, control.Errorf(control.Usage, "a service is the machine's or, with --user, yours: it takes no other places")
	}
	if !user {
		if os.Geteuid() != 0 {
			return service.Scope{}, control.Errorf(control.Denied, "the service of the machine is root's (use sudo, or --user for a service of your own)")
		}
		return service.System(), nil
	}
	places, err := config.Find(config.Flags{}, func(k string) string {
		if k == "HOME" || k == "XDG_CONFIG_HOME" {
			return a.env(k)
		}
		return ""
	})
	if err != nil {
		return service.Scope{}, control.Errorf(control.State, "%v", err)
	}
	return service.User(filepath.Dir(filepath.Dir(places.Config))), nil
}

func (a *app) installService(ctx context.Context, s service.Scope) error {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	passing := []string{os.TempDir(), a.env("GOCACHE")} // where `go run` has its programs
	if cache, err := os.UserCacheDir(); err == nil {
		passing = append(passing, cache)
	}
	for _, dir := range passing {
		if rel, err := filepath.Rel(dir, exe); dir != "" && err == nil && filepath.IsLocal(rel) {
			return control.Errorf(control.Usage, "%s will not stay: put the program elsewhere first (go install ./cmd/clachan)", exe)
		}
	}
	unit, err := s.Install(ctx, exe)
	if err != nil {
		return err
	}
	a.say("%s runs (%s)", service.Unit, unit)
	return nil
}

func (a *app) uninstallService(ctx context.Context, s service.Scope) error {
	if err := s.Uninstall(ctx); err != nil {
		return err
	}
	a.say("%s is gone; folders and data stay", service.Unit)
	return nil
}
