// Package chunker cuts a stream of bytes where its content says so.
//
// A gear hash rolls over the last 64 bytes and a cut is made where its upper
// bits are all zero, so that an insert or a delete moves only the cuts around
// it. Chunks are at least [Min], at most [Max] and on average [Avg] bytes: up
// to Avg a cut needs four bits more than after it (normalisation), which draws
// the sizes together.
//
// The gear table is derived from a seed of the folder, by BLAKE3 in XOF mode:
// the sizes of chunks then tell nothing of a known file to one who sees only
// sealed blocks.
//
// Invariant: the state restarts at every boundary, so where the next cut falls
// depends on nothing but the bytes since the last one. Whoever stands at a
// boundary can go on from there without having seen what came before.
//
// The package is pure: no clock, no I/O, no goroutine.
package chunker
