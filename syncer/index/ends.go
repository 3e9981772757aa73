package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer/model"
)

// Ends are the replicas of which this database has dropped an end that others do
// not share, when it began anew over it: an m row "ends" (who says it anew, then of
// each its id and where it began, 8 bytes each). History still names changes of such
// an end, and whoever says to have these has others.
type Ends struct {
	agreed map[model.Replica]uint64 // up to here they are the same for all
	own    model.Replica            // who says anew what is shown of them
}

// Said is a change that a member has only if it has heard of this one, or of what
// has come of it.
func (e Ends) Said(d model.Dot) model.Dot {
	if to, lost := e.agreed[d.Replica]; lost && d.Seq > to {
		return model.Dot{Replica: e.own, Seq: 1}
	}
	return d
}

// Ends reads the row.
func (ix *Index) Ends() (Ends, error) {
	out := Ends{map[model.Replica]uint64{}, 0}
	v, err := ix.get(ix.keys.meta("ends"))
	if errors.Is(err, ErrNotFound) {
		return out, nil
	}
	if err == nil && (len(v)%16 != 9 || v[0] != rowVersion) {
		err = errRow
	}
	if err != nil {
		return Ends{}, fmt.Errorf("ends: %w", err)
	}
	n := binary.BigEndian.Uint64
	out.own = model.Replica(n(v[1:]))
	for v = v[9:]; len(v) > 0; v = v[16:] {
		out.agreed[model.Replica(n(v))] = n(v[8:])
	}
	return out, nil
}

func (e Ends) encode() []byte {
	out := binary.BigEndian.AppendUint64([]byte{rowVersion}, uint64(e.own))
	for r, to := range e.agreed {
		out = binary.BigEndian.AppendUint64(out, uint64(r))
		out = binary.BigEndian.AppendUint64(out, to)
	}
	return out
}

// end notes the ends that go. What is shown is said anew each time, by the last.
func (r *rebase) end(forks map[model.Replica]Fork) error {
	all, err := r.ix.Ends()
	if err != nil || len(forks)+len(all.agreed) == 0 {
		return err
	}
	all.own = r.own
	for rep, f := range forks {
		to := f.Agreed
		if was, again := all.agreed[rep]; again {
			to = min(to, was)
		}
		all.agreed[rep] = to
	}
	return r.set(r.ix.keys.meta("ends"), all.encode())
}
