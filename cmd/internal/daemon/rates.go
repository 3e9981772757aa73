package daemon

import (
	"slices"
	"sync"
	"time"
)

// rates tells how fast counters grow, from what they were when somebody last asked: who
// never asks pays nothing.
type rates struct {
	mu   sync.Mutex // guards seen
	seen map[string][]sample
}

type sample struct {
	at     time.Time
	totals []uint64
}

const (
	rateOver  = 3 * time.Second // a rate is of so long a time,
	rateLeast = 200 * time.Millisecond
	rateMost  = 10 * time.Second // and samples older than this tell nothing of now
)

// of is how much a counter grew in a second of late, 0 if that is not known yet.
func (r *rates) of(counter string, total uint64, now time.Time) uint64 {
	grew, took := r.grown(counter, now, total)
	return perSecond(grew[0], took)
}

func perSecond(n uint64, took time.Duration) uint64 {
	if took < rateLeast {
		return 0
	}
	return uint64(float64(n) / took.Seconds())
}

// grown is how much counters, as many as ever of that name, grew of late, and since when.
func (r *rates) grown(name string, now time.Time, totals ...uint64) (grew []uint64, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string][]sample{}
	}
	for k, list := range r.seen {
		if now.Sub(list[len(list)-1].at) > rateMost {
			delete(r.seen, k)
		}
	}
	list := r.seen[name]
	if n := len(list); n > 0 {
		for i, total := range totals {
			if total < list[n-1].totals[i] { // it began anew
				list = nil
				break
			}
		}
	}
	list = slices.DeleteFunc(list, func(s sample) bool { return now.Sub(s.at) > rateOver })
	if n := len(list); n == 0 || now.Sub(list[n-1].at) >= rateLeast {
		list = append(list, sample{now, totals})
	}
	r.seen[name] = list
	for i, total := range totals {
		grew = append(grew, total-list[0].totals[i])
	}
	return grew, now.Sub(list[0].at)
}
