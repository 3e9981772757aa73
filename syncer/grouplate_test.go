package syncer_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// Of a database that has gone on while a member was away, nothing is shown before all
// is here that a state of it is of: what is dead of it does not come.
func TestCatchingUpShowsADatabaseAsItWas(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			a.write("/x.db", "1")
			a.write("/x.db-wal", "of 1")
			w.settle()
			w.part(true)
			states := map[string]bool{"1 of 1": true}
			for _, step := range [][2]string{{"3", "of 3"}, {"4", ""}, {"", "of 5"}} {
				a.mkdir("/busy" + step[0]) // is cut at once; what follows, together
				synctest.Wait()
				if step[0] != "" {
					a.write("/x.db", step[0])
				}
				if step[1] != "" {
					a.write("/x.db-wal", step[1])
				}
				a.cutNow()
				states[a.shows("/x.db")+" "+a.shows("/x.db-wal")] = true
			}
			for batch, err := range a.Since(t.Context(), b.Knowledge(), nil) {
				a.must(err)
				b.must(b.Receive(t.Context(), a.name, batch))
				if s := b.shows("/x.db") + " " + b.shows("/x.db-wal"); !states[s] {
					t.Errorf("b shows %q, which never was there", s)
				}
			}
			if restarts {
				behind(b, 1<<20)
			}
			for range 10 {
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if s := b.shows("/x.db") + " " + b.shows("/x.db-wal"); s != "1 of 1" {
					t.Fatalf("b shows %q before the end of the catch-up", s)
				}
			}
			w.part(false)
			w.same()
			if s := b.shows("/x.db") + " " + b.shows("/x.db-wal"); s != "4 of 5" {
				t.Errorf("in the end b shows %q", s)
			}
		})
	}
}
