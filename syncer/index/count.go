package index

import (
	"bytes"

	"github.com/clachanfs/clachan/syncer/model"
)

// Counts is how much is in the tree.
type Counts struct {
	Files     uint64 // and symlinks
	Bytes     uint64
	Conflicts uint64 // names of conflict copies
}

// Count reads all rows of the tree.
func (ix *Index) Count() (c Counts, err error) {
	d := ix.dec()
	err = ix.scan(ix.keys.table(tableNode), func(_, v []byte) error {
		r, err := decodeRow(v, d, false)
		if err == nil && r.Nlink > 0 && (r.Kind == model.File || r.Kind == model.Symlink) {
			c.Files++
			c.Bytes += uint64(r.Size)
		}
		return err
	})
	if err != nil {
		return c, err
	}
	mark := []byte(model.ConflictMark)
	err = ix.scan(ix.keys.table(tableEntry), func(k, _ []byte) error {
		if bytes.Contains(k[21:], mark) {
			c.Conflicts++
		}
		return nil
	})
	return c, err
}
