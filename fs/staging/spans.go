package staging

import (
	"math"
	"slices"
	"sort"
)

// forever is the end of a range that has none.
const forever = math.MaxInt64

// span is the bytes from a up to, not including, b.
type span struct{ a, b int64 }

// spans is a sorted set of bytes: disjoint spans that do not touch.
type spans []span

// find returns the index of the first span that ends after off.
func (s spans) find(off int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].b > off })
}

// at says whether off is in the set, and up to where that stays so.
func (s spans) at(off int64) (in bool, end int64) {
	i := s.find(off)
	switch {
	case i == len(s):
		return false, forever
	case s[i].a <= off:
		return true, s[i].b
	}
	return false, s[i].a
}

// add returns the set with a up to b in it.
func (s spans) add(a, b int64) spans {
	if a >= b {
		return s
	}
	i := sort.Search(len(s), func(i int) bool { return s[i].b >= a })
	j := i
	for j < len(s) && s[j].a <= b {
		a, b = min(a, s[j].a), max(b, s[j].b)
		j++
	}
	return slices.Replace(s, i, j, span{a, b})
}

// sub returns the set without a up to b.
func (s spans) sub(a, b int64) spans {
	if a >= b {
		return s
	}
	i := s.find(a)
	j := i
	var keep []span
	for j < len(s) && s[j].a < b {
		if s[j].a < a {
			keep = append(keep, span{s[j].a, a})
		}
		if s[j].b > b {
			keep = append(keep, span{b, s[j].b})
		}
		j++
	}
	if i == j {
		return s
	}
	return slices.Replace(s, i, j, keep...)
}

// ranges converts the set, cut off at end.
func (s spans) ranges(end int64) []Range {
	var out []Range
	for _, p := range s {
		if p.a >= end {
			break
		}
		out = append(out, Range{Off: p.a, Len: min(p.b, end) - p.a})
	}
	return out
}

// spansOf reads ranges back; ranges that cannot be are dropped.
func spansOf(rs []Range) spans {
	var s spans
	for _, r := range rs {
		if r.Off < 0 || r.Len <= 0 {
			continue
		}
		end := int64(forever)
		if r.Len < forever-r.Off {
			end = r.Off + r.Len
		}
		s = s.add(r.Off, end)
	}
	return s
}
