package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// daemon is the process that is killed.
type daemon struct {
	bin, home, mnt string
	cmd            *exec.Cmd
}

// newDaemon builds and starts one, with a folder mounted.
func newDaemon(ctx context.Context, dir string) (*daemon, error) {
	d := &daemon{bin: filepath.Join(dir, "clachan"), home: filepath.Join(dir, "home"), mnt: filepath.Join(dir, "mnt")}
	top, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", d.bin, "./cmd/clachan")
	build.Dir = strings.TrimSpace(string(top))
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, d.bin, "--home", d.home, "init", "Killed", "--at", d.mnt).CombinedOutput(); err != nil {
		d.kill()
		return nil, fmt.Errorf("init: %w: %s", err, out)
	}
	return d, nil
}

// start returns when every folder is mounted.
func (d *daemon) start(ctx context.Context) error {
	log, err := os.OpenFile(d.home+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command(d.bin, "daemon", "--home", d.home, "--listen", "127.0.0.1:0", "--no-discovery")
	d.cmd.Stderr = log
	out, err := d.cmd.StdoutPipe()
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	line := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(out).ReadString('\n')
		line <- s
	}()
	select {
	case s := <-line:
		if s == "ready\n" {
			return nil
		}
		return errors.Join(fmt.Errorf("start: the daemon said %q; see %s.log", s, d.home), d.cmd.Wait())
	case <-time.After(time.Minute):
		return errors.New("start: not ready within a minute")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Kill()
	d.cmd.Wait()
	d.cmd = nil
}

// clear kills the daemon for good, and takes its mount away.
func (d *daemon) clear() error {
	d.kill()
	out, err := exec.Command(d.bin, "--home", d.home, "umount", "--stale").CombinedOutput()
	if err != nil {
		return fmt.Errorf("umount --stale: %w: %s", err, out)
	}
	return nil
}

// end stops the daemon as its user would, and looks whether its store is sound.
func (d *daemon) end() error {
	out, err := exec.Command(d.bin, "--home", d.home, "db", "check").CombinedOutput()
	if err != nil {
		return fmt.Errorf("db check: %w: %s", err, out)
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err = d.cmd.Wait()
	d.cmd = nil
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
