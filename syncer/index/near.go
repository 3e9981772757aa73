package index

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Rows that lie beside one another, as the names of a directory do, are read with one
// iterator: going on to the next costs a fraction of a lookup, and so does finding
// that there is none.

// getNear calls f with the row of each key that has one, by the place of the key in
// keys.
func getNear(r pebble.Reader, keys [][]byte, f func(i int, v []byte) error) error {
	if len(keys) == 0 {
		return nil
	}
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(keys[a], keys[b]) })
	first, last := keys[order[0]], keys[order[len(order)-1]]
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: first, UpperBound: append(slices.Clip(last), 0)})
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	there := it.First()
	for _, i := range order {
		if there && bytes.Compare(it.Key(), keys[i]) < 0 {
			there = it.Next()
		}
		if there && bytes.Compare(it.Key(), keys[i]) < 0 {
			there = it.SeekGE(keys[i])
		}
		if !there {
			break
		}
		if !bytes.Equal(it.Key(), keys[i]) {
			continue
		}
		v, err := it.ValueAndErr()
		if err == nil {
			err = f(i, v)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// near is rows that were read before they are asked for one by one; nil: there is none.
type near map[string][]byte

// few rows are as well read when they are asked for.
const few = 24

// readNear reads rows that lie beside one another, unless they are few.
func readNear(r pebble.Reader, keys [][]byte) (near, error) {
	if len(keys) <= few {
		return nil, nil
	}
	n := make(near, len(keys))
	for _, k := range keys {
		n[string(k)] = nil
	}
	return n, getNear(r, keys, func(i int, v []byte) error {
		n[string(keys[i])] = append([]byte{}, v...)
		return nil
	})
}

// get returns a row, read before or now.
func (n near) get(r pebble.Reader, key []byte) ([]byte, error) {
	v, read := n[string(key)]
	switch {
	case !read:
		return get(r, key)
	case v == nil:
		return nil, ErrNotFound
	}
	return v, nil
}

// Near reads, before they are asked for one by one, what the tree has under names and
// the rows of inodes; for those that lie beside one another, unless they are few.
func (t *Tx) Near(names []Place, inos []Ino) {
	if len(names)+len(inos) <= few {
		return
	}
	var at []Place
	var keys [][]byte
	for _, k := range names {
		k = t.place(k.Dir, k.Name)
		if _, known := t.entries[k]; !known {
			t.entries[k] = Entry{}
			at, keys = append(at, k), append(keys, t.ix.keys.entry(tableEntry, k.Dir, k.Name))
		}
	}
	t.fail(getNear(t.ix.db, keys, func(i int, v []byte) error {
		e, err := decodeEntry(v, at[i].Name)
		t.entries[at[i]] = e
		return err
	}))
	keys = keys[:0]
	inos = slices.DeleteFunc(slices.Clone(inos), func(ino Ino) bool { _, known := t.rows[ino]; return known })
	for _, ino := range inos {
		keys = append(keys, t.ix.keys.node(ino))
	}
	t.fail(getNear(t.ix.db, keys, func(i int, v []byte) error {
		r, err := decodeRow(v, t.dec(), true)
		if err == nil {
			t.rows[inos[i]] = r
		}
		return err
	}))
}
