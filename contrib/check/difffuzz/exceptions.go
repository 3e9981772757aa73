package main

import "golang.org/x/sys/unix"

// exception is a difference that cannot be avoided, or is meant.
type exception struct {
	name   string
	reason string
	match  func(d *difference) bool
}

// exceptions is the whole list. What is not on it is an error.
var exceptions = []exception{
	{"atime of reads", "what the page cache answers, the daemon never hears of: atime moves with the first read of an opening that reaches it, and not with listings or links", func(d *difference) bool {
		return d.what == "atime" && (d.a == "same" || d.a == "now") // not set by this call
	}},
	{"size of directories", "a directory has no blocks here: its size is 0, where ext4 tells how many blocks its names take", func(d *difference) bool {
		return d.what == "size" && d.kind == unix.S_IFDIR && d.b == "0"
	}},
	{"mtime of databases", "a database and its journals are one version, which has one time, so that those of one member win together: the latest of them, once they are cut", func(d *difference) bool {
		return d.what == "mtime" && d.kind == unix.S_IFREG && d.b == ofGroup
	}},
	{"times of FIFOs", "what goes through a FIFO stays in the kernel, which lets a FUSE filesystem alone set its times", func(d *difference) bool {
		return d.kind == unix.S_IFIFO && (d.what == "mtime" || d.what == "ctime") && d.a == "now" && d.b == "same"
	}},
}

// allowed finds the exception for a difference.
func allowed(d *difference) *exception {
	for i := range exceptions {
		if exceptions[i].match(d) {
			return &exceptions[i]
		}
	}
	return nil
}
