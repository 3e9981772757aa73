// Package daemon is the process that owns one instance of clachan: it opens
// the store, the identity and the peer node, mounts the folders, and answers
// the operations of package control. It wires the other packages and holds no
// logic of theirs.
//
// # What it remembers
//
// One row a folder, in the device's part of the index: daemon/folder/ID, a
// JSON [record] of where the folder is mounted, with which options, and whether
// it is. Membership, keys and addresses are kept by package peers. A folder's
// number in the store comes from daemon/next and is never given out twice.
//
// How far the blocks of a folder have been verified is in daemon/scrub/ID.
//
// Leaving a folder takes several steps in several places; the record is marked
// first and removed last, and what a crash leaves half done is finished at the
// next start.
//
// # Format
//
// The format of the store ([blocks.Format]) is that of all that is in the data
// folder: these records, what package peers keeps, the rows of every folder, staged
// bytes and the identity. So the store is opened first: nothing is made or written
// before its format is known. testdata has the store of each release that changed
// it.
//
// # Life of a folder
//
// start opens it, mounts it if it should be, runs it and lets peers at it;
// stop undoes that in the opposite order. Mounting, unmounting and moving a
// folder are a stop, a change of the record and a start. A folder that cannot
// be mounted or fails while it runs is shown with its error and does not stop
// the daemon; nor does it lose the wish to be mounted.
//
// # Locks
//
// Daemon.ops is held for the length of an operation that changes folders, and
// orders those. Daemon.mu guards the table of folders and their fields; it is
// taken under ops or alone, and never held across a call into another package.
//
// # Events
//
// What happens is told to clients from a ring (control.Ring). Folders and peers only say
// that something is otherwise; one goroutine (watch.go) looks, compares with the last
// look and adds the difference. Changes of files are queued for it, of very many the
// last, and the rest is a gap. Names of files are told there and never logged.
//
// # Stopping
//
// The end of Run's context cancels requests, unmounts every folder (plain, and
// lazily where programs keep it busy), stops the folders, then the peers, then
// the store. Nothing of that changes a record: a folder that was mounted is
// mounted again at the next start, after a crash likewise.
package daemon
