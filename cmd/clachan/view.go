package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"golang.org/x/term"
)

// A view shows the status again and again: in place on a terminal, elsewhere
// each time it changes.
type view struct {
	app    *app
	client *control.Client
	folder string // empty: all

	lines int // on the terminal, to be written over
	last  string
}

func (v *view) fetch(ctx context.Context) (control.Status, error) {
	return control.GetStatus.Call(ctx, v.client, control.StatusRequest{Folder: v.folder})
}

// run shows the status until ctx ends, which is no error, or the daemon stops.
func (v *view) run(ctx context.Context) error {
	period := 2 * time.Second
	if isTerminal(v.app.stdout) {
		period = 500 * time.Millisecond
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		st, err := v.fetch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := v.show(st); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// wait returns when ctx ends, which is no error, or the daemon stops.
func (v *view) wait(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := control.GetID.Call(ctx, v.client, control.None{}); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (v *view) show(st control.Status) error {
	text := statusText(st, time.Now())
	if v.app.json {
		line, err := json.Marshal(st)
		if err != nil {
			return err
		}
		text = string(line) + "\n"
	}
	if text == v.last {
		return nil
	}
	v.last = text
	out := text
	if isTerminal(v.app.stdout) && !v.app.json {
		out = v.inPlace(text)
	}
	_, err := fmt.Fprint(v.app.stdout, out)
	return err
}

// inPlace is text with what moves the cursor back over the one before. Lines
// are cut to the width of the terminal: a wrapped one would be two.
func (v *view) inPlace(text string) string {
	width, _, err := term.GetSize(int(v.app.stdout.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	var b strings.Builder
	if v.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.lines)
	}
	b.WriteString("\x1b[J")
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for _, line := range lines {
		if r := []rune(line); len(r) >= width {
			line = string(r[:width-1])
		}
		b.WriteString(line + "\n")
	}
	v.lines = len(lines)
	return b.String()
}
