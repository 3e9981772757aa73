// Package wire is what peers say to each other: framing, messages, bounds.
//
// # Protocols
//
// The id of each carries the major version; a node may offer several, and two
// nodes speak the newest that both have. Unknown frame types and unknown
// fields are skipped; the meaning of a field never changes. What is new within a
// major version is a bit of [Features], which both sides say first.
//
//	/clachan/ctl/1   one long-lived stream between two members
//	/clachan/pair/1  one knock and its answer, then closed
//	/clachan/blk/1   blocks: a long-lived stream per class of demand
//
// # Frames (ctl and pair)
//
//	uvarint length of the rest | type byte | protobuf message
//
// A frame is at most MaxFrame bytes, which is checked before anything is
// allocated; each message is checked for its own bounds after decoding. Frame
// buffers are pooled; no decoded message keeps a reference into them.
//
// A FolderState carries an Opening with two version vectors and at most
// model.MaxMarks marks, bounded by maxVV and maxMarks.
//
// # Blocks
//
// Block bytes do not go through protobuf. All numbers are big endian.
//
//	request:  op u8 | class u8 | folder u16 | id u32 | size u32 | hash[32]             44 bytes
//	answer:   status u8 | flags u8 | 0 u16 | id u32 | size u32 | wire size u32 | bytes  16 bytes + wire size
//
// A folder is named once per stream: op Folder binds the number in the folder
// field to the folder id in the hash field. Answers come in any order and carry
// the id of their request. Flags other than 0 are for compressed or sealed
// bytes and are refused by a receiver that does not know them.
package wire
