package syncer_test

import (
	"strings"
	"testing"
)

// A member goes on with an old copy of its disk, and one who has forgotten
// nothing takes in what it does there, before it hears of what was removed. Those
// who have forgotten cannot take that in: all come together all the same, and
// nothing that was done is lost.
func TestWhoHasTakenWhatOthersMustRefuseComesTogetherWithThem(t *testing.T) {
	for _, tt := range []struct {
		name   string
		forget []int // who has forgotten, after who takes it
		late   []int // who forgets later, knowing it
	}{
		{"one has forgotten", []int{1}, nil},
		{"two have", []int{1, 2}, nil},
		{"who took it forgets, too", []int{1}, []int{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newCrashable(t, 4)
			w.members()
			a, d := w.peers[0], w.peers[3]
			a.mkdir("/dir")
			a.write("/dir/x", "once")
			a.write("/y", "once more")
			a.write("/z", "stays")
			w.same()
			old := d.copyOfDisk()
			a.rm("/dir")
			a.rm("/y")
			w.same()
			w.ack()
			w.part(true)
			for _, i := range tt.forget {
				if w.peers[i].collectNow() == 0 {
					t.Fatal("nothing is forgotten")
				}
			}
			d.restore(old)
			d.write("/dir/x", "edited")
			d.cutNow()
			d.write("/new", "late")
			d.rm("/z")
			d.cutNow()
			w.talk2(a, d)
			holds(t, a.tree(), "late", "edited")
			a.write("/dir/x", "edited again") // what was late is dead now
			a.cutNow()
			for _, i := range tt.late {
				w.ack()
				w.peers[i].collectNow()
			}
			w.part(false)
			tree := w.same()
			holds(t, tree, "late", "edited again")
			if strings.Contains(tree, "/y ") || strings.Contains(tree, "/z ") {
				t.Errorf("what was removed is back:\n%s", tree)
			}
			w.ack()
			for _, p := range w.peers {
				p.collectNow()
			}
			if again := w.same(); again != tree {
				t.Errorf("was\n%s\nis\n%s", tree, again)
			}
		})
	}
}
