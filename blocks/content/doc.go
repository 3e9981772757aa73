// Package content is the bytes of a file as a tree of blocks, whose root names
// them: same bytes, same root, whoever cuts and however they came to be.
//
// # Where the cuts are
//
// A file of at most [MaxInline] bytes stands in the [Content] itself. One of at
// most [MaxSingle] bytes is one block, uncut. Of a larger one,
//
//  1. the file is seen as a grid of cells of [Cell] bytes, the last one ending
//     with the file. A cell of only zeros is a hole; so a source that knows its
//     holes and one that has to read their zeros give the same;
//  2. what is between holes is cut by package chunker, which restarts after a
//     hole ([Chunked]), or at every cell ([Fixed]);
//  3. a chunk of only zeros becomes a hole too;
//  4. holes side by side become one, however long.
//
// A file of more than MaxSingle bytes with a single run has that for its root:
// a block, or a hole of the whole file. Otherwise the runs are refs in list
// blocks. A list ends after a ref whose id has a zero byte at its end, once it
// has 32, and after the 1023rd, but never after a hole: a hole can so be
// joined by another. Lists of more than one are refs in lists of the next
// level, and so on up to the root.
//
// Every cut depends on nothing but what came since the last one, lists
// included. So [Edit] can begin at any old boundary before a change, and as
// soon as it stands at an old boundary after it, all that follows is as it was.
//
// # Layout
//
// Content, as [Content.Encode] gives it:
//
//	tag     1    format 1 << 4 | depth << 1 | cut; depth 7: inline
//	size    uvarint
//	bytes   size, if inline; else
//	root    32   zero: a hole
//
// List block, at level 1 for lists of data:
//
//	format  1    1
//	level   1
//	count   uvarint
//	refs    level 1:  size << 1 uvarint, id 32   (data)
//	                  size << 1 | 1 uvarint      (hole)
//	        above:    size uvarint, alloc uvarint, id 32
//
// Alloc is how many of the bytes are not holes. Varints are of the shortest
// form: there is one spelling of each tree.
//
// # What comes from others
//
// Trees come from peers. A block has been verified by its id before it is
// decoded; then a list must be of the level and the size that its parent says,
// its refs must add up, and no list that is not the last of its level may be
// shorter than the cutter can make it. As sizes only shrink on the way down, a
// walk is bounded by the size of the file, and its depth by [MaxDepth].
//
// # Concurrency
//
// [Reader] is safe for concurrent use. [Write] and [Edit] put a few blocks at
// a time and return when all of them are put; no goroutine outlives a call. The
// only lock guards the lists a tree keeps decoded, and is held for memory only.
package content
