package mount

import (
	"bytes"
	"context"
	"testing"

	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What an fsync has acknowledged, the rows of the next process keep too: what holds those bytes then is on the disk
// before a row names it.
func TestPromisesOutliveTheProcess(t *testing.T) {
	m := unmounted(t)
	dir, ctx := t.TempDir(), context.Background()
	begin := func() {
		t.Helper()
		var err error
		if m.stage, err = staging.Open(dir, staging.Options{}); err != nil {
			t.Fatal(err)
		}
		m.table = table{}
		m.table.init()
		if err := m.recover(); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	a, err := m.folder.Create(syncer.RootIno, "file", syncer.New{Kind: model.File})
	if err != nil {
		t.Fatal(err)
	}
	put := func(l *live, n int, off int64) {
		t.Helper()
		err := m.change(ctx, l, func(f *staging.File, gen uint64) error {
			_, err := f.Write(ctx, gen, bytes.Repeat([]byte("x"), n), off, 1)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	l, _ := m.table.open(a.Ino, true)
	put(l, 100, 0)
	if err := m.save(ctx, l, true); err != nil {
		t.Fatal(err)
	}
	m.stage.Close() // killed
	begin()
	l, _ = m.table.open(a.Ino, true)
	if err := m.save(ctx, l, true); err != nil {
		t.Fatal(err)
	}
	if l.rows.Load() == 0 {
		t.Error("an fsync took the row of a process that was killed, which may not be on the disk, for its own")
	}
	m.stage.Close()
	begin()
	l, _ = m.table.open(a.Ino, true)
	put(l, 100<<10, 100)
	if err := m.save(ctx, l, false); err != nil { // of a close
		t.Fatal(err)
	}
	if !l.synced {
		t.Error("the row names bytes that may not be on the disk")
	}
}
