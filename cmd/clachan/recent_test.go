package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/cmd/internal/config"
)

func TestTheLastOfTheLogIsKeptWithoutNames(t *testing.T) {
	l := newLogger(os.NewFile(^uintptr(0), "nowhere"), config.Log{Level: "error", Names: true}, slog.LevelInfo, false, func(string) string { return "" })
	for i := range recentLines {
		l.Info(fmt.Sprintf("line %d", i))
	}
	l.Warn("last", "path", "secret.txt", "folder", "notes")
	l.Error("long", "what", strings.Repeat("x", 2*recentLine))
	l.Debug("not kept")
	lines := strings.Split(string(l.last.text()), "\n")
	if n := len(lines) - 1; n != recentLines {
		t.Fatalf("%d lines are kept", n)
	}
	if !strings.HasSuffix(lines[0], "line 2") || !strings.HasSuffix(lines[recentLines-2], "last folder=notes") || len(lines[recentLines-1]) > recentLine {
		t.Errorf("from %q to %q", lines[0], lines[recentLines-2])
	}
}
