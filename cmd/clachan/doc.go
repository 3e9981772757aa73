// Clachan is a shared folder that its members own: a FUSE-mounted, peer-to-peer
// synced filesystem. This is its one binary: the daemon, and the command line
// that asks it.
//
// Each verb is a file of this package with a newX function, which makes its
// cobra command. Every verb but daemon, up, version and umount --stale only
// sends one operation of package control to the daemon and prints the answer.
//
// Results go to stdout, everything else to stderr: `clachan invite NAME` can
// be piped. What an error means to the caller is settled in daemon.Code alone.
package main
