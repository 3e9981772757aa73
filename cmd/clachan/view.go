package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"golang.org/x/sync/errgroup"
)

const (
	viewPause = 500 * time.Millisecond // between two looks, at least
	viewIdle  = 5 * time.Second        // and at most, where nothing is said to happen: what was a minute ago is two minutes ago
)

// A view shows the status again and again: in place on a terminal, elsewhere what has
// changed.
type view struct {
	app    *app
	client *control.Client
	folder string // empty: all

	lines int // on the terminal, to be written over
	last  string
	said  map[string]string // of each folder, without a terminal
}

func (v *view) fetch(ctx context.Context) (control.Status, error) {
	return control.GetStatus.CallWithin(ctx, v.client, v.app.timeout, control.StatusRequest{Folder: v.folder})
}

// moves tells whether bytes are on their way, of which no event tells.
func (v *view) moves(st control.Status) bool {
	for _, f := range st.Folders {
		if f.NeedBytes > 0 {
			return true
		}
	}
	return false
}

// run shows the status until ctx ends, which is no error, or the daemon stops.
func (v *view) run(ctx context.Context) error {
	return follow(ctx, v.client, func(ctx context.Context) (busy bool, err error) {
		st, err := v.fetch(ctx)
		if err != nil {
			return false, err
		}
		return v.moves(st), v.show(st)
	})
}

// follow calls look when something happens, and now and then, at most twice in a second,
// until ctx ends, which is no error. While busy it looks all the time.
func follow(ctx context.Context, client *control.Client, look func(context.Context) (busy bool, err error)) error {
	news := make(chan struct{}, 1)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return client.Events(gctx, nil, nil, func(control.Event) error {
			select {
			case news <- struct{}{}:
			default:
			}
			return nil
		})
	})
	g.Go(func() error {
		for {
			busy, err := look(gctx)
			if err != nil {
				return err
			}
			pause, idle := time.After(viewPause), time.After(viewIdle)
			select {
			case <-gctx.Done():
				return gctx.Err()
			case <-pause:
			}
			if busy {
				continue
			}
			select {
			case <-gctx.Done():
				return gctx.Err()
			case <-news:
			case <-idle:
			}
		}
	})
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// wait returns when ctx ends, which is no error, or the daemon stops.
func (v *view) wait(ctx context.Context) error {
	err := v.client.Events(ctx, nil, nil, func(control.Event) error { return nil })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (v *view) show(st control.Status) error {
	switch {
	case v.app.json:
		return v.showJSON(st)
	case !v.inPlace():
		return v.showChanges(st)
	}
	width, height := screen(v.app.stdout)
	lines := statusLines(st, time.Now(), width)
	if height > 1 && len(lines) >= height {
		lines = append(lines[:height-2:height-2], line{{"… (enlarge the window to see all)", dim}})
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text(v.app.colours(v.app.stdout), width) + "\x1b[K\n")
	}
	if b.String() == v.last {
		return nil
	}
	up := ""
	if v.lines > 0 {
		up = fmt.Sprintf("\x1b[%dA", v.lines)
	}
	v.last, v.lines = b.String(), len(lines)
	_, err := fmt.Fprint(v.app.stdout, up+v.last+"\x1b[J")
	return err
}

func (v *view) inPlace() bool {
	return isTerminal(v.app.stdout) && v.app.env("TERM") != "dumb"
}

// showJSON writes the status as a line, unless only counters have moved.
func (v *view) showJSON(st control.Status) error {
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	for i := range st.Folders {
		st.Folders[i].Rate = 0
	}
	peers := st.Peers
	st.Peers, st.Operations = nil, nil
	for _, p := range peers {
		st.Peers = append(st.Peers, control.PeerStatus{ID: p.ID, Online: p.Online, Path: p.Path, Folders: p.Folders})
	}
	still, err := json.Marshal(st)
	if err != nil || string(still) == v.last {
		return err
	}
	v.last = string(still)
	_, err = fmt.Fprintf(v.app.stdout, "%s\n", text)
	return err
}

// showChanges writes a line for each folder that is otherwise than before.
func (v *view) showChanges(st control.Status) error {
	if v.said == nil {
		v.said = map[string]string{}
	}
	for _, f := range st.Folders {
		still := f
		still.Rate = 0
		text := line{{legible(f.Name) + "  ", unpainted}}
		head := headLine(still)
		columns([]line{head})
		text = append(text, head...)
		for _, s := range why(still, st.Peers, time.Now()) {
			text = append(text, cell{"  " + s, unpainted})
		}
		if s := text.text(false, 0); s != v.said[f.ID] {
			v.said[f.ID] = s
			if _, err := fmt.Fprintf(v.app.stdout, "%s  %s\n", time.Now().Format(time.TimeOnly), s); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes lines to stdout, cut to its width if it is a terminal.
func (a *app) write(lines []line) error {
	width := a.width()
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text(a.colours(a.stdout), width) + "\n")
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// width is that of the terminal that is written to; 0: none is.
func (a *app) width() (n int) {
	if isTerminal(a.stdout) {
		n, _ = screen(a.stdout)
	}
	return n
}
