package index

import (
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer/model"
)

// Horizon is all that what was collected here may have depended on: a member
// that holds some of it and does not know all of it may hold what is gone here
// for good. The holder of the apply lock may ask.
func (ix *Index) Horizon() model.VV { return ix.horizon }

// SetHorizon moves the horizon.
func (t *Tx) SetHorizon(v model.VV) {
	t.ix.horizon = t.ix.horizon.Join(v)
	t.fail(t.b.Set(t.ix.keys.meta("horizon"), t.ix.horizon.Encode(), nil))
}

func (ix *Index) openHorizon() error {
	v, err := ix.get(ix.keys.meta("horizon"))
	if errors.Is(err, ErrNotFound) {
		ix.horizon = nil
		return nil
	}
	if err == nil {
		ix.horizon, err = model.DecodeVV(v)
	}
	if err != nil {
		return fmt.Errorf("horizon: %w", err)
	}
	return nil
}
