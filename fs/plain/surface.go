package plain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
)

var _ syncer.Surface = (*Dir)(nil)

// A layer is a file on disk as it was found. It fails once that has changed: who has written
// to it may not be done.
type layer struct {
	f     *os.File
	was   stat
	gen   uint64
	base  syncer.Version
	holes []content.Range
	dir   int      // that it is in
	group []*layer // that are to be of one instant
}

// ReadAt implements io.ReaderAt.
func (l *layer) ReadAt(p []byte, off int64) (int, error) {
	n, err := fdReader(l.f.Fd()).ReadAt(p, off)
	for _, o := range l.group {
		if is, serr := statFd(int(o.f.Fd())); serr != nil || !is.sameBytes(o.was) && !renamed(is, o.was) {
			return 0, errors.Join(syncer.ErrChanged, serr)
		}
	}
	return n, err
}

// renamed tells whether nothing but the name, or the number of names, has changed.
func renamed(is, was stat) bool {
	return is.id == was.id && is.size == was.size && is.mtime == was.mtime
}

func (l *layer) Gen() uint64            { return l.gen }
func (l *layer) Base() syncer.Version   { return l.base }
func (l *layer) File() uint64           { return l.was.id.Ino }
func (l *layer) Size() int64            { return l.was.size }
func (l *layer) Mtime() int64           { return l.was.mtime }
func (l *layer) Ctime() int64           { return l.was.ctime }
func (l *layer) Dirty() []content.Range { return []content.Range{{Off: 0, Len: l.was.size}} }
func (l *layer) Holes() []content.Range { return l.holes }

// Close implements io.Closer.
func (l *layer) Close() error { return errors.Join(l.f.Close(), unix.Close(l.dir)) }

// Freeze implements syncer.Surface.
func (d *Dir) Freeze(ctx context.Context, inos ...syncer.Ino) ([]syncer.Layer, error) {
	group, out, err := d.freezeAll(inos)
	for _, l := range group {
		if err == nil {
			err = d.keep(ctx, l)
		}
	}
	if err != nil {
		for _, l := range group {
			l.Close()
		}
		return nil, err
	}
	for _, l := range group {
		l.group = group
	}
	return out, nil
}

// keep makes a file and its name durable: what others are told of must not be gone, or empty,
// after a power cut. What the kernel has written long ago is.
func (d *Dir) keep(ctx context.Context, l *layer) error {
	changed := time.Unix(0, max(l.was.ctime, l.was.mtime))
	if last := time.Unix(0, d.kept.Load()); time.Since(changed) > writtenIn || changed.Before(last) {
		return nil
	}
	if now := time.Now(); now.Sub(time.Unix(0, d.keepsAt.Load())) > keepTime {
		d.keepsAt.Store(now.UnixNano())
		d.keeps.Store(0)
	}
	if d.keeps.Add(1) <= keepMany {
		err := unix.Fsync(int(l.f.Fd()))
		if err == nil {
			err = unix.Fsync(l.dir)
		}
		if err != nil {
			return fmt.Errorf("sync file: %w", err)
		}
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(time.Unix(0, d.kept.Load()).Add(keepPause))): // what comes meanwhile shares it
	}
	if changed.Before(time.Unix(0, d.kept.Load())) { // another was faster
		return nil
	}
	begun := time.Now()
	if err := unix.Syncfs(l.dir); err != nil {
		return fmt.Errorf("sync disk: %w", err)
	}
	d.kept.Store(begun.UnixNano())
	return nil
}

const (
	writtenIn = 2 * time.Minute // the kernel has written a change to the disk: it waits for half a minute
	keepMany  = 8               // so many one by one in this time, then all at once
	keepTime  = 5 * time.Second
	keepPause = 200 * time.Millisecond
)

// freezeAll opens files to be read, all of one instant.
func (d *Dir) freezeAll(inos []syncer.Ino) (group []*layer, out []syncer.Layer, err error) {
	out = make([]syncer.Layer, len(inos))
	for i, ino := range inos {
		x := d.waits(ino)
		if x == nil {
			continue
		}
		l, err := d.freeze(ino, x)
		if err != nil {
			return group, nil, err
		}
		group = append(group, l)
		out[i] = l
	}
	return group, out, nil
}

const readFor = time.Second // for so long directories stay open for the next

// reader opens the directory for a while. The caller holds reading.
func (d *Dir) reader() (*pass, error) {
	if d.reads != nil {
		return d.reads, nil
	}
	r, err := openRoot(d.dir, d.mark)
	if err != nil {
		return nil, err
	}
	d.reads = newPass(&loop{d: d}, nil, r)
	time.AfterFunc(readFor, func() {
		d.reading.Lock()
		defer d.reading.Unlock()
		d.reads.close()
		d.reads.r.Close()
		d.reads = nil
	})
	return d.reads, nil
}

// openDir opens a directory of the folder, which the caller closes.
func (d *Dir) openDir(dir syncer.Ino) (int, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	p, err := d.reader()
	if err != nil {
		return -1, err
	}
	fd, err := p.open(dir)
	if err != nil {
		return -1, err
	}
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}

// nameOf is the path of a place, as far as it is known.
func (d *Dir) nameOf(at syncer.Place) string {
	d.reading.Lock()
	defer d.reading.Unlock()
	p, err := d.reader()
	if err != nil {
		return at.Name
	}
	return p.name(at)
}

// freeze opens a file that waits to be cut.
func (d *Dir) freeze(ino syncer.Ino, x *pending) (*layer, error) {
	if x.at.Dir != 0 { // where it was found, if it is there still
		if l, err := d.freezeAt(x.at, x); l != nil || err != nil {
			return l, err
		}
	}
	at, err := d.sight.Of(ino)
	if err != nil {
		return nil, err
	}
	for _, k := range at {
		if l, err := d.freezeAt(k, x); l != nil || err != nil {
			return l, err
		}
	}
	return nil, syncer.ErrChanged
}

// freezeAt opens the file that waits, if it is at a place; nil: it is not.
func (d *Dir) freezeAt(at syncer.Place, x *pending) (*layer, error) {
	dir, err := d.openDir(at.Dir)
	if err != nil {
		return nil, d.unreadable(at, err)
	}
	fd, err := unix.Openat(dir, at.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(dir)
		return nil, d.unreadable(at, err)
	}
	st, err := statFd(fd)
	if err != nil || !st.sameBytes(x.was) && !renamed(st, x.was) {
		unix.Close(fd)
		unix.Close(dir)
		d.hear(d.nameOf(at))
		return nil, nil
	}
	d.fine(at)
	l := &layer{dir: dir, f: os.NewFile(uintptr(fd), at.Name), was: x.was, gen: x.gen, base: x.base, holes: holes(fd, st)}
	cut := l.base.Content.Cut
	l.base.Content = content.Content{Cut: cut} // all of it is read
	return l, nil
}

// unreadable tells of a file that may not be read; nil: it is elsewhere, perhaps.
func (d *Dir) unreadable(at syncer.Place, err error) error {
	if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return nil
	}
	name := d.nameOf(at)
	d.trouble(at, name, cannot("read", err))
	return fmt.Errorf("%w: %w", syncer.ErrChanged, &fs.PathError{Op: "read", Path: name, Err: err})
}

// Rebase implements syncer.Surface.
func (d *Dir) Rebase(ino syncer.Ino, gen uint64, v syncer.Version) {
	d.mu.Lock()
	d.cut = append(d.cut, committed{ino, gen, v})
	d.mu.Unlock()
	d.wake()
}

// Busy implements syncer.Surface: what programs have open on disk they keep, whatever is put
// under its name.
func (d *Dir) Busy(syncer.Ino) bool { return false }

// Writing implements syncer.Surface: a file is told of when it rests.
func (d *Dir) Writing(syncer.Ino) syncer.Writing { return syncer.Writing{} }

// Shown implements syncer.Surface.
func (d *Dir) Shown(flips []syncer.Flip) {
	d.mu.Lock()
	if d.flipped = append(d.flipped, flips...); len(d.flipped) > maxTouched {
		d.flipped = nil
		d.touched = append(d.touched[:0], ".")
	}
	d.mu.Unlock()
	d.wake()
}

// wait notes that a file has bytes to be cut.
func (d *Dir) wait(ino syncer.Ino, st stat, base syncer.Version) (gen uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	d.unfind(ino)
	d.pending[ino] = &pending{gen: d.gen, was: st, base: base}
	d.found[st.id.Ino] = ino
	return d.gen
}

// waits returns what is to be cut of a file, nil if nothing is.
func (d *Dir) waits(ino syncer.Ino) *pending {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.pending[ino]
	if x == nil {
		return nil
	}
	c := *x
	return &c
}

// forget says that nothing of a file is to be cut.
func (d *Dir) forget(ino syncer.Ino) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unfind(ino)
	delete(d.pending, ino)
}

// elsewhere forgets where a file that is to be cut was found.
func (d *Dir) elsewhere(ino syncer.Ino) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.pending[ino]; x != nil {
		x.at = syncer.Place{}
	}
}

// unfind forgets which file an inode was found in. The caller holds mu.
func (d *Dir) unfind(ino syncer.Ino) {
	if x := d.pending[ino]; x != nil && d.found[x.was.id.Ino] == ino {
		delete(d.found, x.was.id.Ino)
	}
}

// cutUp notes what was cut of a file, and returns what waited; last: there is nothing more.
func (d *Dir) cutUp(c committed) (x pending, last bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pending[c.ino]
	if p == nil {
		return pending{}, false
	}
	if last = p.gen <= c.gen; !last {
		p.base = c.v
	}
	return *p, last
}

// drop forgets that a file is to be cut: it has turned out to be what others have made.
func (p *pass) drop(ino syncer.Ino, at syncer.Place) {
	if p.d.waits(ino) == nil {
		return
	}
	p.d.forget(ino)
	p.unblock(ino)
	if err := p.d.folder.Clean(ino); err != nil {
		p.d.trouble(at, p.name(at), err.Error())
	}
}
