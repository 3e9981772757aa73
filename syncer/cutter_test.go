package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What is due together with something that cannot be cut is cut, whichever comes
// first; and so is what cannot, when it can.
func TestWhatIsDueWithABusyDatabaseIsCut(t *testing.T) {
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprint("asked ", asked), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a, b := w.peers[0], w.peers[1]
				const dbs = 8
				db := map[Ino]string{}
				for i := range dbs {
					dir := fmt.Sprint("/d", i)
					a.mkdir(dir)
					a.write(dir+"/x.db", "0")
					a.write(dir+"/x.db-wal", "0")
					db[a.stat(dir+"/x.db").Ino] = dir
				}
				a.mkdir("/e")
				a.write("/large", "0")
				w.settle()
				large := a.stat("/large").Ino
				var open []*handle
				a.surf.froze = func(ino Ino) {
					if ino == large {
						time.Sleep(5 * time.Second)
					}
					if dir := db[ino]; dir != "" { // written while it is frozen
						delete(db, ino)
						h := a.edit(dir + "/x.db")
						h.write(0, "2")
						open = append(open, h)
					}
				}
				a.write("/large", "1")
				time.Sleep(time.Second)
				for i := range dbs {
					a.write(fmt.Sprintf("/d%d/x.db", i), "1")
					a.write(fmt.Sprintf("/d%d/x.db-wal", i), "1")
				}
				a.write("/e/f", "F")
				if asked {
					a.must(a.Cut(t.Context()))
				}
				time.Sleep(10 * time.Second)
				if got := b.shows("/e/f"); got != "F" {
					t.Errorf("the other peer has %q", got)
				}
				for _, want := range []string{"00", "21"} {
					for i := range dbs {
						if got := b.shows(fmt.Sprintf("/d%d/x.db", i)) + b.shows(fmt.Sprintf("/d%d/x.db-wal", i)); got != want {
							t.Errorf("database %d and its journal are %q, want %q", i, got, want)
						}
					}
					for _, h := range open {
						h.close()
					}
					open = nil
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// A file that cannot be read is tried again, but not without pause, and holds up
// nothing else in its directory. Who asks for a cut hears of it.
func TestAFileThatCannotBeReadHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.write("/bad", "0")
		w.settle()
		bad := a.stat("/bad").Ino
		var tries atomic.Int64
		var mended atomic.Bool
		broken := errors.New("a staging file is broken")
		a.surf.fails = func(_ context.Context, ino Ino) error {
			if ino != bad {
				return nil
			}
			if tries.Add(1); mended.Load() {
				return nil
			}
			return broken
		}
		a.write("/bad", "1")
		for i := range 60 {
			a.write("/good", fmt.Sprint(i))
			time.Sleep(time.Second)
			if got := b.shows("/good"); got != fmt.Sprint(i) {
				t.Fatalf("after %d s the other peer has %q", i, got)
			}
		}
		if n := tries.Load(); n > 2 {
			t.Errorf("tried %d times in a minute", n)
		}
		a.write("/other", "O")
		if err := a.Cut(t.Context()); !errors.Is(err, broken) {
			t.Errorf("cut: %v", err)
		}
		w.sync()
		if got := b.shows("/other"); got != "O" {
			t.Errorf("the other peer has %q", got)
		}
		mended.Store(true)
		time.Sleep(2 * time.Minute)
		if got := b.shows("/bad"); got != "1" {
			t.Errorf("the other peer has %q", got)
		}
		a.must(a.Cut(t.Context()))
	})
}

// A removal makes room also while there is none for what else is to be cut.
func TestRemovalsAreCutOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.peers[0]
		a.opts.Members = func() []string { return nil }
		disk := sized(vfs.NewMem(), 400<<20, 100<<20)
		a.onDisk(disk)
		a.write("/big", noise(1, 2<<20))
		a.write("/new", "0")
		a.must(a.Cut(t.Context()))
		c, err := a.Content(a.stat("/big").Ino)
		a.must(err)
		sized(disk, 400<<20, uint64(a.disk.Reserve())-1)
		time.Sleep(2 * time.Second) // what is known of the disk is older
		if err := a.Room(); !errors.Is(err, ErrFull) {
			t.Fatal("there is room: ", err)
		}
		a.write("/new", noise(2, 20_000))
		time.Sleep(time.Minute)
		a.rm("/big")
		if err := a.Cut(t.Context()); !errors.Is(err, ErrFull) {
			t.Errorf("cut: %v", err)
		}
		time.Sleep(time.Hour)
		if s, err := a.Stats(); err != nil || s.Pending != 1 {
			t.Errorf("%d things wait to be cut, %v", s.Pending, err)
		}
		if a.Store().Has(c.Content.Root) {
			t.Error("the blocks of what was removed are there")
		}
		sized(disk, 400<<20, 100<<20)
		time.Sleep(time.Minute)
		if s, err := a.Stats(); err != nil || s.Pending != 0 {
			t.Errorf("%d things wait to be cut, %v", s.Pending, err)
		}
	})
}

// On a full disk what others tell is taken in, so that what they remove makes
// room; only blocks wait for it. When not even rows fit, nothing is taken in.
func TestAFullDiskTakesInWhatOthersTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		disk := sized(vfs.NewMem(), 400<<20, 100<<20)
		b.onDisk(disk)
		a.write("/big", noise(1, 2<<20))
		w.settle()
		c, err := b.Content(b.stat("/big").Ino)
		b.must(err)
		reserve := uint64(b.disk.Reserve())
		sized(disk, 400<<20, reserve-1)
		time.Sleep(2 * time.Second) // what is known of the disk is older
		a.rm("/big")
		a.write("/new", noise(2, 2<<20))
		a.write("/note", "N")
		time.Sleep(time.Hour)
		if got := b.shows("/big") + b.shows("/new") + b.shows("/note"); got != "N" {
			t.Errorf("%d bytes are shown, of %.20q", len(got), got)
		}
		if n, _ := b.Missing(); n == 0 {
			t.Error("nothing is missing")
		}
		if b.Store().Has(c.Content.Root) {
			t.Error("the blocks of what was removed are there")
		}
		sized(disk, 400<<20, 0)
		time.Sleep(2 * time.Second)
		if err := b.Receive(t.Context(), "eve", forge(b, 0, model.Change{ID: model.BirthID(model.RootID, "x", model.Dir, 0), Kind: model.Dir, Lamport: 1,
			Links:   []model.LinkChange{{Key: model.PrimaryKey, Parent: model.RootID, Name: "x"}},
			Version: &model.VersionChange{}})); !errors.Is(err, ErrFull) {
			t.Errorf("without any room: %v", err)
		}
		sized(disk, 400<<20, 100<<20)
		time.Sleep(10 * time.Second)
		w.same()
	})
}

// What was frozen when the folder stopped is not logged: memory is ahead of the
// rows, and so would be the log.
func TestNothingIsLoggedAfterAStop(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	w.same()
	n, _, err := a.LogSize()
	a.must(err)
	var once atomic.Bool
	a.surf.froze = func(Ino) {
		if !once.Swap(true) {
			a.FailAhead()
		}
	}
	a.write("/g", "G")
	if err := a.Cut(t.Context()); err == nil {
		t.Error("a folder that has stopped cuts")
	}
	if got, _, err := a.LogSize(); err != nil || got != n {
		t.Errorf("%d batches in the log, %d before the stop, %v", got, n, err)
	}
	w.talk.Lock()
	if err := a.end(); err == nil {
		t.Error("a folder that has stopped ends without an error")
	}
	a.start()
	w.talk.Unlock()
	a.write("/g", "G")
	w.want("/f 644 F", "/g 644 G")
}

// lender has a block to give, or is silent.
type lender struct {
	*memRemote
	block   []byte
	answers atomic.Bool
	asked   atomic.Int64
}

func (r *lender) Fetch(ctx context.Context, id blocks.ID, size int64, class Class) error {
	store := r.p.Store()
	if id != store.ID(r.block) {
		return r.memRemote.Fetch(ctx, id, size, class)
	}
	if r.asked.Add(1); r.answers.Load() {
		return store.PutVerified(ctx, id, r.block)
	}
	<-ctx.Done()
	return ctx.Err()
}

// A file that was written over a block which is not here waits for the peers;
// nothing else does, however silent they are.
func TestNoCutWaitsForSilentPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		r := &lender{memRemote: &memRemote{a}, block: []byte(noise(1, 10_000))}
		a.again(r)
		a.write("/bad", "0")
		w.settle()
		bad, id := a.stat("/bad").Ino, a.Store().ID(r.block)
		a.surf.fails = func(ctx context.Context, ino Ino) error {
			if ino != bad {
				return nil
			}
			_, err := a.Blocks().Get(ctx, id, nil)
			return err
		}
		a.write("/bad", "1")
		for i := range 90 {
			a.write("/good", fmt.Sprint(i))
			time.Sleep(time.Second)
			if got := b.shows("/good"); got != fmt.Sprint(i) {
				t.Fatalf("after %d s the other peer has %q", i, got)
			}
		}
		if n := r.asked.Load(); n == 0 || n > 3 {
			t.Errorf("peers were asked %d times", n)
		}
		r.answers.Store(true)
		a.must(a.Cut(t.Context()))
		time.Sleep(time.Second)
		if got := b.shows("/bad"); got != "1" {
			t.Errorf("the other peer has %q", got)
		}
	})
}

// What peers have of what a file was written over comes, and the file is cut then.
func TestWhatACutLacksIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		r := &lender{memRemote: &memRemote{a}, block: []byte(noise(1, 10_000))}
		r.answers.Store(true)
		a.again(r)
		id := a.Store().ID(r.block)
		a.surf.fails = func(ctx context.Context, _ Ino) error {
			_, err := a.Blocks().Get(ctx, id, nil)
			return err
		}
		a.write("/f", "F")
		time.Sleep(time.Second)
		if got := b.shows("/f"); got != "F" {
			t.Errorf("the other peer has %q", got)
		}
	})
}

// What hung together with something that waited is cut when that is gone, though
// nothing happens in its directory any more.
func TestWhatHungTogetherWithWhatIsGoneIsCut(t *testing.T) {
	for name, do := range map[string]func(a *peer) (close func()){
		"put aside and removed": func(a *peer) func() {
			a.mv("/d1/f", "/d0/.~lock.f#")
			time.Sleep(500 * time.Millisecond)
			a.rm("/d0/.~lock.f#")
			return func() {}
		},
		"put aside and removed below": func(a *peer) func() {
			a.mv("/d1/f", "/d2/.~lock.f#")
			time.Sleep(500 * time.Millisecond)
			a.rm("/d2/.~lock.f#")
			return func() {}
		},
		"a name of what is written": func(a *peer) func() {
			h := a.edit("/d1/f")
			h.write(0, "being written")
			a.link("/d1/f", "/d0/g")
			a.link("/d1/f", "/d2/g")
			time.Sleep(500 * time.Millisecond)
			a.rm("/d0/g")
			time.Sleep(500 * time.Millisecond)
			return h.close
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a, b := w.peers[0], w.peers[1]
				for i := range 3 {
					a.mkdir(fmt.Sprint("/d", i))
				}
				a.write("/d1/f", "seen")
				w.settle()
				do(a)()
				time.Sleep(5 * time.Second)
				if s, err := a.Stats(); err != nil || s.Pending != 0 {
					t.Errorf("%d changes are not cut, %v: %s", s.Pending, err, a.Drift())
				}
				if a.tree() != b.tree() {
					t.Errorf("%s\nis not\n%s", b.tree(), a.tree())
				}
			})
		})
	}
}

// What is written to a file that others move meanwhile is cut when it rests.
func TestWhatIsWrittenWhileOthersMoveTheFileIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.mkdir("/d")
		a.mkdir("/e")
		a.write("/d/f", "seen")
		w.settle()
		h := a.edit("/d/f")
		h.write(0, "written")
		time.Sleep(time.Second)
		b.mv("/d/f", "/e/g")
		time.Sleep(time.Minute)
		if got := b.shows("/e/g"); got != "written" {
			t.Errorf("the other peer has %q, %s", got, a.Drift())
		}
		h.close()
	})
}
