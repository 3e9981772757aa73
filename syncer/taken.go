package syncer

import (
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Who has a file open when others remove it, or make another version of it, goes on
// with the bytes that he has, as on any disk. But what he writes to it then would be
// gone with its last closing, which none of the others meant. So with the first write
// it gets a name: the one it had, if that is free; else it is a conflict copy.

// orphan notes that a file has no name; at is where others took it, if they did. The
// caller holds f.mu.
func (f *Folder) orphan(ino Ino, at nameAt) {
	f.named(ino)
	if f.orphans[ino] = at; at.Dir == 0 {
		return
	}
	if f.taken[at.Dir] == nil {
		f.taken[at.Dir] = map[Ino]bool{}
	}
	f.taken[at.Dir][ino] = true
}

// named notes that a file has a name, or is gone. The caller holds f.mu.
func (f *Folder) named(ino Ino) (at nameAt, was bool) {
	at, was = f.orphans[ino]
	delete(f.orphans, ino)
	if delete(f.taken[at.Dir], ino); len(f.taken[at.Dir]) == 0 {
		delete(f.taken, at.Dir)
	}
	return at, was
}

// removedHere notes that a user has removed what is at a name, or put something in its
// place: what others took there before he would not have kept either.
func (f *Folder) removedHere(dir Ino, name string, ino Ino) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for o := range f.taken[ino] {
		f.orphan(o, nameAt{})
	}
	for o := range f.taken[dir] {
		if f.ix.Fold(f.orphans[o].Name) == f.ix.Fold(name) {
			f.orphan(o, nameAt{})
		}
	}
}

// giveBack gives a file that a program writes to, and whose last name others have
// taken, a name, and returns it. It has none to give to one that its user has removed.
func (f *Folder) giveBack(t *index.Tx, ino Ino, r *index.Row) (at nameAt) {
	f.mu.Lock()
	if at = f.orphans[ino]; at.Dir != 0 {
		f.named(ino)
	}
	f.mu.Unlock()
	if at.Dir == 0 {
		return at
	}
	base, now := at.Name, f.o.Now()
	_, suffix := model.Database(at.Name)
	there := !r.ID.IsZero() && suffix == "" // a journal may be of another database than is there now
	if _, err := checkDir(t, at.Dir); err != nil {
		at.Dir, there = RootIno, false
	}
	for n := -1; ; n++ {
		if n >= 0 {
			at.Name = model.ConflictName(base, f.o.Label, now.Unix(), n)
		}
		if _, taken := t.Entry(at.Dir, at.Name); !taken && (there || n >= 0) {
			break
		}
	}
	f.mark(t, at.Dir, at.Name)
	t.GiveBack(ino, at.Dir, at.Name)
	stampDir(t, at.Dir, now.UnixNano())
	return at
}
