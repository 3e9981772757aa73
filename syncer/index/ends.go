package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer/model"
)

// Ends are the replicas of which this database has dropped an end that others do
// not share, when it began anew over it: an m row "ends". History still names
// changes of such an end, and whoever says to have these has others.
type Ends map[model.Replica]end

type end struct {
	agreed uint64        // up to here they are the same for all
	own    model.Replica // who says anew what is shown of it
}

// Said is a change that a member has only if it has heard of this one, or of what
// has come of it.
func (e Ends) Said(d model.Dot) model.Dot {
	if x, lost := e[d.Replica]; lost && d.Seq > x.agreed {
		return model.Dot{Replica: x.own, Seq: 1}
	}
	return d
}

// Ends reads the row.
func (ix *Index) Ends() (Ends, error) {
	out := Ends{}
	v, err := ix.get(ix.keys.meta("ends"))
	if errors.Is(err, ErrNotFound) {
		return out, nil
	}
	if err == nil && (len(v)%24 != 1 || v[0] != rowVersion) {
		err = errRow
	}
	if err != nil {
		return nil, fmt.Errorf("ends: %w", err)
	}
	n := binary.BigEndian.Uint64
	for v = v[1:]; len(v) > 0; v = v[24:] {
		out[model.Replica(n(v))] = end{n(v[8:]), model.Replica(n(v[16:]))}
	}
	return out, nil
}

func (e Ends) encode() []byte {
	out := []byte{rowVersion}
	for r, x := range e {
		for _, n := range []uint64{uint64(r), x.agreed, uint64(x.own)} {
			out = binary.BigEndian.AppendUint64(out, n)
		}
	}
	return out
}

// end notes the ends that go.
func (r *rebase) end(forks map[model.Replica]Fork) error {
	if len(forks) == 0 {
		return nil
	}
	all, err := r.ix.Ends()
	if err != nil {
		return err
	}
	for rep, f := range forks {
		x := end{f.Agreed, r.own}
		if was, again := all[rep]; again {
			x.agreed = min(x.agreed, was.agreed)
		}
		all[rep] = x
	}
	return r.set(r.ix.keys.meta("ends"), all.encode())
}
