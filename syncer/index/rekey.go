package index

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer/model"
)

// Rekey goes on as a new replica; what was written as the one before stays, as
// another's.
func (t *Tx) Rekey(own model.Replica) {
	was := t.ix.Replica()
	t.ix.setReplica(own)
	t.number(own)
	ends, err := t.ix.Ends()
	if t.fail(err); err == nil && ends.own == was && t.rep(was).Known == 0 { // it will never say anything
		ends.own = own
		t.fail(t.b.Set(t.ix.keys.meta("ends"), ends.encode(), nil))
	}
}

// MovedTo tells whether the database is not where it was, and remembers where it
// is: a copy must not go on under the name of what it is a copy of.
func (t *Tx) MovedTo(place []byte) bool {
	key := t.ix.keys.meta("place")
	was, err := t.ix.get(key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.fail(err)
		return false
	}
	if bytes.Equal(was, place) {
		return false
	}
	t.fail(t.b.Set(key, place, nil))
	return err == nil
}

const (
	maxReplicas = 64                        // of one device, whose changes are in the log
	maxNames    = 256                       // that a device may take in all
	maxRelayed  = model.MaxReplicas / 4 * 3 // in a vector
)

// RoomForReplica refuses a batch of one replica too many. A device brings only so
// many itself. What another brings was taken in elsewhere, and is refused only
// before a vector could not be said any more: else whoever writes as some to one
// member and as others to the next would part the two.
func (t *Tx) RoomForReplica(h model.Header, itself bool) error {
	if t.rep(h.Replica).Hi > 0 {
		return nil
	}
	reps := t.ix.dict.Load().reps
	if len(reps) >= maxRelayed {
		return fmt.Errorf("%w: more than %d replicas", model.ErrBatch, maxRelayed)
	}
	if !itself {
		return nil
	}
	n, names := 0, 0
	for i, r := range reps {
		if !r.ID.SameDevice(h.Replica) || r.ID == h.Replica {
			continue
		}
		if names++; r.Hi == 0 {
			continue
		}
		prefix := t.ix.keys.replicaOf(tableBatch, uint32(i))
		t.fail(scan(t.b, prefix, after(prefix), func(_, _ []byte) error { n++; return errStop }))
	}
	if n >= maxReplicas || names >= maxNames {
		return fmt.Errorf("%w: device %x writes as too many replicas", model.ErrBatch, h.Signer[:6])
	}
	return t.Err()
}
