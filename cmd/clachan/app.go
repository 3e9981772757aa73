package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
)

// app is what the verbs share: global flags and where to write.
type app struct {
	flags   config.Flags
	json    bool
	quiet   bool
	verbose bool
	colour  string        // --color
	timeout time.Duration // for what a daemon answers at once
	bars    progressFlags

	env            config.Env
	stdin          *os.File
	stdout, stderr *os.File
	parent         int  // the process that started this one
	started        bool // a verb runs: flags and arguments were right
}

// answerIn is how long a daemon may take for what it answers at once.
const answerIn = 10 * time.Second

func newApp() *app {
	return &app{env: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, parent: os.Getppid(), colour: colourAuto, timeout: answerIn}
}

// client finds the daemon.
func (a *app) client(ctx context.Context) (*control.Client, error) {
	sockets, err := config.Sockets(a.flags, a.env)
	if err != nil {
		return nil, err
	}
	return control.Dial(ctx, sockets)
}

// ask sends one operation to the daemon, however long it takes.
func ask[In, Out any](ctx context.Context, a *app, op control.Op[In, Out], in In) (out Out, err error) {
	c, err := a.client(ctx)
	if err != nil {
		return out, err
	}
	err = a.attend(ctx, c, func(ctx context.Context) (err error) {
		out, err = op.Call(ctx, c, in)
		return err
	})
	return out, err
}

// stirs is how long it takes, at least, until a daemon is asked again whether it is stuck.
const stirs = 5 * time.Second

// attend runs work, which may take as long as it likes, but ends it when the daemon does
// not even say what it is any more.
func (a *app) attend(ctx context.Context, c *control.Client, work func(context.Context) error) error {
	working, cancel := context.WithCancelCause(ctx)
	var g errgroup.Group
	g.Go(func() error {
		for working.Err() == nil {
			_, err := control.GetVersion.CallWithin(working, c, a.timeout, control.None{})
			if e, ok := errors.AsType[*control.Error](err); ok && e.Code == control.Timeout {
				cancel(e)
			}
			select {
			case <-working.Done():
			case <-time.After(stirs):
			}
		}
		return nil
	})
	err := work(working)
	late, _ := errors.AsType[*control.Error](context.Cause(working))
	cancel(nil)
	g.Wait() // its function returns nil
	if err != nil && late != nil {
		return late
	}
	return err
}

// soon is ask for what a daemon answers at once.
func soon[In, Out any](ctx context.Context, a *app, op control.Op[In, Out], in In) (Out, error) {
	c, err := a.client(ctx)
	if err != nil {
		var none Out
		return none, err
	}
	return op.CallWithin(ctx, c, a.timeout, in)
}

// print writes a result to stdout: v with --json, else what text writes, its
// tabs turned into columns.
func (a *app) print(v any, text func(w io.Writer)) error {
	if a.json {
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	text(w)
	return w.Flush()
}

// say writes a message to stderr.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// absolute makes a directory of the command line one the daemon understands:
// it works in another directory. Empty stays empty.
func absolute(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	if !utf8.ValidString(dir) {
		return "", control.Errorf(control.Usage, "the directory %q is not valid UTF-8", dir)
	}
	return filepath.Abs(dir)
}

// arg is the i-th argument, or nothing.
func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}
