package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/syncer"
)

// resting is the surface of a folder that is not mounted. Nothing is shown to
// anybody; what was written and not cut before rests in the staging folder
// until the next mount finds it, and until then is neither cut nor overwritten.
type resting struct {
	staged map[syncer.Ino]bool
}

var errResting = errors.New("folder is not mounted")

func newResting(core *syncer.Folder) (resting, error) {
	s := resting{staged: map[syncer.Ino]bool{}}
	err := core.Staged(func(ino syncer.Ino, _ syncer.DirtyState) bool {
		s.staged[ino] = true
		return true
	})
	if err != nil {
		return s, fmt.Errorf("look for staged files: %w", err)
	}
	return s, nil
}

func (s resting) Freeze(_ context.Context, inos ...syncer.Ino) ([]syncer.Layer, error) {
	for _, ino := range inos {
		if s.staged[ino] {
			return nil, errResting
		}
	}
	return make([]syncer.Layer, len(inos)), nil
}

func (s resting) Rebase(syncer.Ino, uint64, syncer.Version) {}
func (s resting) Busy(ino syncer.Ino) bool                  { return s.staged[ino] }
func (s resting) Shown([]syncer.Flip)                       {}

// Writing says of what rests that its writer may come back with the next mount.
func (s resting) Writing(ino syncer.Ino) syncer.Writing {
	return syncer.Writing{Open: s.staged[ino], Paged: true}
}
