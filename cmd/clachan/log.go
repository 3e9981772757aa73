package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/config"
)

// A logger is the log of the daemon, whose level may change and whether it names files.
type logger struct {
	*slog.Logger
	floor slog.Level
	debug bool // whatever the settings say
	level slog.LevelVar
	names atomic.Bool
	last  recent // without names, whatever the settings say
}

// apply takes over what may change while the log is used.
func (l *logger) apply(conf config.Log) {
	level, err := conf.Threshold()
	if err != nil {
		level = slog.LevelInfo // validated before; a log must come about all the same
	}
	level = max(level, l.floor)
	if l.debug {
		level = slog.LevelDebug
	}
	l.level.Set(level)
	l.names.Store(conf.Names)
}

// newLogger makes the log of the daemon on f: for the journal where stderr is
// one, coloured on a terminal, else plain; JSON if asked for.
func newLogger(f *os.File, conf config.Log, floor slog.Level, verbose bool, env config.Env) *logger {
	l := &logger{floor: floor, debug: verbose}
	l.apply(conf)
	var h slog.Handler
	switch {
	case conf.Format == "json":
		h = slog.NewJSONHandler(f, &slog.HandlerOptions{Level: &l.level})
	case conf.Format == "auto" && isJournal(f, env("JOURNAL_STREAM")):
		h = newLines(f, &l.level, journalPrefix)
	case isTerminal(f) && env("NO_COLOR") == "" && env("TERM") != "dumb":
		h = newLines(f, &l.level, colourPrefix)
	default:
		h = newLines(f, &l.level, plainPrefix)
	}
	kept := newLines(&l.last, slog.LevelInfo, plainPrefix)
	l.Logger = slog.New(slog.NewMultiHandler(newFilter(h, &l.names), newFilter(kept, new(atomic.Bool))))
	return l
}

// isJournal reports whether f is the stream the service manager named.
func isJournal(f *os.File, stream string) bool {
	var dev, ino uint64
	if _, err := fmt.Sscanf(stream, "%d:%d", &dev, &ino); err != nil {
		return false
	}
	st, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && uint64(sys.Dev) == dev && sys.Ino == ino
}

// newLines is a text handler whose lines begin with what prefix makes of level
// and time, in place of slog's own keys for them.
func newLines(w io.Writer, level slog.Leveler, prefix func(slog.Level, time.Time) string) slog.Handler {
	l := &lines{w: w, prefix: prefix}
	l.Handler = slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: dropHead})
	return l
}

func dropHead(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// lines is slog's text handler with another head of the line.
type lines struct {
	slog.Handler
	w      io.Writer
	prefix func(slog.Level, time.Time) string

	mu   sync.Mutex // guards head and orders lines
	head string
}

func (l *lines) Handle(ctx context.Context, r slog.Record) error {
	return l.handle(ctx, l.Handler, r)
}

func (l *lines) handle(ctx context.Context, h slog.Handler, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = l.prefix(r.Level, r.Time) + r.Message
	return h.Handle(ctx, r)
}

// Write gets the attributes of one record from the text handler.
func (l *lines) Write(p []byte) (int, error) {
	line := l.head + "\n"
	if len(p) > 1 {
		line = l.head + " " + string(p)
	}
	if _, err := io.WriteString(l.w, line); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &derived{l, l.Handler.WithAttrs(attrs)}
}

func (l *lines) WithGroup(name string) slog.Handler { return &derived{l, l.Handler.WithGroup(name)} }

// derived is lines with attributes.
type derived struct {
	lines *lines
	next  slog.Handler
}

func (d *derived) Enabled(ctx context.Context, l slog.Level) bool { return d.next.Enabled(ctx, l) }

func (d *derived) Handle(ctx context.Context, r slog.Record) error {
	return d.lines.handle(ctx, d.next, r)
}

func (d *derived) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &derived{d.lines, d.next.WithAttrs(attrs)}
}

func (d *derived) WithGroup(name string) slog.Handler {
	return &derived{d.lines, d.next.WithGroup(name)}
}

// journalPrefix is the syslog level; the journal knows the time.
func journalPrefix(l slog.Level, _ time.Time) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

func colourPrefix(l slog.Level, t time.Time) string {
	colour := "2" // faint
	switch {
	case l >= slog.LevelError:
		colour = "31"
	case l >= slog.LevelWarn:
		colour = "33"
	case l >= slog.LevelInfo:
		colour = "36"
	}
	return fmt.Sprintf("\x1b[%sm%s %-5s\x1b[0m ", colour, t.Format(time.TimeOnly), l)
}

func plainPrefix(l slog.Level, t time.Time) string {
	return fmt.Sprintf("%s %-5s ", t.UTC().Format("2006-01-02T15:04:05.000Z"), l)
}

// filter keeps file names out of lines above debug, unless they are wanted,
// and what repeats itself within bounds.
type filter struct {
	next  slog.Handler
	names *atomic.Bool
	seen  *repeats
}

func newFilter(next slog.Handler, names *atomic.Bool) *filter {
	return &filter{next: next, names: names, seen: &repeats{now: time.Now, lines: map[string]*repeat{}}}
}

func (f *filter) Enabled(ctx context.Context, l slog.Level) bool { return f.next.Enabled(ctx, l) }

func (f *filter) Handle(ctx context.Context, r slog.Record) error {
	more, ok := f.seen.admit(r)
	if !ok {
		return nil
	}
	if f.names.Load() || r.Level <= slog.LevelDebug {
		return f.next.Handle(ctx, r)
	}
	clean := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(nameless(a))
		return true
	})
	if more > 0 {
		clean.AddAttrs(slog.Int("left_out", more))
	}
	return f.next.Handle(ctx, clean)
}

func (f *filter) WithAttrs(attrs []slog.Attr) slog.Handler {
	kept := attrs
	if !f.names.Load() {
		kept = nil
		for _, a := range attrs {
			kept = append(kept, nameless(a))
		}
	}
	return &filter{f.next.WithAttrs(kept), f.names, f.seen}
}

func (f *filter) WithGroup(name string) slog.Handler {
	return &filter{f.next.WithGroup(name), f.names, f.seen}
}

// One message may fill repeatBurst lines in repeatSpan.
const (
	repeatBurst = 20
	repeatSpan  = 10 * time.Second
	repeatKinds = 1000 // remembered at once
)

// repeats counts how often each message was logged lately.
type repeats struct {
	now   func() time.Time
	mu    sync.Mutex // guards lines
	lines map[string]*repeat
}

type repeat struct {
	since       time.Time
	seen, muted int
}

// admit reports whether r may be logged, and how many like it were not.
func (s *repeats) admit(r slog.Record) (muted int, ok bool) {
	if r.Level <= slog.LevelDebug {
		return 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	n := s.lines[r.Message]
	if n == nil || now.Sub(n.since) >= repeatSpan {
		if n != nil {
			muted = n.muted
		}
		if len(s.lines) >= repeatKinds {
			clear(s.lines)
		}
		n = &repeat{since: now}
		s.lines[r.Message] = n
	}
	n.seen++
	if n.seen > repeatBurst {
		n.muted++
		return 0, false
	}
	return muted, true
}
