// Package doctor says what keeps a folder from working on this machine, and what to do about it.
//
// Look gathers what can be seen of the machine without changing it: as far as that goes without a daemon, and what one
// says that runs. Examine judges it, and is pure.
package doctor
