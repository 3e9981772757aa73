package model

import (
	"fmt"
	"testing"
)

// Undone moves of directories that are all deep below one are decided by one walk
// up from there.
func TestResolveWalksEachDirectoryOnce(t *testing.T) {
	const n = 300
	places := map[ID][]Loc{}
	dir := RootID
	for i := range n {
		id := BirthID(dir, fmt.Sprint(i), Dir, 0)
		places[id] = []Loc{{Parent: dir, Name: "d", Stamp: Stamp{1, 1}}}
		dir = id
	}
	var moved []ID
	for i := range n {
		a, b := BirthID(RootID, fmt.Sprint("a", i), Dir, 0), BirthID(RootID, fmt.Sprint("b", i), Dir, 0)
		places[a] = []Loc{{Parent: b, Name: "a", Stamp: Stamp{3, 1}}, {Parent: dir, Name: fmt.Sprint(i), Stamp: Stamp{1, 1}}}
		places[b] = []Loc{{Parent: a, Name: "b", Stamp: Stamp{2, 1}}}
		moved = append(moved, a)
	}
	steps := 0
	eff := Resolve(moved, func(id ID) []Loc { steps++; return places[id] }, func(ID) int { return 0 })
	for _, id := range moved {
		if eff[id] != 1 {
			t.Fatalf("%v is at its place %d", id, eff[id])
		}
	}
	if steps > 20*n {
		t.Errorf("%d moves below %d directories take %d steps", n, n, steps)
	}
}
