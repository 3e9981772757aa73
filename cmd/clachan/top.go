package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func newTop(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "top",
		Short: "Watch folders, transfers and members on the whole screen",
		Long: `Show on the whole screen, twice in a second: what comes and goes in all, how much
programs ask of the mounts and how long that takes, the folders and how far they are, the members and how fast each is, and the files that
are on this machine only. q or Ctrl-C ends it.

Without a terminal the totals are written as a line, twice in a second while
something happens; with --json the status, as status --watch --json does.`,
		Example: "  clachan top",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client(c.Context())
			if err != nil {
				return err
			}
			v := view{app: a, client: cl}
			switch {
			case a.json:
				return v.run(c.Context())
			case !v.inPlace() || !isTerminal(a.stdin):
				return v.totals(c.Context())
			}
			return v.top(c.Context())
		},
	}
}

// totals writes a line of totals each time they change.
func (v *view) totals(ctx context.Context) error {
	last := ""
	return follow(ctx, v.client, func(ctx context.Context) (bool, error) {
		st, err := v.fetch(ctx)
		if err != nil {
			return false, err
		}
		text := ""
		for _, l := range totals(st) {
			text += "  " + l.text(false, 0)
		}
		if text == last {
			return v.moves(st), nil
		}
		last = text
		_, err = fmt.Fprintf(v.app.stdout, "%s%s\n", time.Now().Format(time.TimeOnly), text)
		return v.moves(st), err
	})
}

// top shows all of it on a screen of its own, which it leaves as it was.
func (v *view) top(ctx context.Context) error {
	was, err := term.MakeRaw(int(v.app.stdin.Fd()))
	if err != nil {
		return fmt.Errorf("top: %w", err)
	}
	fmt.Fprint(v.app.stdout, "\x1b[?1049h\x1b[?25l")
	defer func() {
		fmt.Fprint(v.app.stdout, "\x1b[?25h\x1b[?1049l")
		_ = term.Restore(int(v.app.stdin.Fd()), was) // the terminal is gone, or as it was
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer cancel()
		return untilQuit(gctx, v.app.stdin)
	})
	g.Go(func() error {
		defer cancel()
		return v.redraw(gctx)
	})
	return g.Wait()
}

// untilQuit reads keys until q or Ctrl-C, or ctx ends.
func untilQuit(ctx context.Context, f *os.File) error {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	var keys [64]byte
	for ctx.Err() == nil {
		n, err := unix.Poll(fds, 100) // ms: a read of a terminal cannot be broken off
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("top: %w", err)
		}
		if n <= 0 {
			continue
		}
		n, err = f.Read(keys[:])
		if err != nil || strings.ContainsAny(string(keys[:n]), "qQ\x03\x04") {
			return nil
		}
	}
	return nil
}

// redraw draws the screen until ctx ends. Rates are of two looks, so it looks all the time.
func (v *view) redraw(ctx context.Context) error {
	tick := time.NewTicker(viewPause)
	defer tick.Stop()
	p := v.app.colours(v.app.stdout)
	for {
		st, err := v.fetch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		width, height := screen(v.app.stdout)
		var b strings.Builder
		b.WriteString("\x1b[H")
		for i, l := range topLines(st, time.Now(), width, height) {
			if i > 0 {
				b.WriteString("\r\n")
			}
			b.WriteString(l.text(p, width) + "\x1b[K")
		}
		b.WriteString("\x1b[J")
		if _, err := fmt.Fprint(v.app.stdout, b.String()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// totals is how everything is, and what is to be done yet if something is.
func totals(st control.Status) (lines []line) {
	var files, bytes, need, only, in, out uint64
	online, least := 0, ""
	for _, f := range st.Folders {
		if f.OnlyHereMore {
			least = "at least "
		}
		files, bytes, need, only = files+f.Files, bytes+f.Bytes, need+f.NeedBytes, only+f.OnlyHere
	}
	for _, p := range st.Peers {
		in, out = in+p.ReceivedRate, out+p.SentRate
		if p.Online {
			online++
		}
	}
	lines = []line{{{fmt.Sprintf("%s, %s   in %s/s   out %s/s   %d of %s connected", count(files, "file", "files"), humanize.IBytes(bytes),
		humanize.IBytes(in), humanize.IBytes(out), online, count(uint64(len(st.Peers)), "member", "members")), unpainted}}}
	var todo []string
	if need > 0 {
		todo = append(todo, humanize.IBytes(need)+" to come")
	}
	if only > 0 {
		todo = append(todo, least+count(only, "file", "files")+" on this machine only")
	}
	if len(todo) > 0 {
		lines = append(lines, line{{strings.Join(todo, "   "), yellow}})
	}
	return lines
}

// topLines fills a screen. What does not fit is counted.
func topLines(st control.Status, now time.Time, width, height int) (out []line) {
	right := now.Format(time.TimeOnly) + "  q quits"
	title := runewidth.Truncate("clachan on "+legible(st.Device), max(0, width-len(right)-1), "…")
	out = append(out, line{{runewidth.FillRight(title, max(0, width-len(right))), strong}, {right, dim}})
	out = append(out, totals(st)...)
	if st.Operations != nil {
		out = append(out, operationsLine(*st.Operations))
	}
	out = append(out, nil)
	folders, members, only := topFolders(st, width), topMembers(st, now), topOnlyHere(st)
	rows := height - len(out) - 5 // headings and empty lines
	each := max(2, rows/3)
	spare := max(0, each-len(members)) + max(0, each-len(only))
	out = append(out, section("FOLDERS", folders, each+spare)...)
	spare = max(0, rows-min(len(folders), each+spare)-min(len(only), each))
	out = append(out, section("MEMBERS", members, max(each, spare))...)
	out = append(out, section("ONLY HERE", only, each)...)
	return out[:min(len(out), max(1, height))]
}

// operationsLine is how busy the mounts are.
func operationsLine(o control.Operations) line {
	text := fmt.Sprintf("FUSE  %s ops/s", humanize.Comma(int64(o.Rate)))
	if o.P50 != nil && o.P99 != nil {
		text += fmt.Sprintf("   p50 %s   p99 %s", millis(*o.P50), millis(*o.P99))
	}
	return line{{text, unpainted}}
}

// millis is a time that is known roughly.
func millis(ms float64) string {
	if ms < 1 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// section is a heading and at most n lines.
func section(title string, lines []line, n int) (out []line) {
	if len(lines) == 0 {
		return nil
	}
	out = append(out, line{{title, dim}})
	if len(lines) > n {
		rest := len(lines) - n + 1
		lines = append(lines[:n-1:n-1], line{{fmt.Sprintf("… and %d more", rest), dim}})
	}
	return append(append(out, lines...), nil)
}

func topFolders(st control.Status, width int) (rows []line) {
	barWidth := max(4, min(20, width-66))
	for _, f := range st.Folders {
		have := f.Bytes - min(f.Bytes, f.NeedBytes)
		share := percent(have, f.Bytes)
		if f.NeedBytes == 0 {
			have, share = f.Bytes, 100
		}
		how := ""
		if f.NeedBytes > 0 && f.Rate > 0 {
			how = fmt.Sprintf("%s/s  %s", humanize.IBytes(f.Rate), about(time.Duration(float64(f.NeedBytes)/float64(f.Rate)*float64(time.Second))))
		}
		drawn := barOf(have, f.Bytes, barWidth)
		if f.NeedBytes == 0 {
			drawn = barOf(1, 1, barWidth)
		}
		rows = append(rows, line{{runewidth.Truncate(legible(f.Name), nameWidth, "…"), strong}, {stateWord(f), statePaint(f.State)},
			{fmt.Sprintf("%s %3d %%", drawn, share), unpainted}, {humanize.IBytes(f.Bytes), unpainted}, {how, unpainted}})
	}
	columns(rows)
	return rows
}

func topMembers(st control.Status, now time.Time) (rows []line) {
	for _, p := range st.Peers {
		l := memberLine(p, now)[:3]
		l[0].text = runewidth.Truncate(l[0].text, nameWidth, "…")
		if p.Online {
			l = append(l, cell{fmt.Sprintf("in %s/s", humanize.IBytes(p.ReceivedRate)), unpainted}, cell{fmt.Sprintf("out %s/s", humanize.IBytes(p.SentRate)), unpainted})
		}
		rows = append(rows, l)
	}
	columns(rows)
	return rows
}

func topOnlyHere(st control.Status) (rows []line) {
	for _, f := range st.Folders {
		if f.OnlyHere > 0 {
			text := onItsWay(f)
			if !f.OnlyHereMore {
				text = count(f.OnlyHere, "file", "files") + onlyHereNames(f) + waitingWords(f.WaitingFor)
			}
			rows = append(rows, line{{runewidth.Truncate(legible(f.Name), nameWidth, "…"), strong}, {text, unpainted}})
		}
	}
	columns(rows)
	return rows
}
