package service

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// How often systemd is told how things are.
const (
	statusEvery = 10 * time.Second
	startExtend = 30 * time.Second // of a start that goes on, every third of it
)

// A Watch tells systemd how the daemon is. Where there is no systemd, it tells nobody.
type Watch struct {
	Alive  func() error  // may block: what hangs is not alive
	Status func() string // a line
	Log    *slog.Logger

	ready chan struct{}
	beat  func(state string) (bool, error) // daemon.SdNotify, but in tests
	limit time.Duration                    // the watchdog's, 0: none
}

// NewWatch makes a Watch of what systemd has set in the environment.
func NewWatch(alive func() error, status func() string, log *slog.Logger) (*Watch, error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return &Watch{Alive: alive, Status: status, Log: log, ready: make(chan struct{}), limit: limit,
		beat: func(state string) (bool, error) { return daemon.SdNotify(false, state) }}, nil
}

// tell sends a message. That it does not arrive must not end a daemon.
func (w *Watch) tell(state string) {
	if _, err := w.beat(state); err != nil {
		w.Log.Warn("systemd not told", "state", state, "err", err)
	}
}

// Ready says that the start is done. It is called once.
func (w *Watch) Ready() {
	w.tell("STATUS=" + w.Status() + "\n" + daemon.SdNotifyReady)
	close(w.ready)
}

// Reload says that settings are read again while fn does it.
func (w *Watch) Reload(fn func()) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err == nil {
		w.tell(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, ts.Nano()/1000))
	}
	fn()
	w.tell(daemon.SdNotifyReady)
}

// Run tells how the daemon is until ctx ends, and then that it stops.
func (w *Watch) Run(ctx context.Context) error {
	w.extend(ctx)
	var g errgroup.Group
	g.Go(func() error { w.status(ctx); return nil })
	if w.limit > 0 {
		g.Go(func() error { w.dog(ctx); return nil })
	}
	g.Wait() // its functions return nil
	w.tell(daemon.SdNotifyStopping)
	return nil
}

// extend asks for time until the start is done: a store may have to be mended first.
func (w *Watch) extend(ctx context.Context) {
	tick := time.NewTicker(startExtend / 3)
	defer tick.Stop()
	for {
		w.tell(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", startExtend.Microseconds()))
		select {
		case <-ctx.Done():
			return
		case <-w.ready:
			return
		case <-tick.C:
		}
	}
}

// status keeps the line current.
func (w *Watch) status(ctx context.Context) {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s := w.Status(); s != last {
			w.tell("STATUS=" + s)
			last = s
		}
	}
}

// dog says that the daemon lives whenever it has been seen to, four times within the limit.
func (w *Watch) dog(ctx context.Context) {
	tick := time.NewTicker(w.limit / 4)
	defer tick.Stop()
	seen := make(chan error, 1)
	asked := time.Time{} // zero: nobody asks
	for {
		if asked.IsZero() {
			asked = time.Now()
			go func() { seen <- w.Alive() }() // one at a time: it ends when what hangs does, or with the process
		}
		select {
		case <-ctx.Done():
			return
		case err := <-seen:
			took := time.Since(asked)
			asked = time.Time{}
			switch {
			case err != nil:
				w.Log.Error("not alive", "err", err)
			case took <= w.limit/2:
				w.tell(daemon.SdNotifyWatchdog)
			default:
				w.Log.Warn("slow to answer", "took", took)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		case <-tick.C:
			w.Log.Warn("a mount or the store does not answer", "for", time.Since(asked).Round(time.Second))
		}
	}
}
