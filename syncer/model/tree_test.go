package model

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tree is what a mount shows: inodes changed by POSIX operations, and which
// names and contents were changed here since the last cut.
type tree struct {
	fold    Fold
	root    *inode
	next    uint64
	byID    map[ID]*inode
	drift   map[place]*drift
	consume func(content string) // a content on screen is done away with
}

type inode struct {
	ino             uint64
	id              ID // zero: not born
	kind            Kind
	content         string
	mtime           int64
	orig            Dot // the version shown, if not edited
	attrs           map[string]string
	edited, touched bool
	unlinked        bool            // the last name was removed here
	base            Dot             // what edited began with
	attred          map[string]bool // attributes set here
	kids            map[string]dent // of a directory, by fold
}

type dent struct {
	name string
	to   *inode
}

type place struct {
	dir  *inode
	fold string
}

// drift is a name changed here: what its user saw there first.
type drift struct {
	name     string
	seen     ID
	seenOrig Dot
}

func newTree(fold Fold) *tree {
	t := &tree{fold: fold, byID: map[ID]*inode{}, drift: map[place]*drift{}, consume: func(string) {}}
	t.root = t.newInode(Dir)
	t.root.id = RootID
	t.byID[RootID] = t.root
	return t
}

func (t *tree) newInode(k Kind) *inode {
	t.next++
	return &inode{ino: t.next, kind: k, attrs: map[string]string{}, attred: map[string]bool{}, kids: map[string]dent{}}
}

func (i *inode) dirty() bool { return i.edited || i.touched }

func (i *inode) clean() {
	i.edited, i.touched = false, false
	clear(i.attred)
}

var (
	errExist    = errors.New("EEXIST")
	errNoent    = errors.New("ENOENT")
	errInval    = errors.New("EINVAL")
	errNotEmpty = errors.New("ENOTEMPTY")
	errIsDir    = errors.New("EISDIR")
)

func (t *tree) at(dir *inode, name string) *inode { return dir.kids[t.fold(name)].to }

// mark makes a name dirty, before it is changed.
func (t *tree) mark(dir *inode, name string) {
	p := place{dir, t.fold(name)}
	if t.drift[p] != nil {
		return
	}
	y := &drift{name: name}
	if d, ok := dir.kids[p.fold]; ok {
		y.seen, y.name = d.to.id, d.name
		if d.to.kind != Dir {
			y.seenOrig = d.to.seenOrig()
		}
	}
	t.drift[p] = y
}

func (i *inode) seenOrig() Dot {
	if i.edited {
		return i.base
	}
	return i.orig
}

func (t *tree) set(dir *inode, name string, to *inode) {
	t.mark(dir, name)
	dir.kids[t.fold(name)] = dent{name, to}
}

// drop removes a name; the content goes with the last.
func (t *tree) drop(dir *inode, name string) {
	t.mark(dir, name)
	i := t.at(dir, name)
	delete(dir.kids, t.fold(name))
	if t.nameCount(i) == 0 {
		t.consume(i.content)
		i.clean()
		i.unlinked = true
	}
}

func (t *tree) nameCount(i *inode) (n int) {
	t.each(t.root, func(_ *inode, _ string, d dent) {
		if d.to == i {
			n++
		}
	})
	return n
}

// each visits all names below a directory, in no order.
func (t *tree) each(dir *inode, f func(dir *inode, fold string, d dent)) {
	for k, d := range dir.kids {
		f(dir, k, d)
		if d.to.kind == Dir {
			t.each(d.to, f)
		}
	}
}

// walk visits all names, in order of path.
func (t *tree) walk(f func(path string, dir *inode, d dent)) {
	var visit func(dir *inode, at string, depth int)
	visit = func(dir *inode, at string, depth int) {
		if depth > 60 {
			panic(failure{"I4", "cycle in tree"})
		}
		for _, k := range sortedKeys(dir.kids) {
			d := dir.kids[k]
			f(at+"/"+d.name, dir, d)
			if d.to.kind == Dir {
				visit(d.to, at+"/"+d.name, depth+1)
			}
		}
	}
	visit(t.root, "", 0)
}

// The operations, as programs call them.

func (t *tree) write(dir *inode, name, content string, mtime int64) error {
	i := t.at(dir, name)
	switch {
	case i == nil:
		i = t.newInode(File)
		i.content, i.mtime = content, mtime
		i.attrs[AttrMode] = "\x01\xa4"
		t.set(dir, name, i)
		return nil
	case i.kind != File:
		return errIsDir
	}
	t.consume(i.content)
	t.edit(i, content, mtime)
	return nil
}

func (t *tree) edit(i *inode, content string, mtime int64) {
	if !i.edited {
		i.base = i.orig
	}
	i.edited, i.content, i.mtime = true, content, mtime
}

func (t *tree) mkdir(dir *inode, name string) error {
	if t.at(dir, name) != nil {
		return errExist
	}
	i := t.newInode(Dir)
	i.attrs[AttrMode] = "\x01\xed"
	t.set(dir, name, i)
	return nil
}

func (t *tree) symlink(dir *inode, name, target string, mtime int64) error {
	if t.at(dir, name) != nil {
		return errExist
	}
	i := t.newInode(Symlink)
	i.content, i.mtime = target, mtime
	t.set(dir, name, i)
	return nil
}

func (t *tree) remove(dir *inode, name string) error {
	i := t.at(dir, name)
	switch {
	case i == nil:
		return errNoent
	case i.kind == Dir && len(i.kids) > 0:
		return errNotEmpty
	}
	t.drop(dir, name)
	return nil
}

func (t *tree) removeAll(dir *inode, name string) error {
	i := t.at(dir, name)
	if i == nil {
		return errNoent
	}
	for _, k := range sortedKeys(i.kids) {
		if err := t.removeAll(i, i.kids[k].name); err != nil {
			return err
		}
	}
	return t.remove(dir, name)
}

func (t *tree) link(i *inode, dir *inode, name string) error {
	switch {
	case i.kind == Dir:
		return errIsDir
	case t.at(dir, name) != nil:
		return errExist
	}
	t.set(dir, name, i)
	return nil
}

func (t *tree) under(dir, anc *inode) bool {
	found := dir == anc
	var visit func(i *inode)
	visit = func(i *inode) {
		for _, d := range i.kids {
			if d.to.kind == Dir {
				found = found || d.to == dir
				visit(d.to)
			}
		}
	}
	visit(anc)
	return found
}

func (t *tree) rename(sdir *inode, sname string, ddir *inode, dname string) error {
	s, d := t.at(sdir, sname), t.at(ddir, dname)
	same := sdir == ddir && t.fold(sname) == t.fold(dname)
	switch {
	case s == nil:
		return errNoent
	case same:
		t.mark(sdir, sname)
		sdir.kids[t.fold(sname)] = dent{dname, s}
		return nil
	case s == d:
		return nil
	case s.kind == Dir && t.under(ddir, s):
		return errInval
	case d == nil:
	case (d.kind == Dir) != (s.kind == Dir):
		return errExist
	case len(d.kids) > 0:
		return errNotEmpty
	}
	if d != nil {
		dname = ddir.kids[t.fold(dname)].name
		t.drop(ddir, dname)
	}
	t.mark(sdir, sname)
	delete(sdir.kids, t.fold(sname))
	t.set(ddir, dname, s)
	return nil
}

func (t *tree) exchange(sdir *inode, sname string, ddir *inode, dname string) error {
	s, d := t.at(sdir, sname), t.at(ddir, dname)
	switch {
	case s == nil || d == nil:
		return errNoent
	case s == d:
		return nil
	case s.kind == Dir && t.under(ddir, s) || d.kind == Dir && t.under(sdir, d):
		return errInval
	}
	sname, dname = sdir.kids[t.fold(sname)].name, ddir.kids[t.fold(dname)].name
	t.set(sdir, sname, d)
	t.set(ddir, dname, s)
	return nil
}

func (t *tree) setAttr(i *inode, name, val string) {
	i.attred[name] = true
	i.attrs[name] = val
	if val == "" {
		delete(i.attrs, name)
	}
}

func (t *tree) touch(i *inode, mtime int64) {
	if i.kind == Dir {
		t.setAttr(i, AttrMtime, fmt.Sprint(mtime))
		return
	}
	i.touched, i.mtime = true, mtime
}

// follow makes the tree show what m shows, wherever nothing was changed here:
// a dirty name keeps its entry, a dirty file its bytes. What is dirty stays
// reachable: a name that went keeps its dirty file, a directory that went what
// is dirty in it, as dirty names themselves.
func (t *tree) follow(m *Mem) {
	old := map[*inode]map[string]dent{}
	t.each(t.root, func(dir *inode, _ string, _ dent) { old[dir] = dir.kids })
	now := t.overlay(m)
	for t.keep(old, now) {
		now = t.overlay(m)
	}
	for dir, kids := range now {
		dir.kids = kids
	}
	t.each(t.root, func(_ *inode, _ string, d dent) { d.to.unlinked = false })
}

// overlay computes the directories that can be reached: the view under the
// dirty names.
func (t *tree) overlay(m *Mem) map[*inode]map[string]dent {
	held := map[*inode]bool{} // directories at dirty names: shown nowhere else
	for p := range t.drift {
		if d, ok := p.dir.kids[p.fold]; ok {
			held[d.to] = true
		}
	}
	out := map[*inode]map[string]dent{}
	queue := []*inode{t.root}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		if out[dir] != nil {
			continue
		}
		kids := map[string]dent{}
		for k, d := range dir.kids {
			if t.drift[place{dir, k}] != nil {
				kids[k] = d
			}
		}
		if !dir.id.IsZero() {
			for _, e := range m.List(dir.id) {
				k := t.fold(e.Name)
				i := t.show(m, e)
				y := t.drift[place{dir, t.fold(e.Base)}] // its name, if others displaced it
				if t.drift[place{dir, k}] == nil && (i.kind != Dir || !held[i]) && (y == nil || y.seen != i.id) {
					kids[k] = dent{e.Name, i}
				}
			}
		}
		out[dir] = kids
		for _, k := range sortedKeys(kids) {
			if kids[k].to.kind == Dir {
				queue = append(queue, kids[k].to)
			}
		}
	}
	return out
}

// show brings the inode of an entry up to date.
func (t *tree) show(m *Mem, e *Entry) *inode {
	i := t.byID[e.Node()]
	if i == nil {
		i = t.newInode(e.Kind)
		i.id = e.Node()
		t.byID[i.id] = i
	}
	n := m.Node(e.ID)
	for k, v := range attrsOf(n) {
		if !i.attred[k] {
			i.attrs[k] = v
		}
	}
	for k := range i.attrs {
		if n.Attrs[k].Val == "" && !i.attred[k] {
			delete(i.attrs, k)
		}
	}
	for _, h := range n.Shown() {
		if e.Kind != Dir && h.Orig == e.Orig && !i.edited {
			if i.orig != h.Orig && !i.unlinked && t.nameCount(i) > 0 {
				t.saw(i.id, h.Orig)
			}
			i.content, i.orig = h.Content, h.Orig
			if !i.touched {
				i.mtime = h.Mtime
			}
			break
		}
	}
	return i
}

// saw notes that a file that its user has moved, but not away, shows another
// version now: who removes it then removes that one.
func (t *tree) saw(id ID, orig Dot) {
	for _, y := range t.drift {
		if y.seen == id {
			y.seenOrig = orig
		}
	}
}

// keep marks names that must stay though the view has them no more.
func (t *tree) keep(old, now map[*inode]map[string]dent) (again bool) {
	need := map[*inode]bool{} // directories that must be reachable
	for p := range t.drift {
		if _, ok := p.dir.kids[p.fold]; ok {
			need[p.dir] = true
		}
	}
	for dir, kids := range old {
		for k, d := range kids {
			p := place{dir, k}
			if t.drift[p] == nil && d.to.kind != Dir && d.to.dirty() && now[dir][k].to != d.to {
				t.drift[p] = &drift{name: d.name, seen: d.to.id, seenOrig: d.to.seenOrig()}
				again = true
			}
		}
	}
	for dir, kids := range old {
		for k, d := range kids {
			p := place{dir, k}
			if t.drift[p] == nil && d.to.kind == Dir && now[d.to] == nil && need[d.to] {
				t.drift[p] = &drift{name: d.name, seen: d.to.id}
				again = true
			}
		}
	}
	return again
}

// drifts tells whether anything was changed here since the last cut.
func (t *tree) drifts() bool {
	drift := len(t.drift) > 0
	t.each(t.root, func(_ *inode, _ string, d dent) {
		drift = drift || d.to.dirty() || len(d.to.attred) > 0
	})
	return drift
}

func (t *tree) places() []place {
	return slices.SortedFunc(maps.Keys(t.drift), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.dir.ino, b.dir.ino), strings.Compare(a.fold, b.fold))
	})
}

// A listing is a tree with all that can be seen of it, hard links included, in
// order of path.
type listing []sight

type sight struct {
	path    string
	kind    Kind
	content string
	mtime   int64  // of a directory among its attributes, if set
	attrs   string // mode and extended ones
	same    string // the first name of the same file
}

func (l listing) String() string {
	var b strings.Builder
	for _, x := range l {
		fmt.Fprintf(&b, "%s kind %d %s %d %q =%s\n", x.path, x.kind, x.content, x.mtime, x.attrs, x.same)
	}
	return b.String()
}

func (l listing) equal(o listing) bool { return slices.Equal(l, o) }

// at returns what is at a path.
func (l listing) at(path string) sight {
	i := slices.IndexFunc(l, func(x sight) bool { return x.path == path })
	if i < 0 {
		return sight{}
	}
	return l[i]
}

func attrString(attrs map[string]string) string {
	if len(attrs) == 1 {
		for k, v := range attrs {
			return k + v
		}
	}
	var b []byte
	for _, k := range sortedKeys(attrs) {
		b = append(append(append(b, k...), attrs[k]...), ' ')
	}
	return string(b)
}

func (t *tree) list() listing {
	var l listing
	first := map[*inode]string{}
	t.walk(func(path string, _ *inode, d dent) {
		if first[d.to] == "" {
			first[d.to] = path
		}
		x := sight{path: path, kind: d.to.kind, attrs: attrString(d.to.attrs), same: first[d.to]}
		if x.kind != Dir {
			x.content, x.mtime = d.to.content, d.to.mtime
		}
		l = append(l, x)
	})
	return l
}

// paths visits what m shows, in order of path.
func paths(m *Mem, f func(path string, e *Entry)) {
	var visit func(dir ID, at string, depth int)
	visit = func(dir ID, at string, depth int) {
		if depth > 60 {
			panic(failure{"I4", "cycle in view"})
		}
		for _, e := range m.List(dir) {
			f(at+"/"+e.Name, e)
			if e.Kind == Dir {
				visit(e.ID, at+"/"+e.Name, depth+1)
			}
		}
	}
	visit(RootID, "", 0)
}

func list(m *Mem) listing {
	var l listing
	first := map[ID]string{}
	paths(m, func(path string, e *Entry) {
		if first[e.Node()] == "" {
			first[e.Node()] = path
		}
		n := m.Node(e.ID)
		x := sight{path: path, kind: e.Kind, attrs: attrString(attrsOf(n)), same: first[e.Node()]}
		if x.kind != Dir {
			v := version(n, e)
			x.content, x.mtime = v.Content, v.Mtime
		}
		l = append(l, x)
	})
	return l
}

// version is what an entry shows.
func version(n *Node, e *Entry) Version {
	shown := n.Shown()
	if e.Extra { // the first is the node's own
		shown = shown[1:]
	}
	for _, h := range shown {
		if h.Orig == e.Orig {
			return h
		}
	}
	return Version{}
}

// A failure is a broken promise.
type failure struct{ what, why string }
