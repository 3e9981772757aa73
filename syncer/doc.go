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
//	room.go            whether there is room on the disk
//	pace.go            when a directory's changes are cut
//	selectdrift.go     which of them, and what is related to them
//	open.go            when a file is cut that somebody has open for writing
//	group.go           a database and its journals are cut as one
//	stale.go           what a process saves over without having seen it
//	clock.go           whether what it says of the time can be believed
//	backup.go          what waits because more of a save is to come
//	cutter.go          runs of cuts: what cannot be cut is left, and stops nothing else
//	freeze.go          bytes are held still and stored, ahead of the log; what cannot be read is
//	                   tried again later
//	cut.go             from tree to view: Diff, log
//	receive.go         from peers to view: verify, join, rescue, know
//	pull.go            from view to tree: fetch blocks, publish
//	part.go            how much of a file that is being fetched is here
//	tell.go            what happens, for who watches
//	unheld.go          which files nobody else has
//	flip.go            what is shown together (index/flip.go) does not wait forever
//	staged.go          what the surface tells of bytes that are not cut
//	collect.go         what was removed and is known to all
//	expire.go          what history is let go of for good, blocks that nothing names
//	meet.go            whether two members may exchange changes, and who begins anew
//
// # Bounds
//
// All that a cut says of a node is one change, and what is over a change's bounds
// all others refuse for ever. So a user may give a file model.MaxNames names and
// model.MaxAttrs attributes; others may have given it more meanwhile, for which
// there is room, many times over, where they are taken away. What is signed is
// read as the others will before it is logged: if they would refuse it, the
// folder stops.
//
// # Members whose histories part
//
// A replica is one incarnation of one database, and says by its id which device
// that is of: nobody else can write as it. A database that was restored
// from a copy, or copied and run twice, would give out the same dots for
// different changes. So it takes a new replica id as soon as that can be known:
// when it finds itself in another place (Options.Place), when a peer has changes
// of it that it has not, has others, or has its very name, or when it is asked
// to (Rekey). What it had said is then another's, and is pulled like any other's.
//
// Where both sides went on before they met, their logs hold different batches
// under the same numbers and cannot be joined: one side begins anew (see Meet). So
// does a restored database whose last change the peer does not say to have: of old
// changes not all marks are kept. For that the peer tells its marks around that end
// first (Opening.Answers).
// The same is due where one was away so long that others have collected what it
// still holds. To begin anew is to become a newcomer that keeps its tree:
// programs see and write it all the time, the log is pulled from one peer, and
// then tree and view are compared. What only this tree has is cut as new; what
// others removed, knowing it, goes; where both changed something, both stay; what
// is equal is one.
//
// Why it ends: each time somebody begins anew over replica r, it is r's owner,
// which has another id afterwards, so that happens once and the ends of r stop
// growing; or its tip of r rises to a later (number, hash, own id), and of these
// there are finitely many. If several replicas have parted, all members decide by the
// smallest, so once all who hold ends of that one hold the same, the next is
// the smallest. A member that has begun anew makes nobody else begin anew before
// it is complete. Of two that have collected what the other may hold, the one
// with the smaller horizon begins anew and then has the other's: horizons rise.
//
// # What a member is believed
//
// A member may write what it likes under its own name, and what it says of others
// is believed as far as they have signed it (index/proof.go). A batch is joined,
// and a catch-up taken over, only if a header is here of each replica that it
// names, as far as it names it; else it could supersede, or call dead, what is yet
// to be made. Where that is dead the newest header of its replica goes alone ahead
// of what names it, so whoever has joined a batch can prove it to the next. Whether
// a batch is refused follows from what it says and from what all can show each
// other, as far as that goes, not from what one happens to have: or who has taken it
// in could not go on with who must refuse it. A clock is held to what its author
// knew, for the same reason. Marks that are only said are kept as such, and count
// against nothing but what is proven.
//
// Not proven is that what was made is dead: a member that is asked for changes,
// and has them, may say that others have superseded them, or send others' batches
// with hashes in place of changes. Who believes it lacks them, and seems to know
// them. Who signs two headers of one number lets those who took different ones
// begin anew. Who signs a version over less than its own earlier one was over lets
// those who met only the later one show a copy more than others, until somebody
// edits the file. Who says that a node is born anew which was removed, and not all
// know it, or which lives, lets those who hear of both in another order keep other
// parts of what was said of it; and who writes meanwhile counts as one that was away
// (below) and begins anew, with all that it wrote. Who says to have all bytes, and
// has none, lets others let go of history when their disks are full. Who makes the
// node that a conflict copy would get, whose id follows from the version, has that
// copy shown nowhere: the version is in the history of who showed it. And what is
// placed in a directory that nobody has made is shown nowhere.
//
// # What may be forgotten
//
// What was removed is dropped when every member in the address book has told,
// after all that it had said is here, that it knows of the removal. A member
// counts until it is removed, however long it is silent, and one that has told
// nothing blocks all of this: what it says may come by others who have dropped
// nothing. A newcomer takes from one member at a time and cuts nothing before
// that one has made it complete (meet.go, index/newcomer.go). So the author of
// whatever honest members send knew the horizon. What somebody made who did not,
// on an old copy of a disk, is refused (ErrBehind), the session ends, and status
// tells of it. Who has forgotten nothing has a use for it and takes it in: when it
// meets one who must refuse, whichever of the two has forgotten less begins anew
// from the other (Meet).
//
// History grows old by the days that somebody has seen (index/gaps.go): a clock
// that jumps ahead, or a machine that is off, counts as one day.
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
