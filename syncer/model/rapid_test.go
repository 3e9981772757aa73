package model

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// anyStep draws one thing that happens. What it is about is drawn small, so that
// what is left of a failing history is about few names.
func anyStep() *rapid.Generator[step] {
	bag := []string{"cut", "cut", "cut", "pull", "pull", "pull", "pull", "mv dir", "reader", "settle"}
	for _, o := range ops {
		bag = append(bag, o.name)
	}
	return rapid.Custom(func(t *rapid.T) step {
		s := step{op: rapid.SampledFrom(bag).Draw(t, "op"), p: rapid.IntRange(0, 4).Draw(t, "p"), q: rapid.IntRange(0, 4).Draw(t, "q")}
		for i := range s.x {
			s.x[i] = rapid.IntRange(0, 1<<10).Draw(t, "x")
		}
		return s
	})
}

// Histories whose every step is drawn hold what those of a seed do; they shrink
// by themselves.
func TestDrawnHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.Int64Range(0, 1<<16).Draw(t, "world"))
		ss := rapid.SliceOfN(anyStep(), rapid.IntRange(1, 200).Draw(t, "least"), 200).Draw(t, "steps")
		if bad := w.run(ss); bad != nil {
			t.Fatalf("%s: %s\nafter\n%s", bad.what, bad.why, strings.Join(w.words, "\n"))
		}
	})
}
