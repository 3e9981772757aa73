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
// another was moved. A name is free before something comes to it, and a directory is empty before it is removed.
func plan(flips []syncer.Flip, known func(dir syncer.Ino) bool) []event {
	names, order, moves, inodes := sortFlips(flips)
	left := map[syncer.Ino][]syncer.Place{} // names that an inode is not under any more
	for _, at := range order {
		if f := names[at]; f.Old != 0 {
			left[f.Old] = append(left[f.Old], at)
		}
	}
	var news, gone []event
	for _, at := range order {
		f := names[at]
		e := event{deed: made, at: at, ino: f.New}
		if from := left[f.New]; f.New != 0 && len(from) > 0 {
			e.deed, e.from, left[f.New] = moved, from[0], from[1:]
			moves = append(moves, e)
		} else if f.New != 0 {
			news = append(news, e)
		}
	}
	stays := func(at syncer.Place) bool { return slices.Contains(left[names[at].Old], at) } // what was there did not move on
	for _, es := range [][]event{moves, news} {
		for i := range es {
			if f := names[es[i].at]; stays(es[i].at) {
				es[i].old, es[i].oldDir = f.Old, f.OldDir
			}
		}
	}
	for _, at := range order {
		if f := names[at]; f.New == 0 && stays(at) {
			gone = append(gone, event{deed: removed, at: at, old: f.Old, oldDir: f.OldDir})
		}
	}
	out := slices.Concat(freeFirst(moves, news), inward(gone))
	out = slices.DeleteFunc(out, func(e event) bool { return !known(e.at.Dir) && (e.deed != moved || !known(e.from.Dir)) })
	told := map[event]bool{}
	for _, e := range news {
		told[event{deed: wrote, ino: e.ino}], told[event{deed: touched, ino: e.ino}] = true, true
	}
	for _, e := range inodes {
		if !told[e] {
			told[e] = true
			out = append(out, e)
		}
	}
	return out
}

// sortFlips makes one of all that happened to a name, and sets apart names that are spelt anew, and inodes.
func sortFlips(flips []syncer.Flip) (names map[syncer.Place]syncer.Flip, order []syncer.Place, spelt, inodes []event) {
	names = map[syncer.Place]syncer.Flip{}
	was := map[syncer.Ino]syncer.Place{}
	for _, f := range flips {
		at := syncer.Place{Dir: f.Dir, Name: f.Name}
		switch {
		case f.Dir == 0 && f.Attrs:
			inodes = append(inodes, event{deed: touched, ino: f.Content})
		case f.Dir == 0:
			inodes = append(inodes, event{deed: wrote, ino: f.Content})
		case f.Old != 0 && f.Old == f.New:
			if from, ok := was[f.New]; ok && from.Dir == at.Dir && from != at {
				spelt = append(spelt, event{deed: moved, at: at, from: from, ino: f.New})
			}
			was[f.New] = at
		default:
			if first, again := names[at]; again {
				f.Old, f.OldDir = first.Old, first.OldDir
			} else {
				order = append(order, at)
			}
			names[at] = f
		}
	}
	order = slices.DeleteFunc(order, func(at syncer.Place) bool { return names[at].Old == names[at].New })
	return names, order, spelt, inodes
}

// inward sorts removals so that what is in a directory goes before it.
func inward(es []event) []event {
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
	return es
}

// freeFirst sorts moves so that what is moved away from a name goes before what is moved to it, unless they change
// places; and around them what is new: what is moved may go into that, or leave its name to it.
func freeFirst(moves, news []event) (out []event) {
	from := map[syncer.Place]int{}
	for i, e := range moves {
		from[e.from] = i
	}
	var after []event
	for _, e := range news {
		if _, left := from[e.at]; left {
			after = append(after, e)
		} else {
			out = append(out, e)
		}
	}
	done := make([]bool, len(moves))
	for i := range moves {
		var chain []int
		for j, ok := i, true; ok && !done[j]; j, ok = from[moves[j].at] {
			done[j] = true
			chain = append(chain, j)
		}
		for _, j := range slices.Backward(chain) {
			out = append(out, moves[j])
		}
	}
	return append(out, after...)
}
