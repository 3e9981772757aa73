package simtest

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clachanfs/clachan/peers/wire"
)

// TestIdlePairIsSilent: two peers that are in sync, and left alone for a day,
// say nothing but that they are there, ask for no block, and write nothing.
func TestIdlePairIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(&plan{peers: 2, slow: -1, sized: make([]bool, 2)})
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.guard(func() { w.silence(t) })
		if w.failed() != "" {
			t.Error(w.failed())
		}
	})
}

func (w *world) silence(t *testing.T) {
	for _, m := range w.ms {
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
	}
	a, b := w.ms[0], w.ms[1]
	for i, m := range []*machine{a, b, a, a} {
		path := "/" + names[i]
		if h, err := m.open(path, true, true, false); err == nil {
			_ = h.write(0, 0, w.oracle.bytes(m, 10_000*i, true))
			h.close()
		}
		_ = m.mkdir(path + ".d")
		_ = m.setxattr(path, "user.x", "y")
	}
	w.together()
	_ = b.unlink("/" + names[2])
	w.together()
	time.Sleep(2 * time.Hour) // small blocks are packed, tables compacted
	synctest.Wait()

	before := w.activity()
	const day = 24 * time.Hour
	time.Sleep(day)
	synctest.Wait()
	now := w.activity()
	if what := now.beyond(before); what != "" {
		t.Errorf("%s, of %v", what, w.net)
	}
	if n := now.writes - before.writes; n > 0 {
		t.Errorf("%d writes to disk", n)
	}
	alive, perMinute := now.alive-before.alive, (now.sent-before.sent)/int64(day/time.Minute)/2
	if alive == 0 || perMinute > 2048 {
		t.Errorf("%d frames and %d bytes a minute to keep alive", alive, perMinute)
	}
	t.Logf("in a day: %d frames to keep alive, %d bytes a minute from each peer, nothing else", alive, perMinute)
}

// An activity is how much has been said and written so far.
type activity struct {
	frames        map[wire.Type]int
	alive, blocks int
	sent, writes  int64
}

func (w *world) activity() (x activity) {
	w.net.mu.Lock()
	x.sent, x.blocks, x.frames = w.net.sent, w.net.blocks, maps.Clone(w.net.frames)
	w.net.mu.Unlock()
	x.alive = x.frames[wire.TypePing] + x.frames[wire.TypePong]
	for _, m := range w.ms {
		x.writes += m.d.writes.Load()
	}
	return x
}

// beyond tells what has been said since that does not only keep links alive.
func (x activity) beyond(before activity) string {
	for k, n := range x.frames {
		if n -= before.frames[k]; n > 0 && k != wire.TypePing && k != wire.TypePong {
			return fmt.Sprintf("%d frames of type %d were sent", n, k)
		}
	}
	if n := x.blocks - before.blocks; n > 0 {
		return fmt.Sprintf("%d times something was written to block streams", n)
	}
	return ""
}

// bySettled is how long machines may go on writing what is theirs: then small
// blocks have been packed and tables compacted.
const bySettled = time.Hour

// linked tells whether each is connected with each: who is not tries again.
func (w *world) linked() bool {
	for i, m := range w.ms {
		for _, o := range w.ms[:i] {
			if m.host.conn(o.pid) == nil {
				return false
			}
		}
	}
	return true
}

// idle checks that nothing is said when nothing happens (I10), and, after long
// enough, nothing written.
func (w *world) idle(settle, watch time.Duration) {
	if w.evil != nil {
		return
	}
	for deadline := time.Now().Add(5 * time.Minute); !w.linked() && time.Now().Before(deadline); {
		time.Sleep(time.Second)
	}
	for _, m := range w.ms { // whose disk was full asks again a minute later
		if !m.sick.IsZero() {
			settle = max(settle, 70*time.Second-time.Since(m.sick))
		}
	}
	time.Sleep(settle) // the last acks
	synctest.Wait()
	before, k := w.activity(), w.ms[0].f.Joined()
	time.Sleep(watch)
	synctest.Wait()
	now := w.activity()
	what := now.beyond(before)
	if n := now.writes - before.writes; what == "" && n > 0 && settle > bySettled {
		what = fmt.Sprintf("%d writes to disks", n)
	}
	if what == "" && !w.ms[0].f.Joined().Equal(k) {
		what = "something was changed"
	}
	if what != "" {
		w.fail("I10", "%s though nobody did anything: %v", what, w.net)
	}
}
