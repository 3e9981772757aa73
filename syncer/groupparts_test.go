package syncer_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// A database that another takes the place of, beside much else, is in one batch with
// the journal that goes.
func TestAReplacedDatabaseIsInOneBatch(t *testing.T) {
	for n := range 5 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			a.write("/x.db", "1")
			a.write("/x.db-wal", "of 1")
			a.write("/new", "2")
			w.settle()
			w.part(true)
			a.mkdir("/busy") // is cut at once; what follows, together
			synctest.Wait()
			for i := range 300 {
				a.write(fmt.Sprintf("/%d-%d", n, i), strings.Repeat("f", 3000))
			}
			a.rm("/x.db-wal")
			a.mv("/new", "/x.db")
			a.cutNow()
			batches := 0
			for batch, err := range a.Since(t.Context(), b.Knowledge(), nil) {
				batches++
				a.must(err)
				b.must(b.Receive(t.Context(), a.name, batch))
				if db, wal := b.shows("/x.db"), b.shows("/x.db-wal"); (db == "1") != (wal == "of 1") {
					t.Errorf("after batch %d b shows %q beside %q", batches, db, wal)
				}
			}
			if batches < 3 {
				t.Errorf("%d batches", batches)
			}
			w.part(false)
			w.same()
		})
	}
}
