package syncer_test

import (
	"strings"
	"testing"
)

// Who is told of a batch by one for whom some of it is dead, and not what it died
// of, takes the rest from another for whom it lives.
func TestWhatIsDeadForOneMemberComesFromAnother(t *testing.T) {
	for range 20 {
		if comesFromAnother(t) {
			return
		}
	}
	t.Fatal("what is written at once was never cut as one")
}

// comesFromAnother returns false if the files were cut one after the other: the
// machine was slow.
func comesFromAnother(t *testing.T) bool {
	w := newWorld(t, 3)
	a, c, d := w.peers[0], w.peers[1], w.peers[2]
	files := []string{"/.1", "/.2", "/.3"} // cut together
	for _, f := range files {
		a.write(f, "first")
	}
	w.same()
	w.part(true)
	for _, f := range files {
		a.write(f, "second")
	}
	a.cutNow()
	w.talk2(a, c)
	a.write("/.1", "third")
	a.write("/.2", "third")
	a.cutNow()
	a.must(a.Sync())

	w.talk.Lock()
	if !w.meet(t.Context(), d, a) {
		t.Fatal("they do not meet")
	}
	for b, err := range a.Since(t.Context(), d.Knowledge(), nil) {
		a.must(err)
		d.must(d.Receive(t.Context(), a.name, b))
		if strings.Contains(d.tree(), "second") {
			break
		}
	}
	w.shut() // a goes away
	w.talk.Unlock()
	if got := d.tree(); strings.Count(got, "second") != 1 || strings.Contains(got, "third") {
		return false
	}
	w.talk2(c, d)
	if got, want := d.tree(), c.tree(); got != want {
		t.Errorf("d knows %v and shows\n%s, c knows %v and shows\n%s", d.Knowledge(), got, c.Knowledge(), want)
	}
	return true
}
