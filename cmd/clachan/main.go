package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/cmd/internal/daemon"
)

// memoryLimit is what the heap is kept below where GOMEMLIMIT says nothing:
// a shared folder is a guest on the machine.
const memoryLimit = 208 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	os.Exit(run())
}

// run executes the command line and returns the exit code.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := newApp()
	if filepath.Base(os.Args[0]) == helperName {
		return a.helper(ctx, os.Args[1:])
	}
	err := newRoot(a).ExecuteContext(ctx)
	return a.exitCode(ctx, err)
}

// exitCode reports err on stderr, unless all has been said, and returns what
// the process exits with.
func (a *app) exitCode(ctx context.Context, err error) int {
	code := daemon.Code(err)
	switch {
	case err == nil:
		return int(control.OK)
	case !a.started: // cobra's own complaints: flags, arguments
		code = control.Usage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return int(control.Interrupt)
	case errors.Is(err, syscall.EPIPE): // who reads has had enough
		return int(control.OK)
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintf(a.stderr, "clachan: %s\n", strings.TrimSuffix(msg, "\n"))
	}
	return int(code)
}
