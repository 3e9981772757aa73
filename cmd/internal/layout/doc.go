// Package layout holds the shape of the source tree: which package may import
// which, which library is used where, and that every package says what it is.
// It has tests only.
//
// The arrows between files that are no tests are these, and no others:
//
//	cmd, contrib -> all
//	fs           -> syncer, blocks
//	peers        -> syncer, blocks
//	syncer       -> blocks
//	blocks       -> nothing of ours
//
// Inside one of these folders the compiler's ban on cycles is enough. Test
// files may import anything. Sizes of files and functions are only reported:
// run the tests with -v to see them.
package layout
