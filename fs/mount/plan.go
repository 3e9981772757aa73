package mount

import (
	"slices"

	"github.com/clachanfs/clachan/syncer"
)

// What a watcher hears of. The cost of each is how many events it makes.
type deed uint8

const (
	removed deed = iota // nothing is under the name any more
	moved               // what is under the name came from another
	made                // what is under the name is new
	wrote               // an inode has new bytes
	touched             // an inode has new attributes
)

var costs = [...]int{removed: 2, moved: 3, made: 4, wrote: 3, touched: 1}

// An event is a change by others that watchers are yet to hear of, as of the name that tells of it.
type event struct {
	deed
	at     syncer.Place // empty for wrote and touched: found when it is told
	from   syncer.Place // of moved
	ino    syncer.Ino   // what is there now
	old    syncer.Ino   // what was there before
	oldDir bool
}

// ghost is the name that kernel and Folder see differently until the event is told: none if there is none.
func (e *event) ghost() syncer.Place {
	switch {
	case e.deed == moved:
		return e.from
	case e.old != 0:
		return e.at
	}
	return syncer.Place{}
}

// plan finds in what changed together what a program here would have done: what has left a name and come under
// another was moved. Children are removed before their directories, and a name is free before it is moved to.
func plan(flips []syncer.Flip, known func(dir syncer.Ino) bool) []event {
	names := map[syncer.Place]syncer.Flip{}
	var order []syncer.Place
	var out, inodes []event
	spelt := map[syncer.Ino]syncer.Place{}
	for _, f := range flips {
		at := syncer.Place{Dir: f.Dir, Name: f.Name}
		switch {
		case f.Dir == 0 && f.Attrs:
			inodes = append(inodes, event{deed: touched, ino: f.Content})
		case f.Dir == 0:
			inodes = append(inodes, event{deed: wrote, ino: f.Content})
		case f.Old != 0 && f.Old == f.New:
			if was, ok := spelt[f.New]; ok && was.Dir == at.Dir && was != at {
				out = append(out, event{deed: moved, at: at, from: was, ino: f.New})
			}
			spelt[f.New] = at
		default:
			if was, again := names[at]; again {
				f.Old, f.OldDir = was.Old, was.OldDir
			} else {
				order = append(order, at)
			}
			names[at] = f
		}
	}
	left := map[syncer.Ino][]syncer.Place{} // names that an inode is not under any more
	for _, at := range order {
		if f := names[at]; f.Old != 0 && f.Old != f.New {
			left[f.Old] = append(left[f.Old], at)
		}
	}
	var moves, news []event
	came := map[syncer.Ino]bool{}
	over := map[syncer.Place]bool{} // what was there was replaced
	for _, at := range order {
		f := names[at]
		if f.New == 0 || f.New == f.Old {
			continue
		}
		e := event{deed: made, at: at, ino: f.New}
		if from := left[f.New]; len(from) > 0 {
			e.deed, e.from, left[f.New] = moved, from[0], from[1:]
			moves = append(moves, e)
		} else {
			news = append(news, e)
			came[f.New] = true
		}
		over[at] = true
	}
	replaced := func(es []event) {
		for i := range es {
			f := names[es[i].at]
			if slices.Contains(left[f.Old], es[i].at) { // else it was moved on
				es[i].old, es[i].oldDir = f.Old, f.OldDir
			}
		}
	}
	replaced(moves)
	replaced(news)
	for _, at := range order {
		if f := names[at]; f.Old != 0 && !over[at] && slices.Contains(left[f.Old], at) {
			out = append(out, event{deed: removed, at: at, old: f.Old, oldDir: f.OldDir})
		}
	}
	inward(out)
	out = append(append(out, freeFirst(moves)...), news...)
	out = slices.DeleteFunc(out, func(e event) bool { return !known(e.at.Dir) && (e.deed != moved || !known(e.from.Dir)) })
	told := map[event]bool{}
	for _, e := range inodes {
		if !came[e.ino] && !told[e] {
			told[e] = true
			out = append(out, e)
		}
	}
	return out
}

// inward sorts removals so that what is in a directory goes before it.
func inward(es []event) {
	dirs := map[syncer.Ino]syncer.Ino{}
	for _, e := range es {
		if e.oldDir {
			dirs[e.old] = e.at.Dir
		}
	}
	depth := func(e event) (n int) {
		for dir, ok := dirs[e.at.Dir]; ok && n < len(dirs); dir, ok = dirs[dir] {
			n++
		}
		return n
	}
	slices.SortStableFunc(es, func(a, b event) int { return depth(b) - depth(a) })
}

// freeFirst sorts moves so that what is moved away from a name goes before what is moved to it, unless they change
// places.
func freeFirst(es []event) []event {
	from := map[syncer.Place]int{}
	for i, e := range es {
		from[e.from] = i
	}
	done := make([]bool, len(es))
	out := make([]event, 0, len(es))
	for i := range es {
		var chain []int
		for j, ok := i, true; ok && !done[j]; j, ok = from[es[j].at] {
			done[j] = true
			chain = append(chain, j)
		}
		for _, j := range slices.Backward(chain) {
			out = append(out, es[j])
		}
	}
	return out
}
