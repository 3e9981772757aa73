package syncer_test

import (
	"flag"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/clachanfs/clachan/syncer"
)

var (
	staleRuns = flag.Int("stale", 150, "random stale saves")
	staleSeed = flag.Int64("staleseed", 0, "of the first; 0: of the clock")
)

// Whatever a process that has read files, and then others beside it, do to them after
// others have changed them: what only one who never saw it has put something in the
// place of is kept.
func TestRandomStaleSavesKeepWhatTheyNeverSaw(t *testing.T) {
	seed := *staleSeed
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	for i := range int64(*staleRuns) {
		if bad := staleRun(t, seed+i); bad != "" {
			t.Fatalf("-staleseed %d: %s", seed+i, bad)
		}
	}
}

// staleRun returns what it did, if something was lost.
func staleRun(t *testing.T, seed int64) (bad string) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewSource(seed))
		w := newWorld(t, 2)
		a, theirs := w.peers[0], w.peers[1]
		names := []string{"/f", "/g", "/h"}
		knows := map[Proc]map[string]bool{} // the contents that a process has read or written
		procs := []Proc{7, 8, 9}            // 9 never reads
		for _, p := range procs {
			knows[p] = map[string]bool{}
		}
		for i, name := range names[:2] {
			p := program{a, 7}
			data := fmt.Sprint("mine", i)
			if r.Intn(2) == 0 {
				a.write(name, data)
				w.settle()
				p.load(name)
			} else {
				p.put(name, data)
				w.settle()
			}
			knows[7][data] = true
		}
		w.part(true)
		var did []string
		defer func() {
			if t.Failed() {
				t.Logf("-staleseed %d: after\n%s", seed, strings.Join(did, "\n"))
			}
		}()
		say := func(format string, args ...any) { did = append(did, fmt.Sprintf(format, args...)) }
		n, must := 0, map[string]bool{}
		late := r.Intn(2) == 0
		change := func() {
			for i, name := range names[:2] {
				theirs.write(name, fmt.Sprint("theirs", i))
			}
			theirs.cutNow()
			w.talk2(theirs, a)
			say("theirs")
		}
		a.mkdir("/busy") // is cut at once; what follows, later
		synctest.Wait()
		if !late {
			change()
		}
		moved := map[string]bool{} // by another here since it came: then it is what that has made of it
		// gone notes that what was under a name goes, by a process that puts something there.
		gone := func(p Proc, name string) {
			switch was := a.shows(name); {
			case !strings.HasPrefix(was, "theirs"):
			case p == 7 && !knows[p][was] && !moved[was]:
				must[was] = true
			default:
				delete(must, was)
			}
		}
		held := map[string]Ino{}
		// known does what may take the last name of what is at a path, as a kernel would.
		known := func(path string, do func()) {
			ino := a.inoOf(path)
			if ino == 0 {
				do()
				return
			}
			a.Hold(ino)
			do()
			a.forget(ino)
			a.Release(ino)
		}
		for k := range 2 + r.Intn(6) {
			if late && k == 1 {
				change()
			}
			p := program{a, procs[r.Intn(3)]}
			x, y := names[r.Intn(3)], names[r.Intn(3)]
			switch r.Intn(7) {
			case 0: // load
				if p.is != 9 && a.inoOf(x) != 0 {
					knows[p.is][p.load(x)] = true
					say("%d loads %s", p.is, x)
				}
			case 1: // put
				gone(p.is, x)
				n++
				data := fmt.Sprint("new", n)
				knows[p.is][data] = true
				if ino := a.inoOf(x); ino != 0 && held[x] == 0 && r.Intn(3) == 0 {
					a.open(ino, true)
					held[x] = ino
				}
				p.put(x, data)
				say("%d puts %s in %s", p.is, data, x)
			case 2: // replace
				gone(p.is, x)
				n++
				data := fmt.Sprint("new", n)
				knows[p.is][data] = true
				known(x, func() { p.replace(x, data) })
				say("%d replaces %s by %s", p.is, x, data)
			case 3, 4: // move
				if x == y || a.inoOf(x) == 0 {
					continue
				}
				gone(p.is, y)
				if was := a.shows(x); p.is != 7 {
					moved[was] = true
				}
				known(y, func() { p.rename(x, y) })
				say("%d moves %s to %s", p.is, x, y)
			case 5:
				if a.inoOf(x) != 0 {
					gone(0, x)
					known(x, func() { a.rm(x) })
					say("rm %s", x)
				}
			case 6:
				if r.Intn(2) == 0 {
					a.cutNow()
					say("cut")
					for i, name := range names { // what was moved is of this machine now
						if was := a.shows(name); was != fmt.Sprint("theirs", i) {
							moved[was] = true
						}
					}
				}
			}
		}
		for _, ino := range held {
			a.shut(ino)
		}
		w.part(false)
		tree := w.same()
		for what := range must {
			if !strings.Contains(tree, " "+what) {
				bad = fmt.Sprintf("%s is nowhere:\n%s\nafter %s", what, tree, strings.Join(did, "\n"))
			}
		}
	})
	return bad
}

// inoOf is the inode under a path, 0 for none.
func (p *peer) inoOf(path string) Ino {
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	if err != nil {
		return 0
	}
	return a.Ino
}
