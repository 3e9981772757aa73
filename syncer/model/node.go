package model

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Kind is part of a node's id and never changes.
type Kind uint8

// The kinds that replicate, and those of this machine only.
const (
	File Kind = iota
	Symlink
	Dir
	Fifo
	Socket
	Char
	Block
	Local // a regular file of this machine only
)

// Replicates tells whether peers get nodes of this kind.
func (k Kind) Replicates() bool { return k <= Dir }

// A Label says who made a version, for the name of its conflict copy.
type Label struct{ Author, Device string }

// A Version is one content of a node: a file's bytes (an encoded content) or a
// symlink's target. A directory has one without content, which says only that
// it exists.
type Version struct {
	Dot     Dot
	VV      VV  // every version of the node it supersedes, and Dot
	Orig    Dot // the change that introduced this content; passive if not Dot
	Content string
	Mtime   int64 // ns
	Unsure  bool  // the clock that Mtime is of was not synchronised
	By      Label // of Orig
}

// A Loc is where a name of a node is.
type Loc struct {
	Parent ID
	Name   string
	Stamp  Stamp
	Dot    Dot
}

// A Del removes a name: every Loc of the link whose dot its author knew.
type Del struct {
	Dot Dot
	K   VV // what its author knew before
}

// A Gone deletes versions of a node: its author removed the last name it saw.
type Gone struct {
	Dot Dot
	VV  VV
}

// A Link is one name of a node. A rename moves it; an unlink adds a Del.
type Link struct {
	Key  uint64
	Hist []Loc // newest first: 1 for files and symlinks, up to MaxHist for directories
	Dels []Del // no K within another
}

const (
	// PrimaryKey is the link a node was born with. A directory has no other.
	PrimaryKey = 0
	// MaxHist is how many places of a directory are remembered, for undoing
	// moves that would make a cycle.
	MaxHist = 16
)

// An Attr is one attribute: the mode, a directory's mtime or an extended one.
// An empty Val means absent.
type Attr struct {
	Val   string
	Stamp Stamp
	Dot   Dot
}

// Names of attributes.
const (
	AttrMode  = "m" // two bytes, big endian: the permission bits 0777
	AttrMtime = "t" // of a directory: eight bytes, big endian, ns
	XattrTag  = "x" // + the name of a user.* attribute; Val is "=" + value
)

// A Node is a file, directory or symlink: a product of join-semilattices.
type Node struct {
	ID      ID
	Kind    Kind
	Heads   []Version // by dot; none covered
	Covered VV        // all that any version joined here has superseded
	Gone    []Gone    // deletions of content, none within another
	Links   []Link    // by key
	Attrs   map[string]Attr
	Births  []Dot // changes that made it anew: what they forget others may still have
}

// Equal tells whether two nodes hold the same. Nil is one that is unknown.
func (n *Node) Equal(o *Node) bool {
	if n == nil || o == nil {
		return n == o
	}
	return n.ID == o.ID && n.Kind == o.Kind && n.Covered.Equal(o.Covered) &&
		slices.EqualFunc(n.Gone, o.Gone, func(x, y Gone) bool { return x.Dot == y.Dot && x.VV.Equal(y.VV) }) &&
		slices.EqualFunc(n.Heads, o.Heads, func(x, y Version) bool {
			return x.Dot == y.Dot && x.Orig == y.Orig && x.Content == y.Content && x.Mtime == y.Mtime && x.Unsure == y.Unsure && x.By == y.By && x.VV.Equal(y.VV)
		}) &&
		slices.EqualFunc(n.Links, o.Links, func(x, y Link) bool {
			return x.Key == y.Key && slices.Equal(x.Hist, y.Hist) &&
				slices.EqualFunc(x.Dels, y.Dels, func(d, e Del) bool { return d.Dot == e.Dot && d.K.Equal(e.K) })
		}) && maps.Equal(n.Attrs, o.Attrs) && slices.Equal(n.Births, o.Births)
}

// Del covers the deleted versions.
func (n *Node) Del() VV {
	var v VV
	for _, g := range n.Gone {
		v = v.Join(g.VV)
	}
	return v
}

// Live tells whether a version is there that nobody deleted.
func (n *Node) Live() bool {
	del := n.Del()
	for _, h := range n.Heads {
		if !del.Has(h.Dot) {
			return true
		}
	}
	return false
}

// Link returns the link with the key, or nil.
func (n *Node) Link(key uint64) *Link {
	if i, found := n.link(key); found {
		return &n.Links[i]
	}
	return nil
}

// link is where the link with the key is, or belongs.
func (n *Node) link(key uint64) (i int, found bool) {
	return slices.BinarySearchFunc(n.Links, key, func(l Link, k uint64) int { return cmp.Compare(l.Key, k) })
}

// Head returns the version with the dot.
func (n *Node) Head(d Dot) (Version, bool) {
	for _, h := range n.Heads {
		if h.Dot == d {
			return h, true
		}
	}
	return Version{}, false
}

// Loc is the current place of a link. It is zero while only removals of it are
// known: the place they removed is dead, the next is still to come.
func (l *Link) Loc() Loc {
	if len(l.Hist) == 0 {
		return Loc{}
	}
	return l.Hist[0]
}

// Dead tells whether somebody who knew the current place removed the name.
func (l *Link) Dead() bool {
	return len(l.Hist) == 0 || l.removed(l.Hist[0])
}

// Places are where a directory may be: at its current place or, should that make
// a cycle, at an older one that nobody removed. Of what was removed nothing may
// hang on whether it has been collected.
func (l *Link) Places() []Loc {
	if len(l.Hist) < 2 || len(l.Dels) == 0 {
		return l.Hist
	}
	out := []Loc{l.Hist[0]}
	for _, x := range l.Hist[1:] {
		if !l.removed(x) {
			out = append(out, x)
		}
	}
	return out
}

// removed tells whether somebody who knew a place of the link removed it.
func (l *Link) removed(x Loc) bool {
	return slices.ContainsFunc(l.Dels, func(d Del) bool { return d.K.Has(x.Dot) })
}

// At tells whether the link's place is that name of that directory.
func (l *Link) At(dir ID, name string, fold Fold) bool {
	x := l.Loc()
	return x.Parent == dir && fold(x.Name) == fold(name)
}

// allVV covers every version of the node that is known here.
func (n *Node) allVV() VV {
	v := n.Del()
	for _, h := range n.Heads {
		v = v.Join(h.VV)
	}
	return v
}

// Dots calls f with each dot that a field of the node cites: changes whose dot
// nothing cites are dead.
func (n *Node) Dots(f func(Dot)) {
	for _, h := range n.Heads {
		f(h.Dot)
	}
	for _, l := range n.Links {
		for _, x := range l.Hist {
			f(x.Dot)
		}
		for _, d := range l.Dels {
			f(d.Dot)
		}
	}
	for _, g := range n.Gone {
		f(g.Dot)
	}
	for _, a := range n.Attrs {
		f(a.Dot)
	}
	for _, d := range n.Births {
		f(d)
	}
}

// Clone returns a copy that shares nothing that is changed in place.
func (n *Node) Clone() *Node {
	c := *n
	c.Heads = slices.Clone(n.Heads)
	c.Gone = slices.Clone(n.Gone)
	c.Births = slices.Clone(n.Births)
	c.Links = make([]Link, len(n.Links))
	for i, l := range n.Links {
		c.Links[i] = Link{Key: l.Key, Hist: slices.Clone(l.Hist), Dels: slices.Clone(l.Dels)}
	}
	c.Attrs = make(map[string]Attr, len(n.Attrs))
	for k, a := range n.Attrs {
		c.Attrs[k] = a
	}
	return &c
}

// A Fold is the name policy of a folder: two names of one directory are the
// same name if their folds are equal. It must be idempotent.
type Fold func(string) string

// Bytes tells all names apart. It is the default.
func Bytes(s string) string { return s }

// ValidName tells whether peers accept a name.
func ValidName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsAny(s, "/\x00")
}
