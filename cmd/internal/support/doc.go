// Package support makes a bundle for somebody who is to find out what is wrong
// with a daemon, from what the machine and the daemon show.
//
// A [Veil] is over all that goes into it. What could open a folder, keys and
// tickets, and the names of files are never gathered: the log is kept without
// names, and what a folder says of single files is left out. Names of folders,
// members and users, directories and addresses are replaced by pseudonyms, the
// same in every bundle where they come of an id: two members' bundles can be
// read side by side, by somebody who does not know the ids.
package support
