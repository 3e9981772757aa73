package syncer

import (
	"slices"
	"testing"
)

func TestEvict(t *testing.T) {
	const day = 1
	old := func(costs ...int64) (out []kept) { // one a day, the newest first
		for i, c := range costs {
			out = append(out, kept{time: int64(100 - i*day), cost: c})
		}
		return out
	}
	held := func(rows []kept, which ...int) []kept {
		for _, i := range which {
			rows[i].hold = true
		}
		return rows
	}
	news := func(rows []kept, i int) []kept {
		rows[i].news = true
		return rows
	}
	for _, tt := range []struct {
		name string
		rows []kept
		rule rule
		stay []int
	}{
		{"nothing", nil, rule{budget: 10}, nil},
		{"all fits", old(1, 2, 3), rule{budget: 6}, []int{0, 1, 2}},
		{"too old", old(1, 1, 1, 1), rule{since: 99, budget: 10}, []int{0, 1}},
		{"the oldest of what is too much", old(4, 4, 4), rule{budget: 8}, []int{0, 1}},
		{"and all that is older than the first to go", old(4, 9, 1), rule{budget: 8}, []int{0}},
		{"what nobody else has stays, however old", held(old(1, 1, 1), 2), rule{since: 100, budget: 10}, []int{0, 2}},
		{"and however much", held(old(5, 5, 5), 0, 2), rule{budget: 1}, []int{0, 2}},
		{"and counts", held(old(5, 5, 5), 0), rule{budget: 5}, []int{0}},
		{"a short disk takes what it needs, the oldest first", old(4, 4, 4, 4), rule{budget: 100, short: 5}, []int{0, 1}},
		{"or all there is", old(4, 4), rule{budget: 100, short: 50}, nil},
		{"but not what nobody else has", held(old(4, 4), 1), rule{budget: 100, short: 50}, []int{1}},
		{"what is not known to be gone everywhere does not grow too old", news(old(1, 1, 1), 1), rule{since: 100, budget: 10}, []int{0, 1}},
		{"but may be too much", news(old(4, 4, 4), 2), rule{budget: 8}, []int{0, 1}},
		{"what costs nothing goes with its like", old(4, 0, 4, 0), rule{budget: 4}, []int{0, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stay []int
			for i, gone := range evict(tt.rows, tt.rule) {
				if !gone {
					stay = append(stay, i)
				}
			}
			if !slices.Equal(stay, tt.stay) {
				t.Errorf("%v stay, not %v", stay, tt.stay)
			}
		})
	}
}
