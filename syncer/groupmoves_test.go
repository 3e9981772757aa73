package syncer_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A database that is moved while a version of it is not here is shown as it was, with
// its journal, or as it is.
func TestMovedDatabasesAreShownAsTheyWere(t *testing.T) {
	big := strings.Repeat("b", 60_000)
	for _, tt := range []struct {
		name  string
		steps []func(a *peer)
		want  map[string]string // in the end
	}{
		{"in the batch of its version", []func(a *peer){
			func(a *peer) { a.write("/x.db", big); a.rm("/x.db-journal"); a.mv("/x.db", "/y.db") },
		}, map[string]string{"/y.db": big}},
		{"after its version", []func(a *peer){
			func(a *peer) { a.write("/x.db", big); a.rm("/x.db-journal") },
			func(a *peer) { a.mv("/x.db", "/y.db") },
		}, map[string]string{"/y.db": big}},
		{"into another directory", []func(a *peer){
			func(a *peer) { a.write("/x.db", big); a.rm("/x.db-journal") },
			func(a *peer) { a.mv("/x.db", "/d/x.db") },
		}, map[string]string{"/d/x.db": big}},
		{"and gets a journal", []func(a *peer){
			func(a *peer) { a.write("/x.db", big); a.rm("/x.db-journal") },
			func(a *peer) { a.mv("/x.db", "/y.db") },
			func(a *peer) { a.write("/y.db-journal", "new") },
		}, map[string]string{"/y.db": big, "/y.db-journal": "new"}},
		{"and gets a large journal", []func(a *peer){
			func(a *peer) { a.write("/x.db", big); a.rm("/x.db-journal") },
			func(a *peer) { a.mv("/x.db", "/y.db") },
			func(a *peer) { a.write("/y.db-journal", strings.Repeat("n", 5_000)) },
		}, map[string]string{"/y.db": big, "/y.db-journal": strings.Repeat("n", 5_000)}},
		{"with its journal", []func(a *peer){
			func(a *peer) { a.write("/x.db", big); a.write("/x.db-journal", "of 2") },
			func(a *peer) { a.mv("/x.db", "/y.db"); a.mv("/x.db-journal", "/y.db-journal") },
		}, map[string]string{"/y.db": big, "/y.db-journal": "of 2"}},
	} {
		for _, what := range []string{"", "restarted", "open"} {
			t.Run(tt.name+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 2)
					a, b := w.peers[0], w.peers[1]
					a.mkdir("/d")
					a.write("/x.db", "1")
					a.write("/x.db-journal", "of 1")
					w.settle()
					r := behind(b, 50_000)
					for i, do := range tt.steps {
						w.part(true)
						a.mkdir("/busy" + strings.Repeat("y", i)) // is cut at once; what follows, together
						synctest.Wait()
						do(a)
						a.cutNow()
						w.part(false)
						time.Sleep(time.Second)
						synctest.Wait()
					}
					switch what {
					case "restarted":
						r = behind(b, 50_000)
					case "open":
						b.open(b.ino("/x.db"), false)
					}
					for range 10 {
						if b.shows("/x.db") != "1" || b.shows("/x.db-journal") != "of 1" || b.has("/y.db") || b.has("/d/x.db") || b.has("/y.db-journal") {
							t.Fatalf("before all is here:\n%s", b.tree())
						}
						time.Sleep(5 * time.Second)
						synctest.Wait()
					}
					close(r.gate)
					time.Sleep(20 * time.Second)
					synctest.Wait()
					for path, data := range tt.want {
						if got := b.shows(path); got != data {
							t.Errorf("in the end %s is %.10q, want %.10q", path, got, data)
						}
					}
					if b.has("/x.db") || b.has("/x.db-journal") {
						t.Errorf("left behind:\n%.300s", b.tree())
					}
					w.same()
				})
			})
		}
	}
}
