package syncer

import (
	"time"

	"github.com/clachanfs/clachan/syncer/index"
)

// Editors move a file aside, or give it a further name, before they write it
// anew. Cut in between, that would be a move, and the new file another node. So
// a file that has just come to a name that looks temporary waits a little for
// what comes to its old one. What has just been made, and is not yet written,
// waits for who made it.

const (
	backupIn  = 2 * time.Second
	maxAsides = 256
)

// An aside is a file that was put aside.
type aside struct {
	from, to nameAt
	at       time.Time
}

// putAside remembers that a file has come to a name from another, or by that.
func (f *Folder) putAside(from, to nameAt) {
	if !temporary(to.Name) || temporary(from.Name) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asides == nil || len(f.asides) >= maxAsides {
		f.asides = map[nameAt]aside{}
	}
	x := aside{from, to, time.Now()}
	f.asides[from], f.asides[to] = x, x
}

// awaitsBackup tells whether a name is one of a file that was put aside, and
// its old name shows it still, or nothing yet. It remembers when to look again.
func (g *selector) awaitsBackup(k nameAt) bool {
	g.f.mu.Lock()
	x, ok := g.f.asides[k]
	if ok && g.now.Sub(x.at) >= backupIn {
		delete(g.f.asides, k)
		ok = false
	}
	g.f.mu.Unlock()
	if !ok || g.all {
		return false
	}
	from, filled := g.t.Entry(x.from.Dir, x.from.Name)
	to, there := g.t.Entry(x.to.Dir, x.to.Name)
	if !there || filled && from.Ino != to.Ino {
		return false
	}
	g.wakes[k.Dir] = earlier(g.wakes[k.Dir], x.at.Add(backupIn))
	return true
}

// awaitsBytes tells whether a file was just made, and nothing written to it. It
// remembers when to look again.
func (g *selector) awaitsBytes(r *index.Row, dir Ino) bool {
	age := time.Duration(g.now.UnixNano() - r.Btime)
	if g.all || !r.ID.IsZero() || r.Size > 0 || age < 0 || age >= quiet {
		return false
	}
	g.wakes[dir] = earlier(g.wakes[dir], g.now.Add(quiet-age))
	return true
}

// unfinished tells whether more is to come of a save after a file is closed: it
// has a name that looks temporary, or what it replaces has.
func (f *Folder) unfinished(ino Ino) bool {
	f.apply.Lock()
	defer f.apply.Unlock()
	for _, k := range f.ix.DirtyAt(ino) {
		f.mu.Lock()
		x, aside := f.asides[k]
		f.mu.Unlock()
		if _, e, _ := f.ix.Dirty(x.to); temporary(k.Name) || aside && e.Ino != 0 {
			return true
		}
	}
	return false
}
