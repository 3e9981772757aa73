package peers

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A member that is told of a later change first, by who holds the earlier back, and
// passes that on, passes the earlier on too when it comes: what is in a gap may be
// late, not dead.
func TestWhatComesLateIntoAGapIsPassedOn(t *testing.T) {
	b, c, fb, fc, g := two(t)
	said := hoard(t, c, g, "early", "late")

	if err := fb.Receive(t.Context(), "holds back", said[1]); err != nil {
		t.Fatal(err)
	}
	b.mkdir(fb, "own")
	for _, name := range []string{"late", "own"} {
		eventually(t, func() bool { _, err := fc.Lookup(syncer.RootIno, name); return err == nil }, name)
	}
	if err := fb.Receive(t.Context(), "holds back", said[0]); err != nil {
		t.Fatal(err)
	}
	every(t, []*syncer.Folder{fb, fc}, "early", "late", "own")
}

// What is over a gap is sent once for as long as the gap stays, however often there
// is news, and whatever comes over it.
func TestWhatIsOverAGapIsSentOnce(t *testing.T) {
	b, c, fb, fc, g := two(t)
	names := []string{"held back"}
	for i := range 3 * fillFrames {
		names = append(names, fmt.Sprint("over ", i))
	}
	said := hoard(t, c, g, names...)
	for _, x := range said[1:] {
		if err := fb.Receive(t.Context(), "holds back", x); err != nil {
			t.Fatal(err)
		}
	}
	const news = 20
	for i := range news {
		name := fmt.Sprint("news ", i)
		b.mkdir(fb, name)
		eventually(t, func() bool { _, err := fc.Lookup(syncer.RootIno, name); return err == nil }, name)
	}
	sent := 0
	for _, s := range b.node.sessions() {
		s.mu.Lock()
		sent += int(s.links[g.ID].sent)
		s.mu.Unlock()
	}
	if most := len(said) - 1 + news + 1; sent > most { // and a header, which proves what b has seen
		t.Errorf("%d batches were sent, of %d", sent, most)
	}
	if err := fb.Receive(t.Context(), "holds back", said[0]); err != nil {
		t.Fatal(err)
	}
	every(t, []*syncer.Folder{fb, fc}, names...)
}

// two are machines of one folder.
func two(t *testing.T) (b, c *machine, fb, fc *syncer.Folder, g Grant) {
	t.Helper()
	b, c = newMachine(t, "ben"), newMachine(t, "cyd")
	g, err := b.node.Create("shared", "")
	if err != nil {
		t.Fatal(err)
	}
	fb = b.open(g)
	ticket, err := b.node.Invite(g.ID, trust.Writer, time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	if g, err = c.node.Join(t.Context(), ticket, ""); err != nil {
		t.Fatal(err)
	}
	return b, c, fb, c.open(g), g
}

// hoard is what a machine says of directories on another disk that no peer has
// seen, a batch each.
func hoard(t *testing.T, m *machine, g Grant, names ...string) (said []model.Batch) {
	t.Helper()
	disk, err := blocks.OpenDisk(vfs.NewMem(), "data", blocks.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	f, err := syncer.Open(m.options(g, disk))
	if err != nil {
		t.Fatal(err)
	}
	f.SetSurface(still{})
	m.run("hoard", f.Run, func() error { return nil })
	for _, name := range names {
		m.mkdir(f, name)
	}
	for x, err := range f.Since(t.Context(), nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, x)
	}
	if len(said) != len(names) {
		t.Fatalf("%d batches for %d names", len(said), len(names))
	}
	return said
}
