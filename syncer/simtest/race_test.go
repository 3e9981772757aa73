//go:build race

package simtest

// few is how many simulations are run if nobody says: the race detector makes each
// ten times slower.
const few = 6
