// Package control is the door between the daemon and its clients: HTTP and
// JSON over a unix socket.
//
// Every operation is one line of the table in ops.go, which gives its name and
// the types of its request and its answer; the server registers a function for
// it and the client calls it, so the two cannot drift apart. An operation is a
// POST of one JSON object to /v1/NAME:
//
//	curl --unix-socket api.sock -d '{}' http://clachan/v1/status
//
// An answer is the JSON object of the operation, or with a status of 400 and
// above an [Error], whose code is the exit code of the command that asked.
// Requests are bounded; unknown fields are refused, since a field that is
// quietly ignored could be the one that limits what is done. A request ends
// when its client hangs up.
//
// What tools read is a GET: /metrics for Prometheus, /debug/log, the last of the
// log without names of files, and the profiles of net/http/pprof,
//
//	curl --unix-socket api.sock http://clachan/debug/pprof/heap >heap; go tool pprof heap
//
// What happens is streamed as server-sent events, each with an id that a client gives
// back in Last-Event-ID, or as ?since=ID, to go on after it:
//
//	curl --unix-socket api.sock -N http://clachan/v1/events
//
// Who does not read for long is cut off, and asks anew with the last id it saw; a stream
// begins with the id it goes on from, so that there is always one.
//
// Answers are what verbs print with --json. Their fields stay (schema.go, which also tells
// them for clachan help json, and testdata/schema.golden).
//
// # Who may come in
//
// The socket has mode 0600 and lies in a folder of its owner. Beyond that the
// server asks the kernel (SO_PEERCRED) and answers its own user and root only,
// and the client likewise talks only to its own user's daemon or root's: a
// socket in /tmp might be anybody's.
//
// A path of more than 107 bytes does not fit into a socket address; it is
// bound and reached as /proc/self/fd/N/NAME, N being its folder held open.
package control
