package simtest

import (
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A memory knows what was shown when all was in sync, beside texts: names, each
// with its kind, and the values of attributes. What was gone then does not come
// back by itself.
type memory struct {
	w     *world
	names map[string]bool // when all was last in sync; nil: not known
	ever  map[string]bool // at any such time
	vals  map[string]bool // of attributes, when all was last in sync, and set since; nil: not known
	set   map[string]bool // values that users have ever set
	given map[string]bool // names that users have given since, to anything
	moved bool            // a directory has gone elsewhere since: a move that is undone ends where the directory once was
}

func newMemory(w *world) *memory {
	return &memory{w: w, ever: map[string]bool{}, set: map[string]bool{}, given: map[string]bool{}}
}

// lose says that somebody may show what was: it has joined, or has an old disk.
func (y *memory) lose() { y.names, y.vals = nil, nil }

func (y *memory) fold(name string) string {
	fold, _ := model.FoldOf(y.w.plan.names)
	return fold(name)
}

// give notes that a user gives a name.
func (y *memory) give(at string) { y.given[y.fold(path.Base(at))] = true }

// move notes that a user moves what may be a directory.
func (y *memory) move(a syncer.Attr, err error) {
	y.moved = y.moved || err != nil || a.Kind == model.Dir
}

func (y *memory) setVal(v string) {
	y.set[v] = true
	if y.vals != nil {
		y.vals[v] = true
	}
}

// free tells whether a name may come to something that is there: somebody gave
// it, or what is called otherwise beside it gets it when it is free.
func (y *memory) free(at string) bool {
	for _, c := range strings.Split(at, "/") {
		if y.given[y.fold(c)] || strings.Contains(c, "~") || strings.Contains(c, "(conflict") {
			return true
		}
	}
	stem := strings.TrimSuffix(path.Base(at), path.Ext(at))
	for n := range y.names {
		if b := path.Base(n); strings.HasPrefix(y.fold(b), y.fold(stem)) && (strings.Contains(b, "~") || strings.Contains(b, "(conflict")) {
			return true
		}
	}
	return false
}

func lineOf(at string, k model.Kind) string { return fmt.Sprintf("%v %s", k, at) }

// name checks a name that is shown.
func (y *memory) name(m *machine, at string, k model.Kind, l *listing) {
	line := lineOf(at, k)
	if l.names[line] = true; y.names == nil || m.lacks != nil || y.w.evil != nil || y.names[line] || !y.ever[line] || y.moved || y.free(at) {
		return
	}
	l.fault("I13", "shows again, what nobody made: %s", line)
}

// val checks the value of an attribute that is shown.
func (y *memory) val(m *machine, at, v string, l *listing) {
	if l.vals[v] = true; y.vals != nil && m.lacks == nil && y.w.evil == nil && y.set[v] && !y.vals[v] {
		l.fault("I13", "shows again, of %s, the attribute %q", at, v)
	}
}

func (y *memory) inSync(l listing) {
	y.names, y.vals = l.names, l.vals
	maps.Copy(y.ever, l.names)
	clear(y.given)
	y.moved = false
}
