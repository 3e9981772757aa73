package model

import "slices"

// A State is the replicated nodes of a folder and the tree they show. The index
// keeps one in rows and its view up to date; Mem holds one in memory and
// computes the view anew, for tests and for checking the index.
type State interface {
	Node(ID) *Node                 // nil if unknown; not to be changed
	Apply(c Change, deps VV)       // joins a change
	At(dir ID, name string) *Entry // what the view shows there
	Entries(ID) []*Entry           // what the view shows of a node: its names, then its further versions
	Crowded(dir ID) []*Entry       // the entries of dir that are one of several of a base name
	Loc(dir ID) Loc                // where a directory is
	Undone() []ID                  // directories that are not at their newest place
	Alive(ID) bool                 // shown, or a directory with something in it
	CopyOf(ID) ID                  // the node of which this one may stand for a further version; zero: none
	Fold(string) string
	Origin(Dot) Origin
}

// Mem is a State in memory.
type Mem struct {
	Nodes   map[ID]*Node
	Origins func(Dot) Origin
	Folding Fold
	view    *view
}

// NewMem returns an empty state.
func NewMem(fold Fold, origins func(Dot) Origin) *Mem {
	return &Mem{Nodes: map[ID]*Node{RootID: {ID: RootID, Kind: Dir}}, Origins: origins, Folding: fold}
}

type view struct {
	eff     map[ID]int
	alive   map[ID]bool
	kids    map[ID]map[string]*Entry // by fold of the shown name
	entries map[ID][]*Entry
	lists   map[ID][]*Entry // what List has returned
	copies  map[ID]ID       // by what they would become, whose further versions
}

var _ State = (*Mem)(nil)

// Node implements State.
func (m *Mem) Node(id ID) *Node { return m.Nodes[id] }

// Apply implements State.
func (m *Mem) Apply(c Change, deps VV) {
	if !c.Says() {
		return
	}
	n := m.Nodes[c.ID]
	if n == nil {
		n = &Node{ID: c.ID, Kind: c.Kind}
		m.Nodes[c.ID] = n
	}
	n.Join(c, deps)
	m.view = nil
}

// At implements State.
func (m *Mem) At(dir ID, name string) *Entry { return m.View().kids[dir][m.Folding(name)] }

// Entries implements State.
func (m *Mem) Entries(id ID) []*Entry { return m.View().entries[id] }

// List returns the entries of a directory in the order of the folds of their
// names. It is not to be changed.
func (m *Mem) List(dir ID) []*Entry {
	v := m.View()
	if l, ok := v.lists[dir]; ok {
		return l
	}
	kids := v.kids[dir]
	l := make([]*Entry, 0, len(kids))
	for _, k := range sortedKeys(kids) {
		l = append(l, kids[k])
	}
	v.lists[dir] = l
	return l
}

// Crowded implements State.
func (m *Mem) Crowded(dir ID) []*Entry {
	bases := map[string]int{}
	for _, e := range m.View().kids[dir] {
		bases[m.Folding(e.Base)]++
	}
	return slices.DeleteFunc(slices.Clone(m.List(dir)), func(e *Entry) bool { return bases[m.Folding(e.Base)] < 2 && !e.Extra })
}

// Loc implements State.
func (m *Mem) Loc(id ID) Loc { return EffLoc(m.hist(id), m.View().eff[id]) }

// Undone implements State.
func (m *Mem) Undone() []ID {
	var out []ID
	for id, i := range m.View().eff {
		if i > 0 {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, compareIDs)
	return out
}

// Alive implements State.
func (m *Mem) Alive(id ID) bool { return m.View().alive[id] && m.Nodes[id] != nil }

// CopyOf implements State.
func (m *Mem) CopyOf(id ID) ID { return m.View().copies[id] }

// Fold implements State.
func (m *Mem) Fold(s string) string { return m.Folding(s) }

// Origin implements State.
func (m *Mem) Origin(d Dot) Origin { return m.Origins(d) }

func (m *Mem) hist(id ID) []Loc {
	n := m.Nodes[id]
	if n == nil || n.Kind != Dir || len(n.Links) == 0 {
		return nil
	}
	return n.Links[0].Places()
}

// View computes the tree.
func (m *Mem) View() *view {
	if m.view != nil {
		return m.view
	}
	v := &view{eff: map[ID]int{}, alive: map[ID]bool{RootID: true}, kids: map[ID]map[string]*Entry{}, entries: map[ID][]*Entry{}, lists: map[ID][]*Entry{}, copies: map[ID]ID{}}
	m.view = v
	var dirs []ID
	for id, n := range m.Nodes {
		if n.Kind == Dir && id != RootID {
			dirs = append(dirs, id)
		}
	}
	v.eff = Resolve(dirs, m.hist, nil)
	for id, n := range m.Nodes {
		switch {
		case id == RootID || !n.Live():
		case n.Kind == Dir:
			m.mark(id)
		default:
			v.alive[id] = true
			for _, e := range n.Names(m.Folding) {
				m.mark(e.Parent)
			}
		}
	}
	claims := map[ID][]*Entry{}
	for id := range v.alive {
		n := m.Nodes[id]
		if n == nil || id == RootID || n.Kind == Dir && len(m.hist(id)) == 0 {
			continue
		}
		if shown := n.Shown(); n.Kind != Dir && len(shown) > 1 {
			for _, h := range shown[1:] {
				v.copies[ForkID(id, h.Orig)] = id
			}
		}
		v.entries[id] = n.Claims(m.Folding, m.Loc, m.Alive, m.Origins)
		for _, e := range v.entries[id] {
			claims[e.Parent] = append(claims[e.Parent], e)
		}
	}
	for dir, cs := range claims {
		Assign(cs, m.Folding, func(string) bool { return false })
		v.kids[dir] = map[string]*Entry{}
		for _, e := range cs {
			v.kids[dir][m.Folding(e.Name)] = e
		}
	}
	return v
}

// mark makes a directory and all above it alive. A directory that is not known
// yet is alive without a place: what is in it waits for it.
func (m *Mem) mark(dir ID) {
	v := m.view
	for !v.alive[dir] {
		n := m.Nodes[dir]
		v.alive[dir] = true
		if n == nil || len(n.Links) == 0 {
			return
		}
		dir = m.Loc(dir).Parent
	}
}
