package simtest

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/clachanfs/clachan/syncer/model"
)

// A plan is all that a simulation decides beforehand, from its seed.
type plan struct {
	seed     uint64
	peers    int
	users    int // on each
	steps    int
	calm     bool    // one user at a time, and all in sync in between
	lossy    float64 // share of writes to a link that are lost once
	slow     int     // this machine's links are 100 times slower, -1: none's
	sized    []bool  // disks that can be full
	believes []bool  // machines that take their clock for right, whatever it shows
	rot      bool    // bits may flip
	evil     bool    // a member is malicious
	names    string  // the folder's name policy
	late     bool    // the last machine joins on the way
	copied   bool    // disks are, and run
	watched  bool    // each call is looked after
	reader   bool    // machine b may not write
	long     bool    // it is watched for long that nothing happens when nobody does anything
	savers   bool    // most programs read files, and save them when others have
	faults   []fault
}

type kind uint8

const (
	partition kind = iota // of one machine from another, or from all
	crash                 // at the n-th write from then
	restart
	diskFull
	diskErrors
	bitFlip
	clockJump
	hangUp   // of all connections of a machine
	pause    // nothing happens for a while
	inSync   // all faults end, all must be the same
	days     // pass, and all give space back and collect what was removed
	backedUp // a machine's disk is copied
	restored // the machine goes on with that copy
	twins    // a copy of a machine runs at the same time
	joins    // the last machine becomes a member only now
	garbling // links repeat and swap frames
	lostLink // a machine loses its connections, and what it has sent comes when there are new ones
)

// A fault is one thing that happens to a machine.
type fault struct {
	step  int
	kind  kind
	m, o  int // the machine, and the other of a partition, -1: all others
	n     int // writes until a crash; share of unsynced data, or of failing operations, in percent
	share int
	dur   time.Duration
}

func (f fault) String() string {
	m := name(f.m)
	switch f.kind {
	case partition:
		if f.o < 0 {
			return fmt.Sprintf("%s is cut off from all for %v", m, f.dur)
		}
		return fmt.Sprintf("%s is cut off from %s for %v", m, name(f.o), f.dur)
	case crash:
		if f.n%3 == 0 {
			return fmt.Sprintf("%s loses its power at its %d. write when it overwrites something, keeps %d %% of what was not synced, comes back after %v", m, 1+f.n/3%6, f.share, f.dur)
		}
		return fmt.Sprintf("%s loses its power at its %d. write from then, keeps %d %% of what was not synced, comes back after %v", m, f.n, f.share, f.dur)
	case restart:
		return fmt.Sprintf("%s is restarted after %v", m, f.dur)
	case diskFull:
		return fmt.Sprintf("the disk of %s is full after %d writes, for %v", m, f.n, f.dur)
	case diskErrors:
		return fmt.Sprintf("%d %% of what %s does to tables on its disk fails for %v", f.share, m, f.dur)
	case bitFlip:
		return fmt.Sprintf("after %v, when all is in sync, a bit of a stored block of %s flips", f.dur, m)
	case clockJump:
		return fmt.Sprintf("the clock of %s jumps by %+.1f years", m, f.dur.Hours()/24/365)
	case hangUp:
		return fmt.Sprintf("all connections of %s break", m)
	case pause:
		return fmt.Sprintf("nobody does anything for %v", f.dur)
	case inSync:
		return "all faults end, and all come together"
	case days:
		return fmt.Sprintf("%d days pass", f.n)
	case joins:
		return m + " joins"
	case garbling:
		return fmt.Sprintf("%d %% of what %s sends and gets comes twice or out of order for %v", f.share, m, f.dur)
	case lostLink:
		return fmt.Sprintf("%s loses its connections; what it has sent since a second before comes %v later", m, f.dur)
	}
	return f.identity()
}

func name(i int) string { return string(rune('a' + i)) }

func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &plan{seed: seed, peers: 2 + min(r.IntN(4), r.IntN(4)), users: 1 + r.IntN(2), steps: 150 + r.IntN(100), slow: -1}
	p.calm = r.IntN(7) == 0
	p.sized = make([]bool, p.peers)
	if r.IntN(2) == 0 {
		p.lossy = []float64{0.01, 0.05, 0.2}[r.IntN(3)]
	}
	if r.IntN(5) == 0 {
		p.slow = r.IntN(p.peers)
	}
	p.evil = r.IntN(4) == 0 && !p.calm
	if p.names = model.NamesBytes; r.IntN(4) == 0 {
		p.names = model.NamesPortable
	}
	p.outages(r)
	rots := p.troubles(r)
	if !p.calm && r.IntN(4) == 0 {
		p.copies(r, rots)
	}
	p.add(r, 3, days, func(f *fault) { f.n = []int{1, 31, 100}[r.IntN(3)] })
	if p.peers > 2 && !p.calm && r.IntN(2) == 0 {
		p.late = true
		p.faults = append(p.faults, fault{kind: joins, m: p.peers - 1, step: p.steps/3 + r.IntN(p.steps/2)})
	}
	if r.IntN(3) == 0 {
		p.add(r, 3, garbling, func(f *fault) { f.dur, f.share = seconds(r), []int{1, 5, 30}[r.IntN(3)] })
	}
	p.add(r, 2, lostLink, func(f *fault) { f.dur = time.Duration(200+r.IntN(4000)) * time.Millisecond })
	p.long = r.IntN(4) == 0
	p.reader = p.peers > 2 && !p.calm && !p.copied && r.IntN(4) == 0
	for range p.peers {
		p.believes = append(p.believes, r.IntN(2) == 0)
	}
	p.watched = p.calm || r.IntN(3) > 0
	p.savers = r.IntN(8) == 0
	slices.SortStableFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.step, b.step) })
	return p
}

// add draws up to so many faults of a kind; set says the rest of each.
func (p *plan) add(r *rand.Rand, most int, k kind, set func(f *fault)) {
	for range r.IntN(most + 1) {
		f := fault{kind: k, m: r.IntN(p.peers), o: -1, step: r.IntN(p.steps)}
		set(&f)
		p.faults = append(p.faults, f)
	}
}

func seconds(r *rand.Rand) time.Duration { return time.Duration(1+r.IntN(40)) * time.Second }

// outages adds that machines do not reach one another, go down, and that time
// passes.
func (p *plan) outages(r *rand.Rand) {
	brief := func(f *fault) { f.dur = seconds(r) }
	if !p.calm {
		p.add(r, 5, partition, func(f *fault) {
			f.dur = seconds(r)
			if o := r.IntN(p.peers); o != f.m && r.IntN(2) == 0 {
				f.o = o
			}
			if r.IntN(6) == 0 {
				f.dur *= 10
			}
		})
		p.add(r, 2, inSync, func(*fault) {})
	}
	p.add(r, 5, crash, func(f *fault) {
		f.dur = seconds(r)
		f.n, f.share = 1+r.IntN(1+r.IntN(300)), []int{0, 0, 50, 100, r.IntN(101)}[r.IntN(5)]
	})
	p.add(r, 2, restart, brief)
	p.add(r, 2, hangUp, func(*fault) {})
	p.add(r, 2, pause, brief)
	p.add(r, 2, clockJump, func(f *fault) { f.dur = time.Duration((r.Float64()*20 - 10) * float64(365*24*time.Hour)) })
}

// troubles adds that disks fail, and tells of which machine bits rot, -1: of none.
func (p *plan) troubles(r *rand.Rand) (rots int) {
	if r.IntN(4) == 0 {
		p.add(r, 1, diskFull, func(f *fault) { f.dur = seconds(r); p.sized[f.m], f.n = true, r.IntN(21) })
	}
	if r.IntN(3) == 0 {
		p.add(r, 1, diskErrors, func(f *fault) { f.dur = seconds(r); f.share = 1 + r.IntN(50) })
	}
	if r.IntN(8) > 0 {
		return -1
	}
	p.rot = true
	m := r.IntN(p.peers) // one machine: another has what it loses
	p.add(r, 2, bitFlip, func(f *fault) { f.m, f.dur = m, 61*time.Minute })
	return m
}

// copies adds that disks are copied, and copies run instead of the disk, or
// beside it. Where bits of a machine rot it is that one: a copy of another would
// not have what it loses.
func (p *plan) copies(r *rand.Rand, rots int) {
	p.copied = true
	which := func() int {
		if m := r.IntN(p.peers); rots < 0 {
			return m
		}
		return rots
	}
	m, from := which(), r.IntN(p.steps)
	for range r.IntN(3) {
		at := from + r.IntN(p.steps-from)
		p.faults = append(p.faults, fault{kind: backedUp, m: m, step: from}, fault{kind: restored, m: m, step: at, share: r.IntN(2)})
		if r.IntN(2) == 0 {
			from = at
		}
	}
	if r.IntN(2) == 0 {
		p.faults = append(p.faults, fault{kind: twins, m: which(), step: r.IntN(p.steps)})
		p.slow = -1 // two that take turns need some speed
	}
}

// digest is a number for the whole plan.
func (p *plan) digest() uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, p)
	return h.Sum64()
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d machines with %d users each, %d steps", p.seed, p.peers, p.users, p.steps)
	if p.calm {
		b.WriteString(", one user at a time")
	}
	if p.lossy > 0 {
		fmt.Fprintf(&b, ", %.0f %% of all packets are lost", 100*p.lossy)
	}
	if p.slow >= 0 {
		fmt.Fprintf(&b, ", %s is 100 times slower", name(p.slow))
	}
	for i, yes := range p.believes {
		if yes {
			fmt.Fprintf(&b, ", %s believes its clock", name(i))
		}
	}
	if p.reader {
		b.WriteString(", b may only read")
	}
	if p.savers {
		b.WriteString(", most programs are editors")
	}
	if p.evil {
		b.WriteString(", one more member is malicious")
	}
	if p.names != model.NamesBytes {
		fmt.Fprintf(&b, ", %s names", p.names)
	}
	for _, f := range p.faults {
		fmt.Fprintf(&b, "\n  at step %d %v", f.step, f)
	}
	return b.String()
}
