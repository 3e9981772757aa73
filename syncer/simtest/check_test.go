package simtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// A listing is all that must be the same everywhere, and what texts are in it.
type listing struct {
	lines []string
	dirs  map[syncer.Ino]string
	texts map[*text]bool
	names map[string]bool // with kinds
	vals  map[string]bool // of attributes
	err   error
	bad   [2]string // the first invariant that does not hold, and how
}

func (l *listing) fault(what, format string, args ...any) {
	if l.bad[0] == "" {
		l.bad = [2]string{what, fmt.Sprintf(format, args...)}
	}
}

func (l listing) String() string { return strings.Join(l.lines, "\n") }

// tree lists what a machine shows, and checks each name and each byte: it is
// sound (I4), and all that is shown was written so (I9).
func (m *machine) tree() (l listing) {
	still(func() { l = m.look() })
	if l.bad[0] != "" {
		m.w.fail(l.bad[0], "%s %s", m.name, l.bad[1])
	}
	return l
}

func (m *machine) look() listing {
	l := listing{texts: map[*text]bool{}, names: map[string]bool{}, vals: map[string]bool{}}
	fold, _ := model.FoldOf(m.w.plan.names)
	dirs, groups := map[syncer.Ino]string{}, map[syncer.Ino][]string{}
	files := map[syncer.Ino]string{} // as described: a file may have hundreds of names
	var walk func(dir syncer.Ino, at string)
	walk = func(dir syncer.Ino, at string) {
		if was, twice := dirs[dir]; twice {
			l.fault("I4", "shows directory %s also as %s", was, at)
			return
		}
		dirs[dir] = at
		var entries []syncer.Entry
		if err := m.f.List(dir, 0, func(e syncer.Entry) bool { entries = append(entries, e); return true }); err != nil {
			l.err = errors.Join(l.err, err)
		}
		names := map[string]bool{}
		for _, e := range entries {
			path := at + "/" + e.Name
			if names[fold(e.Name)] || !model.ValidName(e.Name) || e.Attr.Mode&^0o777 != 0 && e.Attr.Kind != model.Dir {
				l.fault("I4", "shows %q, mode %o", path, e.Attr.Mode)
			}
			names[fold(e.Name)] = true
			m.w.memory.name(m, path, e.Attr.Kind, &l)
			is, ok := files[e.Attr.Ino]
			if !ok {
				is = m.describe(e.Attr, path, &l)
				files[e.Attr.Ino] = is
			}
			l.lines = append(l.lines, path+is)
			if e.Attr.Kind == model.Dir {
				walk(e.Attr.Ino, path)
			} else {
				groups[e.Attr.Ino] = append(groups[e.Attr.Ino], path)
			}
		}
	}
	walk(syncer.RootIno, "")
	l.dirs = dirs
	_, whole := m.whole()
	for ino, g := range groups {
		slices.Sort(g)
		a, err := m.f.Attr(ino)
		if err == nil && l.err == nil && whole && int(a.Nlink) != len(g) { // else some may be in a directory that is to come
			l.fault("I4", "shows %v, of %d links: %s", g, a.Nlink, m.linked(ino))
		}
		if len(g) > 1 {
			l.lines = append(l.lines, fmt.Sprintf("%v are one", g))
		}
	}
	slices.Sort(l.lines)
	return l
}

// linked tells of an inode's names by its node which directories they are in, and
// what those are here.
func (m *machine) linked(ino syncer.Ino) (out string) {
	m.rows(func(ix *index.Index, _ *pebble.DB) {
		t := ix.Begin()
		defer t.Abort()
		r := t.Row(ino)
		if r == nil || r.Node == nil {
			out = "no node"
			return
		}
		seen := map[model.ID]bool{}
		for _, l := range r.Node.Links {
			if l.Dead() || seen[l.Loc().Parent] {
				continue
			}
			seen[l.Loc().Parent] = true
			dir := t.Row(t.Ino(l.Loc().Parent))
			if dir == nil {
				out += fmt.Sprintf("%q in %v, which is not here; ", l.Loc().Name, l.Loc().Parent)
				continue
			}
			out += fmt.Sprintf("%q in %v: inode %d, %d links, node %+v; ", l.Loc().Name, l.Loc().Parent, t.Ino(dir.ID), dir.Nlink, dir.Node)
		}
	})
	return out
}

// describe tells of one node what must be the same everywhere.
func (m *machine) describe(a syncer.Attr, path string, l *listing) string {
	out := fmt.Sprintf(" %v %o", a.Kind, a.Mode)
	t, err := m.contentOf(a, path, l)
	if err != nil && !m.unwell() && !m.rotten && !m.crashed() {
		l.fault("I9", "cannot read %s: %v", path, err)
	}
	l.err = errors.Join(l.err, err)
	if t != nil {
		m.w.oracle.shown(m, t, path)
		l.texts[t] = true
		out += fmt.Sprintf(" text %d", t.n)
	}
	if a.Kind != model.Dir {
		out += fmt.Sprintf(" size %d mtime %d", a.Size, a.Mtime)
	}
	names, err := m.f.Listxattr(a.Ino)
	l.err = errors.Join(l.err, err)
	slices.Sort(names)
	for _, n := range names {
		v, err := m.f.Getxattr(a.Ino, n)
		l.err = errors.Join(l.err, err)
		m.w.memory.val(m, path, string(v), l)
		out += fmt.Sprintf(" %s=%s", n, v)
	}
	return out
}

func (m *machine) contentOf(a syncer.Attr, path string, l *listing) (*text, error) {
	switch a.Kind {
	case model.File:
		b, err := m.read(a.Ino)
		if err != nil {
			return nil, err
		}
		if int64(len(b)) != a.Size && !m.unwell() {
			v, _ := m.f.Content(a.Ino)
			_, staged := m.s.peek(a.Ino)
			l.fault("I9", "shows %s with %d bytes and size %d: staged %v, version %v of %d bytes, %+v", path, len(b), a.Size, staged, v.Orig, v.Content.Size, a)
		}
		return m.w.oracle.recognize(m, b, fmt.Sprint("inode ", a.Ino)), nil
	case model.Symlink:
		return m.seen(a)
	}
	return nil, nil
}

// glance checks what must hold at any moment.
func (w *world) glance() {
	synctest.Wait()
	w.follow()
	type look struct {
		m *machine
		k model.VV
		l listing
	}
	var whole []look
	for _, m := range w.ms {
		if !m.up || m.crashed() {
			continue
		}
		w.oracle.settle(m)
		l := m.tree()
		if l.err != nil || m.unwell() || w.net.flying() {
			continue
		}
		if k, ok := m.whole(); ok && !m.gapped() {
			whole = append(whole, look{m, k, l})
		}
	}
	for i, a := range whole {
		for _, b := range whole[i+1:] {
			if !w.forked && a.k.Equal(b.k) && differ(a.m, b.m, a.l, b.l) {
				w.explain(a.m, b.m, a.l, b.l)
				w.fail("I14", "1 %s and 2 %s know the same and show\n%s", a.m.name, b.m.name, diff(a.l.lines, b.l.lines))
			}
		}
	}
}

// explain tells what two machines have where they differ.
func (w *world) explain(a, b *machine, la, lb listing) {
	for _, m := range []*machine{a, b} {
		for _, line := range strings.Split(diff(la.lines, lb.lines), "\n") {
			path, _, _ := strings.Cut(strings.TrimLeft(line, "12 "), " 0 ")
			x, err := m.stat(path)
			if err != nil {
				w.say("%s has %s: %v", m.name, path, err)
				continue
			}
			v, err := m.f.Content(x.Ino)
			_, staged := m.s.peek(x.Ino)
			w.say("%s has %s: %+v, version %v, staged %v, writers %v, %v", m.name, path, x, v.Orig, staged, m.s.Writing(x.Ino), err)
		}
		_ = m.f.Check(context.Background(), func(err error) { w.say("%s: check: %v", m.name, err) })
	}
	ha, hb := a.holding(), b.holding()
	for id, n := range ha.nodes {
		if !n.Equal(hb.nodes[id]) {
			w.say("%s holds %v\n%s holds %v", a.name, n, b.name, hb.nodes[id])
		}
	}
	for id, n := range hb.nodes {
		if ha.nodes[id] == nil && n != nil {
			w.say("%s holds %v, %s does not", b.name, n, a.name)
		}
	}
}

// whole returns what a machine knows if it shows all of it, and nothing else: what
// the malicious member holds back is not dead, as gaps are.
func (m *machine) whole() (model.VV, bool) {
	s, err := m.f.Stats()
	if err != nil || s.Waiting > 0 && !m.haunted() || s.Pending > 0 || s.Returning {
		return nil, false
	}
	k := m.f.Joined()
	if !m.gapped() {
		return k, true
	}
	if !m.w.copied {
		return nil, false
	}
	known := m.f.Knowledge()
	for _, d := range k { // what builds on changes that went with a disk may never come
		if d.Replica != m.w.evil.replica {
			known = known.With(d)
		}
	}
	return known, true
}

// gapped tells whether a machine has something of the malicious member, and lacks
// what is before it.
func (m *machine) gapped() bool {
	e := m.w.evil
	return e != nil && m.f.Knowledge().Get(e.replica) != m.f.Joined().Get(e.replica)
}

// together ends all faults, brings everybody back, and waits until all know and
// show the same. Then nothing may be lost, and nothing may move any more.
func (w *world) together() {
	for len(w.later) > 0 { // what ends may begin something that ends
		do := w.later[0].do
		w.later = w.later[1:]
		do()
	}
	for i, m := range w.ms {
		w.cure(m)
		for _, o := range w.ms[:i] {
			w.net.setCut(m.at(), o.at(), false)
		}
	}
	hurry := w.r.IntN(3)
	if hurry == 0 {
		w.rest("though some is still open", 40*time.Second)
	}
	w.quitHandles()
	w.single()
	if hurry == 1 {
		w.rest("though all is closed", 10*time.Second)
	}
	deadline := time.Now().Add(30 * time.Minute)
	for round := 0; ; round++ {
		w.onward()
		if round%10 == 0 {
			for _, m := range w.ms {
				w.cut(m)
			}
			if w.evil != nil {
				w.evil.fill()
			}
		}
		synctest.Wait()
		if w.same() && w.quiet() && w.compare() {
			break
		}
		if time.Now().After(deadline) {
			w.apart()
		}
		time.Sleep(300 * time.Millisecond)
	}
	w.idle(45*time.Second, 20*time.Second) // the last count of what is missing goes with the next ping at the latest
}

// quiet tells whether all is the same still when what the malicious member has on the
// way must have come.
func (w *world) quiet() bool {
	if w.evil == nil {
		return true
	}
	k := w.ms[0].f.Joined()
	time.Sleep(10 * time.Second)
	w.onward()
	return w.same() && k.Equal(w.ms[0].f.Joined())
}

// onward goes on without power cuts.
func (w *world) onward() {
	for _, m := range w.ms {
		if m.up && !m.crashed() {
			m.d.crashIn(1<<40, 0)
			m.saves = nil
		}
		m.back = time.Now()
	}
	w.tend()
	synctest.Wait()
}

// quitHandles ends the programs, which begin anew afterwards.
func (w *world) quitHandles() {
	w.quit()
	for _, m := range w.ms {
		if m.up && !m.crashed() && !m.away {
			m.hire()
		}
	}
}

func (w *world) cut(m *machine) {
	if !m.up || m.crashed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.f.Cut(ctx); err != nil {
		w.say("%s: cut: %v", m.name, err)
	}
}

// same tells whether all are up, know the same, show it, and have nothing to say.
func (w *world) same() bool {
	var k model.VV
	var on []*machine
	for _, m := range w.ms {
		if m.off {
			continue
		}
		if !m.up || m.crashed() {
			return false
		}
		mine, ok := m.whole()
		if !ok || len(on) > 0 && !mine.Equal(k) || !mine.Equal(m.f.Knowledge()) {
			return false
		}
		k, on = mine, append(on, m)
	}
	return !w.forked || alike(on)
}

// alike tells whether all show the same. Those whose histories have parted may
// know the same numbers for a moment.
func alike(ms []*machine) bool {
	first := ms[0].tree()
	for _, m := range ms[1:] {
		if differ(ms[0], m, first, m.tree()) {
			return false
		}
	}
	return true
}

// apart tells what keeps the machines from coming together.
func (w *world) apart() {
	for _, m := range w.ms {
		if !m.up {
			w.fail("I1", "%s stays down", m.name)
		}
		s, err := m.f.Stats()
		n, _ := m.f.Missing()
		w.say("%s knows %v, %d of it durable, lacks %d blocks, has %d changes to cut and %d to show, complete %v, %v", m.name, m.f.Joined(), m.f.Knowledge(), n, s.Pending, s.Waiting, !s.Returning, err)
		_ = m.f.Check(context.Background(), func(err error) { w.say("%s: check: %v", m.name, err) })
		m.waits()
	}
	first := w.ms[0].tree()
	for _, m := range w.ms[1:] {
		w.say("1 %s and 2 %s show\n%s", w.ms[0].name, m.name, diff(first.lines, m.tree().lines))
	}
	w.fail("I1", "the machines do not come together")
}

// waits tells what a machine has not cut or not shown yet.
func (m *machine) waits() {
	m.rows(func(ix *index.Index, _ *pebble.DB) {
		t := ix.Begin()
		defer t.Abort()
		ix.Names(func(dir index.Ino, name string, y index.Drift) { m.w.say("%s: in %d %q: %+v", m.name, dir, name, y) })
		ix.AllBytes(func(ino index.Ino, b index.Bytes) {
			v := t.Wanted(ino)
			c, err := content.Decode(v.Content)
			m.w.say("%s: inode %d: %+v, %+v, wants %v of %v by %v: %d bytes, %x, %v", m.name, ino, b, m.s.Writing(ino), v.Dot, v.Orig, v.By, c.Size, c.Root, err)
		})
	})
}

// compare checks that all show the same (I1), and all that they must. It is false if
// something of the malicious member's has come meanwhile.
func (w *world) compare() bool {
	var first listing
	k := w.ms[0].f.Joined()
	for i, m := range w.ms {
		l := m.tree()
		for range 60 { // a rotten block is asked for once others are there
			if l.err == nil || !m.rotten {
				break
			}
			time.Sleep(time.Second)
			l = m.tree()
		}
		if l.err != nil {
			w.fail("I9", "%s cannot read: %v", m.name, l.err)
		}
		if m.rotten {
			w.mend(m)
		}
		m.check()
		if !w.copied && w.evil != nil {
			w.credulous(m)
		}
		if i == 0 {
			first = l
		} else if differ(w.ms[0], m, first, l) {
			if w.evil != nil && !(m.f.Joined().Equal(k) && w.ms[0].f.Joined().Equal(k)) {
				return false
			}
			w.explain(w.ms[0], m, first, l)
			w.fail("I1", "1 %s and 2 %s show\n%s", w.ms[0].name, m.name, diff(first.lines, l.lines))
		}
		w.keeps(m, l)
		w.count("conflict copies", strings.Count(l.String(), "(conflict"))
		if w.plan.calm && strings.Contains(l.String(), "(conflict") {
			w.fail("I5", "%s shows a conflict where there was none:\n%s", m.name, l)
		}
	}
	for _, m := range w.ms { // what is shown is shown after a power cut too
		if err := m.f.Sync(); err != nil {
			w.fail("I8", "%s: sync: %v", m.name, err)
		}
	}
	w.alone()
	if w.evil != nil {
		w.count("changes of the malicious member taken in", int(w.ms[0].f.Joined().Get(w.evil.replica)))
	}
	w.robbed(first.texts)
	clear(w.actors)
	w.oracle.inSync(first.texts)
	w.memory.inSync(first)
	return true
}

// diff tells which lines only one has.
func diff(a, b []string) string {
	in := map[string]int{}
	for _, x := range a {
		in[x] |= 1
	}
	for _, x := range b {
		in[x] |= 2
	}
	var out []string
	for _, x := range slices.Sorted(maps.Keys(in)) {
		if in[x] != 3 {
			out = append(out, fmt.Sprintf("%d %s", in[x], x))
		}
	}
	return strings.Join(out, "\n")
}
