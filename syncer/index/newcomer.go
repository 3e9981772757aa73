package index

import (
	"errors"
	"fmt"
)

// A newcomer is the database of a member that joined and that nobody has made
// complete yet: an m row "new". What it knows came from one peer at a time, in
// no state that is whole; so it says nothing of its own, and if another peer must
// go on who has collected, or the last one had, it begins anew.

const (
	newcomerPlain   = 1 // who fed it had collected nothing
	newcomerOfPurge = 2 // had
)

// Incomplete tells whether what is known here is not the whole state of any
// member: of a newcomer, or of one that has begun anew.
func (ix *Index) Incomplete() bool { return ix.back != nil || ix.newcomer != 0 }

// Newcomer tells whether nobody has made this database complete yet; purged,
// whether one who began to had collected.
func (ix *Index) Newcomer() (yes, purged bool) {
	return ix.newcomer != 0, ix.newcomer == newcomerOfPurge
}

// SetNewcomer makes this database one of a newcomer.
func (t *Tx) SetNewcomer(purged bool) {
	t.ix.newcomer = newcomerPlain
	if purged {
		t.ix.newcomer = newcomerOfPurge
	}
	t.fail(t.b.Set(t.ix.keys.meta("new"), []byte{t.ix.newcomer}, nil))
}

// Complete ends being a newcomer.
func (t *Tx) Complete() {
	t.ix.newcomer = 0
	t.fail(t.b.Delete(t.ix.keys.meta("new"), nil))
}

func (ix *Index) openNewcomer() error {
	v, err := ix.get(ix.keys.meta("new"))
	switch {
	case errors.Is(err, ErrNotFound):
		ix.newcomer = 0
		return nil
	case err == nil && (len(v) != 1 || v[0] != newcomerPlain && v[0] != newcomerOfPurge):
		err = errRow
	case err == nil:
		ix.newcomer = v[0]
	}
	if err != nil {
		return fmt.Errorf("newcomer: %w", err)
	}
	return nil
}
