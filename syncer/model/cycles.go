package model

import "strings"

// Resolve decides where directories are: each at its newest place, except that
// in every cycle the newest move is undone, until none is left. A directory
// whose places are exhausted is in the root. Every cycle holds a directory of
// work: those moved since the last time and those whose move was undone then.
// hist returns a directory's places, nothing for the root and for what is no
// known directory; eff is which of them counts, for directories not in work.
// The result holds the index of each directory looked at anew; len(hist) means
// the root. A graph of single parents has at most one cycle to a component, so
// the order of work does not matter.
func Resolve(work []ID, hist func(ID) []Loc, eff func(ID) int) map[ID]int {
	at := make(map[ID]int, len(work))
	for _, id := range work {
		at[id] = 0
	}
	index := func(id ID) int {
		if i, ok := at[id]; ok {
			return i
		}
		return eff(id)
	}
	up := func(id ID) (Loc, bool) {
		h := hist(id)
		if len(h) == 0 { // the root, or not known yet
			return Loc{}, false
		}
		if i := index(id); i < len(h) {
			return h[i], h[i].Parent != RootID
		}
		return Loc{}, false
	}
	safe := map[ID]bool{}
	queue := append([]ID(nil), work...)
	for len(queue) > 0 {
		from := queue[0]
		cycle := findCycle(from, up, safe)
		if cycle == nil {
			queue = queue[1:]
			continue
		}
		newest := cycle[0]
		for _, id := range cycle[1:] {
			a, _ := up(newest)
			if b, _ := up(id); a.Stamp.Less(b.Stamp) {
				newest = id
			}
		}
		at[newest] = index(newest) + 1
		queue = append(queue, newest)
	}
	return at
}

// findCycle walks up from a directory and returns the cycle it comes to. Those it
// met if there is none are safe: no cycle goes through them, so none of them moves.
func findCycle(from ID, up func(ID) (Loc, bool), safe map[ID]bool) []ID {
	seen := map[ID]int{}
	var path []ID
	for id := from; !safe[id]; {
		if i, ok := seen[id]; ok {
			return path[i:]
		}
		seen[id] = len(path)
		path = append(path, id)
		l, ok := up(id)
		if !ok {
			break
		}
		id = l.Parent
	}
	for _, id := range path {
		safe[id] = true
	}
	return nil
}

// EffLoc is the place of a directory, given which of its places counts. In the root
// it cannot have the reserved name, so there it loses the dot.
func EffLoc(hist []Loc, eff int) Loc {
	if len(hist) == 0 {
		return Loc{Parent: RootID}
	}
	if eff < len(hist) {
		return hist[eff]
	}
	l := hist[len(hist)-1]
	if l.Parent = RootID; strings.EqualFold(l.Name, Reserved) {
		l.Name = l.Name[1:]
	}
	return l
}
