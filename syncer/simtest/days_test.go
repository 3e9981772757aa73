package simtest

import (
	"context"
	"hash/maphash"
	"time"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// keptDays is for how long what is gone surely stays in the history.
const keptDays = 29

// tombDays is for how long what was removed is remembered at least.
const tombDays = 90

// others are the members that a machine waits for before it collects.
func (m *machine) others() (out []string) {
	for _, o := range m.w.everybody() {
		if o != m {
			out = append(out, o.pid.String())
		}
	}
	return out
}

// pass lets days pass for all, one by one: each does what is due.
func (w *world) pass(n int) {
	if w.days += n; w.days-w.oracle.day > keptDays {
		w.oracle.had = nil
	}
	for range n {
		for _, m := range w.ms {
			m.skew.Add(int64(24 * time.Hour))
		}
		for _, m := range w.ms {
			if m.up && !m.crashed() {
				w.tidy(m)
			}
		}
	}
}

func (w *world) tidy(m *machine) {
	patience := time.Minute
	if w.evil != nil { // who sends wrong blocks, slowly, keeps those that were to be fetched held
		patience = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	k, err := m.f.Collect(ctx, m.now().AddDate(0, 0, -tombDays))
	if k > 0 {
		w.say("%s collects %d nodes", m.name, k)
		w.count("things collected", k)
	}
	if err == nil {
		err = m.f.Expire(ctx)
	}
	if err != nil {
		w.say("%s does not tidy up: %v", m.name, err)
		if !m.unwell() && !m.crashed() && !m.rotten {
			w.fail("I11", "%s does not tidy up: %v", m.name, err)
		}
	}
}

// keeps checks that what all had when they were last in sync, and do not show
// any more, is in the history of a machine, and reads.
func (w *world) keeps(m *machine, l listing) {
	if w.oracle.had == nil || m.sized || m.decayed {
		return
	}
	has := w.past(m)
	for t := range w.oracle.had {
		if !l.texts[t] && !has[t] {
			w.fail("I3", "not in the history of %s: %v", m.name, t)
		}
	}
}

// past is what is in the history of a machine. All of it reads, but on a disk that has rotted: others
// may never have had some of it.
func (w *world) past(m *machine) map[*text]bool {
	has := map[*text]bool{}
	w.count("history look-ups", 1)
	err := m.f.Pasts(func(p index.Past) bool {
		b := []byte("-> " + p.Content)
		if p.Kind == model.File {
			c, err := content.Decode(p.Content)
			if err != nil {
				w.fail("I9", "%s has a version of %s: %v", m.name, p.Path, err)
			}
			b = make([]byte, c.Size)
			if _, err := content.NewReader(m.f.Blocks(), c).ReadAt(context.Background(), b, 0); err != nil && c.Size > 0 && !m.decayed {
				w.fail("I9", "%s cannot read a version of %s: %v", m.name, p.Path, err)
			}
		}
		has[w.oracle.texts[maphash.Bytes(w.oracle.seed, b)]] = true
		return true
	})
	if err != nil {
		w.fail("I9", "%s: history: %v", m.name, err)
	}
	return has
}
