package syncer_test

import (
	"fmt"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
)

// A database is cut, and a run of cuts ends, while something beside it, or it itself,
// is written to without a rest.
func TestDatabasesAreCutBesideWhatIsWrittenWithoutRest(t *testing.T) {
	for _, tt := range []struct {
		db   string
		busy string // is written to whenever it is frozen
	}{{"/x.db", "/log"}, {"/d/x.db", "/log"}, {"/x.db", "/d/log"}, {"/x.db", "/x.db"}, {"/x.db", "/y.db"}, {"/d/x.db", "/y.db"}} {
		t.Run(tt.db+" "+tt.busy, func(t *testing.T) {
			w := newWorld(t, 1)
			a := w.peers[0]
			const most = 100
			a.mkdir("/d")
			for _, name := range []string{tt.db, tt.busy, "/y.db-wal"} {
				a.write(name, "0")
			}
			a.cutNow()
			db, busy := a.ino(tt.db), a.ino(tt.busy)
			n, before := 0, most // freezings of what is busy: all, and those before the database's
			a.surf.mu.Lock()
			a.surf.froze = func(ino Ino) {
				if ino == db {
					before = min(before, n)
				}
				if ino == busy && n < most {
					n++
					a.write(tt.busy, fmt.Sprint(n))
				}
			}
			a.surf.mu.Unlock()
			a.write(tt.db, "1")
			a.write(tt.db+"-wal", "of 1")
			a.write(tt.busy, "begun")
			a.cutNow()
			if n > 10 {
				t.Errorf("frozen were %d versions beside it", n)
			}
			h := a.edit(tt.db)
			h.write(0, "2")
			n = 0
			a.write(tt.busy, "begun again")
			a.cutNow()
			h.close()
			a.surf.mu.Lock()
			defer a.surf.mu.Unlock()
			if before > 3 || n > 10 {
				t.Errorf("frozen were %d other versions before the database, %d in all", before, n)
			}
		})
	}
}
