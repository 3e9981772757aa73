package index

import (
	"testing"
	"time"
)

// What is remembered for 30 days is remembered for 30 days that somebody has
// seen, however the clock jumps.
func TestGapsMakeNothingOld(t *testing.T) {
	const keep, year = 30 * oneDay, 365 * oneDay
	type step struct{ by, seen int64 } // of the clock, and in truth
	day := step{oneDay, oneDay}
	days := func(n int) (out []step) {
		for range n {
			out = append(out, day)
		}
		return out
	}
	for _, tt := range []struct {
		name string
		then []step
		old  bool
	}{
		{"29 days", days(29), false},
		{"31 days", days(31), true},
		{"a year ahead", []step{{year, 0}}, false},
		{"a year ahead, and 28 days", append([]step{{year, 0}}, days(28)...), false},
		{"a year ahead, and 31 days", append([]step{{year, 0}}, days(31)...), true},
		{"a year ahead and back, and 31 days", append([]step{{year, 0}, {-year, 0}}, days(31)...), true},
		{"a year ahead and back, and 29 days", append([]step{{year, 0}, {-year, 0}}, days(29)...), false},
		{"ten years back", []step{{-10 * year, 0}}, false},
		{"from 1970", append([]step{{56 * year, 0}}, days(28)...), false},
		{"from 1970, and 32 days", append([]step{{56 * year, 0}}, days(32)...), true},
		{"twice ahead", append([]step{{year, 0}, {40 * oneDay, 0}}, days(27)...), false},
		{"years ahead, and fewer again", []step{{5 * year, 0}, {4 * year, 0}, {year, 0}}, false},
		{"off for a year is not seen", []step{{year, year}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var g Gaps
			now := int64(1000 * oneDay)
			g.Look(now-int64(time.Hour), keep)
			row := now
			for _, s := range tt.then {
				now += s.by
				g.Look(now, keep)
			}
			if old := g.Since(row) < now-keep; old != tt.old {
				t.Errorf("old: %v, with %+v", old, g)
			}
		})
	}
}

// Gaps stay few: the earliest become one.
func TestGapsAreBounded(t *testing.T) {
	var g Gaps
	now, row := int64(oneDay), int64(oneDay)
	for range 10 * maxGaps {
		g.Look(now, 30*oneDay)
		now += 26 * int64(time.Hour)
	}
	if len(g.gaps) > maxGaps || g.Since(row) > now-30*oneDay {
		t.Errorf("%d gaps", len(g.gaps))
	}
}
