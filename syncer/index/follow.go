package index

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

// An inode's row has what its node has: attributes always, bytes once they are
// here; but for what was changed here and is not cut yet. Whatever may break
// this, a join, a cut, a dropped change, an exchange of nodes, only says which
// inode is suspect. follow, at the end of each settling, makes it true again.
//
// What a file shows is Row.Shown, or without it the version wanted. So before a
// node changes, freeze writes down what its inodes show.

// suspect notes that the row of an inode may not be what its node says.
// changed: the node has changed, so there may be a version that is not here.
func (t *Tx) suspect(ino Ino, changed bool) {
	if ino != 0 {
		t.suspects[ino] = t.suspects[ino] || changed
	}
}

// freeze writes down what a file shows, before its node changes or goes. Of one
// without a name that is not written down, nothing is known to be here.
func (t *Tx) freeze(ino Ino, r *Row) {
	if r == nil || r.Kind != model.File || r.Shown != nil || t.ix.Wants(ino) {
		return
	}
	if r.Node == nil && r.Of.IsZero() {
		r.Shown = &Shown{Content: content.Content{}.Encode(), Mtime: r.Mtime}
	} else if r.Nlink == 0 {
		return
	} else if v := t.Wanted(ino); v.Dot != (model.Dot{}) {
		r.Shown = &Shown{v.Orig, v.Content, v.Mtime}
	} else if r.Node != nil {
		if v, ok := r.Node.Best(); ok {
			r.Shown = &Shown{v.Orig, v.Content, v.Mtime}
		}
	}
	t.Changed(ino)
}

// followAll makes the suspects follow their nodes.
func (t *Tx) followAll() {
	for len(t.suspects) > 0 && t.err == nil {
		all := t.suspects
		t.suspects = map[Ino]bool{}
		for ino, changed := range all {
			t.follow(ino, changed)
		}
	}
}

func (t *Tx) follow(ino Ino, changed bool) {
	r := t.Row(ino)
	if r == nil {
		return
	}
	v := t.Wanted(ino)
	live := v.Dot != (model.Dot{})
	if changed && live && r.Nlink == 0 && t.ix.orphans[ino] { // it comes back, but not to who has it open
		ino = t.replace(ino, nil)
		r = t.Row(ino)
	}
	t.followAttrs(ino, r)
	w, drift := t.Bytes(ino)
	switch {
	case r.Kind == model.Dir:
	case !live:
		if drift && !w.Ours {
			t.setBytes(ino, nil)
		}
		if r.Shown != nil && r.Nlink == 0 && !t.ix.orphans[ino] && !slices.Contains(t.lost, ino) {
			r.Shown = nil // nobody sees them, and they may go
			t.Changed(ino)
		}
	case r.Kind == model.Symlink:
		if !w.Ours {
			t.hasBytes(ino, r)
			t.describe(ino, r, v.Content, v.Mtime, false)
			t.saw(r, v.Orig)
		}
	case drift && w.Ours:
	case r.Shown == nil && r.Nlink == 0:
		if changed {
			t.want(ino)
		}
	case r.Shown != nil && r.Shown.Content != v.Content:
		t.want(ino)
		t.describe(ino, r, r.Shown.Content, r.Shown.Mtime, true)
	case r.Shown == nil && drift: // not here yet
	default:
		same := r.Shown != nil
		if same && r.Nlink > 0 {
			r.Shown = nil
			t.Changed(ino)
		} else if same && *r.Shown != (Shown{v.Orig, v.Content, v.Mtime}) {
			r.Shown = &Shown{v.Orig, v.Content, v.Mtime} // the bytes are here
			t.Changed(ino)
		}
		t.hasBytes(ino, r)
		t.describe(ino, r, v.Content, v.Mtime, same)
		if changed {
			t.saw(r, v.Orig)
		}
	}
}

// hasBytes notes that what a file is to show is here, for the names that wait for it.
func (t *Tx) hasBytes(ino Ino, r *Row) {
	if _, drift := t.Bytes(ino); drift && r.Nlink == 0 {
		t.freed = append(t.freed, t.waiting(r.ID)...)
	}
	t.setBytes(ino, nil)
}

// want asks for the bytes of the version that a file is to show.
func (t *Tx) want(ino Ino) {
	t.setBytes(ino, &Bytes{})
	t.fresh = append(t.fresh, ino)
}

// describe gives a row what its content says. same: it showed that before.
func (t *Tx) describe(ino Ino, r *Row, c string, mtime int64, same bool) {
	size := int64(len(c))
	if r.Kind == model.File && c != "" {
		v, err := content.Decode(c)
		t.fail(err)
		size = v.Size
	}
	if r.Size == size && r.Mtime == mtime || t.unlinked(ino, r) {
		return
	}
	l := t.looked(ino, r)
	r.Size, r.Mtime, r.Ctime = size, mtime, l.given
	r.Atime = max(r.Atime, mtime)
	t.Changed(ino)
	if r.Nlink > 0 {
		t.flips = append(t.flips, Flip{Content: ino, Attrs: same})
	}
}

// unlinked tells whether only those who have an inode open know it: to them it stays as it is.
func (t *Tx) unlinked(ino Ino, r *Row) bool { return !r.named() && t.ix.orphans[ino] }

// described is the node whose attributes an inode should show: its own, of a
// further version the one it is one of. Nil: there is none, or it is dead.
func (t *Tx) described(r *Row) *model.Node {
	n := r.Node
	if r.Kind != model.Dir && (n == nil || !n.Live()) {
		_, n = t.further(r)
	}
	return n
}

// modeOf is the mode that a node gives what shows it: who made it may have given
// it none.
func modeOf(n *model.Node) uint32 {
	if val := n.Attrs[model.AttrMode].Val; len(val) == 2 {
		return uint32(binary.BigEndian.Uint16([]byte(val))) & 0o777
	}
	return bornMode(n.Kind)
}

func bornMode(k model.Kind) uint32 {
	switch k {
	case model.Dir:
		return 0o755
	case model.Symlink:
		return 0o777
	}
	return 0o644
}

// followAttrs shows the replicated attributes, but for those that were changed
// here and are to be cut.
func (t *Tx) followAttrs(ino Ino, r *Row) {
	n := t.described(r)
	if n == nil || t.unlinked(ino, r) {
		return
	}
	attrs := n.Attrs
	w, _ := t.Bytes(ino)
	var l *look // set when something changes
	if mode := r.Mode&^0o777 | modeOf(n); mode != r.Mode && !w.Sets(model.AttrMode) {
		l = t.looked(ino, r)
		r.Mode = mode
	}
	var was map[string][]byte
	if r.Xattrs {
		was = t.Xattrs(ino)
		for name := range was {
			if a := attrs[model.XattrTag+name]; strings.HasPrefix(name, "user.") && a.Val == "" && !w.Sets(model.XattrTag+name) {
				l = t.looked(ino, r)
				t.SetXattr(ino, name, nil)
			}
		}
	}
	for tag, a := range attrs {
		name, ok := strings.CutPrefix(tag, model.XattrTag)
		if !ok || !strings.HasPrefix(name, "user.") || a.Val == "" || w.Sets(tag) {
			continue
		}
		if val, there := was[name]; !there || string(val) != a.Val[1:] {
			l = t.looked(ino, r)
			t.SetXattr(ino, name, []byte(a.Val[1:]))
		}
	}
	if l != nil {
		if r.Ctime = l.given; r.Btime == 0 {
			r.Btime = r.Ctime
		}
		t.Changed(ino)
		t.flips = append(t.flips, Flip{Content: ino, Attrs: true})
	}
}

// followTime shows the mtime that others gave a directory. What happens in it
// here changes it again, and that is not told.
func (t *Tx) followTime(id model.ID, was *touch) {
	r := t.rowOf(id)
	if r == nil || r.Kind != model.Dir {
		return
	}
	val, set := r.attr(model.AttrMtime)
	if w, _ := t.Bytes(t.Ino(id)); !set || val == was.mtime || len(val) != 8 || w.Ours && w.Touched {
		return
	}
	if mtime := int64(binary.BigEndian.Uint64([]byte(val))); mtime != r.Mtime {
		r.Mtime = mtime
		t.Changed(t.Ino(id))
		t.flips = append(t.flips, Flip{Content: t.Ino(id), Attrs: true})
	}
}

// Attrs returns the attributes that a file shows and that replicate.
func (t *Tx) Attrs(ino Ino) map[string]string {
	r := t.Row(ino)
	m := map[string]string{model.AttrMode: string(binary.BigEndian.AppendUint16(nil, uint16(r.Mode&0o777)))}
	if !r.Xattrs {
		return m
	}
	for name, val := range t.Xattrs(ino) {
		if strings.HasPrefix(name, "user.") {
			m[model.XattrTag+name] = "=" + string(val)
		}
	}
	return m
}

// lose notes that an inode has lost a name or its node.
func (t *Tx) lose(ino Ino) {
	if !slices.Contains(t.lost, ino) {
		t.lost = append(t.lost, ino)
	}
}

// Lost returns the inodes that have lost their last name; each is to be an
// Orphan, or dropped.
func (t *Tx) Lost() []Ino {
	t.settle()
	lost := t.lost
	t.lost = nil
	return slices.DeleteFunc(lost, func(ino Ino) bool {
		r := t.Row(ino)
		return r == nil || r.named()
	})
}

// Taken tells where others have taken the last name of a file, by this transaction.
func (t *Tx) Taken(ino Ino) (at Place, yes bool) {
	at, yes = t.takenAt[ino]
	return at, yes
}

// GiveBack gives a file without names one, which the kernel is told of.
func (t *Tx) GiveBack(ino, dir Ino, name string) {
	t.SetEntry(dir, name, ino)
	t.flips = append(t.flips, Flip{Dir: dir, Name: name, New: ino})
}

// Inode returns the row of an inode that programs may know: one with a name, or
// one that was unlinked and is open.
func (t *Tx) Inode(ino Ino) *Row {
	r := t.Row(ino)
	if r == nil || t.ix.orphans[ino] || r.named() {
		return r
	}
	return nil
}
