package plain

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// Files that were written are put in place, many at once.

// A batch is what was written and is to be put in place, and what is seen then. Rows say only
// what the disk has for good.
type batch struct {
	files []made
	rows  []row
	dirs  map[syncer.Ino]bool // in which something changed
	bytes int64
}

// made is a file in the making that is complete.
type made struct {
	at   syncer.Place
	name string // among the parts
	s    syncer.Seen
	v    syncer.Version // of a file
	over *syncer.Seen   // what is there now
}

// row is what is seen at a name; nil: nothing.
type row struct {
	at syncer.Place
	s  *syncer.Seen
}

func (p *pass) row(at syncer.Place, s *syncer.Seen) {
	if s != nil {
		c := *s
		s = &c
	}
	p.batch.rows = append(p.batch.rows, row{at, s})
	p.batch.dirs[at.Dir] = true
}

// flush puts what was written in place, and then says that it is seen.
func (p *pass) flush() error {
	b := p.batch
	p.batch = newBatch()
	if len(b.files)+len(b.rows) == 0 {
		return nil
	}
	if err := p.prepare(b.files); err != nil {
		p.discard(b.files)
		return err
	}
	many := len(b.files) > batchFew
	if many {
		if err := unix.Syncfs(p.r.fd); err != nil {
			p.discard(b.files)
			return fmt.Errorf("sync disk: %w", err)
		}
	}
	for i, m := range b.files {
		delete(p.made, m.at)
		s, err := p.put(m)
		if err != nil {
			p.discard(b.files[i+1:])
			return err
		}
		if s != nil {
			b.rows = append(b.rows, row{m.at, s})
			b.dirs[m.at.Dir] = true
		}
	}
	if err := p.syncDirs(b, many); err != nil {
		return err
	}
	for _, r := range b.rows {
		var err error
		if r.s == nil {
			err = p.unset(r.at)
		} else {
			err = p.d.sight.Set(r.at, *r.s)
		}
		if err != nil {
			return err
		}
		p.d.fine(r.at)
	}
	for _, m := range b.files {
		if m.over != nil {
			if err := p.left(*m.over); err != nil {
				return err
			}
		}
	}
	clear(p.fresh)
	return nil
}

// prepare says where the bytes of files will stand, and has those kept that they replace.
func (p *pass) prepare(files []made) error {
	parts, err := p.r.parts()
	if err != nil {
		return err
	}
	defer unix.Close(parts)
	kept := false
	for _, m := range files {
		st, err := statAt(parts, m.name)
		if err != nil || st.kind != model.File {
			continue // put will find out
		}
		p.placed(st.id.Ino, m.v)
		if m.over != nil {
			p.keep(*m.over, st.id.Ino)
			kept = true
		}
	}
	if !kept {
		return nil
	}
	return p.d.folder.Kept()
}

// discard deletes files that were made and are not put in place.
func (p *pass) discard(files []made) {
	parts, err := p.r.parts()
	if err != nil {
		return // at the next start
	}
	defer unix.Close(parts)
	for _, m := range files {
		unix.Unlinkat(parts, m.name, 0) // what is left goes at the next start
	}
}

// syncDirs makes the names in directories durable.
func (p *pass) syncDirs(b *batch, many bool) error {
	if many || len(b.dirs) > batchFew {
		if err := unix.Syncfs(p.r.fd); err != nil {
			return fmt.Errorf("sync disk: %w", err)
		}
		return nil
	}
	for dir := range b.dirs {
		fd, err := p.open(dir)
		if err == unix.ENOENT { // removed since
			continue
		}
		if err == nil {
			err = unix.Fsync(fd)
		}
		if err != nil {
			return fmt.Errorf("sync directory: %w", err)
		}
	}
	return nil
}

// put puts a complete file in place, if what is there is as it was seen, and returns what is
// seen there then; nil: it was not.
func (p *pass) put(m made) (*syncer.Seen, error) {
	parts, err := p.r.parts()
	if err != nil {
		return nil, p.ungiven(m.at, err)
	}
	defer unix.Close(parts)
	is, err := statAt(parts, m.name)
	fd := -1
	if err == nil {
		fd, err = p.open(m.at.Dir)
	}
	if err == nil {
		err = p.putAt(parts, fd, m)
	}
	if err != nil {
		if now, serr := statAt(parts, m.name); serr == nil && now.id == is.id {
			err = errors.Join(unix.Unlinkat(parts, m.name, 0), err)
		} else if serr == nil { // what its user has saved just now
			err = errors.Join(p.rescue(parts, m.name, fd, m.at), err)
		}
		delete(p.done, m.at)
		if errors.Is(err, syncer.ErrChanged) || errors.Is(err, unix.EEXIST) {
			return nil, p.changedHere(m.at)
		}
		return nil, p.ungiven(m.at, err)
	}
	st, err := statAt(fd, m.at.Name)
	if err != nil || !renamed(st, is) || st.mode != is.mode { // its user was faster
		p.disk.add(m.at, true)
		is.see(&m.s)
		return &m.s, nil
	}
	st.see(&m.s)
	return &m.s, nil
}

// putAt renames a file into place. What was there is exchanged for it and then looked at once
// more: had a program written to it in between, it is put back.
func (p *pass) putAt(parts, fd int, m made) error {
	there := m.over != nil
	if there {
		st, err := statAt(fd, m.at.Name)
		switch {
		case err == unix.ENOENT: // an edit beats a removal
			there = false
		case err != nil:
			return err
		case !st.same(*m.over):
			return syncer.ErrChanged
		}
	}
	if !there {
		return renameNew(parts, m.name, fd, m.at.Name)
	}
	err := unix.Renameat2(parts, m.name, fd, m.at.Name, unix.RENAME_EXCHANGE)
	if err == unix.EINVAL || err == unix.ENOSYS { // a disk that cannot
		if gone, err := p.takeAway(fd, m.at, *m.over); err != nil || !gone {
			return errors.Join(syncer.ErrChanged, err)
		}
		return renameNew(parts, m.name, fd, m.at.Name)
	}
	if err != nil {
		return err
	}
	if was, err := statAt(parts, m.name); err != nil || !untouched(was, *m.over) || writers(parts, m.name) == somebody {
		return errors.Join(syncer.ErrChanged, unix.Renameat2(parts, m.name, fd, m.at.Name, unix.RENAME_EXCHANGE))
	}
	return unix.Unlinkat(parts, m.name, 0)
}

func newBatch() *batch { return &batch{dirs: map[syncer.Ino]bool{}} }
