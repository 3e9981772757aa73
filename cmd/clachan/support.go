package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/cmd/internal/doctor"
	"github.com/clachanfs/clachan/cmd/internal/support"
	"github.com/spf13/cobra"
)

func newSupport(a *app) *cobra.Command {
	var names bool
	profile := 2 * time.Second
	c := &cobra.Command{
		Use:   "support [FILE.tar.gz|-]",
		Short: "Gather what somebody needs who is to help, without secrets",
		Long: `Gather what somebody needs who is to find out what is wrong: versions, settings,
the status, what doctor finds, metrics, the last of the daemon's log, where it
works and what it holds in memory, mounts, and the system. Without a daemon,
what can be had.

No keys, no tickets and no names of files are in it, and the contents of none.
Names of folders, members and users, directories and addresses are replaced by
pseudonyms, unless --names. It is a tar file, packed with gzip: look into it
before you give it away.`,
		Example: `  clachan support
  clachan support - | ssh nas 'cat >support.tar.gz'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if profile < 0 || profile > 5*time.Minute {
				return control.Errorf(control.Usage, "a profile takes up to 5m, not %v", profile)
			}
			return a.support(c.Context(), arg(args, 0), names, profile)
		},
	}
	c.Flags().BoolVar(&names, "names", false, "leave names of folders, members, directories and addresses in")
	c.Flags().DurationVar(&profile, "profile", profile, "see for so long where the daemon spends its time; 0: do not")
	return c
}

// support makes a bundle into a file, which must not be there.
func (a *app) support(ctx context.Context, file string, names bool, profile time.Duration) error {
	now := time.Now()
	if file == "-" && isTerminal(a.stdout) {
		return control.Errorf(control.Usage, "that would go to the terminal: say where to, or pipe it")
	}
	if file == "" {
		file = "clachan-support-" + now.Format("20060102-150405") + ".tar.gz"
	}
	out := a.stdout
	if file != "-" {
		var err error
		if out, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); errors.Is(err, fs.ErrExist) {
			return control.Errorf(control.Usage, "%s is there already", file)
		} else if err != nil {
			return fmt.Errorf("support: %w", err)
		}
		defer out.Close()
	}
	b := &support.Bundle{Veil: support.Veil{Open: names}}
	err := during(ctx, a, going("gathering"), func(ctx context.Context) error { return a.gather(ctx, b, profile) })
	if err == nil {
		err = b.Write(out, now)
	}
	if file == "-" {
		if err == nil {
			a.say("%s", b.Contents())
		}
		return err
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	if a.json {
		return a.print(control.Supported{Schema: control.Schema, File: file, Parts: b.Parts}, nil)
	}
	a.say("%s", b.Contents())
	_, err = fmt.Fprintln(a.stdout, file)
	return err
}

const (
	answersIn = 30 * time.Second // a daemon has so long for each part
	hurriesIn = 2 * time.Second  // and so long for each of the rest when it was late with one
)

// gather fills a bundle. What cannot be had is noted in it.
func (a *app) gather(ctx context.Context, b *support.Bundle, profile time.Duration) error {
	places, err := config.Find(a.flags, a.env)
	if err != nil {
		return control.Errorf(control.State, "%v", err)
	}
	client, dialed := a.client(ctx)
	patience := answersIn
	hurry := func(err error) {
		if errors.Is(err, context.DeadlineExceeded) {
			patience = hurriesIn
		}
	}
	read := func(path string, more time.Duration) ([]byte, error) {
		if dialed != nil {
			return nil, dialed
		}
		ctx, cancel := context.WithTimeout(ctx, patience+more)
		defer cancel()
		body, err := client.Read(ctx, path)
		hurry(err)
		return body, err
	}
	st, running, asked := control.Status{}, control.Version{}, dialed
	if dialed == nil { // one that hangs has stacks to show all the same
		st, running, asked = a.askAround(ctx, client)
		hurry(asked)
	}
	if running.Data != "" {
		places.Config, places.Data, places.Socket = running.Config, running.Data, client.Socket()
	}
	st = b.Veil.Status(st) // first, so that a folder goes by its id wherever it is told of
	if err := b.HideMachine(a.env("HOME"), places); err != nil {
		return err
	}
	b.Machine(ctx)
	b.JSON("version.json", "this program", ownVersion(), nil)
	b.JSON("daemon.json", "the daemon", running, asked)
	a.gatherSettings(b, places)
	b.JSON("status.json", "folders and members", st, asked)
	m, err := doctor.Look(places, a.env)
	for i, dir := range m.Stale {
		b.Veil.Hide(dir, fmt.Sprintf("/DIR-of-stale-%d", i+1))
	}
	m.Own, m.Running, m.DaemonErr, m.Status = buildVersion(), running.Version, asked, st
	b.JSON("doctor.json", "what doctor finds", control.Findings{Schema: control.Schema, Findings: doctor.Examine(m)}, err)
	b.Store(places.Data)
	text := func(path string) (string, error) {
		body, err := read(path, 0)
		return string(body), err
	}
	metrics, err := text("/metrics")
	b.Text("metrics.txt", "metrics", metrics, err)
	log, err := text("/debug/log")
	if err == nil && asked != nil && !b.Veil.Open {
		err = errors.New("left out, since the names in it are not known")
	}
	b.Log("log.txt", "the last of the log, from level info on", log, err)
	stacks, err := text("/debug/pprof/goroutine?debug=2")
	b.Text("goroutines.txt", "what the daemon is doing", stacks, err)
	heap, err := read("/debug/pprof/heap", 0)
	b.Profile("heap.pb.gz", "its memory, for go tool pprof", heap, err)
	if profile > 0 {
		cpu, err := read(fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(profile.Seconds()))), profile)
		b.Profile("cpu.pb.gz", "where it spends its time, for go tool pprof", cpu, err)
	}
	return ctx.Err()
}

// askAround is what a daemon says of itself.
func (a *app) askAround(ctx context.Context, c *control.Client) (st control.Status, v control.Version, err error) {
	ctx, cancel := context.WithTimeout(ctx, answersIn)
	defer cancel()
	if v, err = control.GetVersion.Call(ctx, c, control.None{}); err == nil {
		st, err = control.GetStatus.Call(ctx, c, control.StatusRequest{})
	}
	return st, v, err
}

// gatherSettings takes in the settings; not their file, which may hold anything.
func (a *app) gatherSettings(b *support.Bundle, places config.Places) {
	conf, origins, err := config.Explain(places, a.env)
	b.Veil.Hide(conf.Device, "DEVICE")
	b.Veil.Hide(conf.Mounts, "/MOUNTS")
	var text strings.Builder
	for _, s := range config.Settings {
		if err == nil {
			fmt.Fprintf(&text, "%s = %s   # %s\n", s.Key, s.Literal(conf), origins[s.Key])
		}
	}
	b.Text("settings.txt", "the settings", text.String(), err)
}
