// Package syncer is the shared folder: the tree that programs see here, and how
// it becomes the same tree everywhere.
//
// A Folder holds two trees and their difference. The view is what the signed
// changes of all members add up to (package model), kept in rows (package
// index). The tree is what the Surface, a mount, shows. The drift is where they
// differ: names and bytes changed here and not cut yet, and those that others
// changed and that are not here yet. The cutter drains the first, the puller
// the second; nothing else moves data.
//
//	ops.go, xattr.go   what programs do to the tree
//	pace.go            when a directory's changes are cut
//	selectdrift.go     which of them, and what is related to them
//	open.go            when a file is cut that somebody has open for writing
//	group.go           a database and its journals are cut as one
//	stale.go           what a process saves over without having seen it
//	backup.go          what waits because more of a save is to come
//	cut.go             from tree to view: freeze, store blocks, Diff, log, sync, announce
//	receive.go         from peers to view: verify, join, rescue, know
//	pull.go            from view to tree: fetch blocks, publish
//	flip.go            what is shown together (index/flip.go) does not wait forever
//	staged.go          what the surface tells of bytes that are not cut
//	collect.go         what was removed and is known to all
//	expire.go          what history is let go of for good, blocks that nothing names
//
// Lock order: a file's own lock in the surface, Folder.apply, the surface's
// inode table, Folder.mu; the guard's lock is taken after these. Under apply only
// rows and memory are touched, and batches signed: no hashing of a file's bytes,
// no sync of a disk, no peer, no kernel notification.
//
// Invariants: blocks are in the store, and held, before a row names them. What is
// announced is durable. A version is shown only when all its blocks are here
// and verified. A change not cut yet is never overwritten. An open inode is
// never given new bytes. A file that is written to is cut between two writes, when
// it rests. What one batch changes in a directory is shown at once or, after 30 s,
// as it comes; a database and its journals are never shown apart.
package syncer
