// Package trust knows who may take part in a folder: device identities,
// tickets, and the membership log. It does no network I/O and keeps everything
// through a KV.
//
// # Identity
//
// A device is one ed25519 key, kept in a file only its owner can read. The
// public half is the libp2p peer ID. A person is only a label on devices.
//
// # Tickets
//
// A ticket is one string: folder, inviter, where to dial, and a secret that
// seeds the invite key. The public half of that key is in an Invite op of the
// log, so any member can admit the newcomer while the inviter is away.
//
//	"clachan1" base32(lower case, no padding, of: protobuf fields | checksum[4])
//	fields: 1 folder[32] 2 inviter key[32] 3 addr (<= 4) 4 secret[16] 5 role 6 expiry (unix seconds)
//
// # Membership log
//
// The members of a folder are what its log says. The log is a DAG of signed
// ops, hashed, stored and relayed verbatim:
//
//	record:  1 body  2 sig (ed25519 over "clachan member op 1\0" body)
//	body:    1 folder[32]  2 prev[32]...  3 lamport  4 author[32]  5 kind  6 unix seconds  7 payload
//	payload: 1 device[32] 2 role 3 label 4 x25519[32] 5 invite[32] 6 uses 7 expires 8 proof[64]
//	         9 known 10 nonce[16] 11 suite 12 reason 13 name policy
//
// The first op, Genesis, has no folder and no prev; the folder's id is the
// hash of its body, so whoever knows the id can check the whole log. It says how
// the folder compares names, for all members and for good: one with a policy that
// is not known here is refused. Lamport
// is one more than the highest of prev: the order (lamport, hash) is
// topological and the same everywhere.
//
// An op is good only if its author held the needed role in the op's causal
// past; that depends on nothing else, so all members refuse the same ops. Who is
// a member now is evaluated over all ops in order, with strong removal: an op
// does not count if a concurrent Remove (or demotion) by an admin of an equal or
// higher role hits its author, and such a Remove beats a concurrent re-admission
// of its target. A Remove itself yields only to a strictly higher role: two
// admins, or two owners, who remove each other are both removed, and whoever is
// left decides. Concurrent accepts beyond an invite's uses are dropped in order,
// and a concurrent RevokeInvite beats an accept.
//
// # What is kept
//
// Admins are trusted not to flood. Whoever is below, a minor, may sign any number
// of good ops with none in another's past, and show each member others. So:
//
//   - An op of use is one of an admin, or a minor's that has an effect: it takes a
//     use of an invite, or a member leaves. One that is larger than 8 KiB, or has
//     256 minors' ops in its past that no admin's there has, never has an effect.
//   - Kept, stored and told are the ops of use and all in their past, and what let
//     those write whose changes were taken (Took). The rest is spare: a bounded
//     number waits in memory, for it may come to be of use.
//   - New ops name as prev only ops of use.
//   - What voids an op is ops of admins alone. When an admin signs, it removes, in
//     effect, those it knows to have left.
//
// Without ops of no use the evaluation is the same, so it does not matter who kept
// which; and whether an op is of use depends only on ops of admins, which nobody
// drops, and on what is before it in order. So the first op in which two members
// differ is of use to both once they have told each other: what they keep ends up
// the same in whatever order ops come. What minors put in is bounded by the uses
// and memberships that admins granted, times 256; each op of an admin names at
// most 512 for good.
//
// Kinds of later versions are for admins: they are checked as far as the signature
// and the author being a member, kept, relayed, and have no effect here.
//
// Invariants: an op of an admin stays for good; so do the devices whose changes a
// member took (MayAuthor): what one took no other refuses once it has been told.
//
// Lock order: Log.mu is a leaf. It is held while an op is stored, never while
// anything else of the program is called.
package trust
