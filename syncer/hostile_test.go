package syncer_test

import (
	"errors"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

func placed(parent model.ID, name string) []model.LinkChange {
	return []model.LinkChange{{Key: model.PrimaryKey, Parent: parent, Name: name}}
}

// What a member that may write cannot say of any node: it would be gone at some of
// the others, or wait for ever.
func TestWhatNobodyCanMeanIsRefused(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.mkdir("/d")
	a.write("/d/f", "F")
	w.same()
	dir, file := a.node("/d"), a.node("/d/f")
	report := model.BirthID(model.RootID, "report.txt", model.File, 0)
	for what, c := range map[string]model.Change{
		"born again, nowhere":    {ID: dir, Kind: model.Dir, Born: true},
		"a directory in a file":  {ID: dir, Kind: model.Dir, Links: placed(file, "d")},
		"a file in a file":       {ID: file, Links: placed(report, "f")},
		"another kind":           {ID: file, Kind: model.Dir, Version: &model.VersionChange{}},
		"another kind, unheard":  {ID: report, Kind: model.Dir, Links: placed(model.RootID, "report.txt"), Version: &model.VersionChange{}},
		"another kind, and dead": {ID: report, Kind: model.Symlink, Links: []model.LinkChange{{Parent: model.RootID, Name: "x", Removed: true, Undone: true}}},
	} {
		c.Lamport = 20
		x := newLiar(a).batch(a.Knowledge(), c)
		for _, p := range w.peers {
			if err := p.Receive(t.Context(), "eve", x); !errors.Is(err, model.ErrBatch) {
				t.Errorf("%s at %s: %v", what, p.name, err)
			}
		}
	}
	a.write("/report.txt", "precious")
	w.want("/d 755 /", "/d/f 644 F", "/report.txt 644 precious")
}

// A node that lives is not born again: nothing it has is forgotten, whoever hears
// of it first.
func TestWhatLivesIsNotBornAgain(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	a.write("/d/f", "F")
	a.must(a.Setxattr(a.ino("/d/f"), "user.k", []byte("v"), 0))
	w.same()
	w.part(true)
	l := newLiar(a)
	for _, c := range []model.Change{
		{ID: a.node("/d"), Kind: model.Dir, Born: true, Links: placed(model.RootID, "e")},
		{ID: a.node("/d/f"), Born: true, Links: placed(a.node("/d"), "g")},
	} {
		c.Lamport = 20
		a.must(a.Receive(t.Context(), "eve", l.batch(a.Knowledge(), c)))
	}
	w.part(false)
	w.want("/e 755 /", "/e/g 644 F")
	for _, p := range w.peers {
		if got := p.xattrs(p.ino("/e/g")); got != " user.k=v" {
			t.Errorf("%s has attributes %q", p.name, got)
		}
	}
	b.must(b.Check(t.Context(), func(err error) { t.Error(err) }))
}

// A directory that comes to the root because all its places make cycles has not
// the reserved name there: the next who writes down where it is would be refused.
func TestACycleMakesNoReservedName(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.mkdir("/d")
	w.same()
	l := newLiar(a)
	x, y := model.BirthID(model.RootID, "x", model.Dir, 0), model.BirthID(model.RootID, "y", model.Dir, 0)
	for i, c := range []model.Change{
		{ID: y, Links: placed(x, "y")},
		{ID: x, Links: placed(y, ".clachan")},
	} {
		c.Kind, c.Lamport, c.Version = model.Dir, uint64(10+i), &model.VersionChange{}
		a.must(a.Receive(t.Context(), "eve", l.batch(a.Knowledge(), c)))
	}
	w.want("/clachan 755 /", "/clachan/y 755 /", "/d 755 /")
	a.mkdir("/e")
	a.mv("/d", "/e/d")
	a.cutNow()
	w.want("/clachan 755 /", "/clachan/y 755 /", "/e 755 /", "/e/d 755 /")
}
