package index

import (
	"bytes"
	"maps"
)

// A stamp is what stampFlip did to a directory.
type stamp struct {
	mtime, ctime int64 // before
	at           int64 // the time it gave last
}

// was remembers what stands under a name before the view changes it for the first time in this Tx.
func (t *Tx) was(dir Ino, name string) {
	if t.before == nil {
		t.before, t.stamps = map[nameKey]Entry{}, map[Ino]*stamp{}
	}
	k := t.key(dir, name)
	if _, ok := t.before[k]; !ok {
		t.before[k], _ = t.Entry(dir, name)
	}
}

// look is what programs see of an inode beside its bytes.
type look struct {
	mode                       uint32
	size, mtime                int64
	xattrs                     map[string][]byte
	atime, ctime, btime, given int64 // given: the ctime that the view gave it last
}

// looked remembers how an inode looks before the view changes it for the first time in this Tx, and what ctime it
// gets for that.
func (t *Tx) looked(ino Ino, r *Row) *look {
	l := t.looks[ino]
	if l == nil {
		l = &look{mode: r.Mode, size: r.Size, mtime: r.Mtime, atime: r.Atime, ctime: r.Ctime, btime: r.Btime}
		if r.Xattrs {
			l.xattrs = t.Xattrs(ino)
		}
		if t.looks == nil {
			t.looks = map[Ino]*look{}
		}
		t.looks[ino] = l
	}
	l.given = t.now()
	return l
}

// unlook gives the inodes their times back that look as they did when this Tx began: one that takes the place of
// another in a cut has that one's attributes until the cut says its own.
func (t *Tx) unlook() {
	for ino, l := range t.looks {
		r := t.Row(ino)
		if r == nil || r.Mode != l.mode || r.Size != l.size || r.Mtime != l.mtime || r.Ctime != l.given {
			continue
		}
		var now map[string][]byte
		if r.Xattrs {
			now = t.Xattrs(ino)
		}
		if maps.EqualFunc(now, l.xattrs, bytes.Equal) {
			r.Atime, r.Ctime, r.Btime = l.atime, l.ctime, l.btime
			t.Changed(ino)
		}
	}
}

// forgetDetours drops the flips of names that show again what they showed when this Tx began, and gives a directory
// that has only such ones its times back: amid a cut the view may have two things for one place, and nobody is to see
// the name that one of them had for so long.
func (t *Tx) forgetDetours() {
	t.unlook()
	same, changed := map[nameKey]bool{}, map[Ino]bool{}
	for k, was := range t.before {
		if e, _ := t.Entry(k.dir, k.name); e == was {
			same[k] = true
		} else {
			changed[k.dir] = true
		}
	}
	if len(same) == 0 {
		return
	}
	flips := t.flips[:0]
	for _, x := range t.flips {
		if x.Dir == 0 || !same[t.key(x.Dir, x.Name)] {
			flips = append(flips, x)
		}
	}
	t.flips = flips
	for dir, s := range t.stamps {
		r := t.Row(dir)
		if r == nil || changed[dir] {
			continue
		}
		if r.Ctime == s.at {
			r.Ctime = s.ctime
		}
		if r.Mtime == s.at {
			r.Mtime = s.mtime
		}
		t.Changed(dir)
	}
}
