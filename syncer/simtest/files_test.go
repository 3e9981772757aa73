package simtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What programs call: the system calls of a machine. Each tells the oracle what
// its user had on the screen and what was done to it.

// walk finds the directory and the last name of a path.
func (m *machine) walk(path string) (syncer.Ino, string, error) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	dir := syncer.RootIno
	for _, c := range parts[:len(parts)-1] {
		a, err := m.f.Lookup(dir, c)
		if err != nil {
			return 0, "", err
		}
		if a.Kind != model.Dir {
			return 0, "", syncer.ErrNotDir
		}
		dir = a.Ino
	}
	return dir, parts[len(parts)-1], nil
}

func (m *machine) stat(path string) (syncer.Attr, error) {
	dir, name, err := m.walk(path)
	if err != nil {
		return syncer.Attr{}, err
	}
	return m.f.Lookup(dir, name)
}

// read returns all bytes of a file as its user sees them.
func (m *machine) read(ino syncer.Ino) ([]byte, error) {
	if b, ok := m.s.peek(ino); ok {
		return b, nil
	}
	v, err := m.f.Content(ino)
	if err != nil || v.Content.Size == 0 {
		return nil, err
	}
	b := make([]byte, v.Content.Size)
	n, err := content.NewReader(m.f.Blocks(), v.Content).ReadAt(context.Background(), b, 0)
	if n == len(b) {
		err = nil
	}
	return b, err
}

// seen returns the text that a file shows, nil for none; a symlink's is its
// target.
func (m *machine) seen(a syncer.Attr) (*text, error) {
	var b []byte
	var err error
	switch a.Kind {
	case model.File:
		b, err = m.read(a.Ino)
	case model.Symlink:
		var to string
		to, err = m.f.Readlink(a.Ino)
		b = []byte("-> " + to)
	}
	if err != nil {
		return nil, err
	}
	return m.w.oracle.recognize(m, b, fmt.Sprint("inode ", a.Ino)), nil
}

// last returns the text of a name if no other name has it. Nobody does away with
// what he cannot read.
func (m *machine) last(dir syncer.Ino, name string) (*text, error) {
	a, err := m.f.Lookup(dir, name)
	if errors.Is(err, syncer.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := m.seen(a)
	// While something waits to be shown, a file that others move may have its old
	// name and its new one: its user sees one file too many, and means this one.
	if s, serr := m.f.Stats(); err == nil && a.Nlink > 1 && serr == nil && s.Waiting == 0 {
		if all := m.names(a.Ino); len(all) > 1 {
			m.w.say("%s: %s is one of %q, which show %v", m.name, name, all, t)
			return nil, nil
		}
	}
	return t, err
}

// names lists the names of an inode that can be reached.
func (m *machine) names(ino syncer.Ino) (all []string) {
	var walk func(dir syncer.Ino, at string)
	walk = func(dir syncer.Ino, at string) {
		_ = m.f.List(dir, 0, func(e syncer.Entry) bool {
			if e.Attr.Ino == ino {
				all = append(all, at+"/"+e.Name)
			}
			if e.Attr.Kind == model.Dir {
				walk(e.Attr.Ino, at+"/"+e.Name)
			}
			return true
		})
	}
	walk(syncer.RootIno, "")
	return all
}

func (m *machine) mkdir(path string) error {
	m.w.memory.give(path)
	flips := m.s.flipped()
	dir, name, err := m.walk(path)
	if err == nil {
		_, err = m.f.Create(dir, name, syncer.New{Kind: model.Dir, Mode: 0o755, By: m.proc})
		err = m.proven(err, flips, "mkdir "+path, func() error {
			return m.shows(dir, name, func(a syncer.Attr) bool { return a.Kind == model.Dir && a.Mode == 0o755 })
		})
	}
	return m.did(err, "mkdir %s", path)
}

func (m *machine) symlink(path string) error {
	m.w.memory.give(path)
	to := fmt.Sprintf("target %d of %s", m.w.oracle.next(), m.name)
	flips := m.s.flipped()
	dir, name, err := m.walk(path)
	if err == nil {
		t := m.w.oracle.write(m, []byte("-> "+to), path)
		if _, err = m.f.Create(dir, name, syncer.New{Kind: model.Symlink, Mode: 0o777, Target: to}); err == nil {
			t.keep()
			m.w.say("%s: %v", m.name, t)
		}
		err = m.proven(err, flips, "symlink "+path, func() error {
			return m.shows(dir, name, func(a syncer.Attr) bool {
				target, err := m.f.Readlink(a.Ino)
				return err == nil && target == to
			})
		})
	}
	return m.did(err, "symlink %s", path)
}

func (m *machine) link(from, to string) error {
	m.w.groups.move(to)
	m.w.memory.give(to)
	flips := m.s.flipped()
	a, err := m.stat(from)
	if err == nil {
		var dir syncer.Ino
		var name string
		if dir, name, err = m.walk(to); err == nil {
			if _, err = m.f.Link(a.Ino, dir, name); err == nil {
				m.s.been(a.Ino, place{dir, name})
			}
			err = m.proven(err, flips, "link "+to, func() error {
				return m.shows(dir, name, func(x syncer.Attr) bool { return x.Ino == a.Ino && x.Nlink == a.Nlink+1 })
			})
		}
	}
	return m.did(err, "link %s %s", from, to)
}

func (m *machine) unlink(path string) error {
	m.w.groups.touch(m, path)
	flips := m.s.flipped()
	dir, name, err := m.walk(path)
	if err == nil {
		var t *text
		still(func() { t, err = m.last(dir, name) })
		if err == nil {
			err = m.known(place{dir, name}, func() error { return m.f.Unlink(dir, name) })
		}
		if err == nil {
			t.consume(m, nil)
		}
		err = m.proven(err, flips, "unlink "+path, func() error { return m.lacksName(dir, name) })
	}
	return m.did(err, "unlink %s", path)
}

func (m *machine) rmdir(path string) error {
	flips := m.s.flipped()
	dir, name, err := m.walk(path)
	if err == nil {
		err = m.known(place{dir, name}, func() error { return m.f.Rmdir(dir, name) })
		err = m.proven(err, flips, "rmdir "+path, func() error { return m.lacksName(dir, name) })
	}
	return m.did(err, "rmdir %s", path)
}

func (m *machine) rename(from, to string, flags uint32) error {
	m.w.groups.move(from)
	m.w.groups.move(to)
	m.w.memory.give(to)
	m.w.memory.move(m.stat(from))
	if flags == syncer.RenameExchange {
		m.w.memory.give(from)
		m.w.memory.move(m.stat(to))
	}
	flips := m.s.flipped()
	var x, y place
	var err error
	if x.dir, x.name, err = m.walk(from); err == nil {
		if y.dir, y.name, err = m.walk(to); err == nil {
			err = m.replace(x, y, flags, flips)
		}
	}
	return m.did(err, "rename %s %s %d", from, to, flags)
}

func (m *machine) replace(x, y place, flags uint32, flips int) error {
	t, by, err := m.over(x, y, flags)
	a, _ := m.f.Lookup(x.dir, x.name)
	b, _ := m.f.Lookup(y.dir, y.name)
	if err == nil {
		do := func() error { return m.f.RenameBy(m.proc, x.dir, x.name, y.dir, y.name, flags) }
		if flags == syncer.RenameExchange { // nothing is taken away
			err = do()
		} else {
			err = m.known(y, do)
		}
	}
	if err == nil {
		if m.supersede(m.proc, b.Ino, t, by, "stale renames"); flags != 0 || b.Ino == 0 {
			m.s.moves(a.Ino)
		}
		if m.s.been(a.Ino, y); flags == syncer.RenameExchange {
			m.s.been(b.Ino, x)
		}
		m.s.moves(b.Ino) // its number may be another file's some day
	}
	return m.proven(err, flips, "rename to "+y.name, func() error { return m.moved(x, y, a, b, flags) })
}

// over returns the text that a rename takes away, and the one that comes there.
func (m *machine) over(x, y place, flags uint32) (t, by *text, err error) {
	if flags != 0 {
		return nil, nil, nil
	}
	still(func() {
		a, aerr := m.f.Lookup(x.dir, x.name)
		b, berr := m.f.Lookup(y.dir, y.name)
		t, by, err = nil, nil, nil
		switch {
		case aerr != nil: // as the call may not
			err = aerr
		case berr == nil && a.Ino != b.Ino:
			if t, err = m.last(y.dir, y.name); err == nil {
				by, _ = m.seen(a)
			}
		case berr != nil && !errors.Is(berr, syncer.ErrNotExist): // nobody knows what is there
			err = berr
		}
	})
	return t, by, err
}

func (m *machine) chmod(path string, mode uint32) error {
	flips := m.s.flipped()
	a, err := m.stat(path)
	if err == nil {
		_, err = m.f.SetAttr(a.Ino, syncer.Set{Mode: &mode})
		err = m.proven(err, flips, "chmod "+path, func() error {
			return m.has(a.Ino, func(a syncer.Attr) bool { return a.Mode == mode })
		})
	}
	return m.did(err, "chmod %o %s", mode, path)
}

func (m *machine) touch(path string, mtime int64) error {
	flips := m.s.flipped()
	a, err := m.stat(path)
	if err == nil {
		_, err = m.f.SetAttr(a.Ino, syncer.Set{Mtime: &mtime})
		err = m.proven(err, flips, "touch "+path, func() error {
			return m.has(a.Ino, func(a syncer.Attr) bool { return a.Mtime == mtime })
		})
	}
	return m.did(err, "touch %d %s", mtime, path)
}

func (m *machine) setxattr(path, name, val string) error {
	flips := m.s.flipped()
	a, err := m.stat(path)
	if err == nil {
		if val == "" {
			err = m.f.Removexattr(a.Ino, name)
		} else {
			m.w.memory.setVal(val)
			err = m.f.Setxattr(a.Ino, name, []byte(val), 0)
		}
		err = m.proven(err, flips, "setxattr "+path, func() error {
			got, err := m.f.Getxattr(a.Ino, name)
			if string(got) != val || (err == nil) == (val == "") {
				return fmt.Errorf("%s is %q: %w", name, got, err)
			}
			return nil
		})
	}
	return m.did(err, "setxattr %s %s=%s", path, name, val)
}

func (m *machine) list(path string) (names []string, err error) {
	dir := syncer.RootIno
	if strings.Trim(path, "/") != "" {
		a, err := m.stat(path)
		if err != nil {
			return nil, err
		}
		dir = a.Ino
	}
	err = m.f.List(dir, 0, func(e syncer.Entry) bool { names = append(names, e.Name); return true })
	slices.Sort(names)
	return names, err
}

// sync is fsync: what is closed, or synced by handle, is acknowledged.
func (m *machine) sync() error {
	before, durable := m.w.oracle.unsynced(m), m.begin()
	err := m.f.Sync()
	if err == nil && !m.crashed() {
		m.trail = durable
		for _, t := range before {
			t.acked = true
		}
	}
	return m.did(err, "sync")
}

// known does what may take away the last name of a file. As with a kernel, which
// has looked it up, the file is held meanwhile: it does not come back under its
// number, where others have moved it, before what was written to it is forgotten.
func (m *machine) known(at place, do func() error) error {
	a, err := m.f.Lookup(at.dir, at.name)
	if err != nil { // nothing is taken away
		return do()
	}
	m.f.Hold(a.Ino)
	defer m.letGo(a.Ino)
	if err = do(); err == nil {
		m.clears(at, a.Ino)
	}
	return err
}

// letGo releases a file, and before that forgets what was written to it if it is
// gone and not open.
func (m *machine) letGo(ino syncer.Ino) {
	if a, err := m.f.Attr(ino); errors.Is(err, syncer.ErrNotExist) || err == nil && a.Nlink == 0 {
		m.s.forget(ino)
	}
	m.f.Release(ino)
}

// did counts and tells of an operation, and ends the world if it failed as none
// may.
func (m *machine) did(err error, format string, args ...any) error {
	m.w.ops++
	text := fmt.Sprintf(format, args...)
	if err != nil {
		text += ": " + err.Error()
	}
	m.w.say("%s: %s", m.name, text)
	m.w.groups.note(m)
	if err == nil {
		m.w.actors[m] = true
		m.mark()
	}
	rotten := m.rotten && errors.Is(err, blocks.ErrDamaged) // and nobody else is there
	if err != nil && !m.crashed() && !m.unwell() && !ordinary(err) && !rotten {
		m.w.fail("I7", "%s: %s", m.name, text)
	}
	return err
}

// unwell tells whether the disk has faults now, or had a moment ago.
func (m *machine) unwell() bool {
	return m.faulty || !m.sick.IsZero() && time.Since(m.sick) < 10*time.Second || m.f.Err() != nil
}

// still runs f while nothing else does, until no time passes in it: what comes
// in at the same moment is on the screen or it is not, and a read may wait for a
// peer, after which something else is there than before.
func still(f func()) {
	for range 20 {
		synctest.Wait()
		before := time.Now()
		if f(); time.Now().Equal(before) {
			return
		}
	}
}

// ordinary tells whether an error is one that programs know.
func ordinary(err error) bool {
	for _, e := range []error{syncer.ErrNotExist, syncer.ErrExist, syncer.ErrNotDir, syncer.ErrIsDir, syncer.ErrNotEmpty, syncer.ErrInvalid,
		syncer.ErrPerm, syncer.ErrNoAttr, syncer.ErrNameTooLong, syncer.ErrTooBig, syncer.ErrLinks, syncer.ErrNoSpace} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
