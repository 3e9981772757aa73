package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// history is a sequence of calls on a fresh pair of directories.
type history struct {
	j       *jail
	dirs    [2]string // where the pair is made
	seed    uint64
	made    []*call
	bad     []bool // of them, which returned an error on both sides
	verbose bool
	faulty  bool           // for tests: the second side is wrong
	always  bool           // compare everything after each call
	found   *difference    // that is not allowed: the history ends there
	met     map[string]int // exceptions, by name
	busy    time.Duration  // time that calls took on the second side
}

// Every so many calls the caches of the kernel are passed by, and all bytes and listings compared.
const (
	deepEvery = 16
	fullEvery = 64
)

// pair is the two sides amid a history.
type pair struct {
	j     *jail
	a, b  *side
	sa    *snapshot
	sb    *snapshot
	loose map[int]bool
	n     int
}

func (h *history) open() (*pair, error) {
	name := fmt.Sprintf("difffuzz-%d-%d", h.seed, time.Now().UnixNano())
	a, err := newSide(filepath.Join(h.dirs[0], name))
	if err != nil {
		return nil, err
	}
	b, err := newSide(filepath.Join(h.dirs[1], name))
	if err != nil {
		return nil, err
	}
	b.faulty = h.faulty
	p := &pair{j: h.j, a: a, b: b, loose: map[int]bool{}}
	h.j.do(func() {
		if p.sa, err = h.j.look(a, nil, nil, false); err == nil {
			p.sb, err = h.j.look(b, nil, p.sa.order, false)
		}
	})
	return p, err
}

func (p *pair) close() error {
	if err := p.a.close(); err != nil {
		return err
	}
	return p.b.close()
}

// step makes a call on both sides, and compares.
func (p *pair) step(c *call, all bool) (*comparer, time.Duration, error) {
	p.n++
	deep, full := p.n%deepEvery == 0 || all, p.n%fullEvery == 0 || all
	m := &comparer{call: c, loose: p.loose}
	m.win.from = time.Now()
	m.loosen(p.sa)
	m.ra = p.j.run(p.a, c)
	begun := time.Now()
	m.rb = p.j.run(p.b, c)
	took := time.Since(begun)
	sa, err := p.j.look(p.a, p.sa, nil, false)
	if err != nil {
		return nil, 0, err
	}
	sb, err := p.j.look(p.b, p.sb, sa.order, deep)
	if err != nil {
		return nil, 0, err
	}
	m.win.to = time.Now()
	m.loosen(sa)
	if !m.sparse(p.sa) {
		m.diff("result", c.Op, 0, m.ra, m.rb)
	}
	m.bad = m.ra == m.rb && strings.HasPrefix(m.ra, "E")
	m.looks(sa, sb, p.sa, p.sb)
	if len(m.found) == 0 || m.worst() == nil {
		m.listings(p.j, p.a, p.b, sa, sb, p.sa, p.sb, full)
		if full {
			m.contents(p.j, p.a, p.b, sa)
		}
	}
	p.sa, p.sb = sa, sb
	return m, took, nil
}

// worst is the first difference that is not allowed.
func (m *comparer) worst() *difference {
	for i := range m.found {
		if m.found[i].allowed == nil {
			return &m.found[i]
		}
	}
	return nil
}

// play makes the calls that next gives, until there are no more or the sides differ.
func (h *history) play(next func(*pair) (c *call, last bool)) (err error) {
	p, err := h.open()
	if err != nil {
		return err
	}
	h.met = map[string]int{}
	h.j.do(func() {
		for h.found == nil && err == nil {
			c, last := next(p)
			if c == nil {
				return
			}
			var m *comparer
			var took time.Duration
			if m, took, err = p.step(c, last || h.always); err != nil {
				return
			}
			h.made, h.bad, h.busy = append(h.made, c), append(h.bad, m.bad), h.busy+took
			for _, d := range m.found {
				if d.allowed != nil {
					h.met[d.allowed.name]++
				}
			}
			h.found = m.worst()
			if h.verbose {
				fmt.Printf("%d: %v\n  a: %s\n  b: %s\n", len(h.made), c, m.ra, m.rb)
			}
		}
	})
	if e := p.close(); err == nil {
		err = e
	}
	return err
}

// random plays n calls from the seed.
func (h *history) random(n int) error {
	g := newGenerator(h.seed)
	return h.play(func(p *pair) (*call, bool) {
		if len(h.made) == n {
			return nil, false
		}
		g.seen = p.sa
		return g.next(), len(h.made) == n-1
	})
}

// replay plays given calls; at the last of them everything is compared.
func (h *history) replay(calls []*call) error {
	return h.play(func(*pair) (*call, bool) {
		i := len(h.made)
		if i == len(calls) {
			return nil, false
		}
		return calls[i], i == len(calls)-1
	})
}
