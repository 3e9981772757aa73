// Package check tries real programs on a mount: the shell script run makes a folder, mounts it, runs the checks in
// programs one after another, each in a directory of its own, and cleans up. Each prints which of its steps failed, and
// 'N passed, N failed' last; one whose program is not installed says what to install. With -d it runs in any directory,
// to see what another filesystem says.
//
//	contrib/check/run [-d DIR] [NAME ...]
//
//	git       clone, worktrees, rebase, stash, gc, fsck
//	sqlite    each journal mode, mmap, several writers, writers that are killed
//	postgres  initdb, pgbench, a crash and what comes after
//	rsync     -aHAX there and back, with nothing left to do by checksum
//	tar       a tree of everything, there and back; cp -a; incremental
//	build     a Go module, with all caches on the mount
//	fio       patterns written in all ways and verified
//	stress    stress-ng's filesystem stressors
//	editors   the ways in which editors save
//	fuzz      random calls, compared with those on the disk: difffuzz. SEED, SEEDS and CALLS say which
//
// Killed is a program of its own: it kills the daemon while programs work in its mount. So are service,
// which runs it under systemd, package, which installs, upgrades and removes it, and readme, which follows the README as two
// new users: on a machine that is thrown away.
package check
