// Mutants breaks the product in known ways, one at a time, and sees each caught.
//
// patches holds one-hunk diffs. Their first lines say what is wrong with them and
// which tests must notice, each of them. Run from the top of the tree, with the
// names of some of them or for all:
//
//	go run ./contrib/mutants [-limit 5m] [NAME ...]
//
// First each test is run on a copy of the tree as it stands in the index of git:
// what fails there proves nothing. Then each patch is applied to such a copy. It
// prints which test failed and, where seeds are counted from 1, at which: so many
// histories, worlds or simulations it took. It fails if a mutant survives.
package main
