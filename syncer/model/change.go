package model

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Change is everything one cut says of one node, under one dot.
//
// Wire form (protobuf): 1 id, 2 kind, 3 lamport, 4 born, 5 link, 6 version,
// 7 attr, 8 gone (a vector), 9 reserved. Without an id it is a birth, of the node
// that is the first with its name as spelt.
// link: 1 key fixed64, 2 parent, 3 name, 4 removed (1, or 2 if undone too).
// version: 1 vv without its own dot, 2 orig (replica fixed64, seq varint) and
// 3 author, 4 device if it repeats a content, 5 content, 6 mtime zigzag, 7 unsure.
// attr: 1 name, 2 value.
type Change struct {
	Dot     Dot // from the batch's header
	ID      ID
	Kind    Kind
	Lamport uint64
	Born    bool // made over nothing known
	Lacks   VV   // if Born: what begins there its author had not, though it came over gaps (see Had)
	Links   []LinkChange
	Version *VersionChange
	Attrs   []AttrChange
	Gone    VV // versions deleted
}

// A LinkChange places a name or removes it, or removes it and places it again.
type LinkChange struct {
	Key     uint64
	Parent  ID
	Name    string // empty: not placed
	Removed bool   // every place its author knew before
	Undone  bool   // Removed, and the place this change gives it too
}

// A VersionChange is a new version.
type VersionChange struct {
	VV      VV  // superseded
	Orig    Dot // zero: new content
	By      Label
	Content string
	Mtime   int64
	Unsure  bool
}

// An AttrChange sets an attribute; an empty Val removes it.
type AttrChange struct{ Name, Val string }

const (
	// MaxNames and MaxAttrs are how many names and attributes a user may give one
	// node. So a change that says all of it fits its bounds, also if some others
	// have done that at once and what is too much goes again.
	MaxNames = 1 << 10
	MaxAttrs = 1 << 10

	maxLinkChanges = 1 << 14
	maxAttrChanges = 1 << 12
	maxAttrName    = 256
	maxAttrVal     = 64<<10 + 1
	maxContent     = 8 << 10
)

// Encode returns the wire form.
func (c Change) Encode() []byte {
	var b []byte
	named := c.Born && c.ID == c.birthID()
	if !named {
		b = appendBytes(b, 1, c.ID[:])
	}
	if c.Kind != File {
		b = appendUint(b, 2, uint64(c.Kind))
	}
	b = appendUint(b, 3, c.Lamport)
	if c.Born && !named {
		b = appendUint(b, 4, 1)
	}
	if len(c.Lacks) > 0 {
		b = appendBytes(b, 9, c.Lacks.Encode())
	}
	for _, l := range c.Links {
		var m []byte
		if l.Key != PrimaryKey {
			m = protowire.AppendFixed64(protowire.AppendTag(m, 1, protowire.Fixed64Type), l.Key)
		}
		if l.Name != "" {
			m = appendBytes(m, 2, l.Parent[:])
			m = appendBytes(m, 3, []byte(l.Name))
		}
		switch {
		case l.Undone:
			m = appendUint(m, 4, 2)
		case l.Removed:
			m = appendUint(m, 4, 1)
		}
		b = appendBytes(b, 5, m)
	}
	if v := c.Version; v != nil {
		b = appendBytes(b, 6, v.encode())
	}
	for _, a := range c.Attrs {
		m := appendBytes(nil, 1, []byte(a.Name))
		if a.Val != "" {
			m = appendBytes(m, 2, []byte(a.Val))
		}
		b = appendBytes(b, 7, m)
	}
	if len(c.Gone) > 0 {
		b = appendBytes(b, 8, c.Gone.Encode())
	}
	return b
}

func (v *VersionChange) encode() []byte {
	var m []byte
	if len(v.VV) > 0 {
		m = appendBytes(m, 1, v.VV.Encode())
	}
	if v.Orig != (Dot{}) {
		m = appendBytes(m, 2, VV{v.Orig}.Encode())
		m = appendBytes(m, 3, []byte(v.By.Author))
		m = appendBytes(m, 4, []byte(v.By.Device))
	}
	if v.Content != "" {
		m = appendBytes(m, 5, []byte(v.Content))
	}
	m = appendUint(m, 6, protowire.EncodeZigZag(v.Mtime))
	if v.Unsure {
		m = appendUint(m, 7, 1)
	}
	return m
}

// DecodeChange reads a change; d is its dot.
func DecodeChange(b []byte, d Dot) (Change, error) {
	c := Change{Dot: d}
	err := fields(b, func(num protowire.Number, v uint64, p []byte, _ int) (err error) {
		switch num {
		case 1:
			err = exactly(c.ID[:], p)
		case 2:
			c.Kind = Kind(min(v, 255))
		case 3:
			c.Lamport = v
		case 4:
			c.Born = v != 0
		case 5:
			var l LinkChange
			l, err = decodeLink(p)
			c.Links = append(c.Links, l)
		case 6:
			c.Version, err = decodeVersion(p)
		case 7:
			var a AttrChange
			a, err = decodeAttr(p)
			c.Attrs = append(c.Attrs, a)
		case 8:
			c.Gone, err = DecodeVV(p)
		case 9:
			c.Lacks, err = DecodeVV(p)
		}
		if err == nil && (len(c.Links) > maxLinkChanges || len(c.Attrs) > maxAttrChanges) {
			err = fmt.Errorf("%w: too many fields", ErrBatch)
		}
		return err
	})
	if err == nil && c.ID.IsZero() {
		c.Born, c.ID = true, c.birthID()
	}
	if err == nil {
		err = c.Valid()
	}
	if err != nil {
		return c, fmt.Errorf("change %v: %w", d, err)
	}
	return c, nil
}

// birthID is the id of the first node with the name that a change gives its node;
// zero: it gives none.
func (c Change) birthID() ID {
	if l := c.place(); l != nil {
		return BirthID(l.Parent, l.Name, c.Kind, 0)
	}
	return ID{}
}

// place is where a change puts the first name of its node, or nil.
func (c Change) place() *LinkChange {
	for i, l := range c.Links {
		if l.Key == PrimaryKey && l.Name != "" {
			return &c.Links[i]
		}
	}
	return nil
}

// Had is what the author of a birth had, of deps, which say that it knew it: what
// is in a gap is dead, where all keep the rules, and so the author of what comes
// after may say that it knew that; but it cannot have collected it.
func (c Change) Had(deps VV) VV {
	for _, d := range c.Lacks {
		deps = deps.Without(d)
	}
	return deps
}

// Says tells whether a change says anything: one that does not only fills the
// place of a directory that its author was going to make, and in the end did not.
func (c Change) Says() bool {
	return c.Born || c.Version != nil || len(c.Links)+len(c.Attrs)+len(c.Gone) > 0
}

// Valid refuses what no honest member writes.
func (c Change) Valid() error {
	switch {
	case c.ID.IsZero() || c.ID == RootID && (len(c.Links) > 0 || c.Version != nil || len(c.Gone) > 0):
		return fmt.Errorf("%w: node id", ErrBatch)
	case !c.Kind.Replicates() || c.Kind != c.ID.Kind():
		return fmt.Errorf("%w: kind %d", ErrBatch, c.Kind)
	case c.Born && c.place() == nil:
		return fmt.Errorf("%w: born nowhere", ErrBatch)
	case !c.Born && len(c.Lacks) > 0:
		return fmt.Errorf("%w: what it lacks is not born", ErrBatch)
	case c.Version != nil && c.Kind == Symlink && !validTarget(c.Version.Content):
		return fmt.Errorf("%w: symlink target", ErrBatch)
	case c.Version != nil && c.Kind == Dir && c.Version.Content != "":
		return fmt.Errorf("%w: directory with content", ErrBatch)
	}
	for _, l := range c.Links {
		switch {
		case l.Name == "" && !l.Removed:
			return fmt.Errorf("%w: empty link", ErrBatch)
		case l.Name != "" && !ValidName(l.Name):
			return fmt.Errorf("%w: a name that cannot be", ErrBatch)
		case l.Name == Reserved && l.Parent == RootID:
			return fmt.Errorf("%w: reserved name", ErrBatch)
		case c.Kind == Dir && l.Key != PrimaryKey:
			return fmt.Errorf("%w: directory with two names", ErrBatch)
		case l.Name != "" && (l.Parent.IsZero() || l.Parent.Kind() != Dir || l.Parent == c.ID):
			return fmt.Errorf("%w: parent", ErrBatch)
		}
	}
	return nil
}

// within refuses a change that supersedes, deletes or repeats what its author
// could not know.
func (c Change) within(k VV) error {
	v := c.Version
	if v != nil && (!v.VV.LE(k) || !k.With(c.Dot).Has(v.Orig)) || !c.Gone.LE(k.With(c.Dot)) {
		return fmt.Errorf("change %v: %w: more than its author knew", c.Dot, ErrBatch)
	}
	return nil
}

func validTarget(s string) bool {
	return s != "" && len(s) <= 4095 && !slices.Contains([]byte(s), 0)
}

func decodeLink(b []byte) (l LinkChange, err error) {
	err = fields(b, func(num protowire.Number, v uint64, p []byte, _ int) (err error) {
		switch num {
		case 1:
			l.Key = v
		case 2:
			err = exactly(l.Parent[:], p)
		case 3:
			l.Name = string(p[:min(len(p), 256)])
		case 4:
			l.Removed, l.Undone = v != 0, v > 1
		}
		return err
	})
	return l, err
}

func decodeVersion(b []byte) (*VersionChange, error) {
	v := &VersionChange{}
	err := fields(b, func(num protowire.Number, x uint64, p []byte, _ int) (err error) {
		switch num {
		case 1:
			v.VV, err = DecodeVV(p)
		case 2:
			var o VV
			if o, err = DecodeVV(p); err == nil && len(o) != 1 {
				err = fmt.Errorf("%w: orig", ErrBatch)
			} else if err == nil {
				v.Orig = o[0]
			}
		case 3:
			v.By.Author, err = label(p)
		case 4:
			v.By.Device, err = label(p)
		case 5:
			if len(p) > maxContent {
				return fmt.Errorf("%w: content of %d bytes", ErrBatch, len(p))
			}
			v.Content = string(p)
		case 6:
			v.Mtime = protowire.DecodeZigZag(x)
		case 7:
			v.Unsure = x != 0
		}
		return err
	})
	return v, err
}

func decodeAttr(b []byte) (a AttrChange, err error) {
	err = fields(b, func(num protowire.Number, _ uint64, p []byte, _ int) error {
		switch {
		case num == 1 && len(p) <= maxAttrName && bytes.IndexByte(p, 0) < 0:
			a.Name = string(p)
		case num == 2 && len(p) <= maxAttrVal:
			a.Val = string(p)
		case num <= 2:
			return fmt.Errorf("%w: attribute", ErrBatch)
		}
		return nil
	})
	if err == nil && a.Name == "" {
		err = fmt.Errorf("%w: attribute", ErrBatch)
	}
	return a, err
}

// What names and attributes a change may have besides its version, in bytes.
const maxFieldBytes = MaxChangeBytes - 128<<10

// fits tells whether a change may say o as well.
func (c *Change) fits(o Change) bool {
	return len(c.Links)+len(o.Links) <= maxLinkChanges && len(c.Attrs)+len(o.Attrs) <= maxAttrChanges &&
		c.fieldBytes()+o.fieldBytes() <= maxFieldBytes
}

func (c *Change) fieldBytes() (n int) {
	for i := range c.Links {
		n += c.Links[i].bytes()
	}
	for i := range c.Attrs {
		n += c.Attrs[i].bytes()
	}
	return n
}

func (l *LinkChange) bytes() int { return len(l.Name) + 64 }
func (a *AttrChange) bytes() int { return len(a.Name) + len(a.Val) + 16 }

// inPieces parts what is to be said of a node into changes that are not too large.
func (c Change) inPieces() []Change {
	if (&Change{}).fits(c) {
		return []Change{c}
	}
	links, attrs := c.Links, c.Attrs
	c.Links, c.Attrs = nil, nil
	out, size := []Change{c}, 0
	room := func(n int) *Change {
		last := &out[len(out)-1]
		if size += n; size > maxFieldBytes || len(last.Links) == maxLinkChanges || len(last.Attrs) == maxAttrChanges {
			out, size = append(out, Change{}), n
			last = &out[len(out)-1]
		}
		return last
	}
	for _, l := range links {
		p := room(l.bytes())
		p.Links = append(p.Links, l)
	}
	for _, a := range attrs {
		p := room(a.bytes())
		p.Attrs = append(p.Attrs, a)
	}
	return out
}

// merge adds o, which says more under the same dot: what o says again counts. A
// name removed can be given again, a content deleted cannot (see spent).
func (c *Change) merge(o Change) {
	if o.Born {
		c.Born, c.Lacks = true, o.Lacks
	}
	if len(c.Links) == 0 {
		c.Links, o.Links = slices.Clone(o.Links), nil
	}
	if len(c.Attrs) == 0 {
		c.Attrs, o.Attrs = slices.Clone(o.Attrs), nil
	}
	for _, l := range o.Links {
		i := slices.IndexFunc(c.Links, func(x LinkChange) bool { return x.Key == l.Key })
		switch {
		case i < 0:
			c.Links = append(c.Links, l)
		case l.Name == "":
			c.Links[i].Removed, c.Links[i].Undone = true, l.Undone
		default:
			l.Removed = l.Removed || c.Links[i].Removed
			c.Links[i] = l
		}
	}
	if o.Version != nil {
		c.Version = o.Version
	}
	for _, a := range o.Attrs {
		if i := slices.IndexFunc(c.Attrs, func(x AttrChange) bool { return x.Name == a.Name }); i >= 0 {
			c.Attrs[i] = a
		} else {
			c.Attrs = append(c.Attrs, a)
		}
	}
	c.Gone = c.Gone.Join(o.Gone)
}
