package peers

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var trustNow = time.Unix(1_800_000_000, 0)

func TestWindowGrowsWhileAnswersAreQuick(t *testing.T) {
	w := newWindow()
	const n = 128 << 10
	fillUp := func() (count int) {
		for w.used+n <= w.size {
			if err := w.acquire(t.Context(), n, Normal); err != nil {
				t.Fatal(err)
			}
			count++
		}
		return count
	}
	for range 200 {
		for range fillUp() {
			w.release(n, 10*time.Millisecond, gotBlock)
		}
	}
	if w.size < 4<<20 || w.size > windowMax || w.used != 0 {
		t.Errorf("window of %d bytes, %d used", w.size, w.used)
	}
	for range 500 { // answers queue
		for range fillUp() {
			w.release(n, time.Second, gotBlock)
		}
	}
	if w.size != windowMin {
		t.Errorf("window of %d bytes although answers queue", w.size)
	}
	w.size = 8 << 20
	if err := w.acquire(t.Context(), n, Normal); err != nil {
		t.Fatal(err)
	}
	if w.release(n, time.Second, gotLost); w.size != 4<<20 {
		t.Errorf("window of %d bytes after a loss", w.size)
	}
}

func TestWindowServesTheUrgentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow()
		if err := w.acquire(t.Context(), windowStart, Normal); err != nil {
			t.Fatal(err)
		}
		var order []Class
		for _, class := range []Class{Background, Normal} {
			go func() {
				if err := w.acquire(t.Context(), windowStart, class); err != nil {
					t.Error(err)
				}
				order = append(order, class)
			}()
			synctest.Wait()
		}
		if err := w.acquire(t.Context(), windowStart, Waiting); err != nil { // at once, over the bound
			t.Fatal(err)
		}
		for range 4 {
			w.release(windowStart, time.Millisecond, gotNone)
			synctest.Wait()
		}
		if len(order) != 2 || order[0] != Normal || w.used != 0 || w.queued != 0 {
			t.Errorf("order %v, %d used, %d queued", order, w.used, w.queued)
		}
	})
}

func TestWindowForgetsWhoGivesUp(t *testing.T) {
	w := newWindow()
	if err := w.acquire(t.Context(), windowStart, Normal); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.acquire(ctx, 1000, Normal); !errors.Is(err, context.Canceled) {
		t.Fatalf("acquire: %v", err)
	}
	if w.queued != 0 || len(w.waiters[Normal]) != 0 || w.used != windowStart {
		t.Errorf("%d queued, %d used", w.queued, w.used)
	}
	// A request larger than the window passes when nothing else is asked.
	w.release(windowStart, time.Millisecond, gotNone)
	if err := w.acquire(t.Context(), windowMax*2, Normal); err != nil {
		t.Fatal(err)
	}
}
