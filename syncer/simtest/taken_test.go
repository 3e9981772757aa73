package simtest

import "github.com/clachanfs/clachan/syncer"

// Who writes to an open file has its last name back, if others have taken that; not
// if a user here has then removed or replaced what was there. So it is remembered
// where open files have been.

// been notes where a file is, if that is open.
func (s *screen) been(ino syncer.Ino, at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isAt(ino, at)
}

func (s *screen) isAt(ino syncer.Ino, at place) {
	if s.handles[ino] == 0 {
		return
	}
	if s.at[ino] == nil {
		s.at[ino] = map[place]bool{}
	}
	s.at[ino][at] = true
}

// were returns the open files that have been at a place, or in a directory.
func (m *machine) were(at place, dir syncer.Ino) (out []syncer.Ino) {
	fold := m.w.memory.fold
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	for ino, places := range m.s.at {
		for p := range places {
			if p.dir == dir || p.dir == at.dir && fold(p.name) == fold(at.name) {
				out = append(out, ino)
				break
			}
		}
	}
	return out
}

// clears notes that a user has removed or replaced what was at a place.
func (m *machine) clears(at place, was syncer.Ino) {
	for _, ino := range append(m.were(at, was), was) {
		if a, err := m.f.Attr(ino); err == nil && a.Nlink == 0 {
			m.s.goes(ino, true)
		}
	}
}
