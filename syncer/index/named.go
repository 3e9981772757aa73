package index

// Named returns a name under which the tree has an inode, as the tree spells it. The caller holds the apply lock.
func (t *Tx) Named(ino Ino) (Place, bool) {
	r := t.Row(ino)
	if r == nil || ino == RootIno {
		return Place{}, false
	}
	at := t.ix.DirtyAt(ino)
	for _, k := range t.namesOf(r) {
		at = append(at[:len(at):len(at)], Place{k.dir, k.name})
	}
	for _, k := range at {
		if e, ok := t.Entry(k.Dir, k.Name); ok && e.Ino == ino {
			return Place{k.Dir, e.Name}, true
		}
	}
	return Place{}, false
}
