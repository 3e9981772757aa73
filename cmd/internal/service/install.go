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

// Unit is the name of the service.
const Unit = "clachan.service"

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

// path is that of the unit that is made here.
func (s Scope) path() string { return filepath.Join(s.Dir, Unit) }

// Install has program run as a service, now and from the next start on. Where a package has brought the unit of this
// very program, that is taken. It returns the unit's path.
func (s Scope) Install(ctx context.Context, program string) (string, error) {
	path := filepath.Join(s.Vendor, Unit)
	if _, err := os.Stat(path); err != nil || program != systemd.Program {
		path = s.path()
		unit, err := s.unit(program)
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(s.Dir, 0o755); err != nil {
			return "", fmt.Errorf("install: %w", err)
		}
		if err := renameio.WriteFile(path, unit, 0o644); err != nil {
			return "", fmt.Errorf("install: %w", err)
		}
	} else if err := os.Remove(s.path()); err != nil && !errors.Is(err, fs.ErrNotExist) { // of another program: it would be taken
		return "", fmt.Errorf("install: %w", err)
	}
	if err := s.Run(ctx, "daemon-reload"); err != nil {
		return "", err
	}
	if err := s.Run(ctx, "enable", Unit); err != nil {
		return "", err
	}
	return path, s.Run(ctx, "restart", Unit)
}

// Uninstall ends the service, and removes its unit if that was made here.
func (s Scope) Uninstall(ctx context.Context) error {
	err := s.Run(ctx, "disable", "--now", Unit)
	switch gone := os.Remove(s.path()); {
	case errors.Is(gone, fs.ErrNotExist):
		return err
	case gone != nil:
		return errors.Join(err, fmt.Errorf("uninstall: %w", gone))
	}
	return errors.Join(err, s.Run(ctx, "daemon-reload"))
}

// unit is the unit that runs program.
func (s Scope) unit(program string) ([]byte, error) {
	name := "system"
	if s.User {
		name = "user"
	}
	unit, err := systemd.Units.ReadFile(name + "/" + Unit)
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
	return bytes.ReplaceAll(unit, []byte(systemd.Program), []byte(word)), nil
}
