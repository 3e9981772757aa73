package mount

import (
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The kernel appends where it believes that the file ends. What others have added, of which it was not told yet, stays.
func TestAppendingOverwritesNothingOfOthers(t *testing.T) {
	for name, changed := range map[string]bool{"changed by others": true, "unchanged": false} {
		t.Run(name, func(t *testing.T) {
			m, a, l := unmountedFile(t)
			m.note = newNotifier()
			l.behind.Store(changed)
			write := func(data string, off uint64, flags uint32) {
				t.Helper()
				in := fuse.WriteIn{InHeader: fuse.InHeader{NodeId: uint64(a.Ino)}, Offset: off, Flags: flags}
				if n, st := m.Write(nil, &in, []byte(data)); !st.Ok() || int(n) != len(data) {
					t.Fatalf("%d bytes, %v", n, st)
				}
			}
			write("others'", 0, 0)
			const flags = syscall.O_WRONLY | syscall.O_APPEND
			write("a", 3, flags)
			write("b", 4, flags)
			want := "othabs'" // as RWF_NOAPPEND asks for
			if changed {
				want = "others'ab"
			}
			got, st := m.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: uint64(a.Ino)}, Size: 100}, make([]byte, 100))
			if !st.Ok() {
				t.Fatal(st)
			}
			if b, _ := got.Bytes(nil); string(b) != want {
				t.Errorf("the file has %q, want %q", b, want)
			}
			if m.note.seen[note{ino: a.Ino}] != changed {
				t.Errorf("the kernel is told to look anew: %v", !changed)
			}
		})
	}
}

// What the kernel believes outlives who had the file open: it does not ask before the next one appends.
func TestWhoAppendsNextOverwritesNothingEither(t *testing.T) {
	m, a, l := unmountedFile(t)
	m.note = newNotifier()
	write := func(data string, off uint64) {
		t.Helper()
		in := fuse.WriteIn{InHeader: fuse.InHeader{NodeId: uint64(a.Ino)}, Offset: off, Flags: syscall.O_WRONLY | syscall.O_APPEND}
		if n, st := m.Write(nil, &in, []byte(data)); !st.Ok() || int(n) != len(data) {
			t.Fatalf("%d bytes, %v", n, st)
		}
	}
	write("others'", 0)
	l.behind.Store(true)
	write("a", 3)
	m.table.release(a.Ino, true)
	s := m.table.shard(a.Ino)
	s.mu.Lock()
	s.setDirty(s.nodes[a.Ino], false) // as a cut does
	s.trim(a.Ino, s.nodes[a.Ino])
	s.mu.Unlock()
	if m.table.peek(a.Ino) != nil {
		t.Fatal("it is open still")
	}
	l, _ = m.table.open(a.Ino, true)
	if !l.behind.Load() {
		t.Error("the kernel counts as told")
	}
	l.misled.Store(false) // an append where the file ends
	m.table.release(a.Ino, true)
	if l, _ = m.table.open(a.Ino, true); l.behind.Load() {
		t.Error("it is told for ever")
	}
}
