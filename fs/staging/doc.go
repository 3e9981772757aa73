// Package staging holds the bytes written through the mount until they are cut into a version.
//
// A File is a stack of layers over a base, the committed content of an inode. A layer knows three things
// about an offset: it has data there, it has zeros there, or it knows nothing and the next one below
// speaks (the base at last, and zeros after its end). So a 4 KiB write into a 10 GB file costs 4 KiB,
// truncating or punching costs nothing, and no file is ever copied whole.
//
// # Layers
//
// Data is kept in blocks of 4 KiB. A write that covers a block in part first copies the rest of the block
// up from below, so that data is always whole blocks. A layer starts in memory and moves to the sparse
// file INO.GEN of the staging directory when it outgrows 64 KiB, when all layers in memory outgrow the
// budget of the directory, or when it must become durable and the file is not small. In that file written
// blocks are data and everything else is a hole, so SEEK_DATA is the map of what was written, even after
// a crash; its size is the size of the file. Zero ranges (punched, or cut off by a truncate and perhaps
// grown over again) are byte ranges and lie below the data of their layer.
//
// Begin opens a layer, Freeze closes it to further writes and returns a Layer, a view of the whole file
// as it was; Rebase says that everything up to a generation is now in the new base and drops those layers.
//
// # Recovery
//
// A State, persisted by the caller, and the files INO.GEN together are the file. After a crash of the process (the same
// boot) the page cache is intact, so the file's own size is believed, and its time where that is later than what State
// says; after a power cut only what State says is. Zero in a State is the zero ranges that show through the data of
// lower layers, so that one list serves a stack of files. A small file is whole in State.Data, needing no file at all.
// State.From is the oldest layer there was: the file of an earlier one was cut, and is back only because its removal had
// not reached the disk.
// Files that belong to no State are deleted by Sweep.
//
// # Locks
//
// File.save (one Persist at a time) comes before File.mu (layers, size, times; of several files by inode number),
// before Dir.mu (open descriptors). None of them is held over a read of the base, which may wait for a peer, nor over a disk
// sync. Writes that need bytes of the base fetch them unlocked and check afterwards that nothing moved.
package staging
