package syncer

import "golang.org/x/sys/unix"

// unsynchronised tells whether the kernel says that nothing keeps the wall clock
// right. Where it does not say, as in some sandboxes, the clock is believed; where
// it says so of a clock that is right, as in some virtual machines, little comes
// of it: see package model.
func unsynchronised() bool {
	var x unix.Timex
	_, err := unix.Adjtimex(&x)
	return err == nil && x.Status&unix.STA_UNSYNC != 0
}
