package simtest

import (
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// proven checks that a call that succeeded has done what it says (I7), unless
// others have changed something since flips were counted.
func (m *machine) proven(err error, flips int, what string, holds func() error) error {
	if err != nil || !m.w.plan.watched {
		return err
	}
	var wrong error
	still(func() {
		if wrong = holds(); m.s.flipped() != flips {
			wrong = nil
		}
	})
	if wrong != nil && !m.crashed() && !m.unwell() {
		m.w.fail("I7", "%s: %s has not done what it says: %v", m.name, what, wrong)
	}
	return err
}

// shows tells why a name does not stand for what it should.
func (m *machine) shows(dir syncer.Ino, name string, is func(syncer.Attr) bool) error {
	a, err := m.f.Lookup(dir, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !is(a) {
		return fmt.Errorf("%s is %+v", name, a)
	}
	listed := false
	if err := m.f.List(dir, 0, func(e syncer.Entry) bool { listed = listed || e.Attr.Ino == a.Ino; return true }); err != nil || !listed {
		return fmt.Errorf("%s is not listed: %w", name, err)
	}
	return nil
}

// lacksName tells why a name is not gone.
func (m *machine) lacksName(dir syncer.Ino, name string) error {
	a, err := m.f.Lookup(dir, name)
	if errors.Is(err, syncer.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s is there: %+v, %w", name, a, err)
}

// has tells whether an inode is as it should be.
func (m *machine) has(ino syncer.Ino, is func(syncer.Attr) bool) error {
	a, err := m.f.Attr(ino)
	if err == nil && !is(a) {
		err = fmt.Errorf("it is %+v", a)
	}
	return err
}

func isIno(ino syncer.Ino) func(syncer.Attr) bool {
	return func(a syncer.Attr) bool { return a.Ino == ino }
}

// A place is a name in a directory.
type place struct {
	dir  syncer.Ino
	name string
}

// moved tells why a rename has not done what it says: of a over b, which may not
// have been there.
func (m *machine) moved(from, to place, a, b syncer.Attr, flags uint32) error {
	if err := m.shows(to.dir, to.name, isIno(a.Ino)); err != nil {
		return err
	}
	fold, _ := model.FoldOf(m.w.plan.names)
	switch {
	case flags&syncer.RenameExchange != 0:
		return m.shows(from.dir, from.name, isIno(b.Ino))
	case a.Ino == b.Ino || from.dir == to.dir && fold(from.name) == fold(to.name):
		return nil
	}
	return m.lacksName(from.dir, from.name)
}
