// Package plain shows a folder as an ordinary directory on a disk: for those who want their
// files to be files, or cannot mount.
//
// A Dir is a syncer.Surface. There are three states of each name: what is on disk, what was
// last seen there (the s rows, index/seen.go), and what the folder has. Where the disk differs
// from what was seen, its user has changed something, and the folder follows; where the folder
// differs from it, others have, and the disk follows. So a crash at any point is mended by
// comparing again, and what is equal on both sides is only noted as seen.
//
//	plain.go     the Dir: its state, what it tells
//	root.go      the directory as a whole: its mark, opening what is below it
//	watch.go     what the kernel tells of changes
//	loop.go      the one goroutine that compares, and when
//	pass.go      one turn of it: what there is to look at, and where it is
//	take.go      from disk to folder: going through names
//	edit.go      what is new or was changed
//	cut.go       what was cut is what is seen
//	moves.go     moves, further names, what is gone
//	hold.go      much that is gone is asked about
//	ignore.go    what is not taken in
//	give.go      from folder to disk: going through names
//	shift.go     what goes to another place
//	write.go     how files and directories are written
//	put.go       and put in place
//	place.go     whose bytes are not stored a second time
//	left.go      what is left
//	surface.go   what the cutter reads
//	disk.go      system calls
//
// # On disk
//
// The directory bears a mark, .clachan/folder: which folder it shows, and a number drawn when
// it was taken. Without it, or with another, the disk is away: nothing is compared, nothing
// written and nothing removed until it is back. Files are made in .clachan/part and renamed
// into place; what is found there at a start was in the making, or was about to be replaced:
// the first is deleted, the second comes back under another name if it had been changed.
//
// # Taking
//
// What takes a name keeps its place: a file that was replaced at its path was edited, whatever
// the number of the new one. A name that is new, and whose number on disk was seen elsewhere
// and is not there now, was moved; a directory is known by its number first. What is gone is
// removed when it has been gone for a second and nothing more goes, and only as it was seen
// (Folder.RemoveSeen): what others have changed since comes back. Where a name is new here and
// in the folder too, and the two are not equal, that on disk gets the name of a conflict copy.
//
// A file is taken when nobody has it open for writing, which the kernel says by a lease, or
// when its writer has paused for 30 s. The cutter reads it where it is; if it changes
// meanwhile, it is read again later.
//
// # Giving
//
// A file is written and synced under another name; then, if what is at its name is as it was
// seen, the two are exchanged, and the old one is looked at once more before it is deleted:
// had a program written to it in between, they are exchanged back. Rows tell of it when the
// disk has it for good: many files share one sync. Only mode, times and user.* attributes are
// changed in place. The time of a directory is not kept: it changes with what is made in it.
//
// # Bytes
//
// The store does not keep what is on disk: it notes where blocks stand in files (blocks, "In
// place") and has them read there, for peers and for writing other files, wherever a file that
// was seen is by now. What is written here is stored too until all other members have it: they
// may have changed the file as well, and then both versions are needed, whatever its user does
// to it meanwhile. Before others' changes replace or remove a file, what it has goes to the store,
// for the history; what its user overwrites or deletes later is gone here, as on any disk.
//
// Nothing is followed out of the directory: paths are opened with openat2(2), below it, on its
// filesystem, through no symlink.
//
// # Locks
//
// Dir.reading (who opens directories for the cutter, and files for the store) before Dir.mu,
// which guards what callers and the loop exchange and is held for memory only; the folder may
// be locked then. The loop alone writes rows. Folder methods are called without any lock of
// ours.
package plain
