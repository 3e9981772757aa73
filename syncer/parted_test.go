package syncer_test

import (
	"testing"

	"github.com/clachanfs/clachan/blocks/crashfs"
	. "github.com/clachanfs/clachan/syncer"
)

// A restored database writes while it is connected to one who does not know yet
// what it had done after the copy, and who then hears of that from a third.
func TestRestoredDatabaseHearsOfItselfInTheMiddleOfASession(t *testing.T) {
	for _, tt := range []struct {
		name string
		each bool // of the changes goes to the third at once
		dead bool // are all, since the third has written over them
	}{{"live", false, false}, {"dead", false, true}, {"dead, one by one", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newCrashable(t, 3)
			a, b, c := w.peers[0], w.peers[1], w.peers[2]
			old := w.goesOn(tt.each)
			want := "/f 644 5"
			if tt.dead {
				c.write("/f", "of c")
				want = "/f 644 of c"
			}
			c.write("/h", "h")
			c.cutNow()
			a.restore(old)
			w.tellsLate(a, b, c)
			w.part(false)
			w.want(want, "/g 644 mine", "/h 644 h")
		})
	}
}

// goesOn copies the disk of the first peer, which goes on, apart from all but the
// third: that hears of each change at once, or of what is left of them.
func (w *world) goesOn(each bool) (old *crashfs.FS) {
	w.t.Helper()
	a, c := w.peers[0], w.peers[2]
	a.write("/f", "1")
	w.same()
	old = a.copyOfDisk()
	w.part(true)
	for _, s := range []string{"2", "3", "4", "5"} {
		a.write("/f", s)
		a.cutNow()
		if each {
			w.talk2(a, c)
		}
	}
	w.talk2(a, c)
	return old
}

// tellsLate lets b, who has met a, hear from c what a had done, and tell a, which
// has written something meanwhile.
func (w *world) tellsLate(a, b, c *peer) {
	w.t.Helper()
	ctx := w.t.Context()
	w.talk.Lock()
	defer w.talk.Unlock()
	if !w.meet(ctx, a, b) {
		w.t.Fatal("they do not meet")
	}
	a.write("/g", "mine")
	a.cutNow()
	a.must(a.Sync())
	for range 3 {
		if w.meet(ctx, b, c) {
			w.send(ctx, c, b)
		}
	}
	for x, err := range b.Since(ctx, a.Knowledge(), nil) {
		b.must(err)
		if err := a.Receive(ctx, b.name, x); err != nil {
			w.anew(a, ErrAnew)
			return
		}
	}
	w.t.Error("it is told nothing of itself")
}

// A restored database writes, alone, and is rekeyed by its user before it meets
// anybody; what it had done after the copy lives, or is dead, at others.
func TestWhoIsRekeyedAfterARestoreKeepsWhatItDid(t *testing.T) {
	for _, dead := range []bool{false, true} {
		w := newCrashable(t, 3)
		a, b, c := w.peers[0], w.peers[1], w.peers[2]
		old := w.goesOn(false)
		want := []string{"/f 644 5", "/g 644 mine"}
		if dead {
			c.write("/f", "of c")
			c.cutNow()
			want[0] = "/f 644 of c"
		}
		w.talk2(b, c)
		a.restore(old)
		a.write("/g", "mine")
		a.cutNow()
		a.must(a.Rekey())
		w.part(false)
		w.want(want...)
	}
}

// What a restored database writes is taken in by one who knows no more of it than
// the copy, before others tell what it had done afterwards, most of it dead.
func TestWhatIsTakenFromARestoredDatabaseStays(t *testing.T) {
	for _, third := range []bool{false, true} {
		w := newCrashable(t, 3)
		a, b, c := w.peers[0], w.peers[1], w.peers[2]
		old := w.goesOn(false)
		a.restore(old)
		a.write("/g", "mine")
		a.cutNow()
		w.talk2(a, b)
		w.talk.Lock()
		w.shut()
		w.talk.Unlock()
		if third { // b meets c first, and a only later
			w.talk2(b, c)
		}
		w.part(false)
		w.want("/f 644 5", "/g 644 mine")
	}
}

// Changes by one who was behind are refused where what they may build on is
// forgotten: not those that others have written over since.
func TestDeadChangesOfWhoWasBehindHoldNobodyUp(t *testing.T) {
	for _, forget := range [][]int{{1}, {1, 2}} {
		w := newCrashable(t, 4)
		w.members()
		a, d := w.peers[0], w.peers[3]
		a.mkdir("/dir")
		a.write("/dir/x", "once")
		a.write("/y", "once more")
		a.write("/z", "stays")
		w.same()
		old := d.copyOfDisk()
		a.rm("/y")
		w.same()
		w.ack()
		w.part(true)
		for _, i := range forget {
			if w.peers[i].collectNow() == 0 {
				t.Fatal("nothing is forgotten")
			}
		}
		d.restore(old)
		d.write("/dir/x", "edited")
		d.cutNow()
		w.talk2(a, d)
		holds(t, a.tree(), "edited")
		a.write("/dir/x", "edited again") // all that was late is dead now
		a.cutNow()
		w.part(false)
		tree := w.same()
		holds(t, tree, "edited again")
	}
}
