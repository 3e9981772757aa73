package syncer_test

import (
	mrand "math/rand"
	"testing"
)

// A file that is open for reading grows in place, and only that: what else becomes of it
// its name shows as another inode.
func TestOnlyReadersSeeAFileGrow(t *testing.T) {
	random := make([]byte, 3<<20)
	mrand.New(mrand.NewSource(1)).Read(random)
	big := string(random)
	for _, tt := range []struct {
		what         string
		was, is      string
		writes, same bool
	}{
		{"from nothing", "", "some", false, true},
		{"in the row", "some", "some more", false, true},
		{"out of the row", "some", "some" + big, false, true},
		{"by blocks", big[:1<<20+17], big, false, true},
		{"within a block", big[:100_000], big[:100_001], false, true},
		{"open for writing", big[:1<<20], big, true, false},
		{"in the row, open for writing", "some", "some more", true, false},
		{"shorter", "some more", "some", false, false},
		{"other bytes and more", "some", "same more", false, false},
		{"another byte amid blocks", big[:1<<20], big[:5000] + "x" + big[5001:], false, false},
		{"another last byte", big[:1<<20], big[:1<<20-1] + "x" + big[1<<20:], false, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			a.write("/f", tt.was)
			w.settle()
			ino := b.stat("/f").Ino
			b.open(ino, tt.writes)
			a.write("/f", tt.is)
			a.cutNow()
			w.until("what is new", func() bool { return b.shows("/f") == tt.is })
			if same := b.stat("/f").Ino == ino; same != tt.same {
				t.Errorf("the same inode: %v", same)
			}
			b.shut(ino)
			w.same()
		})
	}
}
