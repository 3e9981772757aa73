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
// An op enters the log only if its author held the needed role in the op's
// causal past; that depends on nothing else, so all members refuse the same
// ops. Who is a member now is evaluated over all ops in order, with strong
// removal: an op does not count if a concurrent Remove (or demotion) by an
// equal or higher role hits its author, and a Remove beats a concurrent
// re-admission of its target. A Remove itself yields only to a strictly higher
// role: two admins, or two owners, who remove each other are both removed, and
// whoever is left decides. Concurrent accepts beyond an invite's uses are
// dropped in order, and a concurrent RevokeInvite beats an accept.
//
// Kinds of later versions are checked as far as the signature and the author
// being a member, kept, relayed, and have no effect here.
//
// Invariants: ops are only ever added; the set of devices that may have
// authored changes (MayAuthor) only grows, so that what one member accepted no
// other member refuses once both have the same ops.
//
// Lock order: Log.mu is a leaf. It is held while an op is stored, never while
// anything else of the program is called.
package trust
