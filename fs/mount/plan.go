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
	names, moves, inodes := sortFlips(flips)
	left := map[syncer.Ino][]syncer.Place{} // names that an inode is not under any more
	for _, f := range names {
		if f.Old != 0 {
			at := syncer.Place{Dir: f.Dir, Name: f.Name}
			left[f.Old] = append(left[f.Old], at)
		}
	}
	news := make([]event, 0, len(names))
	var gone []event
	for _, f := range names {
		e := event{deed: made, at: syncer.Place{Dir: f.Dir, Name: f.Name}, ino: f.New, old: f.Old, oldDir: f.OldDir}
		switch from := left[f.New]; {
		case f.New == 0:
			e.deed = removed
			gone = append(gone, e)
		case len(from) > 0:
			e.deed, e.from, left[f.New] = moved, from[0], from[1:]
			moves = append(moves, e)
		default:
			news = append(news, e)
		}
	}
	movedOn := func(e event) bool { return e.old != 0 && !slices.Contains(left[e.old], e.at) }
	for _, es := range [][]event{moves, news} {
		for i := range es {
			if movedOn(es[i]) {
				es[i].old, es[i].oldDir = 0, false
			}
		}
	}
	out := slices.Concat(freeFirst(moves, news), inward(slices.DeleteFunc(gone, movedOn)))
	out = slices.DeleteFunc(out, func(e event) bool { return !known(e.at.Dir) && (e.deed != moved || !known(e.from.Dir)) })
	return append(out, untold(inodes, news)...)
}

// untold is what is heard of inodes, once, but for those that are new.
func untold(inodes, news []event) []event {
	if len(inodes) == 0 {
		return nil
	}
	told := map[event]bool{}
	for _, e := range news {
		told[event{deed: wrote, ino: e.ino}], told[event{deed: touched, ino: e.ino}] = true, true
	}
	return slices.DeleteFunc(inodes, func(e event) bool {
		again := told[e]
		told[e] = true
		return again
	})
}

// sortFlips makes one of all that happened to a name, and sets apart names that are spelt anew, and inodes.
func sortFlips(flips []syncer.Flip) (names []syncer.Flip, spelt, inodes []event) {
	index := make(map[syncer.Place]int, len(flips)) // of names
	names = make([]syncer.Flip, 0, len(flips))
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
			i, again := index[at]
			if !again {
				index[at] = len(names)
				names = append(names, f)
				continue
			}
			f.Old, f.OldDir = names[i].Old, names[i].OldDir
			names[i] = f
		}
	}
	for i, e := range spelt {
		if j, ok := index[e.at]; ok {
			spelt[i].old, spelt[i].oldDir = names[j].Old, names[j].OldDir
		}
	}
	names = slices.DeleteFunc(names, func(f syncer.Flip) bool { return f.Old == f.New })
	return names, spelt, inodes
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
	if len(moves) == 0 {
		return news
	}
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
