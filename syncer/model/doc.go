// Package model decides how a folder merges. It is pure: no I/O, no clock, no
// lock.
//
// A folder is a set of nodes (files, symlinks, directories) with stable ids.
// Every field of a Node is a join-semilattice, so replicas that have joined the
// same changes hold the same state whatever the order (join.go), and the tree a
// user sees is a function of the state (shown.go, cycles.go, view.go). Names
// and content live apart: a name is a Link (the newest place wins, a removal
// counts for the places its author knew), content dies only when the last name
// its user saw is removed. Concurrent versions all stay visible: the winner
// keeps the name, the others get a ConflictName, the same on all peers.
//
// What a user did reaches the state as a Diff between the tree and the view
// (diff.go), never as a recording of operations. Before it touches anything the
// Author pins what the view had decided by itself (pin.go). Rescue is the only
// thing a replica does without its user.
//
// Changes travel in signed Batches (batch.go, change.go), in causal order.
//
// Of concurrent versions the one with the newest mtime has the plain name. A
// machine whose clock is years ahead would always win, and no two members agree
// on what the future is. So a version says whether its author's clock was
// synchronised when it was cut (Version.Unsure, which belongs to the mtime and
// goes wherever that is repeated). An unsure mtime is older than any if it is more
// than 24 h after the newest sure one beside it; it is shown as it is all the same.
// Where nobody is sure, nothing tells who is wrong, and the newest wins. All of
// this is in the versions: it is the same on all members, at any time.
//
// A State is where nodes are kept: the index in rows, Mem in memory.
//
// Invariants: one version of a node by one replica supersedes all it knew, so
// plain vectors suffice; a dot is given out once; equal knowledge means equal
// trees; pinning does not change the view; Diff makes the view show the tree.
package model
