package syncer_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// An index that was reset knows nothing, and its files are no newer than the
// others': theirs stay, and what was equal is not copied.
func TestLossIndexReset(t *testing.T) {
	w := newCrashable(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "old")
	a.write("/same", "S")
	w.same()
	w.part(true)
	a.onEmptyDisk()
	a.write("/f", "old") // as it was found on its disk
	a.write("/same", "S")
	b.write("/f", "new")
	for _, p := range w.peers {
		p.cutNow()
	}
	w.part(false)
	tree := w.same()
	holds(t, tree, "old", "new", "S")
	if strings.Contains(tree, "/same (conflict") {
		t.Errorf("equal contents conflict:\n%s", tree)
	}
}

// A device removed and built again finds everything as it is now: no deleted
// file comes back, and there are no conflict copies.
func TestLossDeviceRebuilt(t *testing.T) {
	w := newCrashable(t, 3)
	a, b := w.peers[0], w.peers[1]
	for i := range 20 {
		w.peers[i%3].write(fmt.Sprint("/f", i), fmt.Sprint("v", i))
	}
	w.same()
	for i := range 10 {
		a.rm(fmt.Sprint("/f", i))
	}
	b.onEmptyDisk()
	tree := w.same()
	if strings.Count(tree, "\n") != 9 || strings.Contains(tree, "conflict") {
		t.Errorf("got\n%s", tree)
	}
}

// A server rolled back to an old copy deletes nothing and brings nothing old
// back at the others.
func TestLossServerRolledBack(t *testing.T) {
	w := newCrashable(t, 3)
	server := w.peers[0]
	server.write("/old", "1")
	w.same()
	old := server.copyOfDisk()
	w.peers[1].write("/old", "2")
	w.peers[1].write("/new", "N")
	server.write("/own", "O")
	before := w.same()
	server.restore(old)
	if got := w.same(); got != before {
		t.Errorf("was\n%s\nis\n%s", before, got)
	}
}

// The same for a client, which goes on working before it connects.
func TestLossClientRestoredFromBackup(t *testing.T) {
	w := newCrashable(t, 2)
	client, b := w.peers[0], w.peers[1]
	client.write("/doc", "1")
	w.same()
	old := client.copyOfDisk()
	client.write("/doc", "2")
	client.write("/more", "M")
	b.write("/theirs", "T")
	w.same()
	w.part(true)
	client.restore(old)
	client.write("/since", "S")
	client.cutNow()
	w.part(false)
	w.want("/doc 644 2", "/more 644 M", "/since 644 S", "/theirs 644 T")
}

// A backup that has the rows and not the bytes deletes nothing: the bytes are
// fetched again.
func TestLossBackupWithoutTheFiles(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	p := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(p)
	a.mkdir("/photos")
	a.write("/photos/p", string(p))
	want := w.same()
	w.talk.Lock()
	b.stop()
	b.must(b.fs.RemoveAll("data/blocks"))
	b.start()
	w.talk.Unlock()
	if got := b.shows("/photos/p"); got != string(p) {
		t.Errorf("%d bytes of %d", len(got), len(p))
	}
	if got := w.same(); got != want {
		t.Errorf("had\n%s\nhas\n%s", want, got)
	}
}

// A laptop that was away while the others deleted files, and forgot that they
// had, does not add them again.
func TestLossLongOfflineLaptop(t *testing.T) {
	w := longAway(t, func(c *peer) { c.write("/keep", "edited away") })
	w.part(false)
	w.want("/edit 644 b's", "/keep 644 edited away")
}

// A virtual machine copied with its key and run twice: what either did is there.
func TestLossClonedMachine(t *testing.T) {
	w := newCrashable(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	w.same()
	w.part(true)
	c := a.clone(a.copyOfDisk())
	a.write("/a", "A")
	c.write("/c", "C")
	a.write("/both", "B")
	c.write("/both", "B")
	for _, p := range w.peers {
		p.cutNow()
	}
	w.part(false)
	w.want("/a 644 A", "/both 644 B", "/c 644 C", "/f 644 F")
	if a.Replica() == c.Replica() {
		t.Error("both write as one replica")
	}
	if len(a.Alarms())+len(c.Alarms()) == 0 {
		t.Error("nobody hears of it")
	}
}
