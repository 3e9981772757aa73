package syncer

import (
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Who has a file open when others remove it, or make another version of it, goes on
// with the bytes that he has, as on any disk. But what he writes to it then would be
// gone with its last closing, which none of the others meant. So with the first write
// it gets a name: the one it had, if that is free; else it is a conflict copy.

// giveBack gives a file that a program writes to, and whose last name others have
// taken, a name, and returns it. It has none to give to one that its user has removed.
func (f *Folder) giveBack(t *index.Tx, ino Ino, r *index.Row) (at nameAt) {
	f.mu.Lock()
	at = f.orphans[ino]
	if at.Dir != 0 {
		delete(f.orphans, ino)
	}
	f.mu.Unlock()
	if at.Dir == 0 {
		return at
	}
	base, now := at.Name, f.o.Now()
	there := !r.ID.IsZero()
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
