package syncer_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand"
	rand2 "math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/crashfs"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// join adds a newcomer to the world.
func (w *world) join() *peer {
	_, dev, _ := ed25519.GenerateKey(rand.Reader)
	q := w.peers[0].opts
	p := &peer{t: w.t, w: w, name: string(rune('a' + len(w.peers))), fs: vfs.NewMem()}
	q.Device, q.Label, q.Remote, q.Joined = dev, model.Label{Author: "u" + p.name, Device: "d" + p.name}, &memRemote{p}, true
	p.opts = q
	p.start()
	w.live.Lock()
	w.peers = append(w.peers, p)
	w.live.Unlock()
	return p
}

func TestDeadBatchesGoAndNewcomersMissNothing(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	for i := range 40 {
		p := []*peer{a, b}[i%2]
		p.write("/d/f", fmt.Sprint("version ", i))
		p.write(fmt.Sprint("/d/g", i%3), fmt.Sprint("g", i))
		w.settle()
		if i%10 == 5 {
			a.mv("/d", "/e")
			w.settle()
			b.mv("/e", "/d")
			w.settle()
		}
	}
	n, _, err := a.LogSize()
	a.must(err)
	if n > 20 { // of some 100: a directory remembers its nine places, a file needs two changes
		t.Errorf("%d batches are kept for 5 nodes", n)
	}
	c := w.join()
	w.same()
	if !c.Knowledge().Equal(a.Knowledge()) {
		t.Errorf("newcomer knows %v, not %v", c.Knowledge(), a.Knowledge())
	}
	c.write("/d/f", "newcomer's")
	w.same()
	if s, err := a.Stats(); err != nil || s.Conflicts != 0 {
		t.Errorf("%d conflicts without concurrency: %v", s.Conflicts, err)
	}
}

// A catch-up over gaps that breaks off leaves nothing claimed that did not come.
func TestBrokenCatchUpClaimsNothing(t *testing.T) {
	t.Logf("seed %d", *seed)
	r := mrand.New(mrand.NewSource(*seed))
	w := newWorld(t, 2)
	a := w.peers[0]
	for i := range 30 {
		w.peers[i%2].write(fmt.Sprint("/f", r.Intn(6)), fmt.Sprint("v", i))
		w.settle()
	}
	w.part(true)
	c := w.join()
	ctx := context.Background()
	for range 20 {
		stop := r.Intn(8)
		for b, err := range a.Since(ctx, c.Knowledge(), nil) {
			a.must(err)
			if stop--; stop < 0 {
				break
			}
			c.must(c.Receive(ctx, "a", b))
		}
		c.must(c.Sync())
		for _, d := range c.Knowledge() {
			if d.Seq > a.Knowledge().Get(d.Replica) {
				t.Fatalf("claims %v", d)
			}
		}
		c.must(c.Check(ctx, func(err error) {
			if !errors.Is(err, ErrOffline) {
				t.Error(err)
			}
		}))
	}
	w.part(false)
	w.same()
}

// TestCrashKeepsWhatWasSynced kills a peer at random moments: what remains is
// whole, what was synced is there, and the two come together again.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	t.Logf("seed %d", *seed)
	r := mrand.New(mrand.NewSource(*seed))
	for round := range 8 {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.crashable()
		acked := map[string]string{}
		for i := range 25 + r.Intn(10) {
			path := fmt.Sprint("/f", r.Intn(5))
			switch r.Intn(6) {
			case 0:
				a.mkdir(fmt.Sprint("/d", i))
			case 1:
				b.write(fmt.Sprint("/b", r.Intn(3)), fmt.Sprint("b", i))
			default:
				a.write(path, fmt.Sprint("round ", round, " step ", i))
				if r.Intn(3) == 0 {
					a.must(a.Cut(context.Background()))
					acked[path] = fmt.Sprint("round ", round, " step ", i)
				} else {
					delete(acked, path)
				}
			}
		}
		a.crash(r)
		for path, want := range acked {
			dir, name := a.at(path)
			x, err := a.Lookup(dir, name)
			if err != nil {
				t.Errorf("round %d: %s was synced: %v", round, path, err)
			} else if got := a.read(x.Ino); got != want {
				t.Errorf("round %d: %s is %q, was synced as %q", round, path, got, want)
			}
		}
		w.same()
		a.write("/after", "crash")
		w.same()
	}
}

func (p *peer) crashable() {
	p.w.talk.Lock()
	defer p.w.talk.Unlock()
	p.stop()
	p.fs = crashfs.New()
	p.start()
}

// crash goes on with what a power cut leaves of the disk.
func (p *peer) crash(r *mrand.Rand) {
	p.w.talk.Lock()
	defer p.w.talk.Unlock()
	left := p.fs.(*crashfs.FS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.Intn(101), RNG: rng(r)})
	p.stop()
	p.fs = left
	p.start()
}

func rng(r *mrand.Rand) *rand2.Rand { return rand2.New(rand2.NewPCG(r.Uint64(), r.Uint64())) }

// A folder that a failing disk has stopped announces nothing that was not
// written: the next start gives the same dots to other changes, which nobody
// would take in.
func TestStoppedFolderAnnouncesNothing(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	w.same()
	k := a.Knowledge()
	a.FailAhead()
	if err := a.Sync(); err == nil || !a.Knowledge().Equal(k) {
		t.Errorf("sync: %v, knows %v, had written %v", err, a.Knowledge(), k)
	}
	for _, err := range a.Since(t.Context(), nil, nil) {
		if err == nil {
			t.Error("a batch is sent")
		}
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
