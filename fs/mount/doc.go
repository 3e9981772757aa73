// Package mount shows a folder as a filesystem, through FUSE.
//
// A node id of the kernel is an inode number of the database: there is no second tree. What the mount keeps
// per inode is a table of those the kernel knows, and for open or dirty files a live part with the staged
// bytes. Names and attributes are answered by the Folder; the bytes of a file by staging.File, which lies over
// the committed content.
//
// # Kernel caches
//
// Entries, attributes and missing names are valid for an hour, pages across opens. Whatever changes without
// the kernel's doing reaches it through one notifier goroutine, fed by a bounded queue of keys; a handler never
// notifies (the kernel holds locks that the notification wants), nor does anyone holding a lock a handler
// takes. An attribute reply that races with a change is dropped by the kernel (it compares versions); an inode
// that the kernel does not know yet, though a reply that names it is on its way, is notified again.
//
// The kernel keeps listings too, and in them the number of "..": a directory that has come to another parent is listed
// anew at its next opening.
//
// In a folder whose names fold, the kernel has an entry for each spelling of a name that it has met, and does not
// know that they are one: what it does to one, a removal say, says nothing to it of the others. So there it keeps
// no entry and no missing name; it asks for each step of each path. For the same reason it sees a rename to another
// spelling as one to the same file, which is nothing to do: that takes two renames.
//
// # Open files
//
// An inode that is open or dirty is never given new content from elsewhere (Busy): the name gets a new inode.
// OPEN first registers in the table and then reads the content, so that a change committed in between is either
// seen by OPEN or finds the inode busy; the notifier gives registered clean files the content of today.
//
// The size and times of a dirty file are those of its staging.File. They are looked at before the row is read:
// if the file is clean by then, the row is already the one of the cut.
//
// # Dirty rows
//
// A generation of staging is made known to the Folder before its first byte (live.rowGen), and again by fsync,
// by what changes zero ranges, and every five seconds while a writer has it open.
//
// # Locks
//
// live.mu comes before the locks of the Folder; the locks of staging and of a table shard are the last, taken
// also under the Folder's. No lock is held over a kernel notification, a peer call or a disk sync.
package mount
