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
	at    time.Time
	total uint64
}

const (
	rateOver  = 3 * time.Second // a rate is of so long a time,
	rateLeast = 200 * time.Millisecond
	rateMost  = 10 * time.Second // and samples older than this tell nothing of now
)

// of is how much a counter grew in a second of late, 0 if that is not known yet.
func (r *rates) of(counter string, total uint64, now time.Time) uint64 {
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
	list := r.seen[counter]
	if n := len(list); n > 0 && total < list[n-1].total { // it began anew
		list = nil
	}
	list = slices.DeleteFunc(list, func(s sample) bool { return now.Sub(s.at) > rateOver })
	if n := len(list); n == 0 || now.Sub(list[n-1].at) >= rateLeast {
		list = append(list, sample{now, total})
	}
	r.seen[counter] = list
	took := now.Sub(list[0].at)
	if took < rateLeast {
		return 0
	}
	return uint64(float64(total-list[0].total) / took.Seconds())
}
