// Package index keeps a folder's nodes, tree, log and drift in rows of the meta
// database, and the tree up to date as changes are joined.
//
// # Rows
//
// Every key is folder u32 BE, a table byte, then:
//
//	n ino8                node: see codec.go; one row an inode number
//	i id16                the inode number of a node
//	d dir8 hash8 name     tree entry: inode number, kind, spelling; hash is keyed, 63 bits, and the readdir cookie
//	g dir8 fold(base)     crowded name: its claimants, and the names handed to losers
//	u id16                directory that is not at its newest place
//	y dir8 hash8 name     name drift: what the view has, what the user has seen, ours or theirs
//	w ino8                content drift: bytes staged here, or bytes wanted from others
//	x ino8 name           extended attribute, as shown here
//	o ino8                orphan: unlinked, perhaps still open; deleted at the next start
//	h id16 ~time8         version that the tree let go of, the newest first: see history.go
//	H time8 id16          the same by age: its size, which version, what ended it; eviction reads it from the end
//	r ridx4               replica: its id, how much of its log is known, hash of its last header
//	b ridx4 hi8           batch: live count, dead changes, header as signed
//	c ridx4 hi8           body of the batch, dead changes perhaps as hashes
//	t day4 id16           something of the node may be collected, if it is still so: see collect.go
//	p peer                when a member was last heard of, and what it had then
//	s n|i|f|m …           what a directory on disk shows: see seen.go
//	k ridx4 hi8           mark: which header a batch had, and where it began (marks.go)
//	m name                next inode number, own replica, lamport, hash key; name policy;
//	                      place, horizon; return: it has begun anew (rebase.go);
//	                      gaps: in the clock (gaps.go); ends: that others do not share (ends.go)
//	v key                 device rows of folder 0
//
// What a loser is called hangs on the names of others in its directory; a Tx
// keeps the crowds of the directories it is about, with the names that each
// loser has or had to avoid, and names those anew that hang on what has changed
// (crowd.go).
//
// Names in keys are folded: as the folder's policy compares them, which never
// changes. How a name is spelt stands in the row, if otherwise than its key. So
// a directory has one entry, and one drift, for all spellings of a name.
//
// Inside rows a node is its inode number and a replica its place in the
// dictionary of r rows.
//
// History is kept by node and not by inode number, since numbers change hands
// (Cut.Swap, replace). A Tx notes what a file shows before that changes, and at
// its commit writes an h row for each version noted that is not to be seen any
// more: neither as a version of its node, nor as the conflict copy made of it,
// nor because what is to come is not here yet. Versions whose bytes never were
// here have none. Only the expirer deletes h and H rows. Check compares them, and
// looks that what may be collected one day has a t row and that the horizon is
// known. Watch.mu is taken last.
//
// # Collection
//
// What is removed is dropped once it is stable: all members that count have told
// that they know it, and what each had said until then is here. Then nobody can
// say anything of it any more without having known it, and who makes it live
// again says all of it (model, collect.go); so it makes no difference who has
// collected. A node goes with its rows and changes when no node is or was in it:
// for that all rows are gone through, once for all dead directories of a level,
// while what is joined meanwhile tells of itself (Watch);
// parts of a living node go if what the rest cites says the rest. The horizon,
// the join of all that was stable at some collection, and of what a birth made
// forgotten since its author had collected it, is what a member must know
// for its changes to be joined as they are. To who may not know it the log is
// sent without dead changes, since what overcame them may be gone; who takes in
// such a log must take it from one peer until it knows the horizon.
//
// # Memory
//
// The y and w rows are in memory too (Index.names, viewed, bytes), with what is
// blocked and what is shown together. A file whose bytes are still to come takes
// about 700 bytes there, with a name of 20 (BenchmarkWaiting; the puller's queue
// is not counted). Only flip sets are bounded in number (maxSets, setFiles): what
// waits is as much as others have made and this member has not fetched, so one
// that joins a folder of a million files takes 700 MB until they come. What is
// neither changed here nor to be fetched takes nothing.
//
// # Invariants
//
// For every name: tree = view, spelling included, unless a y row says what the
// view has. A name whose y row is not ours waits for bytes, its own or those of
// its flip set (flip.go), or is blocked by what the tree has (drift.go). A
// directory has one place in the tree.
//
// An inode shows what its node says, attributes and bytes, but for what a w row
// says is changed here, or wanted and not here: then Shown says what a file
// shows. Whatever may break this calls suspect or freeze (follow.go). An inode
// that lost its last name and may be open is an orphan: it never comes back for
// the view, its node gets another. What it or a directory shows in the middle of
// a Tx only moves no times (transient.go).
//
// While the m row "return" is there, all names are held: their y rows say what
// the view has, and the tree stays as it is (rebase.go, settle.go).
//
// A change's batch is kept while a field of its node cites its dot. All that is
// in the log is sent, also what came over gaps, so that what is missing in it is
// superseded by something sent. Only the holder of the folder's apply lock begins
// a Tx; readers go to the database without a lock.
package index
