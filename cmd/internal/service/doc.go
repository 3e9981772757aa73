// Package service is what the daemon and systemd have to do with each other.
//
// # What they tell each other
//
// The daemon says READY=1 when its API answers and its folders are mounted, and asks for more time until then; a line
// on how it is, for systemctl status; and that it lives, if that is asked for (WatchdogSec): only if its mounts answered
// through the kernel and the store could be read within half that time. A mount that hangs so has the daemon ended
// and started again, which frees whoever waits in it. SIGHUP has it read its settings again.
//
// # Units
//
// The units of contrib/systemd name the program that a package installs. Install writes them for the program that runs
// it. With the service goes a timer, whose unit is a client that has the daemon verify what is stored. Nothing that is
// data is touched, here or by Uninstall.
package service
