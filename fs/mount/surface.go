package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
)

var _ syncer.Surface = (*Mount)(nil)

// layer is a frozen file as the Cutter wants it.
type layer struct {
	*staging.Layer
	base syncer.Version
}

// ReadAt implements io.ReaderAt. A layer is dropped under its reader only when the file is deleted.
func (l layer) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.Layer.ReadAt(p, off)
	if errors.Is(err, staging.ErrDropped) {
		err = fmt.Errorf("%w (%w)", syncer.ErrNotExist, err)
	}
	return n, err
}

func (l layer) Base() syncer.Version   { return l.base }
func (l layer) Dirty() []content.Range { return l.Layer.Dirty() }
func (l layer) Holes() []content.Range { return l.Layer.Holes() }

// Freeze implements syncer.Surface.
func (m *Mount) Freeze(ctx context.Context, inos ...syncer.Ino) ([]syncer.Layer, error) {
	if m.closed.Load() {
		return nil, syncer.ErrClosed // nothing here would read as nothing dirty
	}
	lives, files := make([]*live, len(inos)), make([]*staging.File, len(inos))
	for i, ino := range inos {
		if lives[i] = m.table.peek(ino); lives[i] == nil {
			continue
		}
		if files[i] = lives[i].file.Load(); files[i] != nil {
			lives[i].frozen.Store(lives[i].rows.Load())
			lives[i].begun.Store(0)
		}
	}
	out := make([]syncer.Layer, len(inos))
	for i, v := range staging.FreezeAll(ctx, files...) {
		if v == nil {
			continue
		}
		l := layer{Layer: v}
		if base := lives[i].base.Load(); base != nil {
			l.base = *base
		}
		out[i] = l
	}
	return out, nil
}

// Rebase implements syncer.Surface.
func (m *Mount) Rebase(ino syncer.Ino, gen uint64, v syncer.Version) {
	l := m.table.peek(ino)
	if l == nil {
		return
	}
	f := l.file.Load()
	if f == nil {
		return
	}
	// Before the layers go: whoever begins a layer after that names this version as its base.
	l.base.Store(&v)
	l.stale.Store(nil)
	if err := f.Rebase(gen, m.source(v)); err != nil {
		m.log.Warn("staging file not removed", slog.Uint64("inode", uint64(ino)), slog.Any("err", err))
	}
	if l.rows.Load() != l.frozen.Load() {
		m.dropRow(l, f)
	}
	m.table.settle(ino, l)
	m.note.inode(ino, true)
}

// dropRow takes back a row that was written while the file was being cut, perhaps after the commit that dropped it.
func (m *Mount) dropRow(l *live, f *staging.File) {
	l.mu.Lock() // nobody begins to write meanwhile
	defer l.mu.Unlock()
	if f.Dirty() {
		return
	}
	if err := m.folder.Clean(l.ino); err != nil && !gone(err) {
		m.log.Warn("row of a clean file stays", slog.Uint64("inode", uint64(l.ino)), slog.Any("err", err))
	}
}

// Busy implements syncer.Surface.
func (m *Mount) Busy(ino syncer.Ino) bool { return m.table.busy(ino) }

// Writing implements syncer.Surface.
func (m *Mount) Writing(ino syncer.Ino) syncer.Writing {
	l := m.table.writing(ino)
	if l == nil {
		return syncer.Writing{}
	}
	return syncer.Writing{
		Open: true, Begun: timeOf(&l.begun), Wrote: timeOf(&l.wrote), Synced: timeOf(&l.fsynced), Paged: l.paged.Load(),
	}
}

// started is what the times of writes are measured from: the wall clock may jump.
var started = time.Now()

// stamp is the time now, never 0.
func stamp() int64 { return int64(time.Since(started)) + 1 }

func timeOf(ns *atomic.Int64) time.Time {
	if n := ns.Load(); n != 0 {
		return started.Add(time.Duration(n))
	}
	return time.Time{}
}

// Shown implements syncer.Surface.
func (m *Mount) Shown(flips []syncer.Flip) {
	for _, f := range flips {
		m.table.setMoved(f.New) // perhaps
	}
	var es []event
	if m.replay.tid.Load() != 0 {
		var much []event
		es, much = m.replay.admit(plan(flips, m.known))
		for _, e := range much {
			m.postpone(e)
		}
	}
	m.note.flip(flips, es)
}

// recover finds the files again that were dirty when the mount ended, and deletes staging files of others.
func (m *Mount) recover() error {
	known := map[uint64]bool{}
	var failed error
	err := m.folder.Staged(func(ino syncer.Ino, d syncer.DirtyState) bool {
		if failed = m.recoverFile(ino, d); failed != nil {
			failed = fmt.Errorf("inode %d: %w", ino, failed)
			return false
		}
		known[uint64(ino)] = true
		return true
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	return m.stage.Sweep(func(ino uint64) bool { return known[ino] })
}

func (m *Mount) recoverFile(ino syncer.Ino, d syncer.DirtyState) error {
	v, err := m.folder.Content(ino)
	if err != nil {
		return err
	}
	st := staging.State{
		Gen: d.Gen, Size: d.Size, Alloc: d.Alloc, Mtime: d.Mtime, Ctime: d.Ctime, Zero: d.Zero, Data: d.Data, From: d.From,
	}
	if st.Data != nil {
		st.Size = int64(len(st.Data)) // they are all there is
	}
	f, err := m.stage.Recover(uint64(ino), st, m.source(v))
	if err != nil {
		return err
	}
	l := &live{ino: ino}
	l.file.Store(f)
	l.base.Store(&v)
	l.rowGen.Store(f.Gen())
	l.synced, l.rowSeq = true, math.MaxUint64 // an fsync may have acknowledged it, but this process has saved nothing yet
	m.table.adopt(ino, l)
	return nil
}
