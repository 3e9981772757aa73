package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
)

// startDetached starts a daemon of its own session, which outlives this
// process, and returns when it is ready. It logs into its data folder.
func (a *app) startDetached(ctx context.Context, flags daemonFlags) (*exec.Cmd, error) {
	places, err := config.Find(a.flags, a.env)
	if err != nil {
		return nil, control.Errorf(control.State, "%v", err)
	}
	if err := places.MakeDirs(); err != nil {
		return nil, err
	}
	return startDaemon(ctx, places.Log(), a.daemonArgs(flags), nil, &syscall.SysProcAttr{Setsid: true})
}

// startDaemon starts this program as a daemon that logs into a file, and returns when it is ready.
func startDaemon(ctx context.Context, log string, args, env []string, attr *syscall.SysProcAttr) (*exec.Cmd, error) {
	logFile, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	defer logFile.Close()
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Stderr = logFile
	cmd.Dir = "/" // keep no directory busy
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = attr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	line, _ := bufio.NewReader(stdout).ReadString('\n') // no line: it ended, and Wait says how
	if strings.TrimSpace(line) == "ready" {
		return cmd, nil
	}
	return nil, detachFailed(cmd.Wait(), log)
}

// daemonArgs is the command line of the daemon of the same instance.
func (a *app) daemonArgs(flags daemonFlags) []string {
	args := []string{"daemon"}
	for _, f := range []struct{ name, value string }{
		{"--home", a.flags.Home}, {"--config", a.flags.Config}, {"--socket", a.flags.Socket},
	} {
		if path, err := absolute(f.value); err == nil && path != "" {
			args = append(args, f.name, path)
		}
	}
	for _, l := range flags.listen {
		args = append(args, "--listen", l)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"--system", a.flags.System}, {"--verbose", a.verbose}, {"--no-discovery", flags.noDiscovery}} {
		if f.set {
			args = append(args, f.name)
		}
	}
	return args
}

// detachFailed passes on how the daemon ended and the last it had to say.
func detachFailed(err error, logPath string) error {
	code := control.Other
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() > 0 {
		code = control.Code(exit.ExitCode())
	}
	text, _ := os.ReadFile(logPath) // without it the code must do
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := strings.TrimPrefix(lines[len(lines)-1], "clachan: ")
	if last == "" {
		last = "the daemon did not start"
	}
	return control.Errorf(code, "%s", last)
}
