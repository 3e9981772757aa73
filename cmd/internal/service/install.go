package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/clachanfs/clachan/contrib/systemd"
	"github.com/google/renameio/v2"
)

const (
	Unit  = "clachan.service"     // the service
	Timer = "clachan-scrub.timer" // has what is stored verified by scrubUnit

	scrubUnit = "clachan-scrub.service"
)

// packaged is where a package has put the units.
const packaged = "/usr/lib/systemd"

// A Scope is whose service it is.
type Scope struct {
	User   bool
	Dir    string // of units that are made here
	Run    func(ctx context.Context, args ...string) error
	Vendor string // of units of a package
}

// System is the service of the machine.
func System() Scope {
	return Scope{Dir: "/etc/systemd/system", Vendor: filepath.Join(packaged, "system"),
		Run: func(ctx context.Context, args ...string) error { return systemctl(ctx, args...) }}
}

// User is the service of who runs this, whose configuration is below conf.
func User(conf string) Scope {
	return Scope{User: true, Dir: filepath.Join(conf, "systemd", "user"), Vendor: filepath.Join(packaged, "user"),
		Run: func(ctx context.Context, args ...string) error {
			return systemctl(ctx, append([]string{"--user"}, args...)...)
		}}
}

// systemctl runs it. What it says on stderr is the error.
func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("systemctl is not here: is this machine run by systemd?")
	}
	if err != nil {
		if text := strings.TrimSpace(string(out)); text != "" {
			err = errors.New(text)
		}
		return fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// path is that of a unit that is made here.
func (s Scope) path(unit string) string { return filepath.Join(s.Dir, unit) }

// Install has program run as a service, now and from the next start on, and what it stores verified once a week. Where a
// package has brought the units of this very program, those are taken. It returns the path of the service's.
func (s Scope) Install(ctx context.Context, program string) (string, error) {
	path := ""
	for _, unit := range []string{scrubUnit, Timer, Unit} {
		var err error
		if path, err = s.put(unit, program); err != nil {
			return "", err
		}
	}
	if err := s.Run(ctx, "daemon-reload"); err != nil {
		return "", err
	}
	if err := s.Run(ctx, "enable", Unit); err != nil {
		return "", err
	}
	if err := s.Run(ctx, "enable", "--now", Timer); err != nil {
		return "", err
	}
	return path, s.Run(ctx, "restart", Unit)
}

// put makes a unit that runs program, unless a package has brought it, and returns its path.
func (s Scope) put(unit, program string) (string, error) {
	vendor := filepath.Join(s.Vendor, unit)
	if _, err := os.Stat(vendor); err == nil && program == systemd.Program {
		if err := os.Remove(s.path(unit)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of another program: it would be taken
			return "", fmt.Errorf("install: %w", err)
		}
		return vendor, nil
	}
	text, err := s.unit(unit, program)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", fmt.Errorf("install: %w", err)
	}
	if err := renameio.WriteFile(s.path(unit), text, 0o644); err != nil {
		return "", fmt.Errorf("install: %w", err)
	}
	return s.path(unit), nil
}

// Uninstall ends the service and its timer, and removes their units if those were made here.
func (s Scope) Uninstall(ctx context.Context) error {
	var errs []error
	if s.has(Timer) { // it has come later than the service
		errs = append(errs, s.Run(ctx, "disable", "--now", Timer))
	}
	errs = append(errs, s.Run(ctx, "disable", "--now", Unit))
	made := false
	for _, unit := range []string{scrubUnit, Timer, Unit} {
		switch err := os.Remove(s.path(unit)); {
		case err == nil:
			made = true
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("uninstall: %w", err))
		}
	}
	if made {
		errs = append(errs, s.Run(ctx, "daemon-reload"))
	}
	return errors.Join(errs...)
}

// has tells whether there is a unit.
func (s Scope) has(unit string) bool {
	_, here := os.Stat(s.path(unit))
	_, vendor := os.Stat(filepath.Join(s.Vendor, unit))
	return here == nil || vendor == nil
}

// unit is the text of a unit that runs program.
func (s Scope) unit(unit, program string) ([]byte, error) {
	name := "system"
	if s.User {
		name = "user"
	}
	text, err := systemd.Units.ReadFile(name + "/" + unit)
	if err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	if strings.ContainsAny(program, "\n\"\\'%$") { // systemd's own signs
		return nil, fmt.Errorf("install: no unit can name the program %q: move it elsewhere", program)
	}
	word := program
	if strings.ContainsAny(word, " \t") {
		word = `"` + word + `"`
	}
	return bytes.ReplaceAll(text, []byte(systemd.Program), []byte(word)), nil
}
