// Package bench measures two daemons on this machine, joined over loopback,
// each with its folder mounted: what a user waits for. It needs root and
// /dev/fuse.
//
//	go test ./contrib/bench -run '^$' -bench . -benchtime 1x
//
// EditLatency prints the median of 20 edits of 100 bytes: from before the file
// is opened on one side until its new bytes are read on the other. CopyTree and
// BigFile print the time of the copy and, from its beginning, until the other
// side is complete, with the largest memory of the daemons so far.
//
// CopyInside prints how long cp takes within the folder, which shares blocks,
// beside a copy byte by byte and one on the disk below, and until the other side
// has it. Watchers prints how often, and how long after a change of the other side
// can be seen, who watches hears of it.
//
// Directory prints how many files of one directory are made, listed, stat-ed and
// removed in a second, and the largest memory of the daemon: -files 1000000 for a
// million.
//
// Metadata needs neither root nor /dev/fuse: it prints what a node of a real
// tree, written in turns by five replicas, takes beside its bytes: on the disk,
// compacted, without and with the log, and on the wire to a newcomer; and fails if
// that is too much.
package bench
