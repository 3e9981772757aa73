package peers

import (
	"slices"
	"testing"
	"time"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
)

// A writer that becomes a reader still brings what others wrote over what it had
// written.
func TestAFormerWriterStillBringsWhatOthersWroteOverIts(t *testing.T) {
	a, b, c := newMachine(t, "ana"), newMachine(t, "ben"), newMachine(t, "cleo")
	g, err := a.node.Create("shared", "")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	fa := a.open(g)
	a.mkdir(fa, "d")
	join := func(m *machine) *syncer.Folder {
		ticket, err := a.node.Invite(g.ID, trust.Writer, time.Hour, 1)
		must(err)
		gm, err := m.node.Join(t.Context(), ticket, "")
		must(err)
		return m.open(gm)
	}
	fb, fc := join(b), join(c)
	has := func(f *syncer.Folder, name string) func() bool {
		return func() bool { _, err := f.Lookup(syncer.RootIno, name); return err == nil }
	}
	eventually(t, has(fb, "d"), "d at b")
	eventually(t, has(fc, "d"), "d at c")
	eventually(t, func() bool {
		m, _ := b.node.Members(g.ID)
		n, _ := c.node.Members(g.ID)
		return len(m) == 3 && len(n) == 3
	}, "members")
	eventually(t, func() bool { // or they do not know where the other is once a is gone
		return !slices.ContainsFunc(append(b.node.Peers(), c.node.Peers()...), func(p PeerState) bool { return !p.Online })
	}, "b and c have met")
	share := Share{ID: g.ID, Folder: fa, Store: fa.Store()}
	a.node.RemoveFolder(g.ID)
	set := func(f *syncer.Folder, val string) {
		at, err := f.Lookup(syncer.RootIno, "d")
		must(err)
		must(f.Setxattr(at.Ino, "user.x", []byte(val), 0))
		must(f.Cut(t.Context()))
	}
	val := func(f *syncer.Folder, want string) func() bool {
		return func() bool {
			at, err := f.Lookup(syncer.RootIno, "d")
			if err != nil {
				return false
			}
			v, _ := f.Getxattr(at.Ino, "user.x")
			return string(v) == want
		}
	}
	set(fb, "of b")
	eventually(t, val(fc, "of b"), "b's at c")
	set(fc, "of c")
	eventually(t, val(fb, "of c"), "c's at b")
	eventually(t, func() bool { return fb.Knowledge().Equal(fc.Knowledge()) }, "durable")
	c.node.RemoveFolder(g.ID)
	must(a.node.AddFolder(share))
	must(a.node.SetRole(g.ID, b.node.ID(), trust.Reader))
	eventually(t, val(fa, "of c"), "c's at a, by b")
}
