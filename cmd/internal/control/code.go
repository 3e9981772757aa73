package control

import "fmt"

// Code says what kind of failure an error is. Its value is the exit code of
// the command that failed; these numbers are a promise to scripts and units.
type Code int

const (
	OK        Code = 0   // all is well
	Other     Code = 1   // any other error
	Usage     Code = 2   // wrong use: verb, flag, argument, ticket that is none, directory that is not empty
	State     Code = 3   // bad configuration or state; starting again will not help
	NoDaemon  Code = 4   // the daemon is not running
	NotFound  Code = 5   // no such folder, file or peer
	Denied    Code = 6   // not allowed: role, permission, ticket that is used up, expired or revoked
	Attention Code = 7   // status, doctor: there is something to look at: conflicts, errors, a full disk, too few copies
	Offline   Code = 8   // no peer has it or none answers; try again later
	Timeout   Code = 9   // the time given ran out
	Newer     Code = 10  // the store or the peer is of a newer format
	Damaged   Code = 11  // data is damaged and cannot be repaired
	Interrupt Code = 130 // ended by Ctrl-C or SIGTERM
)

// Error is a failure with its kind, as it travels from the daemon to a client.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"error"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// noDaemon is the one line a client says when nobody answers.
const noDaemon = "no daemon is running (start it with: clachan up DIR, or systemctl --user start clachan)"
