package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// A crowd is three honest members, the last a minor, and hostile minors that have
// all ops in a log of their own.
type crowd struct {
	t       *testing.T
	r       *rand.Rand
	honest  []*Identity
	logs    []*Log
	hostile []*Identity // and who may get in by tickets
	evil    *Log
	secrets [][16]byte
	all     [][]byte    // what the hostile ones signed
	took    []*Identity // whose changes somebody took
}

// Honest members act and sync at random; hostile ones below admin sign what they
// like on top of what they like, and give it to whom they like in any order.
func TestHostileMinorsPartNobody(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			first, c := newCrowd(t, seed)
			for step := range 120 {
				c.act(step)
			}
			converge(t, c.logs...)
			late := clone(t, first) // it hears of everything, in no order
			for range 2 {
				for _, i := range c.r.Perm(len(c.all)) {
					_, _ = late.Merge(c.all[i : i+1])
				}
			}
			c.logs = append(c.logs, late)
			converge(t, c.logs...)
			most := 120 + (8+3*len(c.secrets))*(maxMinorOps+1)
			if n := late.Len(); n > most {
				t.Errorf("%d ops are kept", n)
			}
			c.putOut()
			for _, l := range c.logs {
				_, _ = l.Merge(c.all)
			}
			converge(t, c.logs...)
			for _, m := range late.Members() {
				if !c.trusts(m) {
					t.Errorf("%s is in", m.Label)
				}
			}
			for i, l := range c.logs { // what is not on disk is gone
				again, err := Open(l.kv, l.id)
				must(t, err)
				c.logs[i] = again
			}
			converge(t, c.logs...)
			for _, l := range c.logs {
				for _, id := range c.took {
					if err := l.MayAuthor(id.Public()); err != nil {
						t.Errorf("what one took another refuses: %v", err)
					}
				}
			}
		})
	}
}

func newCrowd(t *testing.T, seed uint64) (*Log, *crowd) {
	first, ana := founded(t, seed)
	c := &crowd{
		t: t, r: rand.New(rand.NewPCG(seed, 7)),
		honest: []*Identity{ana, seeded(2), seeded(3)}, hostile: []*Identity{seeded(20), seeded(21)},
	}
	must(t, first.Add(ana, c.honest[1].Public(), Admin, "two", now))
	must(t, first.Add(ana, c.honest[2].Public(), Writer, "three", now))
	for i, m := range c.hostile {
		must(t, first.Add(ana, m.Public(), Reader+Role(i), fmt.Sprint("m", i), now))
	}
	for i := range 6 {
		c.hostile = append(c.hostile, numbered(i))
	}
	c.logs = []*Log{clone(t, first), clone(t, first), clone(t, first)}
	c.evil = clone(t, first)
	return first, c
}

func (c *crowd) any() *Identity { return c.hostile[c.r.IntN(len(c.hostile))] }

func (c *crowd) trusts(m Member) bool {
	return m.Role >= Admin || m.Pub.Equal(c.honest[2].Public())
}

// act lets one honest member do something, or a hostile one do something to it.
func (c *crowd) act(step int) {
	at := c.r.IntN(len(c.logs))
	l, me, you := c.logs[at], c.honest[at], c.any()
	switch c.r.IntN(13) { // refused ops are part of the game
	case 0:
		s := [16]byte{byte(step)}
		pub := inviteKey(l.id, s).Public().(ed25519.PublicKey)
		p := payload{invite: key(pub), role: Role(2 + c.r.IntN(2)), uses: uint64(1 + c.r.IntN(3)), expires: unix(now) + 3600}
		if l.append(me, now, Invite, p) == nil {
			c.secrets = append(c.secrets, s)
		}
	case 1:
		if len(c.secrets) > 0 {
			_ = accept(l, me, you, c.secrets[c.r.IntN(len(c.secrets))], "h", now)
		}
	case 2:
		_ = l.Remove(me, you.Public(), nil, "", now)
	case 3:
		_ = l.Add(me, you.Public(), Reader, "again", now)
	case 4:
		if c.r.IntN(4) == 0 {
			_, _ = l.Revoke(me, now)
		}
	case 5:
		sync2(c.t, l, c.logs[c.r.IntN(len(c.logs))])
	case 6:
		if l.CanWrite(you.Public()) {
			must(c.t, l.Took(you.Public()))
			c.took = append(c.took, you)
		}
	default:
		_, err := c.evil.Merge(l.Since(nil))
		must(c.t, err)
		ops := c.forge(step)
		c.all = append(c.all, ops...)
		if _, err := l.Merge(ops); err != nil && !errors.Is(err, ErrRole) { // some lack what they build on
			c.t.Fatal(err)
		}
	}
}

// forge signs some ops on top of anything: they are good in their own past.
func (c *crowd) forge(step int) (out [][]byte) {
	r, me, all := c.r, c.any(), c.evil.sorted()
	for i := range 1 + r.IntN(8) {
		var prev []Hash
		for range 1 + r.IntN(3) {
			prev = append(prev, all[len(all)-1-r.IntN(min(len(all), 40))].hash)
		}
		kind, p := []Kind{Remove, Accept, Accept, 77, Add}[r.IntN(5)], payload{device: key(me.Public()), role: Reader}
		if kind == Accept {
			if len(c.secrets) == 0 {
				continue
			}
			d := c.any()
			if r.IntN(3) == 0 {
				d = numbered(100 + r.IntN(100))
			}
			p = admission(c.evil, c.secrets[r.IntN(len(c.secrets))], d, "bad")
		}
		o := forge(c.t, c.evil, me, c.evil.Tops(prev), 100*step+i, kind, p)
		if c.evil.take(o) == nil {
			out, all = append(out, o.raw), append(all, o)
		}
	}
	_, err := c.evil.settle()
	must(c.t, err)
	return out
}

// putOut removes all that are not honest, and closes the invites.
func (c *crowd) putOut() {
	l, ana := c.logs[0], c.honest[0]
	for _, m := range l.Members() {
		if !c.trusts(m) {
			must(c.t, l.Remove(ana, m.Pub, nil, "", now))
		}
	}
	_, err := l.Revoke(ana, now)
	must(c.t, err)
}
