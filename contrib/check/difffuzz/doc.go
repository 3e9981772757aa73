// Difffuzz makes the same random system calls in two directories, one on a
// filesystem that is right, and compares all that programs can see: results and
// errnos, what stat shows of every inode, how each time moved, listings, holes
// and bytes.
//
//	go run ./contrib/check/difffuzz -a DIR -b DIR [-seed S] [-seeds N] [-calls N]
//
// The calls come from the seed and from what is in the first directory, so that
// a seed makes the same calls again as long as the sides agree. Where they do
// not, it prints the call, both results, and the shortest sequence of calls that
// it can find: a line of JSON each, which -replay makes again. With -all nothing
// is left for later and no cache is trusted. It needs root: calls are made as
// several users, and each side is the root directory of the thread that makes
// them, so that no path leads out of it.
//
// What a call moves is told by stat before and after it: as ctime and mtime are
// asked for after each call, ext4 gives a later one another time, however soon
// it comes (since Linux 6.13; on an older system a is not right enough).
//
// # Differences that are allowed
//
// They are the list exceptions, each with its reason; -exceptions prints it, and
// each run says how often it met them. Beside it, of a file that was closed, or
// synced, or written to by fallocate, copy_file_range or mmap, the holes and
// blocks are not compared: once it is cut a file has holes of whole cells of
// 64 KiB only, and no space is set aside for it; ext4 copies holes as zeros and
// fills them for a mapping of large pages. That what is not zero is data is
// compared always, and that no block is counted beyond the end.
//
// # What is not asked
//
//   - RENAME_WHITEOUT, COLLAPSE_RANGE, INSERT_RANGE and ioctls: the kernel sends
//     them to no FUSE filesystem, or refuses them for it
//   - what is not aligned where O_DIRECT is: ext4 wants it aligned
//   - positions in directories, and what reading at them says
//   - chown of nothing, by somebody who may not, of a setuid file: the kernel
//     asks for it as it does before a write, so it costs the bits where ext4
//     says EPERM; and for the same reason capabilities on a setuid file, whose
//     bits go with a write by root too
//   - attributes of more than a few hundred bytes: ext4 has room for 4 KiB
package main
