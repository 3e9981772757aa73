package peers

import (
	"context"
	"sync"
	"time"
)

const (
	windowStart = 512 << 10
	windowMin   = 512 << 10
	windowMax   = 16 << 20
	// The quickest answer stands for one to two of these.
	baseSpan = 30 * time.Second
)

// A window bounds the bytes asked of one peer and not answered yet, and
// measures how fast it answers.
type window struct {
	mu      sync.Mutex // guards all below
	size    int64      // the bound
	used    int64      // asked for
	queued  int64      // waiting for room
	waiters [classes][]*waiter
	rate    float64       // bytes a second, smoothed
	base    time.Duration // the shortest answer of this span of time
	last    time.Duration // and of the one before
	since   time.Time     // when this span began
	noHave  float64       // share of answers that were no block, smoothed
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when n is taken for it
}

func newWindow() *window { return &window{size: windowStart} }

// acquire takes room for n bytes. Who waits for a block takes it over the
// bound; the others wait in order of class.
func (w *window) acquire(ctx context.Context, n int64, class Class) error {
	w.mu.Lock()
	if class == Waiting || w.used+n <= w.size && w.queued == 0 || w.used == 0 {
		w.used += n
		w.mu.Unlock()
		return nil
	}
	q := &waiter{n, make(chan struct{})}
	w.waiters[class] = append(w.waiters[class], q)
	w.queued += n
	w.mu.Unlock()
	select {
	case <-q.ready:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-q.ready: // just now
		w.used -= n
		w.admit()
	default:
		w.queued -= n
		list := w.waiters[class]
		for i := range list {
			if list[i] == q {
				w.waiters[class] = append(list[:i], list[i+1:]...)
				break
			}
		}
	}
	return ctx.Err()
}

// admit lets waiters in while there is room.
func (w *window) admit() {
	for c := range w.waiters {
		for len(w.waiters[c]) > 0 {
			q := w.waiters[c][0]
			if w.used > 0 && w.used+q.n > w.size {
				return
			}
			w.waiters[c] = w.waiters[c][1:]
			w.used += q.n
			w.queued -= q.n
			close(q.ready)
		}
	}
}

// An outcome is how a request ended.
type outcome uint8

const (
	gotBlock outcome = iota
	gotNone          // answered, without a block
	gotLost          // no answer
)

// release gives the room for n bytes back after a request took d.
func (w *window) release(n int64, d time.Duration, how outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	inFlight := w.used
	full := inFlight+n > w.size || w.queued > 0
	w.used -= n
	switch how {
	case gotBlock:
		w.noHave *= 0.9
		w.measure(inFlight, d)
		base := w.quickest()
		switch {
		case d < 2*base+20*time.Millisecond:
			if full {
				w.size = min(w.size+n, windowMax)
			}
		case d > 4*base+100*time.Millisecond:
			w.size = max(w.size-n/2, windowMin)
		}
	case gotNone:
		w.noHave = 0.9*w.noHave + 0.1
	case gotLost:
		w.size = max(w.size/2, windowMin)
	}
	w.admit()
}

// measure takes the time of one answer: what was in flight went by in it.
func (w *window) measure(inFlight int64, d time.Duration) {
	d = max(d, 50*time.Microsecond)
	if now := time.Now(); now.Sub(w.since) > baseSpan { // paths change
		w.last, w.base, w.since = w.base, d, now
	}
	w.base = min(w.base, d)
	r := float64(inFlight) / d.Seconds()
	if w.rate == 0 {
		w.rate = r
	}
	w.rate += (r - w.rate) / 8
}

// quickest is how long an answer takes when little is asked; 0 not known.
func (w *window) quickest() time.Duration {
	if w.last == 0 {
		return w.base
	}
	return min(w.base, w.last)
}

// expect estimates when n more bytes would be here.
func (w *window) expect(n int64, rtt time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	rate := w.rate
	if rate == 0 {
		rate = 10 << 20
	}
	t := max(w.quickest(), rtt) + time.Duration(float64(w.used+w.queued+n)/rate*float64(time.Second))
	return time.Duration(float64(t) * (1 + 4*w.noHave))
}
