// Package blocks keeps the blocks of all folders of a device: pieces of files,
// of at most [MaxBlock] bytes, named by the keyed hash of what they are.
//
// # Two instances of Pebble
//
// Meta, in DIR/meta, holds everything small, has the log, and is shared with
// the index ([Disk.Meta]). Blocks, in DIR/blocks, holds packs: tables of some
// MiB, written in the order in which blocks come, and ingested. Nothing is ever
// written through its log, and as packs do not overlap nothing is compacted: a
// block is written once, and read with one read. The space of a pack is given
// back by excising it.
//
// # Layout
//
// Keys of meta begin with the number of a folder, uint32 big endian, and a
// table byte. These tables are ours; numbers are big endian:
//
//	'B' id 32    flags 1, pack 8, index 4, size 4   where a block is
//	             flags: 1 zstd, 2 in a small row (pack is its number), 4 damaged
//	'K' pack 8   blocks 4, bytes 8, live bytes 8 (a hint), sealed 8, accessed 8
//	'S' seq 8    flags 1, id 32, stored bytes        small, not packed yet
//	'P' id 32, file 8    offset 8, size 4, turn 8    stands in a file of others
//	'F' file 8, id 32    turn 8                      the same by file
//	'K' of folder 0, the device: the format, 1 byte
//
// Keys of blocks are 'b', pack 8, index 4; the value is the stored bytes. They
// are a zstd frame if that saves more than a tenth. A pack belongs to one
// folder.
//
// In DIR there are also LOCK, the ballast, files being written (*.ing), DIR/upgrade
// while there is one, and DIR/checkpoints.
//
// # Formats
//
// [Format] is that of the whole directory: all rows of meta, packs, and what
// others keep beside (DiskOptions.Beside). It is read before anything is written;
// a newer one is refused ([ErrNewerFormat]), and nothing but LOCK touched. From an
// older one [Step]s lead to ours:
//
//  1. The directory is copied to DIR/checkpoints/FORMAT-TIME ([Disk.Checkpoint]).
//  2. DIR/upgrade says so: from now on this counts, and not what is in DIR.
//  3. The steps change DIR.
//  4. The format is written, which makes durable what was written to meta before.
//  5. DIR/upgrade is removed.
//
// A step need not bear being done twice, nor half: when one fails, or a crash comes
// before 4, DIR is put back from the checkpoint, by whichever version opens it next
// and knows the old format, and the steps begin anew. That too may be cut short:
// DIR/upgrade says that it is under way, and it can be done again. It keeps the
// directory DIR/meta the one it was, by which the index knows that the rows are
// no copy. The checkpoint goes when the disk is run more than seven days later.
//
// A checkpoint is a data directory: moved to the place of DIR it is opened as such.
//
// # In place
//
// A plain directory has the bytes of its files already. [Store.PlaceIn] notes where
// blocks stand in them instead of storing these, and a [Source] reads them there.
// What is read is hashed; where it is not the block any more, its rows go. So what
// a program overwrites is not here any more, and counts as here until somebody
// asks for it, or the file has been taken in anew. What is about to be replaced
// for others is stored first ([Store.Keep]). A turn tells what was found anew from
// what was there before. Blocks that stand in a file and are stored too, since they
// came from others, are dropped by a sweep whose caller does not mark them.
//
// # Durability
//
// [Store.Put] keeps a block in an open pack in memory. [Store.Flush] writes
// what is in memory: a little of it as small rows beside their locations, in
// one batch; more of it as a pack, ingested, which is durable at once, and then
// the locations. Neither syncs meta. As the log of meta is one, whatever is
// committed to it later is durable only if the locations are, and these only
// if the bytes are. [Disk.Run] folds small rows into packs in the same order.
//
// A crash leaves packs without a row and temporary files; [OpenDisk] sweeps
// them. Deleting goes the other way round: rows first, synced, then packs.
//
// # Sweep
//
// [Store.Sweep] deletes the blocks that no row of others names, while the store
// is in use. It takes the packs there are, with two bits for each block of them:
// walked, for what its caller marks from one state of the rows, and touched, for
// what somebody finds to be here meanwhile and so does not put. What is put goes
// to later packs. What was put or found before, and is not named yet, is under a
// [Store.Hold]: the sweep waits for those before the state is taken. Then it
// drops the rows of blocks with neither bit, packs without any, and moves the
// live blocks of packs that are mostly dead to new ones. A sweep that cannot
// read a list deletes nothing.
//
// # Damage
//
// Every block read from the disk is hashed. A wrong one is never returned: its
// location is marked as damaged, so that it counts as absent until it is put
// again. That goes to a new pack; nothing is repaired in place. One that the
// disk cannot read counts as absent too, but its pack stays until it can. If DIR/blocks
// is lost, its packs are found missing at open, and their blocks count as
// absent. If DIR/meta is lost, the packs are not touched ([ErrNoMeta]).
// [Store.Damaged] counts what is known of that: in memory, from a look through the
// rows after the disk was opened. A damaged block that stands in a file too is put
// again from there as soon as somebody reads it.
// What only stands in files is not scrubbed: it is verified when somebody asks for it.
//
// [Store.Scrub] reads what nobody does, some blocks at a time. It and [Store.Check]
// open the files of packs themselves, without a cache, and have the kernel forget
// what they are about to read, so that what is verified is what is on the disk. Small
// rows they read through the cache of meta: these are in a pack within the hour.
//
// # A full disk
//
// Pebble does not survive a write that fails, so twice a reserve is kept: once
// as the ballast, a preallocated file that is given back when Pebble meets a
// full disk; once as free space, below which [Store.Put] returns [ErrFull]:
// what it has taken in finds room. Others who write to the disk ask [Disk.Grant].
// The ballast is made again when there is room. A sweep goes on below the
// reserve, and without the ballast, since it makes that room: there it moves one
// pack at a time, and gives it back before the next.
//
// # Memory
//
// Blocks not flushed are in slabs of 1 MiB, of which there is a fixed number
// for all folders. Who needs one when there is none flushes the folder that
// holds most. A pack is sealed when it has 16.
//
// # Locks
//
// scheduler.grant and scheduler.mu are between Pebble and us alone. The others are taken in
// this order: Store.turn (who has it writes packs; a channel, since it is held across the
// disk, as is Disk.keep: who has it gives packs back or takes a checkpoint, and takes no
// other, and Store.survey: who has it looks for damaged blocks) before Store.gc (shared: to find a block here; else: to
// delete some) before Store.rows (changes of location rows that depend on what
// they replace) or Store.mu (packs in memory). Disk.mu, Marks.mu, holders.mu, budget.mu,
// damaged.mu and room.mu are leaves, taken under Store.mu or alone. All but turn and keep are held for
// memory and unsynced commits only. Readers take Store.mu shared, and no lock
// while they read.
//
// # Invariants
//
//   - Each block that can be read is in memory or has a location row; the row
//     is there before the memory is given up.
//   - A location row that is durable names bytes that are.
//   - Packs of the blocks instance without a 'K' row are garbage.
//   - What is in a pack never changes, and no two packs overlap.
package blocks
