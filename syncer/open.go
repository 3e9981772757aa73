package syncer

import (
	"slices"
	"time"

	"github.com/clachanfs/clachan/syncer/model"
)

// When a file that somebody has open for writing is cut. A version should be a
// state that its program would have taken for whole after a power cut: the last
// fsync, or what there is when it has rested for long.
const (
	syncedQuiet = 2 * time.Second  // after an fsync with no write since
	writerQuiet = 30 * time.Second // without an fsync
	steady      = 10 * time.Minute // of writing without a rest: an fsync is enough
)

// Writing is how an inode is being written to. Nothing has to be exact but the
// order of Wrote and Synced.
type Writing struct {
	Open   bool      // somebody has it open for writing
	Begun  time.Time // the first write that is in no version
	Wrote  time.Time // the last write, else the opening
	Synced time.Time // the last fsync
	Paged  bool      // of the writes since, some are pages of a mapping, written back in no order
}

// join is what a group of files does as one.
func (w Writing) join(o Writing) Writing {
	switch {
	case !o.Open:
		return w
	case !w.Open:
		return o
	}
	if w.Begun.IsZero() || !o.Begun.IsZero() && o.Begun.Before(w.Begun) {
		w.Begun = o.Begun
	}
	if o.Wrote.After(w.Wrote) {
		w.Wrote = o.Wrote
	}
	if o.Synced.After(w.Synced) {
		w.Synced = o.Synced
	}
	w.Paged = w.Paged || o.Paged
	return w
}

// due tells whether the inode may be cut, and if not, when that may be if
// nothing more happens to it. Zero: not before an fsync or the close.
func (w Writing) due(now time.Time) (yes bool, at time.Time) {
	switch {
	case !w.Open:
		return true, now
	case !w.Begun.IsZero() && w.Synced.Sub(w.Begun) >= steady && !w.Paged:
		return true, now
	case !w.Synced.IsZero() && !w.Synced.Before(w.Wrote):
		at = w.Synced.Add(syncedQuiet)
	case w.Paged:
		return false, time.Time{}
	default:
		at = w.Wrote.Add(writerQuiet)
	}
	return !now.Before(at), at
}

// Synced tells that an fsync of an inode that is open for writing is done.
func (f *Folder) Synced(ino Ino) {
	r, err := f.ix.Attr(ino)
	if err != nil || f.surf == nil {
		return
	}
	now := time.Now()
	if yes, at := f.surf.Writing(ino).due(now); yes {
		f.pace.note(groupOf(ino, r), now, true)
	} else if !at.IsZero() {
		f.pace.wake(groupOf(ino, r), at)
	}
}

// wait tells whether an inode is not to be cut now, and remembers for whom. One
// whose bytes are frozen is cut whatever is written to it since; and one that is
// open and was not written to does not hold up what else is to be told of it. A
// database rests when all of it does.
func (g *selector) wait(ino, dir Ino) bool {
	var use Writing
	written, frozen, missing := false, false, false
	inos, _ := g.group(ino)
	for _, s := range inos {
		w, _ := g.t.Bytes(s)
		if g.failed(s, dir, w.Written) {
			return true
		}
		r := g.t.Row(s)
		if r == nil || r.Kind != model.File {
			continue
		}
		written = written || w.Written || r.ID.IsZero()
		if x := g.ready[s]; x != nil {
			frozen = true
			missing = missing || !slices.Equal(x.with, slices.Sorted(slices.Values(inos))) // it is of another instant than what is there now
		}
		missing = missing || w.Written && g.ready[s] == nil && r.Nlink > 0 // else its bytes go with it
		use = use.join(g.f.surf.Writing(s))
	}
	if g.ready != nil && missing {
		g.later[dir] = true
		return true
	}
	if frozen || !written {
		return false
	}
	if r := g.t.Row(ino); r != nil && len(inos) == 1 && !use.Open && g.awaitsBytes(r, dir) {
		return true
	}
	yes, at := use.due(g.now)
	if !yes {
		for _, s := range inos {
			g.waits[s] = append(g.waits[s], dir)
		}
		g.wakes[dir] = earlier(g.wakes[dir], at)
	}
	return !yes
}

// failed tells whether an inode is not to be tried now, since the run has left it,
// or it could not be read or stored, and remembers when to look again.
func (g *selector) failed(ino, dir Ino, written bool) bool {
	is := g.left.inos[ino]
	if !is && (!written || g.all) { // who asks for all has it tried once more
		return false
	}
	at := g.f.until(ino, g.now)
	if !at.IsZero() {
		g.wakes[dir] = earlier(g.wakes[dir], at)
		return true
	}
	if is {
		g.later[dir] = true
	}
	return is
}

// earlier is the earlier of two times that are not zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// await has what waits cut when the file it waits for is closed, or when it has
// rested; and what was written since it was frozen, soon.
func (f *Folder) await(s *selection) {
	if len(s.waits) > 0 {
		f.mu.Lock()
		for _, dirs := range s.waits {
			for _, dir := range dirs {
				f.waiting[dir] = true
			}
		}
		f.mu.Unlock()
	}
	for dir, at := range s.wakes {
		if !at.IsZero() {
			f.pace.wake(dir, at)
		}
	}
	open := map[Ino]bool{} // by directory
	for ino, dirs := range s.waits {
		for _, dir := range dirs {
			open[dir] = open[dir] || f.surf.Writing(ino).Open
		}
	}
	for dir, yes := range open {
		if !yes { // closed in between
			s.later[dir] = true
		}
	}
	for dir := range s.later {
		f.pace.note(dir, time.Now(), true)
	}
}

// unwait notes the directories in which something waited for a file to be
// closed.
func (f *Folder) unwait() {
	f.mu.Lock()
	dirs := f.waiting
	f.waiting = map[Ino]bool{}
	f.mu.Unlock()
	for dir := range dirs {
		f.noted(dir, "", false)
	}
}
