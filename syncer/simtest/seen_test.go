package simtest

import "github.com/clachanfs/clachan/syncer"

// A screen keeps which texts each process has had of a file: what was there when
// it read it, and what it has made of it since. By that it is judged, and by
// nothing that the engine says, whether a process that puts something else in a
// text's place knew that text.

// A reading is of one process, of one file.
type reading struct {
	p   syncer.Proc
	ino syncer.Ino
}

// saw notes what a process has read of a file; nil: nothing, or it has just made it.
func (s *screen) saw(p syncer.Proc, ino syncer.Ino, t *text) {
	if p == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := reading{p, ino}
	if s.seen[r] == nil {
		s.seen[r] = map[*text]bool{}
	}
	s.seen[r][t] = true
}

// wrote notes what a process has made of a file that it has read. Of one that
// writes to what it has never read nobody knows what it began with.
func (s *screen) wrote(p syncer.Proc, ino syncer.Ino, t *text) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := (reading{p, ino}); s.seen[r] != nil {
		s.seen[r][t] = true
	}
}

// lost notes that nobody knows what a process has read.
func (s *screen) lost(p syncer.Proc, ino syncer.Ino) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, reading{p, ino})
}

// moves forgets who has read a file that goes elsewhere: what is made in its place
// may be that file for others, and it a new one.
func (s *screen) moves(ino syncer.Ino) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.seen {
		if r.ino == ino {
			delete(s.seen, r)
		}
	}
}

// unseen tells whether others have brought a text since a process read the file,
// and it has not read it again. Then it has to stay, whatever the process puts in
// its place.
func (m *machine) unseen(p syncer.Proc, ino syncer.Ino, t *text) bool {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	seen := m.s.seen[reading{p, ino}]
	return t != nil && t.by != m && len(seen) > 0 && !seen[t]
}

// had are the texts that a process has had of a file: what it saves is made of them.
func (m *machine) had(p syncer.Proc, path string) (out []*text) {
	a, err := m.stat(path)
	if err != nil {
		return nil
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	for t := range m.s.seen[reading{p, a.Ino}] {
		if t != nil {
			out = append(out, t)
		}
	}
	return out
}

// supersede notes that a process has put a text in another's place, as what.
func (m *machine) supersede(p syncer.Proc, ino syncer.Ino, t, by *text, as string) {
	if !m.unseen(p, ino, t) {
		t.consume(m, by)
		return
	}
	m.w.count(as, 1)
	m.w.say("%s: process %d has not seen text %d, and puts %v in its place", m.name, p, t.n, by)
}

// overtaken tells whether others have changed a file since the process whose turn it
// is has read it.
func (m *machine) overtaken(path string) bool {
	a, err := m.stat(path)
	if err != nil {
		return false
	}
	t, err := m.seen(a)
	return err == nil && m.unseen(m.proc, a.Ino, t)
}
