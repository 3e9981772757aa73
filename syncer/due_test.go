package syncer

import (
	"testing"
	"time"
)

func TestWhenAnOpenFileIsDue(t *testing.T) {
	t0 := time.Unix(1e9, 0)
	at := func(s int) time.Time {
		if s < 0 {
			return time.Time{}
		}
		return t0.Add(time.Duration(s) * time.Second)
	}
	tests := []struct {
		name                      string
		open, paged               bool
		begun, wrote, synced, now int // seconds; below 0: never
		yes                       bool
		next                      int
	}{
		{"closed", false, false, 0, 0, -1, 0, true, 0},
		{"just written", true, false, 0, 0, -1, 0, false, 30},
		{"at rest", true, false, 0, 0, -1, 30, true, 30},
		{"just synced", true, false, 0, 5, 5, 6, false, 7},
		{"at rest since an fsync", true, false, 0, 5, 5, 7, true, 7},
		{"written since an fsync", true, false, 0, 6, 5, 8, false, 36},
		{"steady, no fsync", true, false, 0, 700, 500, 700, false, 730},
		{"steady, fsync", true, false, 0, 700, 650, 700, true, 700},
		{"pages, no fsync", true, true, 0, 0, -1, 1000, false, -1},
		{"pages, fsync", true, true, 0, 4, 5, 8, true, 7},
		{"pages, steady, fsync", true, true, 0, 700, 650, 700, false, -1},
		{"opened, not written", true, false, -1, 0, -1, 29, false, 30},
	}
	for _, tt := range tests {
		w := Writing{Open: tt.open, Paged: tt.paged, Begun: at(tt.begun), Wrote: at(tt.wrote), Synced: at(tt.synced)}
		yes, next := w.due(at(tt.now))
		if yes != tt.yes || !next.Equal(at(tt.next)) {
			t.Errorf("%s: %v at %v, want %v at %v", tt.name, yes, next, tt.yes, at(tt.next))
		}
	}
}
