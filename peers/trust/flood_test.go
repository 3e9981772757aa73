package trust

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
	"time"
)

// forge signs an op that names what its author pleases.
func forge(t testing.TB, l *Log, id *Identity, prev []Hash, at int, kind Kind, p payload) *op {
	t.Helper()
	o := &op{folder: l.id, kind: kind, time: unix(now) + uint64(at), payload: p, prev: prev}
	for _, h := range prev {
		o.lamport = max(o.lamport, l.byHash[h].lamport+1)
	}
	o, err := o.sign(id.Key())
	must(t, err)
	return o
}

// admission is what an Accept of device says.
func admission(l *Log, secret [16]byte, device *Identity, label string) payload {
	tk := Ticket{Folder: l.id, Secret: secret}
	return payload{
		invite: key(tk.InviteKey().Public().(ed25519.PublicKey)), device: key(device.Public()), label: label,
		proof: tk.Proof(device.Public(), label),
	}
}

func numbered(n int) *Identity {
	seed := make([]byte, ed25519.SeedSize)
	seed[0], seed[1], seed[2] = 99, byte(n), byte(n>>8)
	return &Identity{ed25519.NewKeyFromSeed(seed)}
}

// founded is a log that is the same in each run.
func founded(t testing.TB, seed uint64) (*Log, *Identity) {
	t.Helper()
	g := &op{kind: Genesis, payload: payload{label: "ana", nonce: make([]byte, 16), suite: suite1}}
	g.payload.nonce[0] = byte(seed)
	g, err := g.sign(seeded(1).Key())
	must(t, err)
	l, err := Adopt(newKV(), g.folder, Settings{Name: "x"}, [][]byte{g.raw})
	must(t, err)
	return l, seeded(1)
}

func raws(ops []*op) (out [][]byte) {
	for _, o := range ops {
		out = append(out, o.raw)
	}
	return out
}

// converge lets logs tell each other what they keep until that changes nothing.
func converge(t testing.TB, logs ...*Log) {
	t.Helper()
	for range 50 {
		news := false
		for i, a := range logs {
			for _, b := range logs[:i] {
				was := a.Version() + b.Version()
				sync2(t, a, b)
				news = news || a.Version()+b.Version() != was
			}
		}
		if !news {
			agree(t, logs)
			return
		}
	}
	t.Fatal("members tell each other news for ever")
}

func agree(t testing.TB, logs []*Log) {
	t.Helper()
	for _, a := range logs {
		for _, b := range logs {
			if names(a) != names(b) || !slices.Equal(hashesOf(a.heads), hashesOf(b.heads)) {
				t.Fatalf("one sees %q, another %q", names(a), names(b))
			}
			if !a.Knows(b.Heads()) {
				t.Fatal("a member never knows another's heads")
			}
		}
		spare, size := 0, 0
		for _, o := range a.byHash {
			if !o.kept {
				spare, size = spare+1, size+len(o.raw)
			}
		}
		if stored := len(a.kv.(*memKV).m) - 1; spare > maxSpare || size > maxSpareBytes || stored != a.Len() {
			t.Fatalf("%d spare ops of %d bytes, %d kept, %d stored", spare, size, a.Len(), stored)
		}
	}
}

// chain forges n ops, each on top of the one before, into l.
func chain(t testing.TB, l *Log, id *Identity, prev []Hash, n, at int, kind Kind, p payload) (out []*op) {
	t.Helper()
	for i := range n {
		o := forge(t, l, id, prev, at+i, kind, p)
		must(t, l.take(o))
		out, prev = append(out, o), []Hash{o.hash}
	}
	_, err := l.settle()
	must(t, err)
	return out
}

// A member below admin signs as much as it likes, and something else for each of
// the others.
func TestNoFloodPartsMembers(t *testing.T) {
	const n, many = 100, maxMinorOps + 10
	m := seeded(2)
	forks := func(kind Kind, say func(l *Log, secret [16]byte, i int) payload) func(*testing.T, *Log, [16]byte, int) []*op {
		return func(t *testing.T, l *Log, secret [16]byte, side int) (out []*op) {
			for i := range n {
				out = append(out, forge(t, l, m, l.Heads(), side*n+i, kind, say(l, secret, side*n+i)))
			}
			return out
		}
	}
	chains := func(kind Kind) func(*testing.T, *Log, [16]byte, int) []*op {
		return func(t *testing.T, l *Log, _ [16]byte, side int) []*op {
			return chain(t, clone(t, l), m, l.Heads(), many, side*many, kind, payload{})
		}
	}
	for _, tt := range []struct {
		name  string
		flood func(t *testing.T, l *Log, secret [16]byte, side int) []*op
		most  int // ops of m that are of use
		want  string
	}{
		{"a chain of an unknown kind", chains(200), 0, "ana:owner ben:writer"},
		{"a chain of a kind to come", chains(RotateKey), 0, "ana:owner ben:writer"},
		{"leaving again and again", forks(Remove, func(*Log, [16]byte, int) payload {
			return payload{device: key(m.Public())}
		}), 1, "ana:owner ben:writer"},
		{"letting in others than was said elsewhere", forks(Accept, func(l *Log, secret [16]byte, i int) payload {
			return admission(l, secret, numbered(i), "x")
		}), 2, "ana:owner ben:writer x:writer x:writer"},
		{"letting in one device again and again", forks(Accept, func(l *Log, secret [16]byte, _ int) payload {
			return admission(l, secret, numbered(1), "x")
		}), 1, "ana:owner ben:writer x:writer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, ana := create(t)
			must(t, a.Add(ana, m.Public(), Reader, "m", now))
			secret, err := a.Invite(ana, Writer, 2, now.Add(time.Hour), now)
			must(t, err)
			floods := [2][]*op{tt.flood(t, a, secret, 0), tt.flood(t, a, secret, 1)}
			survive(t, a, ana, m, floods, tt.most)
			if names(a) != tt.want {
				t.Errorf("members %s, want %s", names(a), tt.want)
			}
		})
	}
}

// survive floods a and another member, each with its part, and then removes m.
func survive(t *testing.T, a *Log, ana, m *Identity, floods [2][]*op, most int) {
	start, b := a.Len(), clone(t, a)
	for i, l := range []*Log{a, b} {
		_, err := l.Merge(raws(floods[i]))
		must(t, err)
	}
	converge(t, a, b)
	if n := a.Len() - start; n > most {
		t.Errorf("%d ops of the flood are kept", n)
	}
	if a.Allowed(m.Public()) {
		must(t, a.Remove(ana, m.Public(), nil, "", now))
	}
	must(t, a.Add(ana, seeded(7).Public(), Writer, "ben", now))
	for i, l := range []*Log{b, a} { // it goes on
		_, err := l.Merge(raws(floods[i]))
		must(t, err)
	}
	converge(t, a, b)
	for _, l := range []*Log{a, b} {
		again, err := Open(l.kv, l.id)
		must(t, err)
		if names(again) != names(l) {
			t.Errorf("read %s, wrote %s", names(again), names(l))
		}
	}
}

// A log that was written when all that was signed counted: an admin named junk.
func TestWhatAnAdminNamedIsTaken(t *testing.T) {
	a, ana := create(t)
	m := seeded(2)
	must(t, a.Add(ana, m.Public(), Reader, "m", now))
	b := clone(t, a)
	junk := chain(t, a, m, a.Heads(), 2*maxMinorOps, 0, 77, payload{reason: "junk"})
	if a.Len() != 2 {
		t.Fatalf("%d ops", a.Len())
	}
	out := forge(t, a, ana, []Hash{junk[len(junk)-1].hash}, 0, Remove, payload{device: key(m.Public())})
	_, err := a.Merge([][]byte{out.raw})
	must(t, err)
	_, err = b.Merge([][]byte{out.raw}) // its past is to come
	must(t, err)
	for _, o := range slices.Backward(junk) {
		_, err = b.Merge([][]byte{o.raw})
		must(t, err)
	}
	converge(t, a, b)
	again, err := Open(b.kv, b.id)
	must(t, err)
	if names(again) != "ana:owner" || again.Len() != 3+len(junk) || !slices.Equal(again.Heads(), a.Heads()) {
		t.Errorf("members %s, %d ops", names(again), again.Len())
	}
}

// An op of a member is of use no matter how little use what it builds on is; but
// it must not bring more of that than others have room for.
func TestAnOpBringsAlongWhatItBuildsOn(t *testing.T) {
	for _, tt := range []struct {
		junk  int
		taken bool
	}{{0, true}, {maxMinorOps - 1, true}, {maxMinorOps, false}} {
		a, ana := create(t)
		m := seeded(2)
		must(t, a.Add(ana, m.Public(), Reader, "m", now))
		secret, err := a.Invite(ana, Writer, 2, now.Add(time.Hour), now)
		must(t, err)
		b, prev := clone(t, a), a.Heads()
		if tt.junk > 0 {
			prev = []Hash{chain(t, b, m, prev, tt.junk, 0, 77, payload{})[tt.junk-1].hash}
		}
		o := forge(t, b, m, prev, 0, Accept, admission(a, secret, seeded(3), "cleo"))
		_, err = b.Merge([][]byte{o.raw})
		must(t, err)
		converge(t, a, b)
		if got := a.Allowed(seeded(3).Public()); got != tt.taken {
			t.Errorf("after %d ops it counts: %v", tt.junk, got)
		}
	}
}

// However much is let in by members, honest ones go on: they name what there is
// room for.
func TestMembersActAmongManyOps(t *testing.T) {
	a, ana := create(t)
	m, ben := seeded(2), seeded(3)
	must(t, a.Add(ana, m.Public(), Reader, "m", now))
	must(t, a.Add(ana, ben.Public(), Writer, "ben", now))
	secret, err := a.Invite(ana, Writer, 1000, now.Add(time.Hour), now)
	must(t, err)
	base := a.Heads()
	var ops []*op
	for i := range maxMinorOps + 50 {
		ops = append(ops, forge(t, a, m, base, 0, Accept, admission(a, secret, numbered(i), "x")))
	}
	_, err = a.Merge(raws(ops))
	must(t, err)
	b := clone(t, a)
	for i := range maxMinorOps + 2 {
		must(t, accept(b, ben, numbered(1000+i), secret, "y", now))
		if i%50 == 0 {
			must(t, accept(a, ana, numbered(2000+i), secret, "z", now))
		}
	}
	late := numbered(1001 + maxMinorOps)
	must(t, b.Remove(late, late.Public(), nil, "left", now))
	must(t, a.Remove(ana, m.Public(), nil, "", now))
	converge(t, a, b)
	if got := len(b.Members()); got < 2+maxMinorOps || b.Allowed(m.Public()) || b.Allowed(late.Public()) || !b.Allowed(numbered(1000).Public()) {
		t.Errorf("%d members", got)
	}
}

// What lets a device write must stay as long as its changes, though it lost its
// place: others would refuse them.
func TestWhoseChangesWereTakenStaysAnAuthor(t *testing.T) {
	a, ana := create(t)
	m := seeded(2)
	must(t, a.Add(ana, m.Public(), Reader, "m", now))
	secret, err := a.Invite(ana, Writer, 1, now.Add(time.Hour), now)
	must(t, err)
	b, c := clone(t, a), clone(t, a)
	forks := []*op{}
	for i := range 40 {
		forks = append(forks, forge(t, a, m, a.Heads(), 0, Accept, admission(a, secret, numbered(i), "x")))
	}
	slices.SortFunc(forks, compareOps)
	slices.Reverse(forks) // each takes the place of the one before
	writers := func(l *Log) (n int) {
		for _, o := range forks {
			if l.MayAuthor(o.payload.device[:]) == nil {
				n++
			}
		}
		return n
	}
	for i, o := range forks {
		_, err = b.Merge([][]byte{o.raw})
		must(t, err)
		if i < 2 {
			must(t, b.Took(o.payload.device[:]))
		}
	}
	b, err = Open(b.kv, b.id)
	must(t, err)
	if got := writers(b); got != 3 {
		t.Errorf("%d may write, want the last and two that did", got)
	}
	if h := forks[0].hash; !slices.Contains(b.Heads(), h) || slices.Contains(b.prevs(key(ana.Public()), key{}), h) {
		t.Error("what let it write is not told, or named")
	}
	must(t, a.Remove(ana, m.Public(), nil, "", now))
	converge(t, a, b)
	if got := writers(a); got != 3 || names(a) != "ana:owner" {
		t.Errorf("%d may write elsewhere, members %s", got, names(a))
	}
	must(t, a.Took(forks[0].payload.device[:]))
	must(t, a.Took(forks[1].payload.device[:]))
	converge(t, a, b, c)
	if got := writers(c); got < 2 {
		t.Errorf("%d may write at a third", got)
	}
}

// Who leaves is not among the members to be removed any more: it must not go on
// letting in others as if it were still there.
func TestWhoLeftLetsInNobodyAfterwards(t *testing.T) {
	a, ana := create(t)
	m := seeded(2)
	must(t, a.Add(ana, m.Public(), Reader, "m", now))
	secret, err := a.Invite(ana, Writer, 3, now.Add(time.Hour), now)
	must(t, err)
	base := a.Heads()
	must(t, accept(a, m, seeded(3), secret, "before", now))
	must(t, a.Remove(m, m.Public(), nil, "", now))
	b := clone(t, a)
	must(t, a.Add(ana, seeded(7).Public(), Writer, "ben", now))
	o := forge(t, b, m, base, 0, Accept, admission(b, secret, seeded(4), "after"))
	_, err = b.Merge([][]byte{o.raw})
	must(t, err)
	converge(t, a, b)
	if names(a) != "ana:owner before:writer ben:writer" {
		t.Errorf("members %s", names(a))
	}
	must(t, a.Add(ana, m.Public(), Reader, "m", now)) // back again
	must(t, accept(a, m, seeded(5), secret, "later", now))
	if !a.Allowed(seeded(5).Public()) {
		t.Error("who came back lets in nobody")
	}
}

func TestWhatLostItsPlaceIsNotBelievedBeforeItIsStored(t *testing.T) {
	a, ana := create(t)
	m := seeded(2)
	must(t, a.Add(ana, m.Public(), Reader, "m", now))
	secret, err := a.Invite(ana, Writer, 1, now.Add(time.Hour), now)
	must(t, err)
	two := []*op{
		forge(t, a, m, a.Heads(), 0, Accept, admission(a, secret, seeded(3), "x")),
		forge(t, a, m, a.Heads(), 0, Accept, admission(a, secret, seeded(4), "y")),
	}
	slices.SortFunc(two, compareOps)
	_, err = a.Merge([][]byte{two[1].raw})
	must(t, err)
	was, kv := names(a), a.kv.(*memKV)
	kv.fail = errors.New("disk")
	if _, err := a.Merge([][]byte{two[0].raw}); !errors.Is(err, kv.fail) || names(a) != was {
		t.Errorf("%v: members %s, were %s", err, names(a), was)
	}
	kv.fail = nil
	_, err = a.Merge([][]byte{two[0].raw})
	must(t, err)
	if names(a) == was {
		t.Error("it is not taken once there is room")
	}
}

// Spare ops are bounded, in number and in bytes. What an admin put to use
// elsewhere is taken all the same.
func TestSpareOpsAreBounded(t *testing.T) {
	leave := payload{device: key(seeded(2).Public()), known: make([]byte, maxKnown)}
	for _, tt := range []struct {
		name  string
		n     int
		kind  Kind
		p     payload
		again bool // the oldest come again meanwhile
	}{
		{"many", maxSpare + 300, 77, payload{}, false},
		{"big", maxSpareBytes/maxKnown + 100, Remove, leave, false},
		{"told again", maxSpare + 300, 77, payload{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, ana := create(t)
			m, two := seeded(2), seeded(3)
			must(t, a.Add(ana, m.Public(), Reader, "m", now))
			must(t, a.Add(ana, two.Public(), Admin, "two", now))
			secret, err := a.Invite(ana, Writer, 1, now.Add(time.Hour), now)
			must(t, err)
			base, b := a.Heads(), clone(t, a)
			ops := chain(t, b, m, base, maxMinorOps-1, 0, 77, payload{})
			at := []Hash{ops[len(ops)-1].hash}
			ops = append(ops, chain(t, b, m, at, 1, 0, Accept, admission(a, secret, seeded(4), "there"))...)
			chain(t, a, m, base, 1, 0, Accept, admission(a, secret, seeded(5), "here"))
			_, err = a.Merge(raws(ops))
			must(t, err)
			if got := len(a.byHash) - a.Len(); got != len(ops) {
				t.Errorf("%d of %d ops are spare", got, len(ops))
			}
			var junk []*op
			for i := range tt.n {
				junk = append(junk, forge(t, a, m, base, i, tt.kind, tt.p))
			}
			for i := 0; i < len(junk); i += 500 {
				part := raws(junk[i:min(i+500, len(junk))])
				if tt.again && i == 1500 {
					part = append(part, raws(ops)...)
				}
				_, err = a.Merge(part)
				must(t, err)
				agree(t, []*Log{a})
			}
			if a.Knows(at) != tt.again {
				t.Errorf("the oldest is still there: %v", !tt.again)
			}
			must(t, b.Add(two, seeded(7).Public(), Writer, "ben", now))
			converge(t, a, b)
			if names(a) != "ana:owner ben:writer here:writer m:reader two:admin" {
				t.Errorf("members %s", names(a))
			}
		})
	}
}
