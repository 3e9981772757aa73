package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/clachanfs/clachan/syncer"
)

// Much is cut in many batches, of which the next is read while one is logged: what is written
// and moved meanwhile, and what cannot be read, is as if there had been one.
func TestMuchIsCutInManyBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		const dirs, files = 6, 500
		path := func(d, i int) string { return fmt.Sprintf("/d%d/e/%03d", d, i) }
		bad := map[Ino]bool{}
		var todo []func()
		for d := range dirs {
			a.mkdir(fmt.Sprintf("/d%d", d))
			a.mkdir(fmt.Sprintf("/d%d/e", d))
			for i := range files {
				a.write(path(d, i), fmt.Sprint(d, i))
				if i == 7 {
					bad[a.stat(path(d, i)).Ino] = true
				}
			}
			todo = append(todo, func() {
				a.write(path(d, 10), "written meanwhile")
				from, name := a.at(path(d, 20))
				to, _ := a.at(fmt.Sprintf("/d%d/moved", (d+1)%dirs))
				a.must(a.Rename(from, name, to, "moved", 0))
			})
		}
		broken := errors.New("a staging file is broken")
		mended := false
		a.surf.fails = func(_ context.Context, ino Ino) error {
			if len(todo) > 0 && ino%400 == 0 { // while others are selected, frozen or logged
				todo[0]()
				todo = todo[1:]
			}
			if bad[ino] && !mended {
				return broken
			}
			return nil
		}
		if err := a.Cut(t.Context()); !errors.Is(err, broken) {
			t.Errorf("cut: %v", err)
		}
		if n, _, err := a.LogSize(); err != nil || n < dirs*files/400 {
			t.Errorf("%d batches, %v", n, err)
		}
		w.sync()
		if got := b.shows(path(0, 7)) + b.shows(path(0, 8)); got != "0 8" {
			t.Errorf("beside what cannot be read the other peer has %q", got)
		}
		a.surf.calls.Lock()
		mended = true
		a.surf.calls.Unlock()
		time.Sleep(2 * time.Minute)
		w.settle()
		w.same()
		if len(todo) > 0 {
			t.Errorf("%d were not done meanwhile", len(todo))
		}
		for d := range dirs {
			for i := range files {
				want := fmt.Sprint(d, i)
				switch i {
				case 10:
					want = "written meanwhile"
				case 20:
					want = ""
				}
				if got := b.shows(path(d, i)); got != want {
					t.Errorf("the other peer has %q at %s, want %q", got, path(d, i), want)
				}
			}
			if got, want := b.shows(fmt.Sprintf("/d%d/moved", d)), fmt.Sprint((d+dirs-1)%dirs, 20); got != want {
				t.Errorf("the other peer has %q where it was moved to, want %q", got, want)
			}
		}
	})
}

// Who stops while much is being cut finds all of it cut: what was being read is no file that
// cannot be.
func TestACutThatIsCalledOffIsEndedAsRunEnds(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	const files = 1200
	path := func(i int) string { return fmt.Sprintf("/%04d", i) }
	at := make(chan struct{})
	begin := sync.OnceFunc(func() { close(at) })
	last := Ino(0)
	a.surf.calls.Lock()
	a.surf.fails = func(ctx context.Context, ino Ino) error {
		if ino == last {
			last = 0
			begin()
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	for i := range files {
		a.write(path(i), fmt.Sprint(i))
	}
	last = a.stat(path(files - 1)).Ino
	a.surf.calls.Unlock()
	<-at
	a.stop()
	a.start()
	w.same()
	for i := range files {
		if got := b.shows(path(i)); got != fmt.Sprint(i) {
			t.Errorf("the other peer has %q at %s", got, path(i))
		}
	}
}
