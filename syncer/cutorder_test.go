package syncer_test

import (
	"slices"
	"testing"

	"github.com/clachanfs/clachan/syncer/index"
)

// However many names of a directory are cut, they come before those of what is
// in it.
func TestCutTakesParentsBeforeWhatIsInThem(t *testing.T) {
	w := newWorld(t, 1)
	p := w.peers[0]
	var names []index.Place
	for _, path := range []string{"/d", "/d/e", "/d/e/f"} {
		p.mkdir(path)
		dir, _ := p.at(path + "/x")
		for n := range 4 - len(names)/2 {
			names = append(names, index.Place{Dir: dir, Name: string(rune('a' + n))})
		}
	}
	got := p.CutOrder(names)
	if !slices.Equal(got, names) {
		t.Errorf("%v, want %v", got, names)
	}
}
