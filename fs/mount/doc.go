// Package mount shows a folder as a filesystem, through FUSE.
//
// A node id of the kernel is an inode number of the database: there is no second tree. What the mount keeps
// per inode is a table of those the kernel knows, and for open or dirty files a live part with the staged
// bytes. Names and attributes are answered by the Folder; the bytes of a file by staging.File, which lies over
// the committed content.
//
// What the kernel asks for goes through counted.go, which counts it by kinds, and looks at the clock for one in sixteen.
//
// # Kernel caches
//
// Entries, attributes and missing names are valid for an hour, pages across opens. Whatever changes without
// the kernel's doing reaches it through one notifier goroutine, fed by a bounded queue of keys; a handler never
// notifies (the kernel holds locks that the notification wants), nor does anyone holding a lock a handler
// takes. The exceptions are LSEEK, which has holes written back before it tells of them, and OPEN, which waits for no
// notification that is still queued: their locks are none of those. An attribute reply that races with a change is
// dropped by the kernel (it compares versions), but for those to SETATTR and LINK, which therefore hold for no time; an
// inode that the kernel does not know yet, though a reply that names it is on its way, is notified again.
//
// The kernel keeps listings too, and in them the number of "..": a directory that has come to another parent is listed
// anew at its next opening.
//
// In a folder whose names fold, the kernel has an entry for each spelling of a name that it has met, and does not
// know that they are one: what it does to one, a removal say, says nothing to it of the others. So there it keeps
// no entry and no missing name; it asks for each step of each path. For the same reason it sees a rename to another
// spelling as one to the same file, which is nothing to do: that takes two renames.
//
// # Watchers
//
// The kernel's notifications wake nobody who watches with inotify. So what others did is done once more, through the
// mount, by the system calls that a program here would make: their events are those of a local change. Shown plans
// them (plan.go): what has left one name and come under another in one commit is a rename. The notifier hands the
// events over once the kernel was told to drop what it knew, and one locked thread makes the calls (replay.go). Handlers
// know it by the thread id and by the act that it says it is about; they answer with what the Folder has already
// (answer.go), and change nothing. If a name shows something else by then, nothing is done: what came next is told by
// itself.
//
//   - What is to be made is not there when that thread looks it up, and what was removed is: as the inode that the
//     kernel knows, or as a phantom, a node id that stands for a name alone. Names that are about to be seen removed
//     are not cached meanwhile, so that the thread is asked about them.
//   - A directory that the kernel did not know at the commit cannot have been watched: nothing is told of it.
//   - The thread holds no lock in a call and goes from the root of the mount to a directory anew each time, step by
//     step and through no link; between two events it has nothing open that would keep the mount in use.
//   - Queues are bounded, and so is how many events are made (eventsBurst, eventsRate): beyond, the last event of each
//     directory stands for all, but that there is some more for directories that are removed. While many wait and more
//     come in, a sync goes first (syncFirst). Where the user of the
//     daemon may not make a call, the directory is told to have changed (ATTRIB). With -o ro the kernel refuses all such
//     calls, and watchers sleep on.
//
// The kernel takes nothing into a directory that it was told is removed, not even if others bring it back: then it
// comes with another generation.
//
// # Open files
//
// An inode that is open or dirty is never given new content from elsewhere (Busy): the name gets a new inode. This holds
// also where others only add to it, as to a log: the kernel cannot be given a new size and the page at the old end, which
// it has filled with zeros, as one, so a reader could take the zeros for what was added.
// OPEN first registers in the table and then reads the content, so that a change committed in between is either
// seen by OPEN or finds the inode busy; the notifier gives registered clean files the content of today.
// What has lost its last name to others gets one again when it is written to.
//
// The size and times of a dirty file are those of its staging.File. They are looked at before the row is read:
// if the file is clean by then, the row is already the one of the cut.
//
// # Dirty rows
//
// A generation of staging is made known to the Folder before its first byte (live.rowGen), and again by fsync, by what
// makes holes, and every five seconds while a writer has it open.
//
// Rows are written out when they are synced: the end of this process may lose the last, but not what was done to staging
// files. So what drops staged bytes that an fsync has acknowledged syncs the row that says so, before what was below them
// could be seen again: a hole first, a truncation until the file may grow again, a removal until its files are deleted.
//
// # The end
//
// A mount is known by its number, not by its path: it is unmounted wherever it is by then, and what others have mounted
// over it is left alone. Nothing more is written then but what programs store in mappings that they have. Who still uses
// it is cut off after unmountWait, as are requests that do not end: Run returns in any case. Of a mountpoint it is asked
// only what the kernel knows, before it is clear that no daemon that hangs has it.
//
// While the daemon is away programs may write at the mountpoint. When it mounts there again (Options.Aside) that is put
// beside it by renames, under a name that says so: nothing is hidden, and nobody waits for somebody to clear it up. A
// directory that is to be a mountpoint must be empty.
//
// # Bugs
//
// A handler that panics answers EIO; its stack is logged, once for each place, and the mount goes on. What it held or
// had counted is given back by defer. A write that ends so may have written a part, as after any EIO; no more of its
// file is in doubt.
//
// Rows are another matter: what a transaction has changed in memory cannot be taken back, and a later one would make
// it last. So a panic under the Folder's apply lock, in the transaction of a handler or of whatever else, stops the
// folder: what is committed can still be read, but nothing is changed and no fsync succeeds until the daemon is
// started again, which reads the rows of the last commit and finds what was staged. Status and every write say so.
//
// # Locks
//
// live.mu comes before the locks of the Folder; those of staging, of a table shard and of the atimes are taken also under
// Folder.apply, and under a shard's only Folder.mu, to hold an inode. No lock is held over a kernel notification, a peer
// call or a disk sync.
package mount
