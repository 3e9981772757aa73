package syncer

import (
	"strings"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// What happens in a folder is told as it happens, with the least that is at hand under
// the apply lock; whoever wants paths and authors asks for them later (Describe), and
// for as many as it can take.

// A Deed is what was done to a name or a file.
type Deed uint8

const (
	Wrote   Deed = iota // it is new, or has other bytes or attributes
	Renamed             // it was elsewhere
	Removed             // it is gone
)

// A Change is one thing that happened.
type Change struct {
	Deed Deed
	Here bool        // done here, and cut
	By   model.Label // who did it, if it was not here and that is at hand
	At   Place       // Dir 0: not about a name
	From Place       // of Renamed
	Ino  Ino
}

// A Report is a Change as people read it.
type Report struct {
	Path, From string
	Dir        bool
	Conflict   bool // it is, or was, a conflict copy
	By         model.Label
}

// tell passes on what happened, for who watches.
func (f *Folder) tell(changes []Change) {
	if f.o.Tell != nil {
		f.o.Tell(changes)
	}
}

// flipped is what flips add up to: a name that goes here and comes there was moved.
func flipped(flips []Flip, by model.Label) (out []Change) {
	from := map[Ino]Place{}
	came := map[Ino]bool{}
	for _, x := range flips {
		if x.Dir != 0 && x.Old != 0 && x.Old != x.New {
			from[x.Old] = Place{Dir: x.Dir, Name: x.Name}
		}
		if x.Dir != 0 && x.New != 0 {
			came[x.New] = true
		}
	}
	for _, x := range flips {
		c := Change{By: by, At: Place{Dir: x.Dir, Name: x.Name}, Ino: x.New}
		was, moved := from[x.New]
		switch {
		case x.Dir == 0:
			if came[x.Content] || x.Content == 0 {
				continue
			}
			c.Ino = x.Content
		case x.New == x.Old: // spelt anew
			continue
		case x.New == 0:
			if came[x.Old] {
				continue
			}
			c.Deed, c.Ino = Removed, x.Old
		case moved:
			c.Deed, c.From = Renamed, was
		}
		out = append(out, c)
	}
	return out
}

// said is what a cut says: names in the order of at, and the things of which was is
// what they were before.
func said(at []nameAt, names []*model.Name, list []*model.Thing, was []model.ID) (out []Change) {
	gone := map[model.ID]Place{}
	before := map[*model.Thing]model.ID{}
	for i, th := range list {
		before[th] = was[i]
	}
	for i, k := range at {
		if n := names[i]; n.Tree == nil && !n.Seen.IsZero() {
			gone[n.Seen] = k
		}
	}
	named := map[*model.Thing]bool{}
	moved := map[model.ID]bool{}
	for i, n := range names {
		if n.Tree == nil || i >= len(at) {
			continue
		}
		c := Change{Here: true, At: Place{Dir: at[i].Dir, Name: n.Name}, Ino: Ino(n.Tree.Ino)}
		if id := before[n.Tree]; !id.IsZero() {
			if from, yes := gone[id]; yes && !moved[id] {
				c.Deed, c.From, moved[id] = Renamed, from, true
			}
		}
		named[n.Tree] = true
		out = append(out, c)
	}
	for i, k := range at {
		if n := names[i]; n.Tree == nil && !n.Seen.IsZero() && !moved[n.Seen] {
			out = append(out, Change{Deed: Removed, Here: true, At: k})
		}
	}
	for _, th := range list {
		if !named[th] && th.Kind != model.Dir {
			out = append(out, Change{Here: true, Ino: Ino(th.Ino)})
		}
	}
	return out
}

// Describe says where a change was and who made it; ok is false if that cannot be said
// any more, or is nothing but the times of a directory.
func (f *Folder) Describe(c Change) (r Report, ok bool) {
	err := f.locked(func() error {
		t := f.ix.Begin()
		defer t.Abort()
		r, ok = f.describe(t, c)
		return t.Err()
	})
	return r, ok && err == nil
}

func (f *Folder) describe(t *index.Tx, c Change) (r Report, ok bool) {
	row := t.Row(c.Ino)
	r.By, r.Dir = c.By, row != nil && row.Kind == model.Dir
	if c.At.Dir == 0 {
		if c.At, ok = t.Named(c.Ino); !ok || r.Dir {
			return r, false
		}
	}
	if r.Path, ok = pathTo(t, c.At); !ok {
		return r, false
	}
	if c.Deed == Renamed {
		r.From, ok = pathTo(t, c.From)
	}
	r.Conflict = strings.Contains(c.At.Name, model.ConflictMark)
	switch {
	case c.Here:
		r.By = f.o.Label
	case row != nil && c.Deed == Wrote:
		if d := madeBy(t, c.Ino, row); d != (model.Dot{}) {
			r.By = t.Origin(d).By
		}
	}
	return r, ok
}

// madeBy is the change that an inode shows: its bytes, or of a directory its name.
func madeBy(t *index.Tx, ino Ino, r *index.Row) model.Dot {
	if r.Kind != model.Dir {
		return t.ShownOrig(ino)
	}
	if r.Node != nil && len(r.Node.Links) > 0 {
		if h := r.Node.Links[0].Hist; len(h) > 0 {
			return h[len(h)-1].Dot
		}
	}
	return model.Dot{}
}

// pathTo is where a name is, from the root of the folder on.
func pathTo(t *index.Tx, at Place) (string, bool) {
	p := at.Name
	for n := 0; at.Dir != RootIno; n++ {
		var ok bool
		if at, ok = t.Named(at.Dir); !ok || n == maxDepth {
			return "", false
		}
		p = at.Name + "/" + p
	}
	return p, true
}
