package syncer_test

import "testing"

// What was removed does not come back with a directory into which the one it had
// been in was moved afterwards, by one who knew: that the other directory had been
// moved while it was removed has nothing to do with it.
func TestWhatWasRemovedBeforeItsDirectoryMovedStaysSo(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/o")
	a.mkdir("/e")
	a.write("/e/x", "X")
	a.write("/stays", "S")
	w.same()
	w.part(true)
	a.mv("/o", "/p")
	a.cutNow()
	b.rm("/e/x")
	b.cutNow()
	w.part(false)
	w.want("/e 755 /", "/p 755 /", "/stays 644 S")
	a.mv("/e", "/p/e")
	w.want("/p 755 /", "/p/e 755 /", "/stays 644 S")
	b.rm("/p")
	w.want("/stays 644 S")
}
