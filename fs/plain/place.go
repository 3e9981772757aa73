package plain

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// The bytes of files are not stored twice: blocks are read where they stand.

var _ blocks.Source = (*Dir)(nil)

// ReadPart implements blocks.Source. A file that is not the one that was seen may be on its
// way: nothing is read of it until that is known.
func (d *Dir) ReadPart(file uint64, p []byte, off int64) (int, error) {
	fd, err := d.openSeen(file)
	if err != nil {
		return 0, fmt.Errorf("read %d bytes of file %d: %w", len(p), file, err)
	}
	defer unix.Close(fd)
	return fdReader(fd).ReadAt(p, off)
}

// openSeen opens the file of a number that was seen, or found and is being cut.
func (d *Dir) openSeen(file uint64) (int, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	p, err := d.reader()
	if err != nil {
		return -1, err
	}
	at, err := d.sight.At(file)
	if err != nil {
		return -1, err
	}
	was, ino := d.foundAs(file)
	if ino != 0 {
		cut, err := d.sight.Of(ino)
		if err != nil {
			return -1, err
		}
		at = append(at, cut...)
	}
	err = unix.ENOENT
	for _, k := range at {
		s, _, serr := d.sight.Get(k)
		dir, derr := p.open(k.Dir)
		if err = errors.Join(serr, derr); err != nil {
			continue
		}
		var fd int
		if fd, err = unix.Openat(dir, k.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			continue
		}
		st, serr := statFd(fd)
		if serr == nil && st.id.Ino == file && (st.id == s.File || st.id == was) {
			return fd, nil
		}
		unix.Close(fd)
		err = errors.Join(syncer.ErrChanged, serr)
	}
	return -1, err
}

// foundAs tells as which inode a file is being cut; 0: it is not.
func (d *Dir) foundAs(file uint64) (was syncer.FileID, ino syncer.Ino) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ino = d.found[file]
	if x := d.pending[ino]; x != nil {
		return x.was.id, ino
	}
	return was, 0
}

// keep has the folder keep the bytes of a file that others have changed or removed, for its
// history. What there is no room for is not kept.
func (p *pass) keep(s syncer.Seen, next uint64) {
	if s.Kind != model.File {
		return
	}
	if err := p.d.folder.Keep(p.ctx, s.File.Ino, next, s.Size); err != nil && p.ctx.Err() == nil {
		p.d.log.Warn("what a file had is not in its history", "err", err)
	}
}

// placed tells the folder that a file on disk has the bytes of a version.
func (p *pass) placed(file uint64, v syncer.Version) {
	if err := p.d.folder.Placed(p.ctx, file, v); err != nil && p.ctx.Err() == nil {
		p.d.log.Warn("a file is stored twice", "err", err) // and found again by a scan of all
	}
}

// placedToo sees to it that nothing is stored of a file that is as it was seen: it may have been
// put there by a version of this program that did not know how, or its disk give other numbers.
func (p *pass) placedToo(s syncer.Seen) {
	if s.Kind != model.File || s.Size <= content.MaxInline || p.d.waits(s.Ino) != nil {
		return
	}
	v, err := p.d.folder.Content(s.Ino)
	if err == nil && v.Orig == s.Orig && !p.d.folder.Stands(p.ctx, s.File.Ino, v) {
		p.placed(s.File.Ino, v)
	}
}

// standsNowhere forgets what stood in files that are not on disk any more.
func (p *pass) standsNowhere() error {
	return p.d.folder.Store().Files(func(file uint64) error {
		return p.left(syncer.Seen{Kind: model.File, File: syncer.FileID{Ino: file}})
	})
}

// left says that a file is not on disk any more, unless it is elsewhere, or was found to be
// something else.
func (p *pass) left(s syncer.Seen) error {
	if s.Kind != model.File {
		return nil
	}
	if _, ino := p.d.foundAs(s.File.Ino); ino != 0 {
		return nil
	}
	if at, err := p.d.sight.At(s.File.Ino); err != nil || len(at) > 0 {
		return err
	}
	return p.d.folder.Unplaced(s.File.Ino)
}

// Demote has the folder store what stands in the directory, before another takes its place. It is
// ErrAway if that cannot be read.
func (d *Dir) Demote(ctx context.Context) error {
	if err := d.Err(); err != nil {
		return err
	}
	return d.folder.Demote(ctx)
}
