package mount

import (
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const bugsMax = 256 // that are told apart

// bugs are the places in which handlers have panicked: the stack of each is logged once.
type bugs struct {
	mu   sync.Mutex // guards seen
	seen map[[32]uintptr]bool
}

// first says whether the caller's stack is a new one.
func (b *bugs) first() bool {
	var stack [32]uintptr
	runtime.Callers(3, stack[:])
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[stack] || len(b.seen) >= bugsMax {
		return false
	}
	if b.seen == nil {
		b.seen = map[[32]uintptr]bool{}
	}
	b.seen[stack] = true
	return true
}

// panicked answers a request whose handler panicked, while its stack still stands.
func (m *Mount) panicked(v any) fuse.Status {
	attrs := []any{slog.Any("panic", v)}
	if m.bugs.first() {
		attrs = append(attrs, slog.String("stack", string(debug.Stack())))
	}
	m.log.Error("bug in a filesystem operation", attrs...)
	return fuse.EIO
}
