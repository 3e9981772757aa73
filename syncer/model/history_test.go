package model

import (
	"flag"
	"fmt"
	"math/rand"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	histories = flag.Int("histories", 800, "random histories of a run")
	seed      = flag.Int64("seed", 1, "seed of the first history; 0: by the clock")
	tell      = flag.Bool("words", false, "print what a failing history's cuts say, and its steps, for testdata/broke")
)

// world is one random history. Its steps are made beforehand, so that a failing
// one can be cut down: what is left of it means the same.
type world struct {
	seed     int64
	names    []string
	fold     Fold
	peers    []*peer
	words    []string
	contents int
	supers   map[ID][]noted
	unlinks  map[ID]map[uint64][]noted
	resets   map[ID]map[string][]noted // "": of all attributes
	verbose  bool
	met      sights
}

type noted struct {
	dot Dot
	k   VV
}

// step is one thing that happens, to be read by what there is then.
type step struct {
	op   string
	p, q int
	x    [6]int
}

var nameSets = [][]string{{"a.txt", "b", "c"}, {"a.txt", "b", "c", "d"}, {"a.txt", "A.txt", "b", "B"}, {"d", "d-wal", "d-journal"}}

func newWorld(seed int64) *world {
	r := rand.New(rand.NewSource(seed))
	w := &world{seed: seed, supers: map[ID][]noted{}, unlinks: map[ID]map[uint64][]noted{}, resets: map[ID]map[string][]noted{}}
	set := r.Intn(3)
	if seed%7 == 3 { // databases and their journals
		set = 3
	}
	w.names, w.fold = nameSets[set], Bytes
	if set == 2 {
		w.fold = strings.ToLower
	}
	for i := range 2 + r.Intn(4) {
		p := newPeer(i, w.fold, rand.New(rand.NewSource(seed*7+int64(i))))
		p.clock = int64(r.Intn(30) * r.Intn(30)) // skewed clocks
		p.note = w.note
		p.sealed = seed%16 == 0
		w.peers = append(w.peers, p)
	}
	if seed%5 == 2 { // nothing keeps some clocks right, and some are years ahead
		for _, p := range w.peers {
			p.unsure = r.Intn(2) == 0
			if r.Intn(3) == 0 {
				p.clock += []int64{1, 2, 700, 7000}[r.Intn(4)] * 24 * 3600 * 8
			}
		}
	}
	return w
}

var ops = []struct {
	name   string
	weight int
}{
	{"write", 8}, {"edit", 8}, {"mkdir", 5}, {"symlink", 2}, {"rm", 6}, {"rm -r", 3}, {"mv", 16}, {"swap", 3},
	{"ln", 5}, {"chmod", 2}, {"xattr", 3}, {"touch", 3}, {"save", 2}, {"backup", 2}, {"rotate", 1},
}

// length is the number of operations of a history: 40 to 200, most of them
// short, where what goes wrong is seen as well and costs less.
func length(seed int64) int {
	x := rand.New(rand.NewSource(seed + 3)).Float64()
	return 40 + int(161*x*x)
}

// steps makes a history of n operations of users, and of exchanges and cuts
// between them: some histories have many of these, some few.
func steps(seed int64, n int) (out []step) {
	r := rand.New(rand.NewSource(seed + 1))
	syncs := []float64{0.05, 0.2, 0.5}[r.Intn(3)]
	cuts := []float64{0.1, 0.3, 1}[r.Intn(3)]
	var bag []string
	for _, o := range ops {
		for range o.weight {
			bag = append(bag, o.name)
		}
	}
	for range []int{2, 10, 80}[r.Intn(3)] { // some are about directories
		bag = append(bag, "mv dir")
	}
	if r.Intn(4) == 0 { // somebody only reads, at first or to the end
		out = append(out, step{op: "reader", p: r.Intn(60), x: [6]int{r.Intn(2)}})
	}
	settle := r.Intn(3 * n)
	for n > 0 {
		if n == settle {
			out = append(out, step{op: "settle", x: [6]int{r.Intn(2)}})
		}
		s := step{p: r.Intn(60), q: r.Intn(60)}
		for i := range s.x {
			s.x[i] = r.Intn(60000)
		}
		if r.Float64() < syncs {
			s.op = "pull"
			out = append(out, s)
			continue
		}
		n--
		s.op = bag[r.Intn(len(bag))]
		out = append(out, s)
		if r.Float64() < cuts {
			c := s
			c.op = "cut"
			out = append(out, c)
		}
	}
	return out
}

func (w *world) say(p *peer, format string, args ...any) {
	w.words = append(w.words, fmt.Sprintf("p%d ", p.r)+fmt.Sprintf(format, args...))
	if w.verbose {
		fmt.Println(w.words[len(w.words)-1])
	}
}

func (w *world) fail(what, format string, args ...any) {
	panic(failure{what, fmt.Sprintf(format, args...)})
}

// recovered makes an answer of what broke. It is to be deferred.
func (w *world) recovered(bad **failure) {
	switch x := recover().(type) {
	case nil:
	case failure:
		*bad = &x
	default:
		if w.verbose {
			panic(x)
		}
		*bad = &failure{"panic", fmt.Sprint(x)}
	}
}

// run plays steps to their end and returns what broke.
func (w *world) run(ss []step) (bad *failure) {
	defer w.recovered(&bad)
	for _, s := range ss {
		p := w.peers[s.p%len(w.peers)]
		switch q := w.peers[s.q%len(w.peers)]; s.op {
		case "reader":
			if p.k.Get(p.r) == 0 && !p.tree.drifts() { // it has done nothing yet
				p.reader, p.promotes = true, s.x[0]%2 == 1
			}
		case "settle":
			w.settleReaders(s.x[0]%2 == 1)
		case "cut":
			if p.reader {
				continue
			}
			if s.x[5]%4 == 0 {
				w.cutSome(p, s.x[4])
			} else {
				w.cut(p)
			}
		case "pull all":
			for _, q := range w.peers {
				p.pull(q, 1<<30)
			}
		case "calm":
			w.checkCalm(p)
		case "pull":
			if p == q {
				continue
			}
			most := 1 << 30
			if s.x[0]%3 == 0 {
				most = 1 + s.x[1]%3
			}
			if n := p.pull(q, most); n > 0 {
				w.say(p, "<- p%d %d batches", q.r, n)
				w.checkTree(p)
			}
		default:
			w.operate(p, s)
		}
	}
	w.quiesce()
	for _, p := range w.peers {
		if p.reader {
			w.settleReaders(p.promotes)
			w.quiesce()
		}
	}
	w.check()
	return nil
}

// shrink drops steps while the history fails in the same way.
func shrink(seed int64, ss []step, what string) []step {
	return cutDown(ss, func(ss []step) bool {
		bad := newWorld(seed).run(ss)
		return bad != nil && bad.what == what
	})
}

// cutDown drops steps while those that are left fail.
func cutDown(ss []step, fails func([]step) bool) []step {
	deadline := time.Now().Add(20 * time.Second)
	for n := len(ss) / 2; n >= 1; {
		dropped := false
		for i := 0; i+n <= len(ss) && time.Now().Before(deadline); {
			less := append(append([]step(nil), ss[:i]...), ss[i+n:]...)
			if fails(less) {
				ss, dropped = less, true
			} else {
				i += n
			}
		}
		if !dropped || n > 1 {
			n /= 2
		}
	}
	return ss
}

// play runs n histories on all cores. Of those that fail it cuts down the one
// of the smallest seed, and tells it in words.
func play(t *testing.T, n int, make func(seed int64) []step) {
	var mu sync.Mutex // guards all
	var all sights
	s, failed := each(t, n, func(s int64) bool {
		w := newWorld(s)
		bad := w.run(make(s))
		mu.Lock()
		defer mu.Unlock()
		all.add(w.met)
		return bad == nil
	})
	if failed {
		explain(t, s, make(s))
	}
	t.Logf("met after joins: %+v", all)
}

// each tries n seeds on all cores, and returns the smallest that failed.
func each(t *testing.T, n int, try func(seed int64) (ok bool)) (smallest int64, bad bool) {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // much garbage, small heap
	first := *seed
	if first == 0 {
		first = time.Now().UnixNano() % 1e9
	}
	t.Logf("seeds from %d", first)
	end := first + int64(n)
	var next atomic.Int64
	next.Store(first)
	var mu sync.Mutex // guards smallest
	smallest = end
	var g sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() {
			for {
				s := next.Add(1) - 1
				mu.Lock()
				over := s >= smallest
				mu.Unlock()
				if over {
					return
				}
				if !try(s) {
					mu.Lock()
					smallest = min(s, smallest)
					mu.Unlock()
				}
			}
		})
	}
	g.Wait()
	return smallest, smallest < end
}

// explain plays a history that fails again, cut down.
func explain(t *testing.T, s int64, ss []step) {
	bad := newWorld(s).run(ss)
	if bad == nil {
		t.Fatalf("seed %d: fails only now and then", s)
	}
	least := shrink(s, ss, bad.what)
	w := newWorld(s)
	w.tellAll(*tell)
	if again := w.run(least); again != nil {
		bad = again
	}
	if *tell {
		printSteps(s, bad.what, least)
	}
	t.Fatalf("seed %d: %s: %s\nafter\n%s", s, bad.what, bad.why, strings.Join(w.words, "\n"))
}

// tellAll makes all that happens be printed at once.
func (w *world) tellAll(on bool) {
	w.verbose = on
	for _, p := range w.peers {
		p.verbose = on
	}
}

// sights counts what histories came across.
type sights struct{ names, conflicts, copies, undue, further, undone, agreed, unsure int }

func (a *sights) add(b sights) {
	a.names += b.names
	a.conflicts += b.conflicts
	a.copies += b.copies
	a.undue += b.undue
	a.further += b.further
	a.undone += b.undone
	a.agreed += b.agreed
	a.unsure += b.unsure
}

func TestHistories(t *testing.T) {
	play(t, *histories, func(seed int64) []step { return steps(seed, length(seed)) })
	fmt.Printf("%d histories\n", *histories)
}

// Without concurrency there is never a conflict (I5).
func TestUsersInTurns(t *testing.T) {
	play(t, *histories/4, func(seed int64) []step { return inTurns(steps(seed, length(seed))) })
}

// inTurns lets everybody join everything before an operation and cut after it.
func inTurns(ss []step) (out []step) {
	for _, s := range ss {
		if slices.Contains([]string{"pull", "cut", "reader", "settle"}, s.op) {
			continue
		}
		join := step{op: "pull all", p: s.p}
		calm := step{op: "cut", p: s.p}
		calm.x[5] = 1 // all of it
		out = append(out, join, s, calm, step{op: "calm", p: s.p})
	}
	return out
}
