package syncer

import "slices"

// maxDepth ends the walk up from a directory: deeper paths name nothing that a program could reach.
const maxDepth = 4096

// Named returns a name of an inode, and of the directories on the way to it those from the root on down. ok is false
// if it has no name that is known by its inode: it was removed.
func (f *Folder) Named(ino Ino) (at Place, way []Place, ok bool) {
	f.apply.Lock()
	defer f.apply.Unlock()
	t := f.ix.Begin()
	defer t.Abort()
	if at, ok = t.Named(ino); !ok {
		return at, nil, false
	}
	for dir := at.Dir; dir != RootIno; {
		p, ok := t.Named(dir)
		if !ok || len(way) == maxDepth {
			return at, nil, false
		}
		way = append(way, p)
		dir = p.Dir
	}
	slices.Reverse(way)
	return at, way, t.Err() == nil
}
