package peers

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/chunker"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

var (
	_ Folder   = (*syncer.Folder)(nil)
	_ Store    = (*blocks.Store)(nil)
	_ trust.KV = (*index.Device)(nil)
)

// still is a surface in which no file is written.
type still struct{}

func (still) Freeze(_ context.Context, inos ...syncer.Ino) ([]syncer.Layer, error) {
	return make([]syncer.Layer, len(inos)), nil
}
func (still) Rebase(syncer.Ino, uint64, syncer.Version) {}
func (still) Busy(syncer.Ino) bool                      { return false }
func (still) Writing(syncer.Ino) syncer.Writing         { return syncer.Writing{} }
func (still) Shown([]syncer.Flip)                       {}

// A machine is a node with real folders on a disk in memory.
type machine struct {
	t    testing.TB
	id   *trust.Identity
	disk *blocks.Disk
	node *Node
}

func newMachine(t testing.TB, name string) *machine {
	t.Helper()
	id, err := trust.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return newMachineOn(t, name, vfs.NewMem(), id)
}

// newMachineOn is a machine on a disk that may have been used before.
func newMachineOn(t testing.TB, name string, fs vfs.FS, id *trust.Identity) *machine {
	t.Helper()
	disk, err := blocks.OpenDisk(fs, "data", blocks.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	n, err := Open(Config{Identity: id, KV: index.NewDevice(disk.Meta()), Name: name, Listen: []string{"127.0.0.1:0"}, NoDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t, id, disk, n}
	m.run("node", n.Run, n.Close)
	return m
}

// run runs something until the test ends.
func (m *machine) run(what string, run func(context.Context) error, then func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	m.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Errorf("%s: %v", what, err)
		}
		if err := then(); err != nil {
			m.t.Errorf("%s: %v", what, err)
		}
	})
}

// options are those of a folder without peers.
func (m *machine) options(g Grant, disk *blocks.Disk) syncer.Options {
	return syncer.Options{
		Disk: disk, Number: 1, ID: g.ID, Name: g.Name, Key: blocks.Key(g.IDKey), Seed: chunker.Seed(g.ChunkSeed),
		Device: m.id.Key(), Label: model.Label{Author: "a", Device: "d"}, Allowed: g.Log.MayAuthor,
	}
}

func (m *machine) open(g Grant) *syncer.Folder {
	m.t.Helper()
	o := m.options(g, m.disk)
	o.Remote = m.node.Remote(g.ID)
	f, err := syncer.Open(o)
	if err != nil {
		m.t.Fatal(err)
	}
	f.SetSurface(still{})
	m.run("folder", f.Run, func() error { m.node.RemoveFolder(g.ID); return nil })
	if err := m.node.AddFolder(Share{ID: g.ID, Folder: f, Store: f.Store()}); err != nil {
		m.t.Fatal(err)
	}
	return f
}

func (m *machine) mkdir(f *syncer.Folder, name string) {
	m.t.Helper()
	if _, err := f.Create(syncer.RootIno, name, syncer.New{Kind: model.Dir, Mode: 0o755}); err != nil {
		m.t.Fatal(err)
	}
	if err := f.Cut(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

func TestRealFoldersConvergeOverRealConnections(t *testing.T) {
	a, b := newMachine(t, "ana"), newMachine(t, "ben")
	g, err := a.node.Create("shared", "")
	if err != nil {
		t.Fatal(err)
	}
	fa := a.open(g)
	for i := range 20 {
		a.mkdir(fa, fmt.Sprintf("before %d", i))
	}
	ticket, err := a.node.Invite(g.ID, trust.Writer, time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	g, err = b.node.Join(t.Context(), ticket, "")
	if err != nil {
		t.Fatal(err)
	}
	fb := b.open(g)
	has := func(f *syncer.Folder, name string) func() bool {
		return func() bool { _, err := f.Lookup(syncer.RootIno, name); return err == nil }
	}
	eventually(t, has(fb, "before 19"), "what was there before")
	start := time.Now()
	a.mkdir(fa, "news")
	eventually(t, has(fb, "news"), "news")
	t.Logf("news took %v", time.Since(start))
	b.mkdir(fb, "answer")
	eventually(t, has(fa, "answer"), "the answer")
	eventually(t, func() bool { return fa.Knowledge().Equal(fb.Knowledge()) }, "the same knowledge")

	data := randomBlock(rand.New(rand.NewPCG(1, 1)), 200<<10)
	id, err := fa.Store().Put(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fb.Blocks().Get(t.Context(), id, nil) // as a reader in the mount does
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
