package peers

import (
	"context"
	"fmt"
	"sync/atomic"
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

// deaf takes nothing of a replica from a number on, and waits.
type deaf struct {
	*syncer.Folder
	to   model.Replica
	from uint64
}

func (f deaf) Receive(ctx context.Context, from string, b model.Batch) error {
	if h, err := model.DecodeHeader(b.Header); err == nil && h.Replica == f.to && h.Lo >= f.from {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.Folder.Receive(ctx, from, b)
}

// mute does not tell what it knows beyond k until it is let.
type mute struct {
	deaf
	k   model.VV
	may *atomic.Bool
}

func (f mute) Knowledge() model.VV {
	if k := f.Folder.Knowledge(); f.may.Load() {
		return k
	}
	return f.k
}

// Who has only taken in a part of a batch, the rest being dead where it came from,
// does not tell others that it has it: they send it whole.
func TestWhatCameInPartIsSentByOthers(t *testing.T) {
	a, c, fa, fc, g := two(t)
	d := newMachine(t, "dan")
	ticket, err := a.node.Invite(g.ID, trust.Writer, time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	gd, err := d.node.Join(t.Context(), ticket, "")
	if err != nil {
		t.Fatal(err)
	}
	fd := d.open(gd)
	names := []string{".1", ".2", ".3"} // cut together
	for _, name := range names {
		if _, err := fa.Create(syncer.RootIno, name, syncer.New{Kind: model.Dir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	chmod := func(mode uint32, names ...string) {
		t.Helper()
		for _, name := range names {
			x, err := fa.Lookup(syncer.RootIno, name)
			if err == nil {
				_, err = fa.SetAttr(x.Ino, syncer.Set{Mode: &mode})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := fa.Cut(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	shows := func(f *syncer.Folder, mode uint32, names ...string) {
		t.Helper()
		for _, name := range names {
			eventually(t, func() bool {
				x, err := f.Lookup(syncer.RootIno, name)
				return err == nil && x.Mode == mode
			}, fmt.Sprintf("%s of mode %o", name, mode))
		}
	}
	chmod(0o711, names...)
	shows(fc, 0o711, names...)
	shows(fd, 0o711, names...)

	d.node.RemoveFolder(g.ID)
	before := fc.Knowledge()
	chmod(0o722, names...)
	shows(fc, 0o722, names...)
	c.node.RemoveFolder(g.ID)
	said := fa.Knowledge().Get(fa.Replica())
	chmod(0o733, names[:2]...)
	share := func(m *machine, f *syncer.Folder, as Folder) {
		t.Helper()
		if err := m.node.AddFolder(Share{ID: g.ID, Folder: as, Store: f.Store()}); err != nil {
			t.Fatal(err)
		}
	}
	may := new(atomic.Bool)
	share(c, fc, mute{deaf{fc, fa.Replica(), said + 1}, before, may})
	share(d, fd, deaf{fd, fa.Replica(), said + 1})
	shows(fd, 0o722, names[2])
	shows(fd, 0o711, names[:2]...)
	eventually(t, func() bool { return d.linkWith(a, g).received > 0 && c.linkWith(d, g).theirs.here }, "it is counted")
	for _, s := range d.node.sessions() {
		if s.p == c.node.id {
			s.settled(t.Context())
		}
	}
	may.Store(true)
	c.node.Remote(g.ID).Announce(nil)
	shows(fd, 0o722, names...)
}

// linkWith is a copy of some of a link.
func (m *machine) linkWith(o *machine, g Grant) (l link) {
	for _, s := range m.node.sessions() {
		s.mu.Lock()
		if x := s.links[g.ID]; x != nil && s.p == o.node.id {
			l.received, l.theirs = x.received, x.theirs
		}
		s.mu.Unlock()
	}
	return l
}
