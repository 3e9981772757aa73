package syncer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/content"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// noise is bytes that do not compress.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	c := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = c.Read(b)
	return string(b)
}

// sized tells a disk in memory how much room it has.
func sized(fs *vfs.MemFS, total, free uint64) *vfs.MemFS {
	fs.TestingSetDiskUsage(vfs.DiskUsage{TotalBytes: total, AvailBytes: free})
	return fs
}

func (p *peer) onDisk(fs vfs.FS) {
	p.w.talk.Lock()
	defer p.w.talk.Unlock()
	p.stop()
	p.fs = fs
	p.start()
}

func (p *peer) pasts() (out []string) {
	p.t.Helper()
	p.must(p.Pasts(func(x index.Past) bool { out = append(out, p.bytesOf(x)); return true }))
	return out
}

func (p *peer) countPasts() (n int) {
	p.t.Helper()
	p.must(p.Pasts(func(index.Past) bool { n++; return true }))
	return n
}

// History takes its share of the disk, counting what versions have in common
// once; what goes beyond that goes, the oldest first, and its blocks with it.
func TestHistoryKeepsToItsShare(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	a.opts.Members = func() []string { return nil }
	a.onDisk(sized(vfs.NewMem(), 75<<20, 60<<20)) // a tenth is 7.5 MiB
	const size = 2 << 20
	common := noise(99, 2*size)
	data := func(i int) string { return common + noise(uint64(i), size) }
	const saves = 8
	for i := range saves {
		a.write("/f", data(i))
		a.must(a.Cut(t.Context()))
	}
	_, _, before, err := a.disk.Usage()
	a.must(err)
	a.must(a.Expire(t.Context()))
	got := a.pasts()
	if len(got) != 3 {
		t.Fatalf("%d versions are kept, of which each takes 2 MiB", len(got))
	}
	for i, s := range got {
		if s != data(saves-2-i) {
			t.Errorf("version %d is another", i)
		}
	}
	a.want(t, "/f", data(saves-1))
	if _, _, after, err := a.disk.Usage(); err != nil || before-after < 3*size {
		t.Errorf("%d bytes before, %d after, %v", before, after, err)
	}
	if err := a.Check(t.Context(), func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
}

func (p *peer) want(t *testing.T, path, data string) {
	t.Helper()
	if got := p.read(p.stat(path).Ino); got != data {
		t.Errorf("%s has %.20q, not %.20q", path, got, data)
	}
}

// A short disk takes history before anything fails, but for what no other
// member has.
func TestAShortDiskTakesHistoryFirst(t *testing.T) {
	for _, acked := range []bool{true, false} {
		t.Run(fmt.Sprint("acked ", acked), func(t *testing.T) {
			w := newWorld(t, 1)
			a := w.peers[0]
			a.opts.Members = func() []string { return []string{"b"} }
			disk := sized(vfs.NewMem(), 1<<30, 900<<20)
			a.onDisk(disk)
			for i := range 4 {
				a.write("/f", noise(uint64(i), 1<<20))
				a.must(a.Cut(t.Context()))
			}
			if acked {
				a.Acked("b", a.Knowledge(), 0)
			}
			reserve := uint64(a.disk.Reserve())
			sized(disk, 1<<30, reserve+reserve/4) // with the ballast: above the mark where writes fail
			a.must(a.Room())
			a.write("/g", "small")
			a.must(a.Cut(t.Context()))
			want := 0
			if !acked {
				want = 3
			}
			if acked {
				w.until("history is let go of", func() bool { return a.countPasts() == want })
			} else {
				a.must(a.Expire(t.Context()))
			}
			if got := a.pasts(); len(got) != want {
				t.Errorf("%d versions are kept, not %d", len(got), want)
			}
			a.want(t, "/f", noise(3, 1<<20))
		})
	}
}

// A heraldRemote calls told, once, when something is announced.
type heraldRemote struct {
	memRemote
	told atomic.Pointer[func()]
}

func (r *heraldRemote) Announce(k model.VV) {
	r.memRemote.Announce(k)
	if told := r.told.Swap(nil); told != nil {
		(*told)()
	}
}

// What programs read under the bytes that they have written stays until their
// surface reads the next version, though it is history and there is no room for any.
func TestWhatIsStagedOverStaysUntilTheSurfaceHasTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.peers[0]
		a.opts.Members, a.opts.KeepShare = func() []string { return nil }, 1e-9
		a.onDisk(sized(vfs.NewMem(), 1<<30, 900<<20))
		r := &heraldRemote{memRemote: memRemote{a}}
		a.again(r)
		a.write("/f", noise(1, 1<<20))
		a.cutNow()
		v, err := a.Content(a.ino("/f"))
		a.must(err)
		expired := make(chan error, 1)
		told := func() {
			go func() { expired <- a.Expire(t.Context()) }()
			time.Sleep(time.Second)
		}
		r.told.Store(&told)
		asked := false
		a.surf.knows = func(Ino) {
			asked = r.told.Load() == nil
			b := make([]byte, v.Content.Size)
			if _, err := content.NewReader(a.Store(), v.Content).ReadAt(t.Context(), b, 0); err != nil {
				t.Error("what was written over cannot be read:", err)
			}
		}
		a.write("/f", noise(2, 1<<20))
		a.cutNow()
		if !asked {
			t.Fatal("nothing has expired before the surface knew")
		}
		if a.must(<-expired); a.countPasts() != 0 {
			t.Error("history is kept")
		}
	})
}

// An idle folder is looked at and not written to.
func TestExpiringNothingWritesNothing(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	for i := range 3 {
		a.write("/f", fmt.Sprint("version ", i, strings.Repeat(".", 5000)))
		a.must(a.Cut(t.Context()))
	}
	a.must(a.Expire(t.Context()))
	a.must(a.Sync())
	before := a.disk.Meta().Metrics().WAL.BytesIn
	for range 3 {
		a.must(a.Expire(t.Context()))
	}
	if got := a.disk.Meta().Metrics().WAL.BytesIn; got != before {
		t.Errorf("%d bytes were written", got-before)
	}
	if n := len(a.pasts()); n != 2 {
		t.Errorf("%d versions", n)
	}
}

// Old history goes with its days.
func TestOldHistoryGoes(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	a.opts.Members = func() []string { return nil }
	a.opts.KeepDays = -1 // till tomorrow
	a.again(a.opts.Remote)
	long := noise(1, 1<<20)
	a.write("/f", long)
	a.must(a.Cut(t.Context()))
	c, err := a.Content(a.stat("/f").Ino)
	a.must(err)
	a.write("/f", "short")
	a.must(a.Cut(t.Context()))
	a.must(a.Expire(t.Context()))
	if n := len(a.pasts()); n != 0 {
		t.Errorf("%d versions", n)
	}
	if a.Store().Has(c.Content.Root) {
		t.Error("its blocks are there")
	}
	a.want(t, "/f", "short")
}

// clocked is a peer without others, and by how much its clock is ahead, in ns.
func clocked(t *testing.T) (a *peer, ahead *atomic.Int64) {
	a, ahead = newWorld(t, 1).peers[0], &atomic.Int64{}
	a.opts.Members = func() []string { return nil }
	a.opts.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	a.again(a.opts.Remote)
	return a, ahead
}

// A clock that jumps ahead makes no history old.
func TestAClockThatJumpsMakesNothingOld(t *testing.T) {
	a, ahead := clocked(t)
	days := func(n int) {
		ahead.Add(int64(n) * int64(24*time.Hour))
		a.must(a.Expire(t.Context()))
	}
	a.must(a.Expire(t.Context()))
	a.write("/f", "one")
	a.must(a.Cut(t.Context()))
	a.write("/f", "two")
	a.must(a.Cut(t.Context()))
	days(400)
	if n := a.countPasts(); n != 1 {
		t.Errorf("%d versions after the jump", n)
	}
	a.again(a.opts.Remote) // a restart forgets nothing of it
	for range 28 {
		days(1)
	}
	if n := a.countPasts(); n != 1 {
		t.Errorf("%d versions after 28 days", n)
	}
	for range 3 {
		days(1)
	}
	if n := a.countPasts(); n != 0 {
		t.Errorf("%d versions after 32 days", n)
	}
}

// Nor does one that jumps twice before anybody looks again, with something let go of
// in between.
func TestAClockThatJumpsTwiceMakesNothingOld(t *testing.T) {
	a, ahead := clocked(t)
	a.must(a.Expire(t.Context()))
	a.write("/f", "one")
	a.must(a.Cut(t.Context()))
	for _, days := range []int{2000, 400, 700} {
		ahead.Add(int64(days) * int64(24*time.Hour))
		a.write("/f", fmt.Sprint(days))
		a.must(a.Cut(t.Context()))
	}
	ahead.Add(int64(100 * 24 * time.Hour))
	a.must(a.Expire(t.Context()))
	if n := a.countPasts(); n != 3 {
		t.Errorf("%d versions after the jumps", n)
	}
}

// What goes into the history while the clock is back in 1970, until it is set, is not
// old then.
func TestAClockThatWasBackMakesNothingOld(t *testing.T) {
	a, ahead := clocked(t)
	a.must(a.Expire(t.Context()))
	const back = 56 * 365 * 24 * time.Hour
	a.again(a.opts.Remote)
	ahead.Add(-int64(back))
	a.write("/f", "one")
	a.must(a.Cut(t.Context()))
	a.write("/f", "two")
	a.must(a.Cut(t.Context()))
	ahead.Add(int64(back))
	all := a.countPasts() // a cut may have come between the making of the file and its first bytes
	if all == 0 {
		t.Fatal("no version is kept")
	}
	for day := range 30 {
		if n := a.countPasts(); n != all {
			t.Fatalf("%d versions after %d days, of %d", n, day, all)
		}
		ahead.Add(int64(24 * time.Hour))
		a.must(a.Expire(t.Context()))
	}
	ahead.Add(int64(24 * time.Hour))
	a.must(a.Expire(t.Context()))
	if n := a.countPasts(); n != 0 {
		t.Errorf("%d versions after 31 days", n)
	}
}

// What was written here and nobody else has is kept, also by who has become
// another replica since.
func TestWhatNobodyElseHasOutlivesANewReplica(t *testing.T) {
	w := newWorld(t, 2)
	w.members()
	a := w.peers[0]
	a.write("/f", "known to all")
	w.same()
	w.part(true)
	a.opts.KeepShare = 1e-18
	a.again(a.opts.Remote)
	for _, data := range []string{"seen by nobody else", "second"} {
		a.write("/f", data)
		a.cutNow()
	}
	a.must(a.Rekey())
	a.must(a.Expire(t.Context()))
	if got := a.pasts(); !slices.Contains(got, "seen by nobody else") {
		t.Errorf("kept %q", got)
	}
}

// What only a member had that was removed since is kept: nobody else may have it.
func TestWhatOnlyARemovedMemberHadIsKept(t *testing.T) {
	a := newWorld(t, 1).peers[0]
	members := []string{"b", "c"}
	a.opts.Members = func() []string { return members }
	a.opts.KeepShare = 1e-18
	a.again(a.opts.Remote)
	a.write("/f", "b's and mine")
	a.cutNow()
	a.Acked("b", a.Knowledge(), 0)
	a.write("/f", "second")
	a.cutNow()
	members = []string{"c"}
	a.must(a.Expire(t.Context()))
	if got := a.pasts(); !slices.Contains(got, "b's and mine") {
		t.Errorf("kept %q", got)
	}
	members = []string{"b", "c"}
	a.must(a.Expire(t.Context()))
	if got := a.pasts(); len(got) != 0 {
		t.Errorf("kept %q though b has it", got)
	}
}
