package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer/model"
)

// past checks the history rows: each version stands in both tables, and reads.
func (c *check) past() error {
	ix := c.ix
	d := ix.dec()
	n, prefix := 0, ix.keys.table(tablePast)
	err := ix.scan(prefix, func(k, v []byte) error {
		if n++; len(k) != len(prefix)+16+8 {
			return errRow
		}
		key := PastKey{int64(^binary.BigEndian.Uint64(k[len(k)-8:])), model.ID(k[len(prefix):])}
		p, err := decodePast(key, v, d)
		if err != nil {
			c.report(fmt.Errorf("history of %v: %w", key.ID, err))
			return nil
		}
		v, err = ix.get(ix.keys.expiry(key))
		if errors.Is(err, ErrNotFound) {
			c.report(fmt.Errorf("history of %v: version %v never expires", key.ID, p.Orig))
			return nil
		}
		d.b, d.err = v, err
		if size, orig := int64(d.u()), d.dot(); d.err != nil || size != p.Size() || orig != p.Orig {
			c.report(fmt.Errorf("history of %v: version %v of %d bytes expires as %v of %d", key.ID, p.Orig, p.Size(), orig, size))
		}
		return nil
	})
	expiries := 0
	err = errors.Join(err, ix.Pasts(func(Expiry) bool { expiries++; return true }))
	if err == nil && expiries != n {
		c.report(fmt.Errorf("the history has %d versions, of which %d expire", n, expiries))
	}
	return err
}

// tombs checks that whatever may be collected one day is noted, that what was
// collected was known, and that what members have told reads.
func (c *check) tombs() error {
	ix := c.ix
	noted := map[model.ID]bool{}
	prefix := ix.keys.table(tableTomb)
	err := ix.scan(prefix, func(k, _ []byte) error {
		if len(k) != len(prefix)+4+16 {
			return errRow
		}
		noted[model.ID(k[len(prefix)+4:])] = true
		return nil
	})
	err = errors.Join(err, ix.scan(ix.keys.table(tableID), func(k, _ []byte) error {
		id := model.ID(k[5:])
		n := c.t.Node(id)
		if n != nil && id != model.RootID && !noted[id] && (!c.t.alive(id) || n.Spent()) {
			c.report(fmt.Errorf("node %v has something to collect that is not noted", id))
		}
		return nil
	}))
	if h := ix.Horizon(); !h.LE(ix.Joined()) {
		c.report(fmt.Errorf("the horizon %v is not known: %v", h, ix.Joined()))
	}
	_, aerr := ix.Acks()
	return errors.Join(err, aerr)
}
