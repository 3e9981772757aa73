package main

import (
	"slices"
	"sync"
)

const (
	recentLines = 500
	recentLine  = 2 << 10 // bytes of one
)

// recent keeps the last lines of the log.
type recent struct {
	mu    sync.Mutex // guards lines and next
	lines [][]byte
	next  int // the oldest, once there are as many as may be
}

// Write keeps a line.
func (r *recent) Write(p []byte) (int, error) {
	line := slices.Clone(p[:min(len(p), recentLine)])
	if line[len(line)-1] != '\n' {
		line = append(line, '\n')
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < recentLines {
		r.lines = append(r.lines, line)
		return len(p), nil
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % recentLines
	return len(p), nil
}

// text is what is kept, the oldest first.
func (r *recent) text() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(append(slices.Clone(r.lines[r.next:]), r.lines[:r.next]...)...)
}
