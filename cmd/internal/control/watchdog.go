package control

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// A watchdog ends a context when nothing was heard for long. It counts in steps, so that
// a program that was itself stopped, or starved, still looks at what came meanwhile: of
// all the steps it missed it counts one.
type watchdog struct {
	quiet  atomic.Int64 // steps
	over   atomic.Bool
	cancel context.CancelFunc
}

const watchSteps = 10

// watch starts a watchdog, which ends with the context, or when end is called.
func watch(ctx context.Context, limit time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watchdog{cancel: cancel}
	go w.count(ctx, max(limit/watchSteps, time.Nanosecond))
	return ctx, w
}

func (w *watchdog) count(ctx context.Context, step time.Duration) {
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if w.quiet.Add(1) >= watchSteps {
				w.over.Store(true)
				w.cancel()
				return
			}
		}
	}
}

func (w *watchdog) heard()     { w.quiet.Store(0) }
func (w *watchdog) rest()      { w.quiet.Store(math.MinInt64) } // until something is heard
func (w *watchdog) late() bool { return w.over.Load() }
func (w *watchdog) end()       { w.cancel() }
