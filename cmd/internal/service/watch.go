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
	startMost   = 30 * time.Minute
)

// A Watch tells systemd how the daemon is. Where there is no systemd, it tells nobody.
type Watch struct {
	log    *slog.Logger
	alive  func() error  // may block: what hangs is not alive. Set by Ready, as status
	status func() string // a line
	heard  bool          // somebody listens: set by Ready

	ready chan struct{}
	beat  func(state string) (bool, error) // daemon.SdNotify, but in tests
	limit time.Duration                    // the watchdog's, 0: none
}

// NewWatch makes a Watch of what systemd has set in the environment.
func NewWatch(log *slog.Logger) (*Watch, error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return &Watch{log: log, ready: make(chan struct{}), limit: limit,
		beat: func(state string) (bool, error) { return daemon.SdNotify(false, state) }}, nil
}

// tell sends a message, and says whether anybody is there to hear it. That it does not arrive
// must not end a daemon.
func (w *Watch) tell(state string) bool {
	heard, err := w.beat(state)
	if err != nil {
		w.log.Warn("systemd not told", "state", state, "err", err)
	}
	return heard || err != nil
}

// Ready says that the start is done, and how to ask after the daemon from now on. It is called once.
func (w *Watch) Ready(alive func() error, status func() string) {
	w.alive, w.status = alive, status
	w.heard = w.tell("STATUS=" + w.status() + "\n" + daemon.SdNotifyReady)
	close(w.ready)
}

// Reload says that settings are read again while fn does it. It comes after Ready.
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
	if w.extend(ctx) {
		var g errgroup.Group
		if w.heard {
			g.Go(func() error { w.line(ctx); return nil })
		}
		if w.limit > 0 {
			g.Go(func() error { w.dog(ctx); return nil })
		}
		g.Wait() // its functions return nil
	}
	w.tell(daemon.SdNotifyStopping)
	return nil
}

// extend asks for time until the start is done, since a store may have to be mended, or taken to a newer format, first; but not for ever. It says
// whether it is done.
func (w *Watch) extend(ctx context.Context) bool {
	tick := time.NewTicker(startExtend / 3)
	defer tick.Stop()
	for start := time.Now(); ; {
		if time.Since(start) < startMost {
			w.tell(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", startExtend.Microseconds()))
		}
		select {
		case <-ctx.Done():
			return false
		case <-w.ready:
			return true
		case <-tick.C:
		}
	}
}

// line keeps the status current.
func (w *Watch) line(ctx context.Context) {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s := w.status(); s != last {
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
			go func() { seen <- w.alive() }() // one at a time: it ends when what hangs does, or with the process
		}
		select {
		case <-ctx.Done():
			return
		case err := <-seen:
			took := time.Since(asked)
			asked = time.Time{}
			switch {
			case err != nil:
				w.log.Error("not alive", "err", err)
			case took <= w.limit/2:
				w.tell(daemon.SdNotifyWatchdog)
			default:
				w.log.Warn("slow to answer", "took", took)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		case <-tick.C:
			w.log.Warn("a mount or the store does not answer", "for", time.Since(asked).Round(time.Second))
		}
	}
}
