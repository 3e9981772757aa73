package syncer

import "github.com/clachanfs/clachan/syncer/index"

// respell changes how a name is spelt, by its user's will.
func (f *Folder) respell(t *index.Tx, dir Ino, e index.Entry, name string, now int64) {
	if e.Kind.Replicates() {
		f.mark(t, dir, name)
	}
	t.Respell(dir, name)
	t.Row(e.Ino).Ctime = now
	t.Changed(e.Ino)
	stampDir(t, dir, now)
}
