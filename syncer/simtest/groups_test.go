package simtest

import (
	"path"
	"strings"

	"github.com/clachanfs/clachan/syncer/model"
)

// A group is a database and its journals, while only one machine has worked on
// them: what others show of them, all at once, is what was there once on that one.
type group struct {
	by     *machine
	states map[state]bool // all that its programs have left there
}

// A state is the numbers of the texts of a database, its -wal and its -journal; 0
// is an empty file, none is none.
type state [3]int

const none = -1

var nothing = state{none, none, none}

// groups are those that are watched.
type groups struct {
	fold    model.Fold
	at      map[string]*group // by the folded path of the database; nil: several have worked on it
	flipped map[*machine]int  // up to where each machine's were compared
}

func newGroups(p *plan) *groups {
	fold, _ := model.FoldOf(p.names)
	return &groups{fold, map[string]*group{}, map[*machine]int{}}
}

// touch notes that a machine makes something there, writes to it, or does away with
// it.
func (g *groups) touch(m *machine, file string) {
	at := g.of(file)
	was, known := g.at[at]
	switch {
	case at == "":
	case !known:
		g.at[at] = nil
		if s, ok := m.state(at); ok && s == nothing && !strings.Contains(at, model.ConflictMark) { // which others make without a call
			g.at[at] = &group{by: m, states: map[state]bool{s: true}}
		}
	case was != nil && was.by != m:
		g.at[at] = nil
	}
}

// move notes that something comes there or goes, as it is: others may know it
// elsewhere. A directory takes its groups along.
func (g *groups) move(file string) {
	if at := g.of(file); at != "" {
		g.at[at] = nil
	}
	for at := range g.at {
		if strings.HasPrefix(at, g.fold(file)+"/") {
			g.at[at] = nil
		}
	}
}

// of is the folded path of the database that a file is, or belongs to; "" for
// none.
func (g *groups) of(file string) string {
	dir, name := path.Split(g.fold(file))
	base, suffix := model.Database(name)
	if suffix == "" && !strings.HasSuffix(name, ".db") {
		return ""
	}
	return dir + base
}

// note adds what a machine has of its own groups.
func (g *groups) note(m *machine) {
	for at, of := range g.at {
		if of == nil || of.by != m {
			continue
		}
		s, ok := m.state(at)
		if !ok || m.crashed() { // it may have told of it before
			g.at[at] = nil
			continue
		}
		of.states[s] = true
	}
}

// compare checks what machines show that others' changes have come to (I9).
func (g *groups) compare(w *world) {
	if w.evil != nil || w.copied {
		return
	}
	for _, m := range w.ms {
		if !m.up || m.crashed() || m.unwell() || g.flipped[m] == m.s.flipped() {
			continue
		}
		g.flipped[m] = m.s.flipped()
		for at, of := range g.at {
			if of == nil || of.by == m {
				continue
			}
			var s state
			var ok bool
			still(func() { s, ok = m.state(at) })
			if !ok || s == nothing {
				continue
			}
			w.count("databases of others compared", 1)
			if !of.states[s] && w.oracle.others(of.by, s) { // who knew its directory by another name
				g.at[at] = nil
			} else if !of.states[s] {
				w.fail("I9", "%s shows of %s the texts %v, which %s never had together: %v", m.name, at, s, of.by.name, of.states)
			}
		}
	}
}

// state is what a machine shows of a group, if all of it can be read.
func (m *machine) state(db string) (s state, ok bool) {
	for i, suffix := range append([]string{""}, model.Journals...) {
		s[i] = none
		a, err := m.stat(db + suffix)
		if err != nil {
			if m.crashed() {
				return s, false
			}
			continue
		}
		if a.Kind == model.Dir {
			return s, false
		}
		if s[i], err = m.glimpse(a); err != nil {
			return s, false
		}
	}
	return s, true
}
