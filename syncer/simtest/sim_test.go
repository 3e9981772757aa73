package simtest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	sims  = flag.Int("sims", few, "simulations to run")
	seed  = flag.Uint64("seed", 1, "seed of the first; the others follow")
	twice = flag.Bool("twice", false, "run every seed twice, and compare verdicts, and the plans as they are afterwards")
	story = flag.Bool("story", false, "tell also what held")
)

// A total is what has happened in all simulations together.
type total struct {
	mu     sync.Mutex // guards what follows
	sims   int
	counts map[string]int
}

func (t *total) add(w *world) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sims++
	if w == nil {
		return
	}
	t.counts["operations"] += w.ops
	for what, n := range w.counts {
		t.counts[what] += n
	}
}

func (t *total) String() string {
	var out []string
	for _, what := range slices.Sorted(maps.Keys(t.counts)) {
		out = append(out, fmt.Sprintf("%d %s", t.counts[what], what))
	}
	return strings.Join(out, ", ")
}

// usual is what happens in so many simulations at least once.
var usual = map[string]int{
	"things collected": 10, "frames repeated": 100, "frames swapped": 100, "reads from old connections": 100,
	"bits flipped": 200, "blocks found damaged": 300, "reads failed": 100, "writes failed": 300, "writes to a full disk": 200, "ballast released": 200,
	"starts compared": 20, "crashes that lost something": 60, "works of one compared": 20, "texts back in force": 20,
	"re-keys": 100, "members that began anew": 200, "conflict copies": 20, "history look-ups": 20, "refusals": 100, "nodes of others touched": 20, "texts robbed": 40,
	"databases of others compared": 20, "stale overwrites": 100, "stale renames": 200, "readers": 20, "files staged aside": 20, "files without a name": 20, "saves of mapped pages": 20,
	"changes of the malicious member taken in": 200, "crowds of one name": 60, "floods of attributes": 60, "files of many names": 60,
	"partitions that held something up": 40, "files made by clocks that jumped": 20, "restarts": 20, "connections broken": 20,
	"members that joined late": 60, "disks set back": 300, "machines run twice": 200,
}

// TestSim runs whole engines in hostile worlds.
func TestSim(t *testing.T) {
	var next atomic.Int64
	all := &total{counts: map[string]int{}}
	t.Run("worlds", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					n := next.Add(1) - 1
					if n >= int64(*sims) {
						return
					}
					all.add(one(t, *seed+uint64(n)))
				}
			})
		}
	})
	for what, few := range usual {
		if n := all.counts[what]; n == 0 && all.sims >= few {
			t.Errorf("in %d simulations: no %s", all.sims, what)
		}
	}
	t.Logf("%v, from seed %d", all, *seed)
	fmt.Printf("%d simulations\n", all.sims)
}

// one runs a seed.
func one(t *testing.T, s uint64) *world {
	p := newPlan(s)
	drawn := p.digest()
	w, verdict := simulate(t, p)
	if w == nil {
		return nil
	}
	if verdict != "" || *story {
		tell(t, w, verdict)
	}
	if *twice {
		q := newPlan(s)
		_, again := simulate(t, q)
		if p.digest() != drawn || q.digest() != drawn || (verdict == "") != (again == "") {
			t.Errorf("seed %d run twice: %q and %q, plans %x, %x and %x", s, verdict, again, drawn, p.digest(), q.digest())
		}
	}
	return w
}

// tell writes what happened, as short as it can be said and long enough to act on.
func tell(t *testing.T, w *world, verdict string) {
	name := fmt.Sprintf("%s/sim-%d.log", os.TempDir(), w.plan.seed)
	text := w.plan.String() + "\n" + strings.Join(w.story, "\n") + "\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Log(err)
	}
	if verdict == "" {
		t.Logf("%s", text)
		return
	}
	last := w.story[max(0, len(w.story)-200):]
	t.Errorf("VIOLATION %s\nafter\n%s\n%s\n(all of it is in %s)\nagain: go test ./syncer/simtest -run Sim -sims 1 -seed %d",
		verdict, w.plan, strings.Join(last, "\n"), name, w.plan.seed)
}
