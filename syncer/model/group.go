package model

import (
	"slices"
	"strings"
)

// A database and the journals beside it are one thing in several files: only
// together are they what a program left. X, X-wal and X-journal are cut and
// shown as one, and their conflict copies are named so that the copy of X finds
// its own.

// Journals are what is added to the name of a database for the files that
// belong to it.
var Journals = []string{"-wal", "-journal"}

// SharedMemory is added to it for what is of one machine only.
const SharedMemory = "-shm"

// Database splits the name of a file that may belong to a database. A name
// without the suffix of a journal may be a database itself; a journal has none.
func Database(name string) (base, suffix string) {
	for _, s := range Journals {
		if b, ok := strings.CutSuffix(name, s); ok && b != "" {
			if _, of := Database(b); of == "" {
				return b, s
			}
		}
	}
	return name, ""
}

// journal splits a name like Database, as it is spelt: its suffix is one for the
// folder's policy.
func journal(name string, fold Fold) (base, suffix string) {
	_, s := Database(fold(name))
	if n := len(name) - len(s); s != "" && n > 0 && fold(name[n:]) == s {
		return name[:n], name[n:]
	}
	return name, ""
}

// naming gives names to what lost its own, a database before its journals.
type naming struct {
	fold   Fold
	taken  func(fold string) bool
	held   map[string]bool            // folded names
	lost   map[string]string          // of these, those of losers, with their folded base names
	tried  map[series]int             // how many names of it are known to be held
	over   map[string]map[string]bool // by folded base name: Entry.Over of all its losers
	copies map[copyOf][]string        // what losers are called
}

// A series is a conflict name with any number of "~".
type series struct {
	base string
	by   Label
	utc  int64
}

// A copyOf is a version of a folded base name.
type copyOf struct {
	base string
	by   Replica
}

// name gives a loser its name: that of its database's copy with the suffix added,
// if the same replica made both and there is one, or else one of its own.
func (g *naming) name(e *Entry) {
	base := g.fold(e.Base)
	if g.over[base] == nil {
		g.over[base] = map[string]bool{}
	}
	e.Over = g.over[base]
	if name := g.afterDatabase(e); name != "" && g.take(e, base, name) {
		return
	}
	s := series{e.Base, e.By, e.UTC}
	for named := false; !named; g.tried[s]++ {
		named = g.take(e, base, ConflictName(e.Base, e.By, e.UTC, g.tried[s]))
	}
}

// take gives a loser a name if that is free. Else it had to avoid it, unless
// another loser of its base name has it: they are named anew together.
func (g *naming) take(e *Entry, base, name string) bool {
	k := g.fold(name)
	if g.held[k] || g.taken(k) {
		if g.lost[k] != base {
			g.over[base][k] = true
		}
		return false
	}
	e.Name, g.held[k], g.lost[k] = name, true, base
	if !e.Extra {
		return true
	}
	c := copyOf{base, e.Orig.Replica}
	g.copies[c] = append(g.copies[c], name)
	return true
}

func (g *naming) afterDatabase(e *Entry) string {
	base, suffix := journal(e.Base, g.fold)
	if !e.Extra || suffix == "" {
		return ""
	}
	for _, name := range g.copies[copyOf{g.fold(base), e.Orig.Replica}] {
		if len(name)+len(suffix) <= maxName {
			return name + suffix
		}
	}
	return ""
}

// kin adds to the folded base names those of the databases they belong to: what
// one of them is called hangs on the others.
func kin(bases map[string]bool, fold Fold) {
	for _, b := range sortedKeys(bases) {
		base, _ := Database(b)
		bases[fold(base)] = true
		for _, suffix := range Journals {
			bases[fold(base+suffix)] = true
		}
	}
}

// A forked is a version of a name that a cut makes a conflict copy.
type forked struct {
	dir  ID
	base string // folded
	by   Replica
}

func (a *Author) noteFork(e *Entry, v Version, name string) {
	if a.forks == nil {
		a.forks = map[forked]string{}
	}
	a.forks[forked{e.Parent, a.Fold(e.Base), v.Orig.Replica}] = name
}

// forkName is the n-th name to try for a version that a cut forks unseen: beside
// the copy of its database that the same replica made, if this cut forks that
// too.
func (d *diff) forkName(e *Entry, v Version, by Label, n int) string {
	if base, suffix := journal(e.Base, d.Fold); suffix != "" {
		name, ok := d.forks[forked{e.Parent, d.Fold(base), v.Orig.Replica}]
		if ok && len(name)+len(suffix) <= maxName {
			if n == 0 {
				return name + suffix
			}
			n--
		}
	}
	return ConflictName(e.Base, by, floorSeconds(v.Mtime), n)
}

// editOrder puts databases before their journals, which are named after them.
func (d *diff) editOrder() (out []*Thing) {
	var journals []*Thing
	for _, t := range d.things {
		es := d.Entries(t.ID)
		if len(es) > 0 {
			if _, suffix := journal(es[0].Base, d.Fold); suffix != "" {
				journals = append(journals, t)
				continue
			}
		}
		out = append(out, t)
	}
	return append(out, journals...)
}

// forkUnseen keeps a version that the writer never saw as a conflict copy.
func (d *diff) forkUnseen(x *Node, v Version) {
	es := d.Entries(x.ID)
	if len(es) == 0 {
		return
	}
	by := v.By
	if v.Orig == v.Dot {
		by = d.Origin(v.Dot).By
	}
	for i := 0; ; i++ {
		name := d.forkName(es[0], v, by, i)
		if d.At(es[0].Parent, name) == nil && !d.named(es[0].Parent, name) {
			d.noteFork(es[0], v, name)
			d.settle(es[0].Parent)
			d.forkAs(x, v, es[0].Parent, name)
			return
		}
	}
}

func (d *diff) named(dir ID, name string) bool {
	return slices.ContainsFunc(d.names, func(n *Name) bool {
		return n.Tree != nil && n.Dir.ID == dir && d.Fold(n.Name) == d.Fold(name)
	})
}
