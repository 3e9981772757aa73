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
// without the suffix of a journal may be a database itself.
func Database(name string) (base, suffix string) {
	for _, s := range Journals {
		if b, ok := strings.CutSuffix(name, s); ok && b != "" {
			return b, s
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

// loserName is the n-th name to try for what lost its own: that of its database's
// copy with the suffix added, if the same replica made both and there is one;
// then one of its own. named are the losers that have names already: a database
// comes before its journals.
func loserName(e *Entry, named []*Entry, fold Fold, n int) string {
	if base, suffix := journal(e.Base, fold); e.Extra && suffix != "" {
		for _, o := range named {
			if !o.Extra || fold(o.Base) != fold(base) || o.Orig.Replica != e.Orig.Replica || len(o.Name)+len(suffix) > maxName {
				continue
			}
			if n == 0 {
				return o.Name + suffix
			}
			n--
			break
		}
	}
	return ConflictName(e.Base, e.By, e.UTC, n)
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
