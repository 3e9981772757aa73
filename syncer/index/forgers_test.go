package index

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

// Versions that are said to be of one change, beside each other and each with a
// content of its own, would be one node: what an honest member never writes.
func TestViewOfForgedVersions(t *testing.T) { views(t, false, forgers) }

// A file's name and a version of it that is said to be of the same change are two
// claims: neither stands for the other.
func TestClaimsThatStayDoNotDiffer(t *testing.T) {
	orig := model.Dot{Replica: 1, Seq: 1}
	claims := []*model.Entry{{Orig: orig, Base: "f"}, {Orig: orig, Base: "f", Extra: true, UTC: 1}}
	if d := differing(claims, claims); len(d) > 0 {
		t.Errorf("%d claims differ from themselves", len(d))
	}
	ann := &model.Entry{Orig: orig, Base: "f", Extra: true, By: model.Label{Author: "ann"}}
	eve := &model.Entry{Orig: orig, Base: "f", Extra: true, By: model.Label{Author: "eve"}}
	both, one := []*model.Entry{ann, eve}, []*model.Entry{eve}
	if d := differing(both, one); len(d) != 1 || d[0] != ann {
		t.Errorf("of two versions said to be of one change, one went: %v", d)
	}
	if d := differing(one, both); len(d) != 1 || d[0] != ann {
		t.Errorf("of two versions said to be of one change, one came: %v", d)
	}
}

// forgers all write a file, and seldom take away what others wrote.
func forgers(r *rand.Rand, _ model.Fold) (out []said) {
	id := model.BirthID(model.RootID, "0", model.File, 0)
	eve := model.Label{Author: "eve", Device: "box"}
	var all []model.Dot
	var k model.VV
	for n := range 10 + r.Intn(20) {
		by := model.Replica(1 + r.Intn(4))
		d := model.Dot{Replica: by, Seq: k.Get(by) + 1}
		c := model.Change{Dot: d, ID: id, Kind: model.File, Lamport: uint64(n + 1)}
		if n == 0 || r.Intn(6) == 0 {
			c.Links = []model.LinkChange{{Parent: model.RootID, Name: names3[r.Intn(len(names3))]}}
		}
		var some model.VV
		for _, o := range all {
			if r.Intn(8) == 0 {
				some = some.With(o)
			}
		}
		if r.Intn(3) == 0 && len(some) > 0 {
			c.Gone = some
		} else {
			c.Version = &model.VersionChange{VV: some, Mtime: int64(r.Intn(3)) * 1e9, Content: inline(fmt.Sprint(r.Intn(6)))}
			if len(all) > 0 && r.Intn(3) > 0 {
				c.Version.Orig, c.Version.By = all[r.Intn(min(2, len(all)))], eve
			}
			all = append(all, d)
		}
		out = append(out, say(model.Header{Replica: d.Replica, Lo: d.Seq, Hi: d.Seq, Deps: k, UTC: 1, Author: "ann", Device: "box"}, []model.Change{c}))
		k = k.With(d)
	}
	return out
}
