package mount

import (
	"context"
	"errors"
	"log/slog"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
)

// errClosing says that the mount is going away and takes no more writes.
var errClosing = errors.New("unmounting")

// committed is content in the store, or at a peer.
type committed struct {
	*content.Reader
	st content.Getter
	c  content.Content
}

func (c committed) Alloc(ctx context.Context) (int64, error) { return content.Alloc(ctx, c.st, c.c) }

// source makes a version the base of a staged file.
func (m *Mount) source(v syncer.Version) staging.Source {
	s := staging.Source{Size: v.Content.Size, Alloc: -1, Mtime: v.Mtime, Ctime: v.Mtime}
	if s.Size > 0 {
		st := m.folder.Blocks()
		s.Base = committed{content.NewReader(st, v.Content), st, v.Content}
	}
	return s
}

// load reads what the file has, once.
func (m *Mount) load(l *live) (*staging.File, error) {
	if f := l.file.Load(); f != nil {
		return f, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.file.Load(); f != nil {
		return f, nil
	}
	v, err := m.folder.Content(l.ino)
	if err != nil {
		return nil, err
	}
	src := m.source(v)
	m.rowTimes(l.ino, &src)
	f := m.stage.New(uint64(l.ino), src)
	l.base.Store(&v)
	l.file.Store(f)
	return f, nil
}

// rowTimes takes from the row what a version does not say.
func (m *Mount) rowTimes(ino syncer.Ino, src *staging.Source) {
	a, err := m.folder.Attr(ino)
	if err != nil {
		return
	}
	src.Mtime, src.Ctime = a.Mtime, a.Ctime
	if a.Size == src.Size {
		src.Alloc = a.Alloc
	}
}

// reload gives a clean file the content that the Folder shows now.
func (m *Mount) reload(ino syncer.Ino) {
	l := m.table.peek(ino)
	if l == nil {
		return
	}
	if f := l.file.Load(); f == nil || f.Dirty() {
		return // and a writer may hold the lock while it waits for the disk
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.file.Load()
	if f.Dirty() {
		return
	}
	v, err := m.folder.Content(ino)
	if err != nil {
		return // gone: what is open goes on with what it has
	}
	if old := l.base.Load(); old != nil && old.Orig == v.Orig && old.Content.Encode() == v.Content.Encode() {
		return
	}
	src := m.source(v)
	m.rowTimes(ino, &src)
	if f.Reset(src) {
		l.base.Store(&v)
	}
}

// begin opens a generation for writing, after the Folder knows of it.
func (m *Mount) begin(ctx context.Context, l *live, f *staging.File) (uint64, error) {
	if g := f.Gen(); g != 0 && g == l.rowGen.Load() {
		return g, nil
	}
	if f.Dirty() && f.Gen() == 0 { // syncs what there is: under the lock little is left to be done
		l.mu.Lock()
		synced := l.synced
		l.mu.Unlock()
		if synced {
			if _, err := f.Persist(ctx, true); err != nil {
				return 0, err
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	under := f.Dirty() && f.Gen() == 0
	st, _ := f.Begin()
	if st.Gen == l.rowGen.Load() {
		return st.Gen, nil
	}
	m.table.settle(l.ino, l)
	if under {
		// The row replaces one that may hold the bytes of layers that are being cut: it must hold them too.
		gen := st.Gen
		var err error
		if st, err = f.Persist(ctx, l.synced); err != nil {
			f.Cancel(gen)
			return 0, err
		}
		if st.Gen != gen {
			return 0, staging.ErrFrozen
		}
	}
	l.rows.Add(1)
	if err := m.folder.Dirty(l.ino, m.dirtyState(l, st)); err != nil {
		f.Cancel(st.Gen)
		m.table.settle(l.ino, l)
		return 0, err
	}
	l.rowGen.Store(st.Gen)
	return st.Gen, nil
}

// dirtyState is what the Folder remembers of a staged file.
func (m *Mount) dirtyState(l *live, st staging.State) syncer.DirtyState {
	d := syncer.DirtyState{
		Gen: st.Gen, Open: m.table.writers(l.ino) > 0, Size: st.Size, Alloc: st.Alloc, Mtime: st.Mtime, Ctime: st.Ctime,
		Zero: st.Zero, Data: st.Data, From: st.From, Empty: st.Empty,
	}
	if v := l.base.Load(); v != nil {
		d.Base = v.Orig
	}
	if st.Under {
		// What is frozen may be cut by now, though Rebase is still to come: then that is what lies below. Nobody
		// else changes what a dirty file shows.
		if v, err := m.folder.Content(l.ino); err == nil {
			d.Base = v.Orig
		}
	}
	if seen := l.stale.Load(); seen != nil {
		d.Base = *seen
	}
	return d
}

// change runs a write of some sort, in a generation that the Folder knows.
func (m *Mount) change(ctx context.Context, l *live, fn func(f *staging.File, gen uint64) error) error {
	if m.closing.Load() {
		return errClosing
	}
	return m.store(ctx, l, fn)
}

// store is change at the end of the mount too: of pages of a mapping, which the kernel may hand over only then.
func (m *Mount) store(ctx context.Context, l *live, fn func(f *staging.File, gen uint64) error) error {
	f, err := m.load(l)
	if err != nil {
		return err
	}
	for {
		gen, err := m.begin(ctx, l, f)
		if err == nil {
			err = fn(f, gen)
		}
		if !errors.Is(err, staging.ErrFrozen) {
			now := stamp()
			l.begun.CompareAndSwap(0, now)
			l.wrote.Store(now)
			l.read.Store(false)
			return err
		}
	}
}

// save makes the staged state known to the Folder: with durable so that it survives a power cut once the Folder
// is synced.
func (m *Mount) save(ctx context.Context, l *live, durable bool) error {
	f := l.file.Load()
	if f == nil {
		return nil
	}
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	durable = durable || l.synced // what was promised once, the next row must keep
	l.mu.Unlock()
	for {
		if i := f.Info(); !i.Dirty || i.Seq == l.rowSeq && (l.synced || !durable) {
			return nil
		}
		st, err := f.Persist(ctx, durable)
		if err != nil || st.Gen == 0 {
			return err
		}
		if done, err := m.saveRow(l, f, st, durable); done || err != nil {
			return err
		}
	}
}

// covers says whether bytes that an fsync has acknowledged were staged over others in a range.
func (l *live) covers(off, end int64) bool {
	l.mu.Lock()
	synced := l.synced
	l.mu.Unlock()
	f := l.file.Load()
	return synced && f != nil && f.Covers(off, end)
}

// saveOver is save where staged bytes go. With covered, what was below them comes back if the row is lost, to which it
// takes no more than the end of this process: rows are written out when they are synced. Without, what is done is done
// if there is no room for a row: a crash may lose it, as it may what is written.
func (m *Mount) saveOver(ctx context.Context, l *live, covered bool) error {
	err := m.save(ctx, l, covered)
	if err == nil && covered {
		err = m.folder.Sync()
	}
	if err != nil && !covered {
		m.unsaved(l, err)
		return nil
	}
	return err
}

// unsaved tells of a file that could not be saved, which is tried again.
func (m *Mount) unsaved(l *live, err error) {
	if !gone(err) {
		m.log.Error("staged file not saved", slog.Uint64("inode", uint64(l.ino)), slog.Any("err", err))
	}
}

// saveRow gives the Folder a state, unless it has a newer one already.
func (m *Mount) saveRow(l *live, f *staging.File, st staging.State, durable bool) (done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case st.Gen < l.rowGen.Load():
		return false, nil
	case !f.Dirty():
		return true, nil
	}
	if i := f.Info(); st.Gen == f.Gen() {
		st.Mtime, st.Ctime = i.Mtime, i.Ctime // set since the state was taken
	}
	l.rows.Add(1)
	if err := m.folder.Dirty(l.ino, m.dirtyState(l, st)); err != nil {
		return false, err
	}
	l.rowGen.Store(st.Gen)
	l.rowSeq, l.synced = st.Seq, durable
	if !f.Dirty() {
		return true, m.folder.Clean(l.ino) // cut meanwhile: the row came too late
	}
	return true, nil
}
