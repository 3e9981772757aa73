package index

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// A Device is the rows that belong to no folder: what peers and the daemon
// remember. Methods are safe for concurrent use.
type Device struct {
	db *pebble.DB
	k  keys
}

// NewDevice returns the rows of folder 0.
func NewDevice(db *pebble.DB) *Device { return &Device{db: db} }

func (d *Device) key(name string) []byte { return append(d.k.table(tableDevice), name...) }

// Get returns a value, nil if there is none.
func (d *Device) Get(name string) ([]byte, error) {
	v, err := get(d.db, d.key(name))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// Set stores a value; it is durable when Set returns.
func (d *Device) Set(name string, val []byte) error {
	if err := d.db.Set(d.key(name), val, pebble.Sync); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}

// Delete removes a value, durably.
func (d *Device) Delete(name string) error {
	if err := d.db.Delete(d.key(name), pebble.Sync); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// List calls yield with the values whose names begin with prefix, by name.
func (d *Device) List(prefix string, yield func(name string, val []byte) bool) error {
	p := d.key(prefix)
	skip := len(d.k.table(tableDevice))
	return scan(d.db, p, after(p), func(k, v []byte) error {
		if !yield(string(k[skip:]), append([]byte(nil), v...)) {
			return errStop
		}
		return nil
	})
}
