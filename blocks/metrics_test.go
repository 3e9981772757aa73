package blocks

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestSpaceTellsWhatASweepLeaves(t *testing.T) {
	fs := vfs.NewMem()
	d := closing(t, open(t, fs))
	s := d.Store(1, testKey)
	var ids []byte
	for i := range uint64(8) {
		id := mustPut(t, s, random(i, MaxBlock))
		if i < 6 {
			ids = append(ids, id[:]...)
		}
	}
	check(t, s.Flush(t.Context()))
	mustPut(t, s, random(99, 1000))
	check(t, s.Flush(t.Context()))
	check(t, d.Meta().Set(rowKey(1, 0), ids, pebble.NoSync))
	before, err := s.Space()
	check(t, err)
	if before.Packs != 1 || before.Bytes != 8*MaxBlock || before.Small < 1000 || before.Garbage != 0 {
		t.Errorf("before a sweep: %+v", before)
	}
	_, err = s.Sweep(t.Context(), naming(d, 1))
	check(t, err)
	after, err := s.Space()
	check(t, err)
	if after.Packs != 1 || after.Bytes != 8*MaxBlock || after.Garbage != 2*MaxBlock { // too much lives to move it
		t.Errorf("after a sweep: %+v", after)
	}
	if meta, packs := d.Metrics(); meta.LogWritten == 0 || packs.Tables != 1 || packs.Bytes < 8*MaxBlock {
		t.Errorf("meta %+v, packs %+v", meta, packs)
	}
}
