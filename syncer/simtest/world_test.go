package simtest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/clachanfs/clachan/blocks/crashfs"
	"github.com/clachanfs/clachan/peers/trust"
)

// A world is one simulation. All in it happens in one bubble, and users act one
// after the other, each while nothing else moves.
type world struct {
	plan    *plan
	net     *network
	ms      []*machine
	oracle  *oracle
	memory  *memory
	groups  *groups
	handles map[*handle]bool
	actors  map[*machine]bool // whose users have changed something since all was in sync
	ops     int
	days    int     // have passed
	later   []timed // faults that end
	begun   time.Time

	folder   trust.FolderID
	settings trust.Settings
	members  [][]byte
	evil     *villain
	bait     string     // a file that the villain has done much to: users work on it; "": none
	late     *machine   // joins on the way
	copied   bool       // some disk was, ever
	forked   bool       // somebody's disk was copied: who knows the same number of changes may not know the same
	r        *rand.Rand // the driver's; users have their own

	mu     sync.Mutex // guards what follows
	shared *rand.Rand
	story  []string
	broken string // the first violation
	counts map[string]int
}

type timed struct {
	at time.Time
	do func()
}

// violated unwinds what runs when an invariant does not hold.
type violated struct{}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.story = append(w.story, fmt.Sprintf("%9.3f ", time.Since(w.begun).Seconds())+fmt.Sprintf(format, args...))
}

// fail ends the simulation: an invariant is violated.
func (w *world) fail(what, format string, args ...any) {
	w.note(what, format, args...)
	panic(violated{})
}

func (w *world) note(what, format string, args ...any) {
	text := what + ": " + fmt.Sprintf(format, args...)
	w.say("VIOLATED %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == "" {
		w.broken = text
	}
}

// count notes that something has happened n times that simulations are about.
func (w *world) count(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what] += n
}

func (w *world) failed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

func (w *world) rand() *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rand.New(rand.NewPCG(w.shared.Uint64(), w.shared.Uint64()))
}

func (w *world) freezeTime() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shared.IntN(3) > 0 {
		return 0
	}
	return time.Duration(w.shared.IntN(150)) * time.Millisecond
}

// everybody is the machines, and the malicious member.
func (w *world) everybody() []*machine {
	if w.evil == nil {
		return w.ms
	}
	return append(slices.Clone(w.ms), w.evil.machine)
}

func newWorld(p *plan) (*world, error) {
	r := rand.New(rand.NewPCG(p.seed, 2))
	w := &world{plan: p, r: r, shared: rand.New(rand.NewPCG(p.seed, 5)), counts: map[string]int{}, handles: map[*handle]bool{}, actors: map[*machine]bool{}, begun: time.Now()}
	w.net = newNetwork(rand.New(rand.NewPCG(p.seed, 3)))
	w.net.lossy = p.lossy
	w.oracle, w.memory, w.groups = newOracle(w), newMemory(w), newGroups(p)
	n := p.peers
	if p.evil {
		n++
	}
	var all []*machine
	for range n {
		id, err := trust.NewIdentity()
		if err != nil {
			return nil, err
		}
		m := &machine{w: w, id: id, mem: crashfs.New()}
		if err := m.pid.UnmarshalText([]byte(id.PeerID())); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *machine) int { return cmp.Compare(a.pid, b.pid) })
	for i, m := range all {
		m.addr = addrOf(i + 1)
	}
	if p.evil { // the lowest id: it is the one that opens the streams
		w.evil = &villain{machine: all[0], r: rand.New(rand.NewPCG(p.seed, 4))}
		all[0].name = "evil"
		all = all[1:]
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i, m := range all {
		m.i, m.name, m.sized = i, name(i), p.sized[i]
		m.believes = i < len(p.believes) && p.believes[i]
	}
	w.ms = all
	if p.slow >= 0 {
		w.net.slow[all[p.slow].at()] = 100
	}
	err := w.found()
	if p.late {
		last := len(w.ms) - 1
		w.ms, w.late = w.ms[:last:last], w.ms[last]
	}
	return w, err
}

func addrOf(i int) ma.Multiaddr { return ma.StringCast(fmt.Sprintf("/ip4/10.0.0.%d/tcp/22170", i)) }

// found makes the folder, of which all are members.
func (w *world) found() error {
	owner, now := w.ms[0], time.Now()
	l, err := trust.Create(memKV{}, owner.id, "sim", "", owner.name, now)
	if err != nil {
		return err
	}
	for _, m := range w.everybody() {
		if m != owner {
			role := trust.Writer
			if m.reads() {
				role = trust.Reader
			}
			if err := l.Add(owner.id, m.id.Public(), role, m.name, now); err != nil {
				return err
			}
		}
	}
	w.folder, w.settings, w.members = l.ID(), l.Settings(), l.Since(nil)
	return nil
}

// simulate runs a plan in a bubble. It returns what was violated, "" for
// nothing.
func simulate(t *testing.T, p *plan) (w *world, verdict string) {
	synctest.Test(t, func(*testing.T) {
		var err error
		if w, err = newWorld(p); err != nil {
			t.Error(err)
			return
		}
		w.guard(w.live)
		w.close()
	})
	return w, w.failed()
}

// guard runs f, which a violation may end.
func (w *world) guard(f func()) {
	defer func() {
		if x := recover(); x != nil {
			if _, ok := x.(violated); !ok {
				panic(x)
			}
		}
	}()
	f()
}

// close ends everything, so that the bubble can.
func (w *world) close() {
	w.net.report(w.count)
	w.quit()
	if w.evil != nil {
		w.evil.stop()
	}
	for _, m := range w.ms {
		if m.up {
			m.host.hangUp()
		}
	}
	for _, m := range w.ms {
		if m.up {
			clean := !m.crashed() && !m.unwell()
			if err := m.stop(); err != nil && clean {
				w.note("stop", "%s: %v", m.name, err)
			}
		}
	}
}

// quit ends all programs and closes what they have open.
func (w *world) quit() {
	for _, m := range w.ms {
		for _, u := range m.users {
			u.kill()
		}
		m.users = nil
	}
	w.guard(func() {
		for _, h := range w.open() {
			h.close()
		}
	})
}

// open lists the open files, in the order of their opening.
func (w *world) open() (out []*handle) {
	for h := range w.handles {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *handle) int { return a.n - b.n })
	return out
}

// live is the whole simulation.
func (w *world) live() {
	for _, m := range w.ms {
		if err := m.start(); err != nil {
			w.fail("start", "%v", err)
		}
		m.hire()
	}
	if w.evil != nil {
		w.evil.start(w)
	}
	if w.plan.calm {
		w.together() // all have met
	}
	faults := w.plan.faults
	turn := 0
	for step := range w.plan.steps {
		for len(faults) > 0 && faults[0].step <= step {
			w.happen(faults[0])
			faults = faults[1:]
		}
		w.sleep()
		w.tend()
		if w.plan.calm && step%40 == 39 {
			w.together()
			turn++
		}
		if w.evil != nil && w.r.IntN(5) == 0 {
			w.evil.act()
		}
		w.act(turn)
		if step%20 == 19 {
			w.glance()
		}
	}
	w.say("the end: all faults are over")
	w.together()
	w.bounded()
	if w.plan.long {
		w.idle(80*time.Minute, time.Hour)
	}
}

// sleep lets a moment pass.
func (w *world) sleep() {
	d := time.Duration(w.r.IntN(150)) * time.Millisecond
	switch w.r.IntN(20) {
	case 0:
		d = time.Duration(w.r.IntN(4000)) * time.Millisecond
	case 1, 2, 3:
		d = 0
	}
	time.Sleep(d)
	synctest.Wait()
	w.groups.compare(w)
	if d > time.Second {
		w.follow()
	}
}

// act lets one user do something. With turn, it is the turn of one machine.
func (w *world) act(turn int) {
	var up []*machine
	for _, m := range w.ms {
		if m.up && !m.crashed() && len(m.users) > 0 {
			up = append(up, m)
		}
	}
	if len(up) == 0 {
		return
	}
	m := up[w.r.IntN(len(up))]
	if w.plan.calm {
		if m = w.ms[turn%len(w.ms)]; !m.up || m.crashed() {
			return
		}
	}
	u := m.users[w.r.IntN(len(m.users))]
	if m.lacks != nil && w.oracle.base != nil { // it catches up: what its users see, they may take with them
		maps.Copy(w.oracle.base, m.tree().texts)
	}
	u.step()
	if w.failed() != "" {
		panic(violated{})
	}
}

// tend notices what has happened to machines: those without power are cleared
// away, those whose time has come are started again, and faults end.
func (w *world) tend() {
	now := time.Now()
	slices.SortStableFunc(w.later, func(a, b timed) int { return a.at.Compare(b.at) })
	for len(w.later) > 0 && !w.later[0].at.After(now) {
		do := w.later[0].do
		w.later = w.later[1:]
		do()
	}
	for _, m := range w.ms {
		switch {
		case m.up && m.crashed():
			w.down(m, m.back)
		case m.up && m.f.Err() != nil:
			if !m.unwellDisk() && !strings.Contains(m.f.Err().Error(), simulated) { // which may be noticed late
				w.fail("I8", "%s stopped: %v", m.name, m.f.Err())
			}
			w.say("%s is restarted: %v", m.name, m.f.Err())
			w.down(m, now)
		case !m.up && !m.off && !m.back.After(now):
			w.boot(m)
		}
	}
}

// unwellDisk tells whether its disk is to blame for a machine's troubles.
func (m *machine) unwellDisk() bool {
	return m.faulty || !m.sick.IsZero() && time.Since(m.sick) < 30*time.Second
}

// witness acknowledges what others show of a machine's work: it cannot be lost
// any more.
func (w *world) witness(m *machine) {
	for _, o := range w.ms {
		if o == m || !o.up || o.crashed() {
			continue
		}
		for t := range o.tree().texts {
			if t.by == m {
				t.acked = true
			}
		}
	}
}

// down ends a machine, its programs first. What they had open is gone.
func (w *world) down(m *machine, back time.Time) {
	for _, u := range m.users {
		u.kill()
	}
	m.users = nil
	for h := range w.handles {
		if h.m == m {
			h.closed = true
			if h.t != nil {
				h.t.excused = h.t.excused || !h.t.kept
			}
			delete(w.handles, h)
		}
	}
	clean := !m.crashed() && !m.unwell()
	known := m.trail != nil
	if clean {
		synctest.Wait()
		m.trail = append(m.trail, m.begin()...) // of which the last counts if it ends in peace
	}
	if err := m.stop(); err != nil {
		w.say("%s ends: %v", m.name, err)
		if clean && !m.crashed() {
			w.fail("stop", "%s: %v", m.name, err)
		}
	}
	ended := time.Now()
	if m.crashed() {
		ended = time.Unix(0, m.ended.Load())
		if !known {
			m.trail = nil
		}
	}
	m.cutOff(ended)
	if m.crashed() { // before, or while it ended
		w.witness(m)
		w.oracle.crashed(m)
	}
	m.back = back
}

// boot starts a machine again.
func (w *world) boot(m *machine) {
	if err := m.start(); err != nil {
		w.say("%v", err)
		if !m.crashed() && !m.unwellDisk() {
			w.fail("I8", "%v", err)
		}
		m.back = time.Now().Add(2 * time.Second)
		return
	}
	w.say("%s is up", m.name)
	if m.faulty {
		m.d.setEIO(m.eio)
		m.d.setFull(m.full, 0)
	}
	synctest.Wait()
	w.groups.note(m)
	if k := m.announced.Load(); k != nil && !w.forked && !k.LE(m.f.Joined()) {
		w.fail("I8", "%s has announced %v, and knows %v after its start", m.name, *k, m.f.Joined())
	}
	m.check()
	if l := m.tree(); l.err == nil && !m.faulty {
		w.oracle.missing(m, l)
	}
	m.retrace()
	if !m.away {
		m.hire()
	}
}

// check compares the rows with the log (I8).
func (m *machine) check() {
	if m.unwellDisk() {
		return
	}
	err := m.f.Check(context.Background(), func(err error) {
		lost := m.decayed && strings.HasPrefix(err.Error(), "history of ") // of its own past only it may have had the blocks
		if !m.rotten && !lost {
			m.w.note("I8", "%s: check: %v", m.name, err)
		}
	})
	if err != nil && !m.crashed() {
		m.w.note("I8", "%s: check: %v", m.name, err)
	}
	if m.w.failed() != "" {
		panic(violated{})
	}
}
