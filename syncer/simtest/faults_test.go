package simtest

import (
	"context"
	"time"

	"github.com/clachanfs/clachan/blocks"
)

// happen begins a fault. Those that last end by themselves.
func (w *world) happen(f fault) {
	if f.m >= len(w.ms) && f.kind != joins { // it is no member yet
		return
	}
	w.say("=== %v", f)
	if f.kind == joins {
		w.join()
		return
	}
	m := w.ms[f.m]
	end := func(do func()) { w.later = append(w.later, timed{time.Now().Add(f.dur), do}) }
	switch f.kind {
	case partition:
		for _, o := range w.ms {
			if o != m && (f.o < 0 || o.i == f.o) {
				w.net.setCut(m.at(), o.at(), true)
				end(func() { w.meet(m, o) })
			}
		}
	case crash:
		if m.up {
			if m.saves = nil; f.n%3 == 0 { // while something is overwritten
				m.saves = &f
			} else {
				m.d.crashIn(f.n, f.share)
			}
			m.back = time.Now().Add(f.dur)
		}
	case restart:
		if m.up && !m.crashed() {
			w.count("restarts", 1)
			if w.down(m, time.Now().Add(f.dur)); m.crashed() { // before it had ended
				w.oracle.crashed(m)
			}
		}
	case diskFull, diskErrors:
		w.ail(m, f, end)
	case bitFlip:
		w.rot(m, f)
	case clockJump:
		m.skew.Add(int64(f.dur))
		m.jumped = true
	case hangUp:
		if m.up {
			m.host.hangUp()
			w.count("connections broken", 1)
		}
	case garbling:
		w.net.setGarbled(m.at(), float64(f.share)/100)
		end(func() { w.net.setGarbled(m.at(), 0) })
	case lostLink:
		w.loseLink(m, f)
	case pause:
		w.follow()
		time.Sleep(f.dur)
	case inSync:
		w.together()
	case days:
		w.pass(f.n)
	case backedUp:
		if b := w.backUp(m); b != nil {
			m.backup = b
		}
	case restored:
		w.restore(m, f.share > 0, 10)
	case twins:
		w.double(m)
	}
}

// meet ends that two machines do not reach each other.
func (w *world) meet(m, o *machine) {
	if w.net.stuck(m.at(), o.at()) {
		w.count("partitions that held something up", 1)
	}
	w.net.setCut(m.at(), o.at(), false)
}

// loseLink lets what a machine sends pile up for a second, and then the machine
// lose its connections, while the others hear nothing of it: they get what is
// under way later, when there may be new connections.
func (w *world) loseLink(m *machine, f fault) {
	stuck := func(on bool) {
		for _, o := range w.ms {
			if o != m {
				w.net.setCut(m.at(), o.at(), on)
			}
		}
	}
	stuck(true)
	w.later = append(w.later, timed{time.Now().Add(time.Second), func() {
		stuck(false)
		if m.up && !m.crashed() {
			w.later = append(w.later, timed{time.Now().Add(f.dur + time.Second), m.host.loseConns(f.dur)})
		}
	}})
}

// join makes the machine that waits a member, with what its users have not
// written yet: the others count it from now on.
func (w *world) join() {
	m := w.late
	w.late = nil
	w.ms = append(w.ms, m)
	m.lacks = w.oracle.all() // what is gone may show while it is not complete
	w.oracle.had = nil       // it has no history
	w.memory.lose()
	w.boot(m)
	w.count("members that joined late", 1)
}

// ail makes a disk unwell for a while.
func (w *world) ail(m *machine, f fault, end func(func())) {
	if m.faulty {
		return
	}
	m.faulty = true
	if f.kind == diskFull {
		m.full, m.room = true, f.n
	} else {
		m.eio = float64(f.share) / 100
	}
	if m.up {
		m.d.setEIO(m.eio)
		m.d.setFull(m.full, m.room)
	}
	end(func() { w.cure(m) })
}

func (w *world) cure(m *machine) {
	if !m.faulty {
		return
	}
	w.say("the disk of %s works again", m.name)
	m.eio, m.full, m.faulty = 0, false, false
	m.sick, m.healed = time.Now(), time.Now()
	if m.up {
		m.d.setEIO(0)
		m.d.setFull(false, 0)
	}
}

// rot waits until small blocks have been packed, brings all in sync, so that
// each has every block, and flips a bit.
func (w *world) rot(m *machine, f fault) {
	w.together()
	time.Sleep(f.dur)
	w.together()
	where, err := flipBit(m.mem, "data/blocks", w.r)
	if err != nil {
		w.fail("disk", "%v", err)
	}
	if where == "" {
		w.say("nothing to flip")
		return
	}
	m.rotten, m.decayed = true, true
	w.count("bits flipped", 1)
	w.say("flipped: %s", where)
}

// mend has a machine whose blocks have rotted read all of them, and then all that
// it shows, and of its history what others still have: from then on nothing is
// excused.
func (w *world) mend(m *machine) {
	if err := m.f.Store().Check(context.Background(), func(blocks.ID, error) {}); err != nil {
		w.fail("I9", "%s cannot check its blocks: %v", m.name, err)
	}
	if l := m.tree(); l.err != nil {
		w.fail("I9", "%s cannot read what others have: %v", m.name, l.err)
	}
	w.past(m)
	w.say("%s has read all its blocks", m.name)
	m.rotten = false
}
