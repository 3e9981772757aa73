package main

import (
	"strings"
	"time"
)

// shrink leaves out calls as long as the sides still differ in the same way, within a time. The history it returns
// was played; it is h itself if h does not come again.
func (h *history) shrink(limit time.Duration) (*history, error) {
	end := time.Now().Add(limit)
	best, sure := h, false
	try := func(calls []*call) (bool, error) {
		t := &history{j: h.j, dirs: h.dirs, seed: h.seed, faulty: h.faulty, always: h.always || h.found.late()}
		if err := t.replay(calls); err != nil {
			return false, err
		}
		if t.found == nil || t.found.what != h.found.what || t.found.call.Op != h.found.call.Op && !t.always {
			return false, nil
		}
		best, sure = t, true
		return true, nil
	}
	if _, err := try(h.made); err != nil || !sure {
		return h, err
	}
	var good []*call
	for i, c := range best.made {
		if !best.bad[i] || i == len(best.made)-1 {
			good = append(good, c)
		}
	}
	if _, err := try(good); err != nil {
		return best, err
	}
	for size := max(len(best.made)/2, 1); ; size /= 2 {
		for at := len(best.made) - size; at > -size; at -= size {
			if time.Now().After(end) {
				return best, nil
			}
			from, to := max(at, 0), min(max(at, 0)+size, len(best.made))
			calls := append(append([]*call{}, best.made[:from]...), best.made[to:]...)
			if _, err := try(calls); err != nil {
				return best, err
			}
			at = min(at, len(best.made))
		}
		if size <= 1 {
			return best, nil
		}
	}
}

// late says that a difference is looked for now and then only, so that it may be there for long.
func (d *difference) late() bool {
	return d.what == "listing" || d.what == "content" || d.what == "holes" || strings.Contains(d.a+d.b, "not now")
}
