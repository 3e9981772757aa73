package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/config"
)

// logged is what a logger with these settings writes.
func logged(t *testing.T, conf config.Log, env map[string]string, use func(*slog.Logger)) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if env["JOURNAL_STREAM"] == "this" {
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		sys := st.Sys().(*syscall.Stat_t)
		env["JOURNAL_STREAM"] = fmt.Sprintf("%d:%d", sys.Dev, sys.Ino)
	}
	use(newLogger(f, conf, slog.LevelDebug, false, func(k string) string { return env[k] }).Logger)
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFileNamesStayOutOfTheLog(t *testing.T) {
	use := func(l *slog.Logger) {
		l.Info("pulled", "folder", "notes", "path", "secret.txt")
		l.With("path", "secret.txt").Warn("slow")
		l.Debug("looked at", "path", "plain.txt")
	}
	got := logged(t, config.Log{Level: "debug", Format: "auto"}, nil, use)
	if strings.Contains(got, "secret") || !strings.Contains(got, "folder=notes") || !strings.Contains(got, "path=plain.txt") {
		t.Errorf("log:\n%s", got)
	}
	got = logged(t, config.Log{Level: "info", Format: "auto", Names: true}, nil, use)
	if strings.Count(got, "secret.txt") != 2 || strings.Contains(got, "plain") {
		t.Errorf("log with names:\n%s", got)
	}
}

func TestJournalGetsLevelsAndNoTimes(t *testing.T) {
	env := map[string]string{"JOURNAL_STREAM": "this"}
	got := logged(t, config.Log{Level: "debug", Format: "auto"}, env, func(l *slog.Logger) {
		l.Error("a")
		l.Warn("b", "k", 1)
		l.With("x", "y").Info("c")
		l.Debug("d")
	})
	if want := "<3>a\n<4>b k=1\n<6>c x=y\n<7>d\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJSONLog(t *testing.T) {
	got := logged(t, config.Log{Level: "info", Format: "json"}, nil, func(l *slog.Logger) { l.Info("hello", "n", 1) })
	if !strings.HasPrefix(got, "{") || !strings.Contains(got, `"msg":"hello","n":1`) {
		t.Errorf("got %s", got)
	}
}

func TestRepeatsAreBounded(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	seen := &repeats{now: func() time.Time { return now }, lines: map[string]*repeat{}}
	l := slog.New(&filter{next: newLines(&b, slog.LevelInfo, journalPrefix), names: new(atomic.Bool), seen: seen})
	for range 3 * repeatBurst {
		l.Warn("again")
	}
	l.Warn("other")
	if n := strings.Count(b.String(), "again"); n != repeatBurst {
		t.Errorf("%d lines, want %d", n, repeatBurst)
	}
	now = now.Add(repeatSpan)
	b.Reset()
	l.Warn("again")
	if want := fmt.Sprintf("<4>again left_out=%d\n", 2*repeatBurst); b.String() != want {
		t.Errorf("afterwards %q, want %q", b.String(), want)
	}
}

// told is an error that has a text of its own for logs.
type told struct{}

func (told) Error() string    { return "there is secret.txt" }
func (told) Nameless() string { return "there is something" }

func TestErrorsInTheLogNameNoFiles(t *testing.T) {
	path := &fs.PathError{Op: "open", Path: "/home/ana/secret.txt", Err: syscall.EACCES}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "plain"},
		{path, "open …: permission denied"},
		{fmt.Errorf("take in: %w", path), "take in: open …: permission denied"},
		{fmt.Errorf("a: %w; b: %w", path, io.EOF), "a: open …: permission denied; b: EOF"},
		{errors.Join(io.EOF, fmt.Errorf("x: %w", path)), "EOF\nx: open …: permission denied"},
		{&os.LinkError{Op: "rename", Old: "secret.txt", New: "secret.txt~", Err: syscall.EXDEV}, "rename … …: invalid cross-device link"},
		{&fs.PathError{Op: "outer", Path: "secret.txt", Err: path}, "outer …: open …: permission denied"},
		{&fs.PathError{Op: "read", Path: "a", Err: errors.New("a a")}, "read …: a a"},
		{fmt.Errorf("mount: %w", told{}), "mount: there is something"},
		{otherWords{path}, "open …: permission denied"},
	} {
		if got := withoutNames(tt.err); got != tt.want {
			t.Errorf("%q became %q, want %q", tt.err, got, tt.want)
		}
		for _, names := range []bool{false, true} {
			got := logged(t, config.Log{Level: "info", Format: "json", Names: names}, nil, func(l *slog.Logger) {
				l.Warn("x", "err", tt.err)
				l.With("err", tt.err).Warn("y")
				l.Warn("z", slog.Group("g", "err", tt.err, "path", "secret.txt"))
			})
			if has := strings.Contains(got, "secret"); has != names {
				t.Errorf("with names %v: %s", names, got)
			}
		}
	}
}

// otherWords wraps an error and tells of it in its own words.
type otherWords struct{ error }

func (o otherWords) Error() string { return "cannot open secret.txt" }
func (o otherWords) Unwrap() error { return o.error }
