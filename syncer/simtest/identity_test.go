package simtest

import (
	"fmt"
	"maps"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/crashfs"
)

// A backup is a copy of a machine's disk, and what its user saw then.
type backup struct {
	mem     *crashfs.FS
	visible map[*text]bool
	fresh   bool // nothing was waiting to be cut, and there was one history
	rotten  bool // as the machine was
	decayed bool
}

// backUp copies the disk of a machine. Not while that has troubles.
func (w *world) backUp(m *machine) *backup {
	if !m.up || m.crashed() || m.unwell() {
		return nil
	}
	w.cut(m)
	if m.f.Sync() != nil || m.crashed() {
		return nil
	}
	s, err := m.f.Stats()
	l := m.tree()
	if err != nil || l.err != nil || m.crashed() {
		return nil
	}
	return &backup{m.mem.CrashClone(vfs.CrashCloneCfg{}), l.texts, s.Pending == 0 && s.Waiting == 0 && !w.forked, m.rotten, m.decayed}
}

// restore has a machine go on with its backup. Its users may stay away until it
// has met the others: then nothing may come back that was gone.
func (w *world) restore(m *machine, away bool, tries int) {
	b := m.backup
	if b == nil {
		return
	}
	synctest.Wait()
	if w.wanting(m) { // the bytes would be nowhere
		if tries > 0 {
			for _, o := range w.ms {
				w.cut(o)
			}
			w.later = append(w.later, timed{time.Now().Add(time.Second), func() { w.restore(m, away, tries-1) }})
		}
		return
	}
	showed := w.showedBy(m)
	m.d.crash() // nothing of it goes out any more
	w.forget(m, showed, b.visible)
	w.oracle.had = nil // its history goes with its disk
	w.down(m, time.Now())
	m.trail = nil
	w.forked, w.copied = true, true
	m.announced.Store(nil)
	w.memory.lose()
	m.mem, m.away = b.mem.CrashClone(vfs.CrashCloneCfg{}), away
	m.rotten, m.decayed = b.rotten, b.decayed
	m.lacks = maps.Clone(w.oracle.all())
	for t := range b.visible {
		delete(m.lacks, t)
		if w.oracle.base != nil && !w.oracle.base[t] {
			w.oracle.base[t] = true
			if away && b.fresh {
				w.oracle.stale[t] = m
			}
		}
	}
	w.say("%s goes on with its old disk", m.name)
	w.count("disks set back", 1)
}

// wanting tells whether a machine but m may lack bytes of what it knows, or is
// about to hear of.
func (w *world) wanting(m *machine) bool {
	if w.net.flying() {
		return true
	}
	for _, o := range w.ms {
		if !o.up || o.crashed() {
			return true
		}
		if _, whole := o.whole(); o != m && !whole { // what others changed beside a change of ours is fetched when that is cut
			return true
		}
		if w.plan.evil && !m.f.Joined().LE(o.f.Joined()) { // one has heard who gives no blocks
			return true
		}
	}
	return false
}

// showedBy is what a machine shows now.
func (w *world) showedBy(m *machine) map[*text]bool {
	if !m.up || m.crashed() {
		return nil
	}
	return m.tree().texts
}

// forget excuses what only a machine has that forgets all but what it keeps: what
// it, or its double, has written, and what it showed.
func (w *world) forget(m *machine, showed, keeps map[*text]bool) {
	w.witness(m)
	seen := maps.Clone(keeps)
	if seen == nil {
		seen = map[*text]bool{}
	}
	for _, o := range w.ms {
		if o != m && o.up && !o.crashed() {
			maps.Copy(seen, o.tree().texts)
		}
	}
	for t := range w.oracle.all() {
		if !seen[t] && (t.by == m || t.by == m.double || showed[t]) {
			t.excused = true
		}
	}
}

// double runs a copy of a machine's disk as another machine, with its key.
func (w *world) double(m *machine) {
	if w.late != nil || len(w.ms) > w.plan.peers {
		return
	}
	b := w.backUp(m)
	if b == nil {
		return
	}
	o := &machine{w: w, i: len(w.ms), name: m.name + "'", id: m.id, pid: m.pid, mem: b.mem, rotten: b.rotten, decayed: b.decayed}
	o.skew.Store(m.skew.Load())
	o.believes, o.spool = m.believes, maps.Clone(m.spool)
	o.addr = addrOf(200)
	w.memory.lose()
	w.forked, w.copied = true, true
	w.ms = append(w.ms, o)
	m.double, o.double = o, m
	w.boot(o)
}

// single ends that two machines run as one: now this one is on and now that one,
// so that others get what each has done; then one is switched off for good.
func (w *world) single() {
	o := w.ms[len(w.ms)-1]
	m := o.double
	if m == nil {
		return
	}
	if w.onward(); m.up && o.up {
		w.count("machines run twice", 1)
	}
	for _, off := range []*machine{m, o, m} {
		off.off = true
		w.say("%s is switched off", off.name)
		if off.up {
			w.down(off, time.Now())
		}
		for deadline := time.Now().Add(3 * time.Minute); !w.same() && time.Now().Before(deadline); {
			w.onward()
			time.Sleep(300 * time.Millisecond)
		}
		off.off = false
	}
	w.say("%s is switched off for good", o.name)
	w.memory.lose()
	w.oracle.had = nil
	w.forget(o, w.showedBy(o), nil)
	if o.up {
		w.down(o, o.back)
	}
	w.ms = w.ms[:len(w.ms)-1]
	m.double = nil
}

func (f fault) identity() string {
	switch f.kind {
	case backedUp:
		return fmt.Sprintf("the disk of %s is copied", name(f.m))
	case restored:
		if f.share > 0 {
			return fmt.Sprintf("%s goes on with the copy of its disk, without users", name(f.m))
		}
		return fmt.Sprintf("%s goes on with the copy of its disk", name(f.m))
	case twins:
		return fmt.Sprintf("a copy of %s runs beside it", name(f.m))
	}
	return "?"
}
