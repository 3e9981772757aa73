package index

import (
	"bytes"
	"crypto/ed25519"
	"flag"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

// The view that the rows keep up to date is compared with the one that the model
// computes anew, after every batch: of honest users, who name few things and
// often the same, and of arbitrary changes, such as dishonest members send.

var (
	histories = flag.Int("histories", 60, "random histories of a run, of each kind")
	seed      = flag.Int64("seed", 1, "seed of the first history; 0: by the clock")
)

var (
	viewSeal = model.Seal{Folder: [32]byte{1}, Key: [32]byte{2}}
	viewKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	names3   = []string{"a.txt", "b", "B"}
)

// viewer is an index and the model, which have joined the same.
type viewer struct {
	names string // the name policy
	db    *pebble.DB
	ix    *Index
	mem   *model.Mem
	about map[model.Dot]model.Origin
	met   *viewMet
}

type viewMet struct{ views, names, losers, undone int }

func newViewed(names string, met *viewMet) (*viewer, error) {
	fold, err := model.FoldOf(names)
	if err != nil {
		return nil, err
	}
	db, err := pebble.Open("meta", &pebble.Options{FS: vfs.NewMem(), MemTableSize: 256 << 10, Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	v := &viewer{names: names, db: db, about: map[model.Dot]model.Origin{}, met: met}
	v.mem = model.NewMem(fold, func(d model.Dot) model.Origin { return v.about[d] })
	return v, v.open()
}

type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (v *viewer) open() (err error) {
	if v.ix, err = Open(v.db, 1, v.names, 7, 8); err == nil {
		v.ix.SetSeal(viewSeal)
	}
	return err
}

// A said is a batch as it is sent.
type said struct {
	h       model.Header
	changes []model.Change
	raw     model.Batch
}

func say(h model.Header, changes []model.Change) said {
	var raw [][]byte
	for _, c := range changes {
		raw = append(raw, c.Encode())
	}
	return said{h, changes, viewSeal.Sign(h, raw, viewKey)}
}

// join takes batches into both, in one transaction.
func (v *viewer) join(bs []said) error {
	t := v.ix.Begin()
	for _, b := range bs {
		v.note(b)
		t.AddBatch(b.h, b.raw, b.changes)
		if len(bs)%2 == 0 {
			t.settle() // as a cut does, that goes on after it has looked
		}
	}
	for _, ino := range t.Fresh() { // all bytes are in the batches
		t.Publish(ino, t.Wanted(ino), 0, func(Ino) bool { return false })
	}
	if err := t.Commit(); err != nil {
		return err
	}
	return v.compare()
}

// note has the model join a batch.
func (v *viewer) note(b said) {
	for _, c := range b.changes {
		v.about[c.Dot] = model.Origin{K: b.h.Deps.With(model.Dot{Replica: c.Dot.Replica, Seq: c.Dot.Seq - 1}), Lo: b.h.Lo,
			By: model.Label{Author: b.h.Author, Device: b.h.Device}, UTC: b.h.UTC}
		v.mem.Apply(c, b.h.Deps)
	}
}

// compare finds a difference between the rows and the model.
func (v *viewer) compare() error {
	t := v.ix.Begin()
	defer t.Abort()
	v.met.views++
	v.met.undone += len(v.mem.Undone())
	for id, want := range v.mem.Nodes {
		if got := t.Node(id); !want.Equal(got) {
			return fmt.Errorf("node %v is %+v, want %+v", id, got, want)
		}
		if want.Kind != model.Dir || !v.mem.Alive(id) {
			continue
		}
		var have, should []string
		err := v.ix.Page(t.Ino(id), 0, func(_ uint64, e Entry) bool {
			r := t.Row(e.Ino)
			have = append(have, fmt.Sprintf("%s %v %v %o", e.Name, r.ID, t.ShownOrig(e.Ino), r.Mode))
			return true
		})
		if err != nil {
			return err
		}
		for k, y := range v.ix.names {
			if k.dir == t.Ino(id) {
				have = append(have, fmt.Sprintf("%s waits for %v", k.name, y.View))
			}
		}
		for _, e := range v.mem.List(id) {
			orig := e.Orig
			if e.Kind == model.Dir {
				orig = t.ShownOrig(t.Ino(e.ID))
			}
			n := v.mem.Nodes[e.Node()]
			if e.Kind != model.Dir && (n == nil || !n.Live()) {
				n = v.mem.Nodes[e.ID]
			}
			should = append(should, fmt.Sprintf("%s %v %v %o", e.Name, e.Node(), orig, modeOf(n)))
			v.met.names++
			if e.Name != e.Base {
				v.met.losers++
			}
		}
		slices.Sort(have)
		if slices.Sort(should); !slices.Equal(have, should) {
			return fmt.Errorf("directory %v has\n%s\nwant\n%s", id, strings.Join(have, "\n"), strings.Join(should, "\n"))
		}
	}
	return t.Err()
}

// finish checks the rows as "db check" does, and once more after a restart. Of
// vectors in no order the log does not keep what superseded what.
func (v *viewer) finish(honest bool) error {
	for range 2 {
		var first error
		report := func(e error) {
			if first == nil {
				first = e
			}
		}
		err := v.ix.compare(v.mem, report)
		if honest && err == nil {
			err = v.ix.Check(report)
		}
		if err != nil || first != nil {
			return fmt.Errorf("check: %w, %w", err, first)
		}
		if err := v.open(); err != nil {
			return err
		}
	}
	return v.db.Close()
}

// policyOf is the name policy of a history: every second one has names that
// differ in case only for the same.
func policyOf(seed int64) string { return []string{model.NamesBytes, model.NamesPortable}[seed&1] }

// views plays histories: made gives the batches of one, users tells that they are
// honest.
func views(t *testing.T, users bool, made func(r *rand.Rand, fold model.Fold) []said) {
	first := *seed
	if first == 0 {
		first = time.Now().UnixNano() % 1e9
	}
	t.Logf("seeds from %d", first)
	var met viewMet
	for s := first; s < first+int64(*histories); s++ {
		r := rand.New(rand.NewSource(s))
		policy := policyOf(s)
		fold, _ := model.FoldOf(policy)
		bs := made(r, fold)
		v, err := newViewed(policy, &met)
		for n := 0; err == nil && len(bs) > 0; bs = bs[n:] {
			n = 1 + r.Intn(min(len(bs), 1+r.Intn(6)))
			if err = v.join(bs[:n]); err == nil && r.Intn(12) == 0 {
				err = v.open() // a restart: what is in memory comes from the rows
			}
		}
		if err == nil {
			err = v.finish(users)
		}
		if err != nil {
			t.Fatalf("seed %d: after %d views: %v", s, met.views, err)
		}
	}
	t.Logf("%+v", met)
	fmt.Printf("%d histories\n", *histories)
}

func TestViewOfHonestPeers(t *testing.T) { views(t, true, honest) }

// The names of losers are cut to their length, so that those of different bases meet.
func TestViewOfLongNames(t *testing.T) {
	var long []string
	for _, end := range []string{"a", "b", "B"} {
		long = append(long, strings.Repeat("n", 240)+end)
	}
	views(t, true, func(r *rand.Rand, fold model.Fold) []said { return work(r, fold, long, inline, true) })
}

func TestViewOfAnything(t *testing.T) { views(t, false, anything) }

// inAnyCausalOrder sorts batches so that each comes after those it depends on.
func inAnyCausalOrder(r *rand.Rand, all []said) (out []said) {
	var k model.VV
	for len(all) > 0 {
		i := r.Intn(len(all))
		for !all[i].h.Deps.LE(k) {
			i = (i + 1) % len(all)
		}
		out = append(out, all[i])
		k = k.With(model.Dot{Replica: all[i].h.Replica, Seq: all[i].h.Hi})
		all = slices.Delete(all, i, i+1)
	}
	return out
}

func inline(s string) string {
	return content.Content{Size: int64(len(s)), Inline: []byte(s)}.Encode()
}

// user is an honest peer: each operation is cut at once.
type user struct {
	mem     *model.Mem
	k       model.VV
	lamport uint64
	replica model.Replica
	log     []said
	things  uint64
	names   []string
	content func(string) string // of a file
}

// nowhere keeps no numbers of nodes.
type nowhere struct{}

func (nowhere) Bind(*model.Thing, model.ID) {}
func (nowhere) Swap(*model.Thing, model.ID) {}

// honest plays users who work on few names, and exchange now and then.
func honest(r *rand.Rand, fold model.Fold) []said { return work(r, fold, names3, inline, false) }

// work is what users do. If they are one, all they do is one author's at one time,
// so that the losers of a name are called alike.
func work(r *rand.Rand, fold model.Fold, names []string, content func(string) string, one bool) []said {
	about := map[model.Dot]model.Origin{}
	var us []*user
	var all []said
	for i := range 2 + r.Intn(3) {
		us = append(us, &user{mem: model.NewMem(fold, func(d model.Dot) model.Origin { return about[d] }), replica: model.Replica(i + 1), names: names, content: content})
	}
	for range 40 + r.Intn(80) {
		u := us[r.Intn(len(us))]
		if q := us[r.Intn(len(us))]; r.Intn(4) == 0 {
			u.pull(q)
			continue
		}
		a := &model.Author{State: u.mem, K: u.k, Replica: u.replica, Lamport: u.lamport, By: model.Label{Author: "ann", Device: "box"}}
		if !one {
			a.By.Author, a.Now = []string{"ann", "bob"}[u.replica%2], int64(r.Intn(9))
		}
		if !u.operate(r, a) || len(a.Changes()) == 0 {
			continue
		}
		for cs := a.Changes(); len(cs) > 0; {
			n := 1 + r.Intn(len(cs))
			b := say(model.Header{Replica: u.replica, Lo: cs[0].Dot.Seq, Hi: cs[n-1].Dot.Seq, Deps: u.k, UTC: a.Now,
				Author: a.By.Author, Device: a.By.Device}, cs[:n])
			for _, c := range cs[:n] {
				about[c.Dot] = model.Origin{K: u.k.With(model.Dot{Replica: u.replica, Seq: c.Dot.Seq - 1}), Lo: cs[0].Dot.Seq, By: a.By, UTC: a.Now}
				u.lamport = max(u.lamport, c.Lamport)
			}
			u.k = u.k.With(cs[n-1].Dot)
			u.log, all, cs = append(u.log, b), append(all, b), cs[n:]
		}
	}
	return inAnyCausalOrder(r, all)
}

func (u *user) pull(q *user) {
	for _, b := range q.log {
		if u.k.Has(model.Dot{Replica: b.h.Replica, Seq: b.h.Hi}) {
			continue
		}
		for _, c := range b.changes {
			u.mem.Apply(c, b.h.Deps)
			u.lamport = max(u.lamport, c.Lamport)
		}
		u.k = u.k.With(model.Dot{Replica: b.h.Replica, Seq: b.h.Hi})
		u.log = append(u.log, b)
	}
}

func (u *user) thing(e *model.Entry) *model.Thing {
	u.things++
	return &model.Thing{Ino: u.things, ID: e.Node(), Kind: e.Kind, Names: 1, Base: e.Orig}
}

func (u *user) walk(dir model.ID, f func(*model.Entry)) {
	for _, e := range u.mem.List(dir) {
		f(e)
		if e.Kind == model.Dir {
			u.walk(e.ID, f)
		}
	}
}

// operate does one thing to what the user sees.
func (u *user) operate(r *rand.Rand, a *model.Author) bool {
	dirs := []*model.Thing{{ID: model.RootID, Kind: model.Dir, Names: 1}}
	var all []*model.Entry
	u.walk(model.RootID, func(e *model.Entry) {
		all = append(all, e)
		if e.Kind == model.Dir {
			dirs = append(dirs, u.thing(e))
		}
	})
	dir, name := dirs[r.Intn(len(dirs))], u.names[r.Intn(len(u.names))]
	there := u.mem.At(dir.ID, name)
	put := &model.Name{Dir: dir, Name: name}
	if r.Intn(3) == 0 || len(all) == 0 {
		if there != nil {
			return false
		}
		u.things++
		put.Tree = &model.Thing{Ino: u.things, Kind: []model.Kind{model.Dir, model.Dir, model.File, model.Symlink}[r.Intn(4)], Names: 1,
			Mtime: int64(r.Intn(4)) * 1e9}
		switch put.Tree.Kind {
		case model.File:
			put.Tree.Content = u.content(fmt.Sprint(r.Intn(20)))
		case model.Symlink:
			put.Tree.Content = fmt.Sprint(r.Intn(20))
		}
		a.Diff(nowhere{}, []*model.Name{put}, []*model.Thing{put.Tree})
		return true
	}
	e := all[r.Intn(len(all))]
	th := u.thing(e)
	at := &model.Name{Dir: u.holder(dirs, e), Name: e.Name, Seen: e.Node(), SeenOrig: e.Orig}
	switch op := r.Intn(4); {
	case op == 0: // remove, with all that is in it
		ns := []*model.Name{at}
		if e.Kind == model.Dir {
			u.walk(e.ID, func(x *model.Entry) {
				ns = append(ns, &model.Name{Dir: u.holder(dirs, x), Name: x.Name, Seen: x.Node(), SeenOrig: x.Orig})
			})
		}
		a.Diff(nowhere{}, ns, nil)
	case op == 1 && e.Kind == model.File && !e.Extra:
		th.Edited, th.Content, th.Mtime = true, u.content(fmt.Sprint("e", r.Intn(99))), int64(r.Intn(4))*1e9
		a.Diff(nowhere{}, nil, []*model.Thing{th})
	case op == 2 && e.Kind != model.Dir && there == nil: // a further name
		at.Tree, put.Tree, th.Names = th, th, 2
		a.Diff(nowhere{}, []*model.Name{at, put}, []*model.Thing{th})
	case there == nil && !u.under(dir.ID, e.ID): // move
		put.Tree = th
		a.Diff(nowhere{}, []*model.Name{at, put}, []*model.Thing{th})
	default:
		return false
	}
	return true
}

func (u *user) holder(dirs []*model.Thing, e *model.Entry) *model.Thing {
	return dirs[slices.IndexFunc(dirs, func(d *model.Thing) bool { return d.ID == e.Parent })]
}

func (u *user) under(dir, anc model.ID) bool {
	for ; dir != model.RootID; dir = u.mem.Loc(dir).Parent {
		if dir == anc {
			return true
		}
	}
	return false
}

// anything makes changes as no honest member does: any parents, cycles, links of
// files that are not theirs, vectors in no order, dead things that come back;
// births over what is there, or an order against all causes.
func anything(r *rand.Rand, _ model.Fold) []said {
	var ids []model.ID
	kinds := map[model.ID]model.Kind{}
	for i := range 4 + r.Intn(10) {
		k := []model.Kind{model.Dir, model.Dir, model.Dir, model.File, model.File, model.Symlink}[r.Intn(6)]
		id := model.BirthID(model.RootID, fmt.Sprint(i), k, 0)
		ids, kinds[id] = append(ids, id), k
	}
	seq := map[model.Replica]uint64{}
	of := map[model.ID][]model.Dot{} // versions
	causal := r.Intn(2) == 0         // else nothing is born: what a birth forgets has come before it
	lamport := r.Perm(400)
	if causal {
		slices.Sort(lamport)
	}
	var out []said
	for range 20 + r.Intn(60) {
		rep := model.Replica(1 + r.Intn(3))
		var deps model.VV
		for x := model.Replica(1); x <= 3; x++ {
			deps = deps.With(model.Dot{Replica: x, Seq: uint64(r.Intn(int(seq[x]) + 1))})
		}
		deps = deps.Without(model.Dot{Replica: rep, Seq: 1}).With(model.Dot{Replica: rep, Seq: seq[rep]})
		h := model.Header{Replica: rep, Lo: seq[rep] + 1, Deps: deps, UTC: int64(r.Intn(3)), Author: []string{"ann", "bob"}[r.Intn(2)], Device: "box"}
		var cs []model.Change
		for range 1 + r.Intn(3) {
			id := ids[r.Intn(len(ids))]
			if slices.ContainsFunc(cs, func(c model.Change) bool { return c.ID == id }) {
				continue
			}
			seq[rep]++
			d := model.Dot{Replica: rep, Seq: seq[rep]}
			c := model.Change{Dot: d, ID: id, Kind: kinds[id], Lamport: uint64(lamport[(seq[1]+seq[2]+seq[3])%400] + 1), Born: causal && r.Intn(12) == 0}
			anyLinks(r, &c, ids, kinds)
			anyVersion(r, &c, deps.With(model.Dot{Replica: rep, Seq: d.Seq - 1}), of[id])
			if c.Version != nil {
				of[id] = append(of[id], d)
			}
			if forks := of[id]; r.Intn(6) == 0 && len(forks) > 0 { // the copy of a version, written by somebody
				f := model.ForkID(id, forks[r.Intn(len(forks))])
				if _, ok := kinds[f]; !ok && kinds[id] != model.Dir {
					ids, kinds[f] = append(ids, f), kinds[id]
				}
			}
			cs = append(cs, c)
		}
		h.Hi = seq[rep]
		out = append(out, say(h, cs))
	}
	if !causal {
		r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	return out
}

func anyLinks(r *rand.Rand, c *model.Change, ids []model.ID, kinds map[model.ID]model.Kind) {
	for range r.Intn(3) {
		l := model.LinkChange{Parent: model.RootID, Name: names3[r.Intn(len(names3))], Removed: r.Intn(4) == 0}
		if p := ids[r.Intn(len(ids))]; r.Intn(4) > 0 && p != c.ID && kinds[p] == model.Dir {
			l.Parent = p
		}
		if r.Intn(16) == 0 {
			l.Parent = model.BirthID(model.RootID, "nobody has made it", model.Dir, 0)
		}
		if c.Kind != model.Dir {
			l.Key = uint64(r.Intn(3))
		}
		if l.Removed && r.Intn(2) == 0 {
			l.Name = ""
		}
		l.Undone = l.Removed && r.Intn(4) == 0
		if !slices.ContainsFunc(c.Links, func(x model.LinkChange) bool { return x.Key == l.Key }) {
			c.Links = append(c.Links, l)
		}
	}
}

func anyVersion(r *rand.Rand, c *model.Change, k model.VV, others []model.Dot) {
	some := func() (v model.VV) {
		for _, d := range others {
			if k.Has(d) && r.Intn(2) == 0 {
				v = v.With(d)
			}
		}
		return v
	}
	if r.Intn(2) == 0 {
		c.Version = &model.VersionChange{VV: some(), Mtime: int64(r.Intn(3)) * 1e9 << (r.Intn(2) * 20), Unsure: r.Intn(3) == 0}
		switch c.Kind {
		case model.File:
			c.Version.Content = inline(fmt.Sprint(r.Intn(6)))
		case model.Symlink:
			c.Version.Content = fmt.Sprint(r.Intn(6))
		}
		if len(others) > 0 && r.Intn(3) == 0 {
			if d := others[r.Intn(len(others))]; k.Has(d) {
				c.Version.Orig, c.Version.By = d, model.Label{Author: "eve", Device: "box"}
			}
		}
	}
	if r.Intn(8) == 0 {
		c.Gone = some()
	}
	if r.Intn(4) == 0 {
		c.Attrs = append(c.Attrs, model.AttrChange{Name: model.AttrMode, Val: []string{"\x01\xa4", "\x01\xed", "", "\xff\xff", "no mode"}[r.Intn(5)]})
	}
}
