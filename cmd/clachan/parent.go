package main

import (
	"context"
	"os"
	"time"
)

// orphaned returns when the process that started this one is gone, or ctx
// ends. PR_SET_PDEATHSIG would not do: it follows the thread of the parent
// that forked, and threads end while their process lives on.
func orphaned(ctx context.Context, parent int) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for os.Getppid() == parent {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
