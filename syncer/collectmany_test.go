package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/crashfs"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// alone is a peer that knows to be the only member.
func alone(t testing.TB) *peer {
	w := newCrashable(t, 1)
	p := w.peers[0]
	p.opts.Members = func() []string { return nil }
	p.again(p.opts.Remote)
	return p
}

// forest makes directories of directories of files.
func (p *peer) forest(tops, dirs, files int) {
	p.t.Helper()
	sub := func(in Ino, name string, kind model.Kind) Ino {
		a, err := p.Create(in, name, New{Kind: kind, Mode: 0o700})
		p.must(err)
		return a.Ino
	}
	for i := range tops {
		top := sub(RootIno, fmt.Sprint("t", i), model.Dir)
		for j := range dirs {
			dir := sub(top, fmt.Sprint("d", j), model.Dir)
			for k := range files {
				sub(dir, fmt.Sprint("f", k), model.File)
			}
		}
	}
	p.cutNow()
}

// Directories go with all that was in them, level by level, however many there
// are; one collection is enough.
func TestManyDirectoriesAreCollectedAtOnce(t *testing.T) {
	p := alone(t)
	p.write("/stays", "here")
	p.cutNow()
	states := len(p.State())
	const tops, dirs, files = 3, 100, 2
	p.forest(tops, dirs, files)
	for i := range tops {
		p.rm(fmt.Sprint("/t", i))
	}
	p.cutNow()
	want := tops * (1 + dirs*(1+files))
	if n := p.collectNow(); n != want {
		t.Errorf("%d of %d collected", n, want)
	}
	if n := len(p.State()); n != states {
		t.Errorf("%d nodes are left of %d", n, states)
	}
	if n := p.collectNow(); n != 0 {
		t.Errorf("%d collected again", n)
	}
	p.w.same()
}

// What was known to all in the time before this member began anew says nothing
// of the time after.
func TestACollectionEndsWhenTheMemberBeginsAnew(t *testing.T) {
	for _, anew := range []bool{false, true} {
		t.Run(fmt.Sprint("anew ", anew), func(t *testing.T) {
			w := newCrashable(t, 3)
			w.members()
			a, b, c := w.peers[0], w.peers[1], w.peers[2]
			a.write("/early", "gone before")
			a.write("/late", "gone later")
			w.same()
			a.rm("/early")
			w.same()
			w.ack()
			w.part(true)
			c.write("/new", "c's")
			c.cutNow()
			life := func() {}
			if anew {
				a.rm("/late")
				a.cutNow()
				w.talk2(a, b)
				a.must(a.Forget())
				b.must(b.Forget())
				life = func() { w.part(false); w.same() }
			}
			was := c.Replica()
			n, err := c.CollectLate(t.Context(), time.Now().Add(soon), life)
			if began := c.Replica() != was; began != anew {
				t.Fatalf("began anew: %v", began)
			}
			if anew && (n != 0 || !errors.Is(err, ErrAnew)) || !anew && (n != 1 || err != nil) {
				t.Errorf("%d collected, %v", n, err)
			}
			w.part(false)
			w.same()
		})
	}
}

// A directory stays while something is joined that was in it, after the rows were
// looked through too, and if another look has begun.
func TestWhatIsJoinedMeanwhileKeepsItsDirectory(t *testing.T) {
	for _, tt := range []struct {
		name           string
		joined, newest bool
		want           int
	}{{"nothing", false, true, 1}, {"joined", true, true, 0}, {"another look", false, false, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			a.opts.Members = func() []string { return nil }
			a.again(a.opts.Remote)
			a.mkdir("/d")
			w.same()
			w.part(true)
			b.write("/d/x", "b's")
			b.cutNow()
			b.rm("/d/x")
			b.cutNow()
			a.rm("/d")
			a.cutNow()
			n, err := a.CollectSeen(time.Now().Add(soon), tt.newest, func() {
				if tt.joined {
					w.talk2(a, b)
				}
			})
			if a.must(err); n != tt.want {
				t.Errorf("%d collected, not %d", n, tt.want)
			}
		})
	}
}

// BenchmarkCollect collects 20,000 of 50,000 nodes, a tenth of them directories:
// with a look at all rows for each 256 tombs, and for each level of directories.
func BenchmarkCollect(b *testing.B) {
	p := alone(b)
	const dead, alive, files = 2000, 3000, 9
	p.forest(1, alive, files)
	for i := range dead / 20 {
		top := fmt.Sprint("/gone", i)
		p.mkdir(top)
		dir, name := p.at(top)
		at, err := p.Lookup(dir, name)
		p.must(err)
		for j := range 20 {
			d, err := p.Create(at.Ino, fmt.Sprint("d", j), New{Kind: model.Dir, Mode: 0o700})
			p.must(err)
			for k := range files {
				_, err := p.Create(d.Ino, fmt.Sprint("f", k), New{Kind: model.File, Mode: 0o600})
				p.must(err)
			}
		}
	}
	p.cutNow()
	for i := range dead / 20 {
		p.rm(fmt.Sprint("/gone", i))
	}
	p.cutNow()
	p.must(p.Sync())
	full := p.fs.(*crashfs.FS).CrashClone(vfs.CrashCloneCfg{})
	before := time.Now().Add(soon)
	for _, v := range []struct {
		name    string
		collect func() (int, error)
	}{
		{"for each 256", func() (int, error) { return p.CollectBySome(before, 256) }},
		{"for each level", func() (int, error) { return p.Collect(context.Background(), before) }},
	} {
		b.Run(v.name, func(b *testing.B) {
			var took []time.Duration
			for range b.N {
				b.StopTimer()
				p.onDisk(full.CrashClone(vfs.CrashCloneCfg{}))
				b.StartTimer()
				start := time.Now()
				n, err := v.collect()
				took = append(took, time.Since(start))
				if err != nil || n != dead*(1+files)+dead/20 {
					b.Fatalf("%d collected, %v", n, err)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms-median")
		})
	}
}
