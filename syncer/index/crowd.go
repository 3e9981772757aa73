package index

import (
	"github.com/clachanfs/clachan/syncer/model"
)

// A crowd is a g row: a base name that several entries of a directory claim.
type crowd struct {
	members []model.ID
	losers  map[string]model.ID // the names handed out
	stale   bool                // losers are those of before
}

func (t *Tx) crowds(dir Ino) map[string]*crowd {
	out := map[string]*crowd{}
	if r := t.Row(dir); r == nil || r.Crowd == 0 {
		return out
	}
	prefix := t.ix.keys.dir(tableCrowd, dir)
	t.fail(scan(t.b, prefix, after(prefix), func(k, v []byte) error {
		c, err := decodeCrowd(v)
		out[string(k[len(prefix):])] = c
		return err
	}))
	return out
}

func decodeCrowd(v []byte) (*crowd, error) {
	d := &dec{b: v}
	if d.byte() != rowVersion {
		d.fail()
	}
	c := &crowd{losers: map[string]model.ID{}, stale: true}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		c.members = append(c.members, d.id16())
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		name := d.s()
		c.losers[name] = d.id16()
	}
	return c, d.err
}

func (t *Tx) writeCrowds(dir Ino, crowds map[string]*crowd) {
	n := uint64(0)
	for base, c := range crowds {
		key := t.ix.keys.crowd(dir, base)
		if c == nil {
			t.fail(t.b.Delete(key, nil))
			continue
		}
		n++
		e := &enc{b: []byte{rowVersion}}
		e.u(uint64(len(c.members)))
		for _, id := range c.members {
			e.id(id)
		}
		e.u(uint64(len(c.losers)))
		for name, id := range c.losers {
			e.s(name)
			e.id(id)
		}
		t.fail(t.b.Set(key, e.b, nil))
	}
	if r := t.Row(dir); r.Crowd != n {
		r.Crowd = n
		t.Changed(dir)
	}
}

// alias makes the inode under which a further version of a file is shown.
func (t *Tx) alias(e *model.Entry) {
	id := e.Node()
	of := t.rowOf(e.ID)
	ino := t.Ino(id)
	r := t.rowOf(id)
	if r == nil {
		r = &Row{ID: id, Kind: e.Kind, Mode: of.Mode}
		ino = t.Allocate(r)
		t.bindID(id, ino)
	}
	if r.Of == e.ID && r.OfOrig == e.Orig && r.Nlink > 0 {
		return
	}
	r.Of, r.OfOrig = e.ID, e.Orig
	if unlinked := r.Shown != nil && r.Shown.Orig == e.Orig; r.Nlink == 0 && !unlinked && !t.ix.orphans[ino] {
		now := t.now()
		r.UID, r.GID = of.UID, of.GID
		r.Ctime, r.Btime, r.Shown = now, now, nil
	}
	t.suspect(ino, true)
	t.Changed(ino)
}
