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
	t.ix.setReplica(own)
	t.number(own)
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

// maxReplicas bounds the replicas of one device whose changes are in the log.
const maxReplicas = 64

// RoomForReplica refuses a batch of one replica too many of its device.
func (t *Tx) RoomForReplica(h model.Header) error {
	if t.rep(h.Replica).Hi > 0 {
		return nil
	}
	n := 0
	for i, r := range t.ix.dict.Load().reps {
		if r.Hi == 0 || !r.ID.SameDevice(h.Replica) {
			continue
		}
		prefix := t.ix.keys.replicaOf(tableBatch, uint32(i))
		t.fail(scan(t.b, prefix, after(prefix), func(_, _ []byte) error { n++; return errStop }))
	}
	if n >= maxReplicas {
		return fmt.Errorf("%w: device %x writes as more than %d replicas", model.ErrBatch, h.Signer[:6], maxReplicas)
	}
	return t.Err()
}
