package peers

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/crashfs"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A machine restored from a copy, on which work went on, meets its peer over a
// real connection: both end with what either did.
func TestRestoredMachineAndItsPeerComeTogether(t *testing.T) {
	disk := crashfs.New()
	id, err := trust.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	b := newMachine(t, "ben")
	g, err := b.node.Create("shared", "")
	if err != nil {
		t.Fatal(err)
	}
	fb := b.open(g)
	has := func(f *syncer.Folder, names ...string) func() bool {
		return func() bool {
			for _, n := range names {
				if _, err := f.Lookup(syncer.RootIno, n); err != nil {
					return false
				}
			}
			return true
		}
	}
	var old *crashfs.FS
	t.Run("before", func(t *testing.T) {
		a := newMachineOn(t, "ana", disk, id)
		ticket, err := b.node.Invite(g.ID, trust.Writer, time.Hour, 1)
		if err != nil {
			t.Fatal(err)
		}
		g, err := a.node.Join(t.Context(), ticket, "")
		if err != nil {
			t.Fatal(err)
		}
		fa := a.open(g)
		a.mkdir(fa, "one")
		eventually(t, has(fb, "one"), "what was there before the copy")
		eventually(t, func() bool { return fa.Knowledge().Equal(fb.Knowledge()) }, "the same knowledge")
		old = disk.CrashClone(vfs.CrashCloneCfg{})
		a.mkdir(fa, "two")
		a.mkdir(fa, "three")
		b.mkdir(fb, "bens")
		eventually(t, has(fb, "two", "three"), "what the copy does not have")
	})
	a := newMachineOn(t, "ana", old, id)
	grants, err := a.node.Grants()
	if err != nil || len(grants) != 1 {
		t.Fatalf("grants %v, %v", grants, err)
	}
	a.node.RemoveFolder(grants[0].ID)
	fa := a.open(grants[0])
	a.mkdir(fa, "four") // perhaps before, perhaps after they meet
	eventually(t, has(fa, "one", "two", "three", "four", "bens"), "everything at the restored machine")
	eventually(t, has(fb, "one", "two", "three", "four", "bens"), "everything at its peer")
	eventually(t, func() bool { return fa.Knowledge().Equal(fb.Knowledge()) }, "the same knowledge")
	if len(fa.Alarms()) == 0 {
		t.Error("nobody hears of it")
	}
	a.mkdir(fa, "after")
	eventually(t, has(fb, "after"), "news")
}

func TestOpeningsSurviveTheWire(t *testing.T) {
	o := model.Opening{Own: 7, K: model.VV{{Replica: 7, Seq: 3}}, Horizon: model.VV{{Replica: 7, Seq: 2}}, Returning: true, Answers: true,
		Marks: []model.Mark{{Dot: model.Dot{Replica: 7, Seq: 3}, Lo: 2, Hash: [16]byte{1, 2}}},
		Told:  []model.Mark{{Dot: model.Dot{Replica: 7, Seq: 1}, Lo: 1, Hash: [16]byte{3}}}}
	got, err := openingOf(&wire.FolderState{Opening: openingMessage(o)}, nil)
	if err != nil || got.Own != 7 || !got.K.Equal(o.K) || !got.Horizon.Equal(o.Horizon) || !got.Returning || !got.Answers || len(got.Marks) != 1 || got.Marks[0] != o.Marks[0] || len(got.Told) != 1 || got.Told[0] != o.Told[0] {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []*wire.Opening{{Knowledge: []byte{1}}, {Horizon: []byte{1}}, {Marks: []byte{1}}, {Told: []byte{1}}} {
		if _, err := openingOf(&wire.FolderState{Opening: bad}, nil); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// A third member hears of both histories of a machine that was restored, whoever
// tells it first, and all come together; what each did later comes through.
func TestThirdMemberHearsOfARestoredMachine(t *testing.T) {
	disk := crashfs.New()
	id, err := trust.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	b, c := newMachine(t, "ben"), newMachine(t, "cyd")
	g, err := b.node.Create("shared", "")
	if err != nil {
		t.Fatal(err)
	}
	fb := b.open(g)
	join := func(t *testing.T, m *machine) Grant {
		t.Helper()
		ticket, err := b.node.Invite(g.ID, trust.Writer, time.Hour, 1)
		if err != nil {
			t.Fatal(err)
		}
		g, err := m.node.Join(t.Context(), ticket, "")
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	fc := c.open(join(t, c))
	var old *crashfs.FS
	var was model.Replica
	t.Run("before", func(t *testing.T) {
		a := newMachineOn(t, "ana", disk, id)
		fa := a.open(join(t, a))
		a.mkdir(fa, "one")
		every(t, []*syncer.Folder{fa, fb, fc}, "one")
		if err := fa.Sync(); err != nil {
			t.Fatal(err)
		}
		old, was = disk.CrashClone(vfs.CrashCloneCfg{}), fa.Replica()
		for _, name := range []string{"lost 1", "lost 2", "lost 3"} {
			a.mkdir(fa, name)
		}
		every(t, []*syncer.Folder{fa, fb, fc}, "lost 3")
	})
	a := newMachineOn(t, "ana", old, id)
	grants, err := a.node.Grants()
	if err != nil || len(grants) != 1 {
		t.Fatalf("grants %v, %v", grants, err)
	}
	a.node.RemoveFolder(grants[0].ID)
	fa := a.open(grants[0])
	a.mkdir(fa, "anew")
	all := []*syncer.Folder{fa, fb, fc}
	every(t, all, "one", "lost 1", "lost 2", "lost 3", "anew")
	if fa.Replica() == was {
		t.Error("it goes on as the replica it was")
	}
	a.mkdir(fa, "after")
	c.mkdir(fc, "answer")
	every(t, all, "after", "answer")
	for _, f := range all {
		if err := f.Check(t.Context(), func(err error) { t.Error(err) }); err != nil {
			t.Error(err)
		}
	}
}

// every waits until all folders show the names, and know the same.
func every(t *testing.T, folders []*syncer.Folder, names ...string) {
	t.Helper()
	for _, name := range names {
		for _, f := range folders {
			eventually(t, func() bool { _, err := f.Lookup(syncer.RootIno, name); return err == nil }, name)
		}
	}
	eventually(t, func() bool {
		for _, f := range folders {
			if !f.Knowledge().Equal(folders[0].Knowledge()) {
				return false
			}
		}
		return true
	}, "the same knowledge")
}
