package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Gaps are where the clock went on by more than anybody has seen, a day between
// one look and the next: what stands before a gap is younger by the rest. So a
// clock that jumps ahead makes nothing old. An m row "gaps" has the time of the
// last look and, of each gap, where it is and how wide. A clock that is set back
// takes gaps back, the latest first: one that was wrong for a while leaves none.
type Gaps struct {
	last int64 // ns since 1970; 0: never
	gaps []gap
}

type gap struct{ at, far int64 }

// end is when the gap was seen: from then on the clock is believed. No row that
// stands before the gap is younger than that.
func (x gap) end() int64 { return x.at + min(x.far, (x.far+oneDay)/2) }

const (
	longLook = int64(25 * time.Hour) // between looks that come each day
	oneDay   = int64(24 * time.Hour)
	maxGaps  = 100
)

// Look notes the time. Gaps older than keep are forgotten: all before them is
// older too. It tells whether the clock has jumped.
func (g *Gaps) Look(now, keep int64) (jumped bool) {
	switch step := now - g.last; {
	case g.last == 0:
	case step > longLook:
		jumped = true
		g.gaps = append(g.gaps, gap{g.last + max(oneDay, step/2), step - oneDay})
	case step < 0:
		jumped = true
		g.back(-step)
	}
	g.last = now
	for len(g.gaps) > 0 && (len(g.gaps) > maxGaps || now-since(g.gaps[1:], g.gaps[0].end()) > keep) {
		if len(g.gaps) > maxGaps { // the next counts for both
			g.gaps[1].far += g.gaps[0].far
		}
		g.gaps = g.gaps[1:]
	}
	return jumped
}

// Never tells whether nobody has looked yet.
func (g *Gaps) Never() bool { return g.last == 0 }

// Clone returns a copy.
func (g *Gaps) Clone() Gaps { return Gaps{g.last, slices.Clone(g.gaps)} }

func (g *Gaps) back(by int64) {
	for n := len(g.gaps); n > 0 && by > 0; n-- {
		d := min(by, g.gaps[n-1].far)
		by -= d
		if g.gaps[n-1].far -= d; g.gaps[n-1].far == 0 {
			g.gaps = g.gaps[:n-1]
		}
	}
}

// Since is when something of the time t would have been, had the clock gone on
// evenly until now.
func (g *Gaps) Since(t int64) int64 { return since(g.gaps, t) }

func since(gaps []gap, t int64) int64 {
	for _, x := range gaps {
		if t <= x.at {
			t += x.far
		}
	}
	return t
}

// Gaps reads what was noted last.
func (ix *Index) Gaps() (g Gaps, err error) {
	v, err := ix.get(ix.keys.meta("gaps"))
	if errors.Is(err, ErrNotFound) {
		return g, nil
	}
	if err == nil && (len(v) < 9 || v[0] != rowVersion || (len(v)-9)%16 != 0) {
		err = errRow
	}
	if err != nil {
		return g, fmt.Errorf("gaps: %w", err)
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(v[i:])) }
	g.last = n(1)
	for i := 9; i < len(v); i += 16 {
		g.gaps = append(g.gaps, gap{n(i), n(i + 8)})
	}
	ix.Looked(g.last)
	return g, nil
}

// Looked says when the clock was looked at last. Nothing goes into the history
// before that: a clock that is back in 1970 until the next look would make it old.
func (ix *Index) Looked(at int64) { ix.looked.Store(at) }

// Unseen tells whether it is so long since anybody looked that there is a gap.
func (ix *Index) Unseen(now int64) bool { return now-ix.looked.Load() > longLook }

// SetGaps writes it down, not yet durably: older ones keep things for longer.
func (ix *Index) SetGaps(g Gaps) error {
	b := binary.BigEndian.AppendUint64([]byte{rowVersion}, uint64(g.last))
	for _, x := range g.gaps {
		b = binary.BigEndian.AppendUint64(b, uint64(x.at))
		b = binary.BigEndian.AppendUint64(b, uint64(x.far))
	}
	if err := ix.db.Set(ix.keys.meta("gaps"), b, pebble.NoSync); err != nil {
		return fmt.Errorf("store gaps: %w", err)
	}
	return nil
}
