package model

import "strings"

// A database and the journals beside it are one thing in several files: only
// together are they what a program left. X, X-wal and X-journal are cut and
// shown as one, and their conflict copies are named so that the copy of X finds
// its own.

// Journals are what is added to the name of a database for the files that
// belong to it.
var Journals = []string{"-wal", "-journal"}

// SharedMemory is added to it for what is of one machine only.
const SharedMemory = "-shm"

// Database splits the name of a file that may belong to a database. A name
// without the suffix of a journal may be a database itself.
func Database(name string) (base, suffix string) {
	for _, s := range Journals {
		if b, ok := strings.CutSuffix(name, s); ok && b != "" {
			return b, s
		}
	}
	return name, ""
}
