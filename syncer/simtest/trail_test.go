package simtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A trail is what a machine has shown since it was last told to be durable, call
// by call: what it shows after a start is one of these, whole, unless others have
// changed something in between.
type trail []mark

// A mark is what is shown after a call.
type mark struct {
	at    time.Time
	flips int // by others so far
	shows string
}

// settling is how long what was done may not be durable, if nothing is wrong.
const settling = 8 * time.Second

// mark notes what is shown after a call.
func (m *machine) mark() {
	if !m.w.plan.watched {
		return
	}
	if m.crashed() && m.trail == nil {
		return
	}
	shows, err := m.sketch()
	if err != nil || m.unwell() {
		m.trail = nil
		return
	}
	if m.trail != nil {
		m.trail = append(m.trail, mark{time.Now(), m.s.flipped(), shows})
	}
}

// follow notes what is shown after others have changed something.
func (w *world) follow() {
	for _, m := range w.ms {
		if n := len(m.trail); m.up && !m.crashed() && n > 0 && m.trail[n-1].flips != m.s.flipped() {
			m.mark()
		}
	}
}

// begin is a trail that begins with what is shown now. There is none while others
// tell anew what there is, the oldest first.
func (m *machine) begin() trail {
	if !m.w.plan.watched || m.unwell() || m.crashed() {
		return nil
	}
	if s, err := m.f.Stats(); err != nil || s.Returning {
		return nil
	}
	flips := m.s.flipped()
	if shows, err := m.sketch(); err == nil {
		return trail{{time.Now(), flips, shows}}
	}
	return nil
}

// cutOff leaves of a trail what the machine may show when it starts again: nil if
// that is not known. It went down at the given time.
func (m *machine) cutOff(at time.Time) {
	t := m.trail
	if m.trail = nil; len(t) == 0 || m.unwell() {
		return
	}
	from := 0
	for i, x := range t {
		if at.Sub(x.at) > settling && x.at.After(m.healed) {
			from = i
		}
	}
	if !m.crashed() { // it has ended in peace
		from = len(t) - 1
	}
	if t[from].flips == m.s.flipped() {
		m.trail = t[from:]
	}
}

// retrace checks that a machine that has started shows what it has shown before
// (I8), and begins a new trail.
func (m *machine) retrace() {
	old := m.trail
	if m.trail = m.begin(); m.trail == nil || len(old) == 0 || m.trail[0].flips > 0 || m.s.flipped() > 0 {
		return
	}
	now := m.trail[0].shows
	at := slices.IndexFunc(old, func(x mark) bool { return x.shows == now })
	m.w.count("starts compared", 1)
	switch {
	case at < 0:
		for i, x := range old {
			m.w.say("1 %s now, 2 %d. of %d marks\n%s", m.name, i, len(old), diff(strings.Split(now, "\n"), strings.Split(x.shows, "\n")))
		}
		m.w.fail("I8", "%s shows after its start what it did not show at any time since that was durable", m.name)
	case old[len(old)-1].shows != now:
		m.w.count("crashes that lost something", 1)
	}
}

// alone checks, when all has come together, that what one machine has done since
// the last time, and nobody else, is what all show (I3).
func (w *world) alone() {
	if len(w.actors) != 1 || w.evil != nil || w.copied {
		return
	}
	for m := range w.actors {
		n := len(m.trail)
		if n == 0 || m.away {
			return
		}
		now, err := m.sketch()
		if was := m.trail[n-1].shows; err == nil && now != was {
			w.say("1 %s now, 2 after its last call\n%s", m.name, diff(strings.Split(now, "\n"), strings.Split(was, "\n")))
			w.fail("I3", "%s was alone, and all show something else than it had made", m.name)
		}
		w.count("works of one compared", 1)
	}
}

// sketch tells what a machine shows.
func (m *machine) sketch() (string, error) {
	var lines []string
	groups, files := map[syncer.Ino][]string{}, map[syncer.Ino]string{} // a file may have hundreds of names
	var failed error
	note := func(err error) {
		if failed == nil {
			failed = err
		}
	}
	var walk func(dir syncer.Ino, at string, depth int)
	walk = func(dir syncer.Ino, at string, depth int) {
		if depth > 200 {
			return
		}
		note(m.f.List(dir, 0, func(e syncer.Entry) bool {
			path := at + "/" + e.Name
			if e.Attr.Kind == model.Dir {
				walk(e.Attr.Ino, path, depth+1)
			}
			line, ok := files[e.Attr.Ino]
			if !ok {
				line = m.features(e.Attr, note)
			}
			if e.Attr.Kind != model.Dir {
				files[e.Attr.Ino] = line
				if _, journal := model.Database(e.Name); journal == "" && !strings.HasSuffix(e.Name, ".db") { // those of a group get one time when they are cut
					line += fmt.Sprintf(" mtime %d", e.Attr.Mtime)
				}
				groups[e.Attr.Ino] = append(groups[e.Attr.Ino], path)
			}
			lines = append(lines, path+line)
			return true
		}))
	}
	walk(syncer.RootIno, "", 0)
	for _, g := range groups {
		if len(g) > 1 {
			slices.Sort(g)
			lines = append(lines, fmt.Sprintf("%v are one", g))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), failed
}

// features are those that all names of one thing have.
func (m *machine) features(a syncer.Attr, note func(error)) string {
	line := fmt.Sprintf(" %v %o", a.Kind, a.Mode)
	if a.Kind != model.Dir {
		t, err := m.glimpse(a)
		note(err)
		line += fmt.Sprintf(" size %d %v", a.Size, t)
	}
	names, err := m.f.Listxattr(a.Ino)
	note(err)
	slices.Sort(names)
	for _, n := range names {
		v, err := m.f.Getxattr(a.Ino, n)
		note(err)
		line += fmt.Sprintf(" %s=%s", n, v)
	}
	return line
}

// glimpse is the number of the text that something shows. The bytes of a version
// that was seen before are not read again.
func (m *machine) glimpse(a syncer.Attr) (int, error) {
	var key string
	if _, staged := m.s.peek(a.Ino); a.Kind == model.File && !staged {
		v, err := m.f.Content(a.Ino)
		if err != nil {
			return 0, err
		}
		key = v.Content.Encode()
		if n, ok := m.w.oracle.known[key]; ok {
			return n, nil
		}
	}
	n := 0
	t, err := m.seen(a)
	if t != nil {
		n = t.n
	}
	if err == nil && key != "" {
		m.w.oracle.known[key] = n
	}
	return n, err
}
