package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

// A Row is what is known of one inode number: a local part, which the tree
// shows, and a replicated part, the node. Row bytes: version, id16, kind, then
// varints as encode writes them.
type Row struct {
	ID       model.ID // zero: not born yet
	Kind     model.Kind
	Mode     uint32
	UID, GID uint32
	Nlink    uint32 // names in the tree; of a directory 2 + subdirectories
	Rdev     uint32
	Size     int64
	Alloc    int64
	Atime    int64
	Mtime    int64
	Ctime    int64
	Btime    int64
	Parent   Ino      // of a directory: where the tree has it
	Kids     uint64   // of a directory: claims of the view in it
	Crowd    uint64   // of a directory: crowded names in it
	Eff      uint64   // of a directory: which of its places counts
	Of       model.ID // this is a further version of that node, or was forked from it
	OfOrig   model.Dot
	Shown    *Shown // what a file shows, if not the node's winning version
	Target   string // of an unborn symlink
	Spared   bool   // its last name was taken away by others: its user has not seen it go
	Xattrs   bool   // there are x rows, or were
	Node     *model.Node
}

// named tells whether the tree has a name for it; it never has for the root.
func (r *Row) named() bool {
	return r.Kind == model.Dir && r.Parent != 0 || r.Kind != model.Dir && r.Nlink > 0
}

// Shown is committed content that the tree shows.
type Shown struct {
	Orig    model.Dot
	Content string
	Mtime   int64
}

const rowVersion = 1

var errRow = errors.New("damaged index row")

// enc writes rows, with replicas and directories by number.
type enc struct {
	b    []byte
	ridx func(model.Replica) uint32
	ino  func(model.ID) Ino
}

func (e *enc) u(v uint64)    { e.b = binary.AppendUvarint(e.b, v) }
func (e *enc) i(v int64)     { e.b = binary.AppendVarint(e.b, v) }
func (e *enc) s(v string)    { e.u(uint64(len(v))); e.b = append(e.b, v...) }
func (e *enc) id(v model.ID) { e.b = append(e.b, v[:]...) }
func (e *enc) dot(d model.Dot) {
	if d == (model.Dot{}) {
		e.u(0)
		return
	}
	e.u(uint64(e.ridx(d.Replica)) + 1)
	e.u(d.Seq)
}
func (e *enc) vv(v model.VV) {
	e.u(uint64(len(v)))
	for _, d := range v {
		e.dot(d)
	}
}

const (
	flagOf = 1 << iota
	flagShown
	flagTarget
	flagNode
	flagAtime
	flagOwner
	flagXattrs
	flagSpared
)

func (r *Row) encode(e *enc) []byte {
	e.b = append(e.b[:0], rowVersion)
	e.id(r.ID)
	var flags uint64
	set := func(on bool, f uint64) {
		if on {
			flags |= f
		}
	}
	set(!r.Of.IsZero(), flagOf)
	set(r.Shown != nil, flagShown)
	set(r.Target != "", flagTarget)
	set(r.Node != nil, flagNode)
	set(r.Atime != r.Mtime, flagAtime)
	set(r.Xattrs, flagXattrs)
	set(r.Spared, flagSpared)
	set(r.UID != 0 || r.GID != 0 || r.Rdev != 0, flagOwner)
	e.b = append(e.b, byte(r.Kind), byte(flags))
	e.u(uint64(r.Mode))
	e.u(uint64(r.Nlink))
	e.u(uint64(r.Size))
	e.i(r.Alloc - r.Size)
	e.i(r.Mtime)
	e.i(r.Ctime - r.Mtime)
	e.i(r.Btime - r.Ctime)
	if flags&flagAtime != 0 {
		e.i(r.Atime)
	}
	if flags&flagOwner != 0 {
		e.u(uint64(r.UID))
		e.u(uint64(r.GID))
		e.u(uint64(r.Rdev))
	}
	e.u(uint64(r.Parent))
	if r.Kind == model.Dir {
		e.u(r.Kids)
		e.u(r.Crowd)
		e.u(r.Eff)
	}
	if flags&flagOf != 0 {
		e.id(r.Of)
		e.dot(r.OfOrig)
	}
	if r.Shown != nil {
		e.dot(r.Shown.Orig)
		e.s(r.Shown.Content)
		e.i(r.Shown.Mtime)
	}
	if r.Target != "" {
		e.s(r.Target)
	}
	if r.Node != nil {
		e.node(r.Node, r.Mtime)
	}
	return e.b
}

const (
	headPassive = 1 << iota // repeats a content: orig and label follow
	headVV                  // supersedes something
	headMtime               // not the row's mtime
	headUnsure
)

// flags of a node
const (
	nodeCovered = 1 << iota
	nodeBirths
)

// heads writes the versions of a node, and returns what they say is superseded.
func (e *enc) heads(n *model.Node, mtime int64) (covered model.VV) {
	e.u(uint64(len(n.Heads)))
	for _, h := range n.Heads {
		var f uint64
		vv := h.VV.Without(h.Dot)
		covered = covered.Join(vv)
		if h.Orig != h.Dot {
			f |= headPassive
		}
		if len(vv) > 0 {
			f |= headVV
		}
		if h.Mtime != mtime {
			f |= headMtime
		}
		if h.Unsure {
			f |= headUnsure
		}
		e.u(f)
		e.dot(h.Dot)
		if f&headPassive != 0 {
			e.dot(h.Orig)
			e.s(h.By.Author)
			e.s(h.By.Device)
		}
		if f&headVV != 0 {
			e.vv(vv)
		}
		if f&headMtime != 0 {
			e.i(h.Mtime)
		}
		e.s(h.Content)
	}
	return covered
}

func (e *enc) node(n *model.Node, mtime int64) {
	covered := e.heads(n, mtime)
	var f uint64
	if !n.Covered.Equal(covered) { // hardly ever: else it is what the heads say
		f |= nodeCovered
	}
	if len(n.Births) > 0 {
		f |= nodeBirths
	}
	e.u(f)
	if f&nodeCovered != 0 {
		e.vv(n.Covered)
	}
	if f&nodeBirths != 0 {
		e.u(uint64(len(n.Births)))
		for _, d := range n.Births {
			e.dot(d)
		}
	}
	e.u(uint64(len(n.Gone)))
	for _, g := range n.Gone {
		e.dot(g.Dot)
		e.vv(g.VV)
	}
	e.u(uint64(len(n.Links)))
	for _, l := range n.Links {
		e.u(l.Key)
		e.u(uint64(len(l.Hist)))
		for _, x := range l.Hist {
			e.u(uint64(e.ino(x.Parent)))
			e.s(x.Name)
			e.u(x.Stamp.Lamport)
			e.dot(x.Dot)
		}
		e.u(uint64(len(l.Dels)))
		for _, d := range l.Dels {
			e.dot(d.Dot)
			e.vv(d.K)
		}
	}
	e.u(uint64(len(n.Attrs)))
	for k, a := range n.Attrs {
		e.s(k)
		e.s(a.Val)
		e.u(a.Stamp.Lamport)
		e.dot(a.Dot)
	}
}

// dec reads rows. The first error sticks.
type dec struct {
	b   []byte
	err error
	rep func(uint32) model.Replica
	id  func(Ino) model.ID
}

func (d *dec) fail() {
	if d.err == nil {
		d.err = errRow
	}
	d.b = nil
}

func (d *dec) u() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) i() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) s() string {
	n := d.u()
	if n > uint64(len(d.b)) {
		d.fail()
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *dec) id16() (id model.ID) {
	if len(d.b) < 16 {
		d.fail()
		return id
	}
	copy(id[:], d.b)
	d.b = d.b[16:]
	return id
}

func (d *dec) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *dec) dot() model.Dot {
	r := d.u()
	if r == 0 {
		return model.Dot{}
	}
	return model.Dot{Replica: d.rep(uint32(r - 1)), Seq: d.u()}
}

func (d *dec) vv() (v model.VV) {
	for n := d.count(); n > 0 && d.err == nil; n-- {
		v = append(v, d.dot())
	}
	return v
}

// count reads how many elements follow: each takes at least a byte.
func (d *dec) count() uint64 {
	n := d.u()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return n
}

// decodeRow reads a row; without node it leaves the replicated part out.
func decodeRow(b []byte, d *dec, node bool) (*Row, error) {
	d.b, d.err = b, nil
	if v := d.byte(); v != rowVersion && d.err == nil {
		return nil, fmt.Errorf("%w: version %d", errRow, v)
	}
	r := &Row{ID: d.id16(), Kind: model.Kind(d.byte())}
	flags := d.byte()
	r.Xattrs = flags&flagXattrs != 0
	r.Spared = flags&flagSpared != 0
	r.Mode = uint32(d.u())
	r.Nlink = uint32(d.u())
	r.Size = int64(d.u())
	r.Alloc = d.i() + r.Size
	r.Mtime = d.i()
	r.Ctime = d.i() + r.Mtime
	r.Btime = d.i() + r.Ctime
	r.Atime = r.Mtime
	if flags&flagAtime != 0 {
		r.Atime = d.i()
	}
	if flags&flagOwner != 0 {
		r.UID, r.GID, r.Rdev = uint32(d.u()), uint32(d.u()), uint32(d.u())
	}
	r.Parent = Ino(d.u())
	if r.Kind == model.Dir {
		r.Kids, r.Crowd, r.Eff = d.u(), d.u(), d.u()
	}
	if flags&flagOf != 0 {
		r.Of, r.OfOrig = d.id16(), d.dot()
	}
	if flags&flagShown != 0 {
		r.Shown = &Shown{Orig: d.dot(), Content: d.s(), Mtime: d.i()}
	}
	if flags&flagTarget != 0 {
		r.Target = d.s()
	}
	if flags&flagNode != 0 && node {
		r.Node = d.node(r)
	}
	if d.err == nil && node && len(d.b) > 0 {
		d.err = errRow
	}
	return r, d.err
}

func (d *dec) node(r *Row) *model.Node {
	n := &model.Node{ID: r.ID, Kind: r.Kind}
	var covered model.VV
	for k := d.count(); k > 0 && d.err == nil; k-- {
		f := d.u()
		h := model.Version{Dot: d.dot(), Mtime: r.Mtime, Unsure: f&headUnsure != 0}
		h.Orig = h.Dot
		if f&headPassive != 0 {
			h.Orig = d.dot()
			h.By = model.Label{Author: d.s(), Device: d.s()}
		}
		if f&headVV != 0 {
			h.VV = d.vv()
			covered = covered.Join(h.VV)
		}
		h.VV = h.VV.With(h.Dot)
		if f&headMtime != 0 {
			h.Mtime = d.i()
		}
		h.Content = d.s()
		n.Heads = append(n.Heads, h)
	}
	f := d.u()
	if n.Covered = covered; f&nodeCovered != 0 {
		n.Covered = d.vv()
	}
	if f&nodeBirths != 0 {
		for k := d.count(); k > 0 && d.err == nil; k-- {
			n.Births = append(n.Births, d.dot())
		}
	}
	for k := d.count(); k > 0 && d.err == nil; k-- {
		n.Gone = append(n.Gone, model.Gone{Dot: d.dot(), VV: d.vv()})
	}
	for k := d.count(); k > 0 && d.err == nil; k-- {
		l := model.Link{Key: d.u()}
		for j := d.count(); j > 0 && d.err == nil; j-- {
			x := model.Loc{Parent: d.id(Ino(d.u())), Name: d.s()}
			x.Stamp.Lamport = d.u()
			x.Dot = d.dot()
			x.Stamp.Replica = x.Dot.Replica
			l.Hist = append(l.Hist, x)
		}
		for j := d.count(); j > 0 && d.err == nil; j-- {
			l.Dels = append(l.Dels, model.Del{Dot: d.dot(), K: d.vv()})
		}
		n.Links = append(n.Links, l)
	}
	if k := d.count(); k > 0 {
		n.Attrs = make(map[string]model.Attr, k)
		for ; k > 0 && d.err == nil; k-- {
			name := d.s()
			a := model.Attr{Val: d.s(), Stamp: model.Stamp{Lamport: d.u()}}
			a.Dot = d.dot()
			a.Stamp.Replica = a.Dot.Replica
			n.Attrs[name] = a
		}
	}
	return n
}

// A Drift is a y row: a name where tree and view differ or may differ.
type Drift struct {
	View     model.ID // what the view has; zero: nothing
	Name     string   // as the view spells it, if it has anything
	Seen     model.ID // what was shown when the user first changed it
	SeenOrig model.Dot
	SeenDir  bool // that was a directory
	Left     bool // and has lost its last name since
	Ours     bool // to be cut; else to be fetched and shown
	// While this database begins anew: see rebase.go.
	Held    bool      // nothing is done about the name until it is complete
	Pending bool      // the view was ahead of the tree already
	Placed  model.Dot // what gave the name to what the tree has there
}

func (y Drift) encode(key string, e *enc) []byte {
	e.b = append(e.b[:0], rowVersion)
	e.id(y.View)
	e.id(y.Seen)
	e.dot(y.SeenOrig)
	var f uint64
	if y.Ours {
		f |= 1
	}
	if y.SeenDir {
		f |= 2
	}
	if y.Left {
		f |= 4
	}
	if y.Pending {
		f |= 16
	}
	if y.Held {
		f |= 32
	}
	respelt := !y.View.IsZero() && y.Name != key
	if respelt {
		f |= 8
	}
	if e.u(f); respelt {
		e.s(y.Name)
	}
	if y.Held {
		e.dot(y.Placed)
	}
	return e.b
}

func decodeDrift(b []byte, key string, d *dec) (Drift, error) {
	d.b, d.err = b, nil
	if d.byte() != rowVersion {
		d.fail()
	}
	y := Drift{View: d.id16(), Seen: d.id16(), SeenOrig: d.dot()}
	f := d.u()
	y.Ours, y.SeenDir, y.Left, y.Pending, y.Held = f&1 != 0, f&2 != 0, f&4 != 0, f&16 != 0, f&32 != 0
	switch {
	case f&8 != 0:
		y.Name = d.s()
	case !y.View.IsZero():
		y.Name = key
	}
	if y.Held {
		y.Placed = d.dot()
	}
	return y, d.err
}

// A Bytes is a w row: content drift of one inode.
type Bytes struct {
	Ours  bool   // written or changed here; else wanted from others
	Gen   uint64 // the newest staging layer
	From  uint64 // the oldest
	Base  model.Dot
	Zero  []content.Range
	Data  []byte // staged bytes of a small file
	Small bool   // Data holds them, even if empty
	Open  bool
	// what changed here:
	Written, Touched bool
	Attrs            []string // names of attributes, as in model.Node
	Kept             bool     // what the file shows is to be cut: others do not know it any more
}

// Sets tells whether an attribute was changed here.
func (w Bytes) Sets(name string) bool { return w.Ours && slices.Contains(w.Attrs, name) }

// Set notes that an attribute was changed here.
func (w *Bytes) Set(name string) {
	if !slices.Contains(w.Attrs, name) {
		w.Attrs = append(slices.Clone(w.Attrs), name)
	}
}

func (w Bytes) encode(e *enc) []byte {
	e.b = append(e.b[:0], rowVersion)
	var f uint64
	for i, on := range []bool{w.Ours, w.Written, false, w.Touched, w.Open, w.Small, false, len(w.Attrs) > 0, w.Kept, w.From != 0} {
		if on {
			f |= 1 << i
		}
	}
	e.u(f)
	e.u(w.Gen)
	e.dot(w.Base)
	e.u(uint64(len(w.Zero)))
	for _, z := range w.Zero {
		e.u(uint64(z.Off))
		e.u(uint64(z.Len))
	}
	e.s(string(w.Data))
	if len(w.Attrs) > 0 {
		e.u(uint64(len(w.Attrs)))
	}
	for _, name := range w.Attrs {
		e.s(name)
	}
	if w.From != 0 {
		e.u(w.From)
	}
	return e.b
}

func decodeBytes(b []byte, d *dec) (Bytes, error) {
	d.b, d.err = b, nil
	if d.byte() != rowVersion {
		d.fail()
	}
	f := d.u()
	w := Bytes{Ours: f&1 != 0, Written: f&2 != 0, Touched: f&8 != 0, Open: f&16 != 0, Small: f&32 != 0, Kept: f&256 != 0,
		Gen: d.u(), Base: d.dot()}
	for k := d.count(); k > 0 && d.err == nil; k-- {
		w.Zero = append(w.Zero, content.Range{Off: int64(d.u()), Len: int64(d.u())})
	}
	w.Data = []byte(d.s())
	if f&4 != 0 { // of older databases, which did not say which
		w.Attrs = append(w.Attrs, model.AttrMode)
	}
	if f&128 != 0 {
		for k := d.count(); k > 0 && d.err == nil; k-- {
			w.Attrs = append(w.Attrs, d.s())
		}
	}
	if f&512 != 0 {
		w.From = d.u()
	}
	return w, d.err
}
