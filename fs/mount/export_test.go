package mount

import "github.com/clachanfs/clachan/syncer"

// Deaf is a mount whose watchers are not woken.
type Deaf struct{ *Mount }

// Shown implements syncer.Surface.
func (d Deaf) Shown(flips []syncer.Flip) { d.note.flip(flips, nil) }

// Late is a mount whose kernel is not told of what others did: not yet, say.
type Late struct{ *Mount }

// Shown implements syncer.Surface.
func (Late) Shown([]syncer.Flip) {}
