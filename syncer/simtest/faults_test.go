package simtest

import "time"

// happen begins a fault. Those that last end by themselves.
func (w *world) happen(f fault) {
	w.say("=== %v", f)
	m := w.ms[f.m]
	end := func(do func()) { w.later = append(w.later, timed{time.Now().Add(f.dur), do}) }
	switch f.kind {
	case partition:
		for _, o := range w.ms {
			if o != m && (f.o < 0 || o == w.ms[f.o]) {
				w.net.setCut(m.at(), o.at(), true)
				end(func() { w.net.setCut(m.at(), o.at(), false) })
			}
		}
	case crash:
		if m.up {
			m.d.crashIn(f.n, f.share)
			m.back = time.Now().Add(f.dur)
		}
	case restart:
		if m.up && !m.crashed() {
			w.down(m, time.Now().Add(f.dur))
		}
	case diskFull, diskErrors:
		w.ail(m, f, end)
	case bitFlip:
		w.rot(m, f)
	case clockJump:
		m.skew.Add(int64(f.dur))
	case hangUp:
		if m.up {
			m.host.hangUp()
		}
	case pause:
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

// ail makes a disk unwell for a while.
func (w *world) ail(m *machine, f fault, end func(func())) {
	if m.faulty {
		return
	}
	m.faulty = true
	if f.kind == diskFull {
		m.full = true
	} else {
		m.eio = float64(f.share) / 100
	}
	if m.up {
		m.d.setEIO(m.eio)
		m.d.setFull(m.full)
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
		m.d.setFull(false)
	}
}

// rot waits until small blocks have been packed, brings all in sync, so that
// each has every block, and flips a bit.
func (w *world) rot(m *machine, f fault) {
	w.together()
	time.Sleep(f.dur)
	w.together()
	m.rotten = true
	where, err := flipBit(m.mem, "data/blocks", w.r)
	if err != nil {
		w.fail("disk", "%v", err)
	}
	w.say("flipped: %s", where)
}
