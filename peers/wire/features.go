package wire

import (
	"errors"
	"fmt"
)

// ErrVersion means that two devices are too far apart in age to talk.
var ErrVersion = errors.New("needs a newer clachan")

// Features are what a device can do beyond the base of the protocol, a bit each.
// A bit is never used again for something else.
type Features struct {
	Has      uint64
	Required uint64 // of these, those that the other device must have
}

// Ours are the features of this program: so far all is base.
var Ours = Features{}

// With returns the features that two devices use with each other.
func (f Features) With(theirs Features) (uint64, error) {
	switch {
	case theirs.Required&^f.Has != 0:
		return 0, fmt.Errorf("this device %w", ErrVersion)
	case f.Required&^theirs.Has != 0:
		return 0, fmt.Errorf("the other device %w", ErrVersion)
	}
	return f.Has & theirs.Has, nil
}
