package simtest

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// An oracle knows every text that was ever written, by whom, and whether it may
// be gone: all that is shown anywhere must be one of them, whole, and all that
// was acknowledged must be there.
type oracle struct {
	w     *world
	n     int
	seed  maphash.Seed
	texts map[uint64]*text
	known map[string]int // the numbers of the texts of versions
	base  map[*text]bool // shown when all was last in sync, and written since; nil: no such time yet
	had   map[*text]bool // shown everywhere when all was last in sync; nil: some of it may be forgotten by now
	day   int            // when that was
	// What was gone and is shown by a machine that was restored, whose users do
	// nothing: it may not be there when all is in sync again.
	stale map[*text]*machine
}

// A text is the bytes of a file after one write, or a symlink's target.
type text struct {
	n        int
	by       *machine
	path     string
	at       time.Time // when it was written, or closed
	kept     bool      // its program was done with it
	acked    bool      // it was told to be durable
	consumed bool      // a user who saw it replaced or deleted it
	excused  bool      // it may be gone: the power went before it was acknowledged

	robbed  bool     // by the villain,
	day     int      // then
	loose   bool     // the villain may bring it back
	doer    *machine // whose user did away with it, if it was one
	instead *text    // what that user put in its place
	or      []*text  // if this is gone, one of these must be there: what a crash may have undone, or who had read it has saved
}

func (t *text) String() string {
	if t == nil {
		return "nothing"
	}
	s := fmt.Sprintf("text %d of %s, written to %s", t.n, t.by.name, t.path)
	for what, is := range map[string]bool{"kept": t.kept, "acked": t.acked, "consumed": t.consumed, "excused": t.excused} {
		if is {
			s += ", " + what
		}
	}
	return s
}

// consume notes that a user who saw a text did away with it, by putting another in
// its place, or nothing.
func (t *text) consume(m *machine, by *text) {
	if t != nil {
		if t.consumed {
			by = nil // twice is for good
		}
		t.consumed, t.doer, t.instead = true, m, by
		m.w.say("%s does away with text %d", m.name, t.n)
	}
}

// keep says that the writer is done: from now on it is missed.
func (t *text) keep() { t.kept, t.at = true, time.Now() }

func newOracle(w *world) *oracle {
	return &oracle{w: w, seed: maphash.MakeSeed(), texts: map[uint64]*text{}, known: map[string]int{}, stale: map[*text]*machine{}}
}

func (o *oracle) next() int {
	o.n++
	return o.n
}

// write notes bytes that a program writes. Those written before by somebody are
// as good as new.
func (o *oracle) write(m *machine, b []byte, path string) *text {
	if len(b) == 0 {
		return nil
	}
	key := maphash.Bytes(o.seed, b)
	t := o.texts[key]
	if t == nil {
		t = &text{n: o.next()}
		o.texts[key] = t
	}
	if t.consumed || t.excused || len(t.or) > 0 { // it is there again
		t.kept, t.acked, t.consumed, t.excused, t.or = false, false, false, false, nil
	}
	t.by, t.path, t.at = m, path, time.Now()
	if o.base != nil {
		o.base[t] = true
	}
	delete(o.stale, t)
	return t
}

// recognize finds what bytes are. None may be shown that nobody wrote.
func (o *oracle) recognize(m *machine, b []byte, where string) *text {
	if len(b) == 0 {
		return nil
	}
	t := o.texts[maphash.Bytes(o.seed, b)]
	if t == nil {
		o.w.fail("I9", "%s shows in %s %d bytes that nobody wrote: %.60q", m.name, where, len(b), b)
	}
	return t
}

// others tells whether some of the texts of a database are of others than m.
func (o *oracle) others(m *machine, s state) bool {
	for _, t := range o.texts {
		if t.by != m && slices.Contains(s[:], t.n) {
			return true
		}
	}
	return false
}

func (o *oracle) all() map[*text]bool {
	all := map[*text]bool{}
	for _, t := range o.texts {
		all[t] = true
	}
	return all
}

// unsynced are the texts of a machine that its next sync acknowledges.
func (o *oracle) unsynced(m *machine) (out []*text) {
	for _, t := range o.texts {
		if t.by == m && t.kept && !t.acked {
			out = append(out, t)
		}
	}
	return out
}

// settle acknowledges what was closed so long ago that it must be durable.
func (o *oracle) settle(m *machine) {
	if !m.up || m.crashed() || m.unwell() {
		return
	}
	for _, t := range o.unsynced(m) {
		if time.Since(t.at) > 8*time.Second && t.at.After(m.healed) {
			t.acked = true
		}
	}
}

// crashed excuses what was not acknowledged when the power went.
func (o *oracle) crashed(m *machine) {
	for _, t := range o.texts {
		if t.by == m && !t.acked {
			t.excused = true
		}
	}
	for _, t := range o.texts { // it or what replaced it
		if x := t.instead; t.consumed && t.doer == m && x != nil && x != t && x.by == m && !x.acked {
			t.consumed, t.or = false, append(t.or, x)
			o.w.count("texts back in force", 1)
		}
	}
}

// there tells whether a text is among those given, or what replaced it, or that
// was done away with.
func (t *text) there(all map[*text]bool) bool {
	seen := map[*text]bool{} // one may have replaced another and the other way round
	var is func(t *text) bool
	is = func(t *text) bool {
		if all[t] || t.consumed {
			return true
		}
		if seen[t] {
			return false
		}
		seen[t] = true
		return slices.ContainsFunc(t.or, is)
	}
	return is(t)
}

// shown checks that nothing is back that was gone when all was in sync (I13). A
// machine on an old disk goes through all that has been until it has caught up.
func (o *oracle) shown(m *machine, t *text, path string) {
	if t != nil && o.base != nil && !o.base[t] && m.lacks == nil && !t.loose {
		if t.loose = o.w.evil != nil && o.w.evil.revived(m, t); t.loose {
			return
		}
		o.w.fail("I13", "%s shows in %s again: %v", m.name, path, t)
	}
}

// inSync checks what must be there now that all is the same everywhere (I3),
// and remembers it.
func (o *oracle) inSync(visible map[*text]bool) {
	for _, t := range o.texts {
		if t.kept && !t.excused && !t.there(visible) {
			o.w.search(t)
			o.w.fail("I3", "lost: %v", t)
		}
	}
	for t, m := range o.stale {
		if visible[t] && !t.loose {
			o.w.fail("I13", "back with the old disk of %s: %v", m.name, t)
		}
	}
	clear(o.stale)
	o.w.forked = false
	for _, m := range o.w.ms {
		if m.lacks = nil; m.away {
			m.away = false
			m.hire()
		}
	}
	o.base, o.had, o.day = map[*text]bool{}, visible, o.w.days
	for t := range visible {
		o.base[t] = true
		t.acked, t.or = true, nil
	}
}

// missing checks that a machine still has what it acknowledged (I8). What others
// have put elsewhere may not be shown there yet: it is in the history then, or has a
// name that is taken here by what is not cut yet.
func (o *oracle) missing(m *machine, l listing) {
	var past map[*text]bool
	for _, t := range o.texts {
		if t.by == m && t.kept && t.acked && !t.excused && !t.there(l.texts) && !m.lacks[t] {
			if past == nil {
				past = o.w.past(m)
				maps.Copy(past, o.w.coming(m))
			}
			if !t.there(past) {
				o.w.say("%s shows\n%s", m.name, l)
				o.w.fail("I8", "%s lacks after its start: %v", m.name, t)
			}
		}
	}
}

// coming are the texts of what lives on a machine that has something to cut or to
// show, shown or not, and whose bytes are here.
func (w *world) coming(m *machine) map[*text]bool {
	has := map[*text]bool{}
	if s, err := m.f.Stats(); err != nil || s.Pending == 0 && s.Waiting == 0 {
		return has
	}
	h := m.holding()
	for id, alive := range h.alive {
		if n := h.nodes[id]; alive && n != nil {
			ts, _ := w.textsOf(n, m)
			for _, t := range ts {
				has[t] = true
			}
		}
	}
	return has
}

// search tells where a text is that is not shown.
func (w *world) search(t *text) {
	for _, m := range w.ms {
		if !m.up || m.crashed() {
			continue
		}
		w.say("%s has text %d in its history: %v", m.name, t.n, w.past(m)[t])
		h := m.holding()
		for id, n := range h.nodes {
			if n == nil {
				continue
			}
			if ts, _ := w.textsOf(n, w.ms...); slices.Contains(ts, t) {
				w.say("%s has text %d in %v, living: %v, %+v", m.name, t.n, id, h.alive[id], n)
			}
		}
	}
}

// bytes makes up what a program writes: it tells by whom, which and how long,
// and the rest follows from that.
func (o *oracle) bytes(m *machine, size int, random bool) []byte {
	head := fmt.Sprintf("%s wrote %d: %d bytes\n", m.name, o.next(), size)
	b := append(make([]byte, 0, size+len(head)), head...)
	if random {
		r := rand.NewChaCha8([32]byte{byte(o.n), byte(o.n >> 8), byte(o.n >> 16), byte(m.i)})
		b = slices.Grow(b, size)[:len(head)+size]
		_, _ = r.Read(b[len(head):])
		return b
	}
	for len(b) < size {
		b = append(b, head...)
	}
	return b
}
