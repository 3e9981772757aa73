// Package peers connects this device to the other members of its folders:
// libp2p host, sessions, discovery, block exchange, pairing. It implements
// syncer.Remote and calls a folder only through Folder and Store.
//
// # Shape
//
//	Node ── Remote (one a folder: membership log, the attached Share)
//	  └──── keeper (one a peer: dials, backs off) ── session (one control stream)
//	                                                   ├ link (one a common folder: what was sent, what is acked)
//	                                                   └ puller (one a class: requests in flight on a block stream)
//
// A keeper owns everything about one peer, one thing after the other: find a
// connection, get the control stream, run the session, wait, again. The peer
// with the lower id opens the control stream, whoever dialed, so both dialing
// at once ends in one session; a second stream replaces the first.
//
// A session has two goroutines. The reader takes frames in and calls the
// folder; it waits for the writer only where that asks the folder whether a link
// carries changes, and never for the network. The writer has no queue of messages:
// it looks at what the peer has been told and what is true now, and sends the
// difference, so news coalesce while the peer is slow and a queue cannot
// overflow. Anything that changes the truth kicks it.
//
// # Order on a control stream
//
//	Hello; FolderState of each common folder; Presence; then as it comes.
//	A FolderState holds an Opening: how the sender has the folder. Batches go, and
//	are taken, only once the folder has decided from both sides' (Meet) that the
//	two histories can be joined. If one side has to begin anew, it renews its
//	attachment, which opens all its links to the folder again; until then the
//	link is silent.
//	Membership ops go before batches: an author is known before its changes.
//	Batches go only once each side has the other's membership ops. At most four
//	batches' worth of bytes are not acked. CatchUp{K} follows when all up to K
//	has been sent. Ack carries the count of batches taken in, durable knowledge
//	and the count of missing blocks, and what was taken in but is not durable.
//	A Batch without a body only proves that its author got that far. It goes
//	before what names what is dead by now, once on a link.
//
// What a folder has no room for is dropped, with all that follows on the link, and
// the attachment is renewed after a while; the session goes on, so that what a full
// device has to say gets away.
//
// Authors send their changes to all they are connected to. What came from
// others is therefore relayed only after a short hold, to those that have not
// said by then that they have it.
//
// # Versions
//
// Each kind of stream is offered in every major version that this program speaks
// (majors), and opened in the newest that both do. Within a major version, Hello
// and Knock say which features each side has and which it requires: those that
// both have are used (session.features). If there is no common version, or one
// lacks what the other requires, there is no session: both keepers say who needs a
// newer clachan (PeerState.Apart) and try again, with the usual pauses. At a join
// that is said to whoever has a ticket, which stays as good as it was.
//
// # Blocks
//
// A block is asked of one peer at a time, the one expected to answer first;
// NOHAVE, a wrong hash, silence or loss move it to the next. The window of
// bytes in flight to a peer grows while answers come as fast as with little in
// flight, and shrinks when they queue. A reader that waits ignores the window.
//
// # Rules
//
// Everything a peer sends is bounded by package wire before it is allocated.
// Folder, membership and store are asked at each request: a hash is no
// capability, and a removed member gets nothing more.
//
// Kept in KV: "peers/port/…", "peers/addr/…", and package trust's keys.
//
// Lock order: Node.look, Node.mu, Remote.mu, session.mu, puller.out, puller.mu; book.mu, attachment.mu, window.mu and the locks
// of trust are leaves. None is held during a call into a folder, a store or
// the network, but puller.out and server.out over one write to their stream.
package peers
