package main

import (
	"context"
	"fmt"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
)

const (
	progressAfter = time.Second            // what is quicker shows none
	progressPause = 500 * time.Millisecond // on a terminal
	progressLine  = 5 * time.Second        // elsewhere, with --progress
)

// progressFlags say whether long operations show how far they are.
type progressFlags struct{ on, off bool }

func (p *progressFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&p.on, "progress", false, "show how far it is, though stderr is no terminal")
	f.BoolVar(&p.off, "no-progress", false, "do not show how far it is")
}

// showsProgress decides whether to show it.
func (a *app) showsProgress() bool {
	return !a.bars.off && !a.quiet && (a.bars.on || isTerminal(a.stderr) && a.env("TERM") != "dumb")
}

// A progress is how far something is. Of what nobody knows the end of, total is 0.
type progress struct {
	what        string
	done, total uint64
	bytes       bool
	more        string
}

func (p progress) text(took time.Duration) string {
	size := func(n uint64) string {
		if p.bytes {
			return humanize.IBytes(n)
		}
		return humanize.Comma(int64(n))
	}
	s := p.what
	switch {
	case p.total > 0:
		s += fmt.Sprintf("  %s %d %%  %s of %s", bar(p.done, p.total), percent(p.done, p.total), size(p.done), size(p.total))
	case p.done > 0:
		s += "  " + size(p.done)
	}
	if p.more != "" {
		s += "  " + p.more
	}
	return s + fmt.Sprintf("  %.0f s", took.Seconds())
}

// during runs work, and shows meanwhile how far it is once that has lasted a second.
// Nothing of it stays on a terminal.
func during(ctx context.Context, a *app, at func(context.Context) (progress, error), work func(context.Context) error) error {
	if !a.showsProgress() {
		return work(ctx)
	}
	shown, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		a.showProgress(shown, at)
		return nil
	})
	err := work(ctx)
	cancel()
	g.Wait() // its function returns nil
	return err
}

// showProgress shows how far something is until ctx ends.
func (a *app) showProgress(ctx context.Context, at func(context.Context) (progress, error)) {
	start, terminal := time.Now(), isTerminal(a.stderr)
	width, _ := screen(a.stderr)
	next, shown := progressAfter, false
	for {
		select {
		case <-ctx.Done():
			if shown && terminal {
				fmt.Fprint(a.stderr, "\r\x1b[K")
			}
			return
		case <-time.After(next):
		}
		next = progressLine
		if terminal {
			next = progressPause
		}
		p, err := at(ctx)
		if err != nil { // the work itself will say what is wrong
			continue
		}
		text := line{{p.text(time.Since(start)), unpainted}}
		if shown = true; terminal {
			fmt.Fprint(a.stderr, "\r"+text.text(false, width-1)+"\x1b[K")
		} else {
			fmt.Fprintln(a.stderr, text.text(false, 0))
		}
	}
}

// inStatus tells of the progress of something that shows in the status of a folder, or
// of all.
func (a *app) inStatus(folder, what string, read func(p *progress, st control.Status)) func(context.Context) (progress, error) {
	return func(ctx context.Context) (progress, error) {
		st, err := soon(ctx, a, control.GetStatus, control.StatusRequest{Folder: folder})
		p := progress{what: what}
		if err == nil {
			read(&p, st)
		}
		return p, err
	}
}

// going tells only that something goes on.
func going(what string) func(context.Context) (progress, error) {
	return func(context.Context) (progress, error) { return progress{what: what}, nil }
}

// toCome tells how many bytes are here of those there should be.
func toCome(p *progress, st control.Status) {
	p.bytes = true
	var need uint64
	for _, f := range st.Folders {
		p.total += f.Bytes
		need += f.NeedBytes
	}
	p.done = p.total - min(p.total, need)
}

// toSave tells how many changes are not cut.
func toSave(p *progress, st control.Status) {
	var n uint64
	for _, f := range st.Folders {
		n += f.Pending
	}
	if n > 0 {
		p.more = count(n, "change", "changes") + " to be saved"
	}
}

// task tells of a task of the daemon.
func task(kind string) func(p *progress, st control.Status) {
	return func(p *progress, st control.Status) {
		for _, t := range st.Tasks {
			if t.Kind == kind {
				p.done, p.total, p.more = t.Done, t.Total, t.Unit
				if t.Folder != "" {
					p.more += " of " + legible(t.Folder)
				}
			}
		}
	}
}
