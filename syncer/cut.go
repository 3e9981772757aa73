package syncer

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// applyCut compares tree and view and logs the difference. It returns what could
// be cut of what was selected.
func (f *Folder) applyCut(s *selection, ready map[Ino]*frozen, l left) (cut *selection, done []*frozen, err error) {
	var flips []Flip
	err = f.locked(func() (err error) {
		if err := f.broken(); err != nil { // since the bytes were frozen
			return err
		}
		t := f.ix.Begin()
		cut = f.reselect(t, s, ready, l)
		if cut.empty() || f.ix.Incomplete() {
			err := t.Err()
			t.Abort()
			return err
		}
		done, flips, err = f.logCut(t, cut, ready)
		return err
	})
	f.show(flips)
	if cut != nil {
		f.await(cut)
	}
	if err != nil {
		return nil, nil, err
	}
	return cut, done, nil
}

// logCut is applyCut for what is left of the selection. The caller holds apply.
func (f *Folder) logCut(t *index.Tx, s *selection, ready map[Ino]*frozen) (done []*frozen, flips []Flip, err error) {
	c := &cutting{f: f, t: t, ready: ready, things: map[Ino]*model.Thing{}, listed: map[*model.Thing]bool{}, has: map[Ino]string{}}
	names := c.names(s)
	for _, n := range names {
		if n.Tree != nil {
			s.inos[Ino(n.Tree.Ino)] = true
		}
	}
	for _, ino := range sortedInos(s.inos) {
		names = append(names, c.copies(ino, s)...)
	}
	author := t.NewAuthor(f.o.Label, f.o.Now().Unix())
	author.Unsure = f.o.Unsure()
	was := make([]model.ID, len(c.list))
	for i, th := range c.list {
		was[i] = th.ID
	}
	author.Diff(index.Cut{Tx: t}, names, c.list)
	f.logOwn(t, author)
	became := map[model.ID]model.ID{}
	for i, th := range c.list {
		if th.ID.IsZero() {
			continue
		}
		f.guard.born(Ino(th.Ino), th.ID)
		if !was[i].IsZero() && was[i] != th.ID {
			became[was[i]] = th.ID
		}
	}
	f.guard.become(became)
	c.finish(s)
	if flips, err = f.commit(t); err == nil && f.o.Tell != nil {
		f.tell(said(c.inOrder(s), names, c.list, was))
	}
	return c.done, flips, err
}

// logOwn signs what an author said and logs it.
func (f *Folder) logOwn(t *index.Tx, a *model.Author) {
	changes := a.Changes()
	k := a.K
	for len(changes) > 0 {
		n, size := 0, 0
		var said [][]byte
		for n < len(changes) && n < model.MaxBatchChanges {
			b := changes[n].Encode()
			if n > 0 && size+len(b) > model.MaxBatchBytes-8<<10 {
				break
			}
			said = append(said, b)
			size += len(b)
			n++
		}
		h := model.Header{Replica: a.Replica, Lo: changes[0].Dot.Seq, Hi: changes[n-1].Dot.Seq, Deps: k, Prev: t.Head(),
			UTC: a.Now, Author: a.By.Author, Device: a.By.Device,
			Signer: f.device()}
		b := f.seal.Sign(h, said, f.o.Device)
		if err := f.verifyOwn(b, said); err != nil {
			t.Fail(err)
			return
		}
		t.LogOwn(h, b, changes[:n])
		k = k.With(changes[n-1].Dot)
		changes = changes[n:]
	}
}

// verifyOwn reads a batch of ours as those who get it will, before it is logged:
// what they refuse they refuse for ever, with all that follows it.
func (f *Folder) verifyOwn(b model.Batch, said [][]byte) error {
	_, changes, err := f.verify(b, func(ed25519.PublicKey) error { return nil })
	if err != nil {
		return fmt.Errorf("own batch: %w", err)
	}
	for i, c := range changes {
		if !bytes.Equal(c.Encode(), said[i]) {
			return fmt.Errorf("own batch: %w: change %v reads otherwise", model.ErrBatch, c.Dot)
		}
	}
	return nil
}

// cutting is one cut under the apply lock.
type cutting struct {
	waiting map[model.ID]bool // see waits
	f       *Folder
	t       *index.Tx
	ready   map[Ino]*frozen
	things  map[Ino]*model.Thing
	list    []*model.Thing
	listed  map[*model.Thing]bool
	has     map[Ino]string // the bytes that files have here
	done    []*frozen
}

// inOrder is the dirty names, those of a directory before those of what is in it.
func (c *cutting) inOrder(s *selection) []nameAt {
	keys := make([]nameAt, 0, len(s.names))
	depth := map[Ino]int{}
	for k := range s.names {
		keys = append(keys, k)
		if _, known := depth[k.Dir]; !known {
			depth[k.Dir] = depthOf(c.t, k.Dir)
		}
	}
	slices.SortFunc(keys, func(a, b nameAt) int {
		return cmp.Or(depth[a.Dir]-depth[b.Dir], cmp.Compare(a.Dir, b.Dir), strings.Compare(a.Name, b.Name))
	})
	return keys
}

// depthOf is how many directories a directory is in.
func depthOf(t *index.Tx, dir Ino) (n int) {
	for ; dir != RootIno && dir != 0 && n < 1<<16; n++ {
		r := t.Row(dir)
		if r == nil {
			break
		}
		dir = r.Parent
	}
	return n
}

// names describes the dirty names, parents before what is in them.
func (c *cutting) names(s *selection) []*model.Name {
	var out []*model.Name
	for _, k := range c.inOrder(s) {
		y := s.names[k]
		n := &model.Name{Dir: c.dir(k.Dir), Name: k.Name, Seen: y.Seen, SeenOrig: y.SeenOrig}
		if e, ok := c.t.Entry(k.Dir, k.Name); ok && e.Kind.Replicates() {
			n.Name, n.Tree = e.Name, c.thing(e.Ino)
		}
		if !y.Seen.IsZero() {
			c.seen(n, y.Seen)
		}
		out = append(out, n)
	}
	return out
}

// seen says of a name what became of the node that was seen there.
func (c *cutting) seen(n *model.Name, id model.ID) {
	r := c.t.Row(c.t.Ino(id))
	if r == nil {
		return
	}
	n.Spared = r.Spared && r.Kind != model.Dir
	n.Still = r.Nlink > 0 && r.Kind != model.Dir && c.waits(id)
	c.t.Note(id)
}

// waits tells whether a node is in the tree where others have something else, as
// long as that is not shown.
func (c *cutting) waits(id model.ID) bool {
	if c.waiting == nil {
		c.waiting = map[model.ID]bool{}
		c.f.ix.Names(func(_ Ino, _ string, y index.Drift) {
			if !y.Ours && !y.Seen.IsZero() {
				c.waiting[y.Seen] = true
			}
		})
	}
	return c.waiting[id]
}

// copies takes an inode with changes into the cut. That of a conflict copy which
// nobody has written yet comes with its name: touching it, or giving it a
// further name, makes it a file.
func (c *cutting) copies(ino Ino, s *selection) (out []*model.Name) {
	th := c.thing(ino)
	r := c.t.Row(ino)
	if r == nil || r.Of.IsZero() || r.Node != nil && r.Node.Live() {
		return nil
	}
	for _, k := range c.t.ShownNames(ino) {
		if _, dirty := s.names[k]; dirty {
			continue
		}
		e, _ := c.t.Entry(k.Dir, k.Name)
		out = append(out, &model.Name{Dir: c.dir(k.Dir), Name: e.Name, Seen: r.ID, Tree: th})
	}
	return out
}

// dir is a directory as the place of a name.
func (c *cutting) dir(ino Ino) *model.Thing {
	if th := c.things[ino]; th != nil {
		return th
	}
	th := &model.Thing{Ino: uint64(ino), Kind: model.Dir, Names: 1}
	if r := c.t.Row(ino); r != nil {
		th.ID = r.ID
	}
	c.things[ino] = th
	if th.ID.IsZero() {
		c.describe(th, ino)
	}
	return th
}

// thing is what the tree has under a number.
func (c *cutting) thing(ino Ino) *model.Thing {
	th := c.things[ino]
	if th == nil {
		th = &model.Thing{Ino: uint64(ino)}
		c.things[ino] = th
	}
	if !c.listed[th] {
		c.listed[th] = true
		c.describe(th, ino)
		c.list = append(c.list, th)
	}
	return th
}

func (c *cutting) describe(th *model.Thing, ino Ino) {
	r := c.t.Row(ino)
	if r == nil {
		return
	}
	th.ID, th.Kind, th.Mtime, th.Names = r.ID, r.Kind, r.Mtime, int(r.Nlink)
	if r.Node == nil && r.Of.IsZero() {
		th.Was = r.ID
	}
	w, _ := c.t.Bytes(ino)
	if r.Kind == model.Dir {
		th.Names = min(1, int(r.Parent))
	}
	th.Base, th.Touched, th.Set = w.Base, w.Touched, w.Attrs
	th.Attrs = c.t.Attrs(ino)
	if r.Kind == model.Dir && (w.Touched || c.hasMtime(r)) {
		th.Attrs[model.AttrMtime] = string(binary.BigEndian.AppendUint64(nil, uint64(r.Mtime)))
		if w.Touched {
			th.Set = append(slices.Clone(th.Set), model.AttrMtime)
		}
	}
	th.Content, th.Orig, th.Edited = c.t.Content(ino), c.t.ShownOrig(ino), w.Kept
	if x := c.ready[ino]; r.Kind == model.File && x != nil && !x.stale {
		th.Content, th.Mtime, th.Edited = x.content, x.mtime, true
		if w.Touched {
			th.Mtime = r.Mtime
		}
	}
	c.has[ino] = th.Content
}

// hasMtime tells whether a directory's mtime was set explicitly before: then it
// goes on to be said.
func (c *cutting) hasMtime(r *index.Row) bool {
	return r.Node != nil && r.Node.Attrs[model.AttrMtime].Val != ""
}

// finish brings tree and view together where they now agree, and hands over to
// the puller where others have been faster.
func (c *cutting) finish(s *selection) {
	t := c.t
	t.Flips() // settles
	for _, th := range c.list {
		ino := Ino(th.Ino)
		x := c.ready[ino]
		w, ok := t.Bytes(ino)
		r := t.Row(ino)
		if r == nil {
			continue
		}
		want := t.Wanted(ino)
		same := r.Kind == model.File && want.Dot != (model.Dot{}) && want.Content == c.has[ino]
		later := ok && w.Ours && w.Written && (x == nil || w.Gen > x.gen || !x.stale && r.Nlink > 0 && !same)
		if same {
			c.shown(ino, r, x, want, later)
		}
		if ok && w.Ours {
			afterCut(t, ino, w, later)
		} else if same {
			t.SetBytes(ino, nil)
		}
	}
	for k := range s.names {
		c.agree(k)
	}
}

// shown tells that the tree shows a version that was cut; what was written later
// has said its size itself.
func (c *cutting) shown(ino Ino, r *index.Row, x *frozen, v model.Version, later bool) {
	if r.Shown != nil {
		r.Shown = nil
		c.t.Changed(ino)
	}
	if x == nil || x.stale || v.Content != x.content {
		return
	}
	if !later {
		r.Size, r.Alloc = x.v.Content.Size, x.alloc
		if v.Mtime == x.mtime { // of a write that the row does not know of
			r.Mtime, r.Ctime = x.mtime, max(r.Ctime, x.ctime)
		}
		c.t.Changed(ino)
	}
	x.v.Orig, x.v.Mtime = v.Orig, v.Mtime
	c.done = append(c.done, x)
}

// afterCut drops what has been cut from a w row of ours; later bytes stay.
func afterCut(t *index.Tx, ino Ino, w index.Bytes, later bool) {
	if later {
		w.Attrs, w.Touched, w.Kept, w.Base = nil, false, false, t.ShownOrig(ino)
		t.SetBytes(ino, &w)
		return
	}
	t.SetBytes(ino, nil)
}

// agree drops the drift of a name that was cut.
func (c *cutting) agree(k nameAt) {
	y, ok := c.t.Drift(k.Dir, k.Name)
	if !ok {
		return
	}
	y.Ours = false
	c.t.SetDrift(k.Dir, k.Name, &y)
	c.t.Show(k.Dir, k.Name)
}

func sortedInos[V any](m map[Ino]V) []Ino {
	out := make([]Ino, 0, len(m))
	for ino := range m {
		out = append(out, ino)
	}
	slices.Sort(out)
	return out
}

var _ io.ReaderAt = Layer(nil)
