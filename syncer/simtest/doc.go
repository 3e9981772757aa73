// Package simtest runs whole engines in a hostile simulated world, and checks
// what must hold whatever happens. It is a package of tests.
//
//	go test ./syncer/simtest -run Sim -v -sims N -seed S
//
// runs N simulations from seed S on all cores and prints "N simulations"; what
// is violated is told with the plan and the story in words, and
// "-sims 1 -seed S" runs it again. contrib/sim runs many.
//
// # What is real
//
// A simulation is one synctest bubble: time stands still while anything can go
// on, and jumps when nothing can. In it are two to five machines, each with
// blocks.Disk on a crashable filesystem in memory, a syncer.Folder, and a
// peers.Node with its keepers, sessions, links, pullers and servers. Only what
// is below them is not real: hosts and streams (host_test.go, net_test.go), disks
// (disk_test.go: Pebble's errorfs over crashfs), and the surface (screen_test.go),
// which stages written bytes in layers as a mount does.
//
// # Plans
//
// All faults are drawn from the seed before anything begins, as a plan that
// prints as words: partitions, loss, a slow machine, broken connections, power
// cuts at the n-th write with some of what was not synced, restarts, full and
// failing disks, flipped bits, clocks that jump by years, days that pass for all
// (old history goes, blocks that nothing names too, and what was removed long
// ago and is known to all is collected), disks that are set back to a copy or run
// twice, a member that may only read, and one that keeps no rule. Users draw what they do from it too. But goroutines run, and
// maps are walked, in any order, and keys are random: a seed run again is the
// same plan and another story. -twice runs each seed twice and compares the verdicts, and
// that no run has changed its plan; a violation that does not come again at once may need the seed to
// be run some more times.
//
// # Links
//
// A stream is in order, and encrypted: nothing repeats or swaps its frames. But
// batches come twice by way of several members, and old connections outlive their
// end. So a garbled link takes control frames apart, and repeats some that mean
// the same when they come again (Batch, Ack, CatchUp), at once or later, and swaps
// some neighbours (Batch, Ack, Presence, Pong). No CatchUp changes places with
// what it says was sent: only a liar's could. A receiver may end the session over
// it, and opens another; nothing may be lost. A machine that loses its link has
// new connections while the others still get by the old what it had sent.
//
// # Disks
//
// A full disk takes some writes more. A failing disk fails what is done to tables. Pebble ends the process when it
// cannot write or sync its log, or a manifest: those faults are crashes, and
// waldisk_test.go shows that nobody hears of what was not durable then.
//
// # Copies
//
// A disk may be copied. A machine may go on with the copy later, or a further
// machine runs it, with the same key, until all come together: then one of the
// two is switched off, and the other, so that the rest hear of both, and the
// further one goes for good. What only that had, or only what a copy replaced,
// may be gone. What was gone from everywhere and is on the copy, or comes by while
// it catches up, may be shown, but not when all has come together again, unless
// somebody there has seen it and may have done something with it, or the copy had
// something of its own.
//
// # Stories
//
// Users are programs (programs_test.go): editors and their ways to save, version
// control, databases, appenders, rm -r and mv. Each has a goroutine, and the
// world lets one of them make one system call or a few while all else rests;
// so what is on a user's screen when something is overwritten or deleted is
// known exactly. What each process has read of a file, and written there, is kept too:
// what others have brought since, and it saves over, has to stay. Some calls later
// the next fault happens. Now and then, and at the end, all faults end and all must
// come together.
//
// # What is checked
//
//	I1   in the end all show the same: names, kinds, bytes, modes, times, attributes, links;
//	     all is cut in time, though nobody asks for it
//	I3   what was acknowledged is there, or was done away with by a user who saw it
//	     and what all had stays in each one's history, until days pass or the disk is short
//	I4   the tree is sound, always
//	I5   with one user at a time and all in sync in between there is no conflict copy
//	I7   no call fails in a way that programs do not know, and what succeeds is done at once
//	I8   after a start all is there that was acknowledged, and the rows are what the log says;
//	     what is shown is what was shown after some call since the last sync, whole, unless
//	     others have changed something; what a crash may have undone is there, old or new
//	I9   every file reads, and shows bytes that were written so as a whole; one that is open
//	     shows no others; a database and its journals are shown as they once were together
//	I10  nobody speaks when nothing happens, but to keep links alive, and nobody asks
//	     for blocks; after an hour or so, in some worlds, nobody writes
//	I11  in the end, when years have passed, no dead node is left that nothing living
//	     was in, no batch of which nothing is cited, no history (bounded_test.go);
//	     nobody honest is behind
//	I12  the malicious member breaks none of these; what it does away with is in a history.
//	     It tells no lie that package syncer says to be believed
//	I13  what was gone when all was in sync does not come back: texts, names, attributes
//	I14  who knows the same and has nothing left to do shows the same, always
//
// I2 and I6 are of the model, and checked there. What simulations are about is
// counted, and a run of some length in which it did not happen fails.
//
// The oracle knows each text, the bytes of a file after one write, and whether it
// may be gone: it was deleted by a user whose screen showed it, replaced by a process
// that had read it, or had read nothing of that file, or the power went before it
// was acknowledged (by fsync; by eight seconds without trouble; by being seen
// elsewhere).
package simtest
