//go:build !race

package simtest

// few is how many simulations are run if nobody says.
const few = 20
