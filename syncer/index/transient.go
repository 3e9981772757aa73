package index

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

// forgetDetours drops the flips of names that show again what they showed when this Tx began, and gives a directory
// that has only such ones its times back: amid a cut the view may have two things for one place, and nobody is to see
// the name that one of them had for so long.
func (t *Tx) forgetDetours() {
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
