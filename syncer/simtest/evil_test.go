package simtest

import "math/rand/v2"

// A villain is a member that keeps no rule.
type villain struct {
	machine *machine
	r       *rand.Rand
}

func (v *villain) start(w *world) {}
func (v *villain) stop()          {}
