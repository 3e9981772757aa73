package syncer_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	mrand "math/rand"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks/crashfs"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// copyOfDisk is a copy of a peer's disk, taken while it runs. What is not cut is
// not on it: bytes are staged in memory here.
func (p *peer) copyOfDisk() *crashfs.FS {
	p.t.Helper()
	p.cutNow()
	p.must(p.Sync())
	return p.fs.(*crashfs.FS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng(mrand.New(mrand.NewSource(1)))})
}

// restore goes on with a copy of the disk.
func (p *peer) restore(fs *crashfs.FS) {
	p.t.Helper()
	p.w.talk.Lock()
	defer p.w.talk.Unlock()
	p.stop()
	p.w.shut()
	p.fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng(mrand.New(mrand.NewSource(1)))})
	p.start()
}

// clone adds a peer that is a copy of p, with its key.
func (p *peer) clone(fs *crashfs.FS) *peer {
	p.t.Helper()
	w := p.w
	q := &peer{t: p.t, w: w, name: string(rune('a' + len(w.peers))), fs: fs, opts: p.opts}
	q.opts.Remote = &memRemote{q}
	q.start()
	w.live.Lock()
	w.peers = append(w.peers, q)
	w.live.Unlock()
	return q
}

// cutNow cuts what is closed.
func (p *peer) cutNow() {
	p.t.Helper()
	p.must(p.Cut(context.Background()))
}

// holds fails unless each of the contents is in some file of the tree.
func holds(t *testing.T, tree string, contents ...string) {
	t.Helper()
	for _, c := range contents {
		if !strings.Contains(tree+"\n", " "+c+"\n") {
			t.Errorf("nothing holds %q:\n%s", c, tree)
		}
	}
}

func newCrashable(t testing.TB, n int) *world { return newCrashableOf(t, n, "") }

func newCrashableOf(t testing.TB, n int, policy string) *world {
	w := newWorldOf(t, n, policy)
	for _, p := range w.peers {
		p.crashable()
	}
	return w
}

// A database restored from a copy lacks what it said itself since. It gets that
// back, under a new replica id.
func TestRestoredCopyGetsItsOwnChangesBack(t *testing.T) {
	w := newCrashable(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "one")
	w.same()
	old := a.copyOfDisk()
	a.write("/f", "two")
	a.write("/g", "G")
	w.same()
	was := a.Replica()
	a.restore(old)
	w.want("/f 644 two", "/g 644 G")
	if a.Replica() == was {
		t.Error("it goes on as the replica it was")
	}
	a.write("/f", "three")
	b.write("/h", "H")
	w.want("/f 644 three", "/g 644 G", "/h 644 H")
	if len(a.Alarms()) == 0 {
		t.Error("nobody hears of it")
	}
}

// What was done on a restored copy before it met anybody is kept.
func TestRestoredCopyKeepsWhatWasDoneOnIt(t *testing.T) {
	w := newCrashable(t, 3)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	a.write("/d/f", "one")
	a.write("/gone", "G")
	w.same()
	old := a.copyOfDisk()
	a.write("/d/f", "two")
	a.write("/after", "copied")
	a.rm("/gone")
	b.write("/b", "B")
	w.same()
	w.part(true)
	a.restore(old)
	a.write("/mine", "M")
	a.mv("/d", "/e")
	a.cutNow()
	a.write("/mine2", "M2")
	a.cutNow()
	w.part(false)
	w.want("/after 644 copied", "/b 644 B", "/e 755 /", "/e/f 644 two", "/mine 644 M", "/mine2 644 M2")
}

// An edit of what others have changed since the copy is a conflict, one of what
// they have not is none.
func TestRestoredCopyThatEditsForksOnlyWhatItNeverSaw(t *testing.T) {
	w := newCrashable(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f.txt", "f1")
	a.write("/g.txt", "g1")
	w.same()
	old := a.copyOfDisk()
	a.write("/f.txt", "f2")
	b.write("/b", "B")
	w.same()
	w.part(true)
	a.restore(old)
	a.write("/f.txt", "f3")
	a.write("/g.txt", "g2")
	a.cutNow()
	w.part(false)
	tree := w.same()
	holds(t, tree, "f2", "f3", "g2", "B")
	if strings.Contains(tree, "/g (conflict") || strings.Contains(tree, "g1") || strings.Contains(tree, " f1") {
		t.Errorf("got\n%s", tree)
	}
}

// Two holders of one database that both go on, and one who hears of both.
func TestCloneAndOriginalBothGoOn(t *testing.T) {
	w := newCrashable(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	a.write("/d/f", "F")
	w.same()
	w.part(true)
	c := a.clone(a.copyOfDisk())
	for i := range 5 {
		a.write(fmt.Sprint("/a", i), fmt.Sprint("A", i))
		a.cutNow()
		if i < 3 {
			c.write(fmt.Sprint("/c", i), fmt.Sprint("C", i))
			c.write("/same", "S")
			c.cutNow()
		}
	}
	a.write("/same", "S")
	a.write("/d/f", "FA")
	b.write("/b", "B")
	w.part(false)
	tree := w.same()
	holds(t, tree, "A0", "A4", "C0", "C2", "FA", "S", "B")
	if strings.Contains(tree, "conflict") {
		t.Errorf("equal contents, or no concurrency, and yet:\n%s", tree)
	}
	if a.Replica() == c.Replica() {
		t.Error("both go on as one replica")
	}
	a.write("/d/f", "FA2")
	c.write("/c0", "C0b")
	tree = w.same()
	holds(t, tree, "FA2", "C0b")
}

// A third member took what the losing side had said.
func TestWhoTookTheOtherBranchFollows(t *testing.T) {
	w := newCrashable(t, 4)
	a, b, d := w.peers[0], w.peers[1], w.peers[2]
	a.mkdir("/d")
	a.write("/d/f", "F")
	w.same()
	w.part(true)
	c := a.clone(a.copyOfDisk())
	for i := range 4 {
		a.write(fmt.Sprint("/d/a", i), fmt.Sprint("A", i))
		a.cutNow()
	}
	c.write("/d/c", "C")
	c.cutNow()
	talk := func(p, q *peer) {
		w.talk.Lock()
		defer w.talk.Unlock()
		for range 4 {
			if w.meet(context.Background(), p, q) {
				w.send(context.Background(), p, q)
			}
		}
	}
	talk(a, b)
	talk(c, d)
	b.write("/d/f", "B")
	b.cutNow()
	d.mkdir("/e")
	d.mv("/d/f", "/e/g")
	d.write("/e/h", "D")
	d.cutNow()
	w.part(false)
	tree := w.same()
	holds(t, tree, "A0", "A3", "C", "B", "D")
}

// A database that finds itself in another place is a copy.
func TestDatabaseInAnotherPlaceIsACopy(t *testing.T) {
	w := newCrashable(t, 2)
	a := w.peers[0]
	again := func(place string) model.Replica {
		w.talk.Lock()
		defer w.talk.Unlock()
		a.stop()
		w.shut()
		a.opts.Place = []byte(place)
		a.start()
		return a.Replica()
	}
	was := a.Replica()
	for range 2 {
		if again("here") != was {
			t.Error("a new replica in the old place")
		}
	}
	if again("there") == was {
		t.Error("the same replica in another place")
	}
	a.write("/f", "F")
	w.want("/f 644 F")
}

func TestRekeyGoesOnWithoutAConflict(t *testing.T) {
	w := newCrashable(t, 2)
	a, b := w.peers[0], w.peers[1]
	for i := range 4 {
		a.write("/f", fmt.Sprint("v", i))
		a.must(a.Rekey())
		a.write("/f", fmt.Sprint("w", i))
		b.write("/g", fmt.Sprint("g", i))
		w.same()
	}
	w.want("/f 644 w3", "/g 644 g3")
}

// A device that takes one name after the other is not listened to for ever.
func TestTooManyReplicasOfOneDeviceAreRefused(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	_, dev, _ := ed25519.GenerateKey(nil)
	seal := model.Seal{Folder: a.opts.ID, Key: [32]byte(a.opts.Key)}
	refused := 0
	for i := range 70 {
		id := model.BirthID(model.RootID, fmt.Sprint("d", i), model.Dir, 0)
		c := model.Change{ID: id, Kind: model.Dir, Lamport: 1, Born: true, Version: &model.VersionChange{},
			Links: []model.LinkChange{{Parent: model.RootID, Name: fmt.Sprint("d", i)}}}
		b := seal.Sign(model.Header{Replica: model.NewReplica(dev.Public().(ed25519.PublicKey)), Lo: 1, Hi: 1}, [][]byte{c.Encode()}, dev)
		if a.Receive(context.Background(), "x", b) != nil {
			refused++
		}
	}
	if refused != 6 {
		t.Errorf("%d refused of 70", refused)
	}
}

// A copy made before a conflict was known knows one side of it: coming back from
// it removes neither.
func TestRestoredCopyKeepsAConflictThatIsNewToIt(t *testing.T) {
	w := newCrashable(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "base")
	w.same()
	w.part(true)
	a.write("/f", "a's side")
	old := a.copyOfDisk()
	b.write("/f", "b's side")
	b.cutNow()
	w.part(false)
	w.same()
	a.write("/later", "kept by b")
	w.same()
	w.part(true)
	a.restore(old)
	a.write("/other", "on the old disk")
	a.cutNow()
	w.part(false)
	holds(t, w.same(), "a's side", "b's side", "kept by b", "on the old disk")
}

// Who begins anew may have a conflict that the one it takes from has only one side
// of: that side was never superseded, and stays.
func TestWhoBeginsAnewKeepsBothSidesOfAConflict(t *testing.T) {
	for _, tt := range []struct {
		name    string
		a, b    func(p *peer)
		holding []string
	}{
		{"two edits", func(p *peer) { p.write("/f.txt", "a's side") }, func(p *peer) { p.write("/f.txt", "b's side") }, []string{"a's side", "b's side"}},
		{"two moves", func(p *peer) { p.mv("/g", "/x"); p.write("/x", "a's side") }, func(p *peer) { p.mv("/h", "/x") }, []string{"a's side", "h"}},
		{"other kinds", func(p *peer) { p.mkdir("/y"); p.write("/y/z", "a's side") }, func(p *peer) { p.write("/y", "b's side") }, []string{"a's side", "b's side"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newCrashable(t, 3)
			a, b, c := w.peers[0], w.peers[1], w.peers[2]
			a.write("/f.txt", "base")
			a.write("/g", "g")
			a.write("/h", "h")
			w.same()
			w.part(true)
			d := c.clone(c.copyOfDisk())
			tt.a(a)
			a.cutNow()
			tt.b(b)
			b.cutNow()
			w.talk.Lock()
			if w.meet(t.Context(), a, b) {
				w.send(t.Context(), a, b) // and nothing back
			}
			w.talk.Unlock()
			holds(t, b.tree(), tt.holding...)
			holds(t, w.anewAfter(d), tt.holding...)
		})
	}
}

// anewAfter lets the second peer begin anew from the first: these have heard of
// two ends of the history of the third, of which d is a copy. It returns what all
// show then.
func (w *world) anewAfter(d *peer) string {
	w.t.Helper()
	a, b, c := w.peers[0], w.peers[1], w.peers[2]
	for i := range 3 {
		c.write(fmt.Sprint("/c", i), "c")
		c.cutNow()
	}
	w.talk2(a, c)
	d.write("/d", "d")
	d.cutNow()
	w.talk2(b, d)
	was := b.Replica()
	w.part(false)
	tree := w.same()
	if b.Replica() == was {
		w.t.Error("b has not begun anew")
	}
	return tree
}

// Nobody has seen a version of which the bytes never came: who writes over what
// it followed, and begins anew then, supersedes it no more than before.
func TestWhoBeginsAnewHasNotSeenWhatNeverCame(t *testing.T) {
	w := newCrashable(t, 3)
	a, b, c := w.peers[0], w.peers[1], w.peers[2]
	a.write("/f.txt", "base")
	w.same()
	w.part(true)
	d := c.clone(c.copyOfDisk())
	a.write("/f.txt", strings.Repeat("a's side", 1000))
	a.cutNow()
	w.talk.Lock()
	if w.meet(t.Context(), a, b) {
		w.send(t.Context(), a, b)
	}
	w.talk.Unlock()
	holds(t, b.tree(), "base")
	b.write("/f.txt", "b's side")
	b.cutNow()
	tree := w.anewAfter(d)
	holds(t, tree, "b's side")
	if !strings.Contains(tree, " a's side… 8000 ") {
		t.Errorf("what a has written is gone:\n%s", tree)
	}
}

// A copy may be so old that nobody remembers each of the changes that it has: what
// was done on it before it met anybody is kept, and what others removed since stays
// removed, if it is older than the last change that is remembered.
func TestRestoredCopyOlderThanTheMarksKeepsWhatWasDoneOnIt(t *testing.T) {
	plainly(t)
	w := newCrashable(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/removed", "R")
	a.write("/f", "f")
	w.same()
	touch := func(n int) {
		for i := range int64(n) {
			_, err := a.SetAttr(a.ino("/f"), Set{Mtime: &i})
			a.must(err)
			a.cutNow()
		}
	}
	touch(64) // of these, one in four is remembered in the end
	old := a.copyOfDisk()
	touch(2*index.KeptMarks + 1000)
	b.rm("/removed")
	w.same()
	w.part(true)
	a.restore(old)
	a.write("/offline", "made on the old disk")
	a.cutNow()
	w.part(false)
	w.want("/f 644 f", "/offline 644 made on the old disk")
	if len(a.Alarms()) == 0 {
		t.Error("nobody hears of it")
	}
}

// A member may hear in the middle of a session what a copy of it has done, and not
// of all of it, since some is dead: what it did itself meanwhile is no part of that.
func TestWhoHearsLateOfItsCopyKeepsWhatItDid(t *testing.T) {
	w := newCrashable(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "f")
	w.same()
	w.part(true)
	d := a.clone(a.copyOfDisk())
	w.talk2(a, b)
	w.talk2(b, d)
	a.write("/mine", "a's")
	a.cutNow()
	for i := range int64(3) {
		_, err := d.SetAttr(d.ino("/f"), Set{Mtime: &i})
		d.must(err)
		d.cutNow()
	}
	w.talk.Lock()
	w.send(t.Context(), d, b)
	w.send(t.Context(), b, a)
	w.talk.Unlock()
	w.part(false)
	w.want("/f 644 f", "/mine 644 a's")
}

// A symlink that others have replaced is shown until what replaces it is here: who
// begins anew then has nothing of its own there, and cuts none that leads nowhere.
func TestWhoBeginsAnewFollowsWhereASymlinkWasReplaced(t *testing.T) {
	w := newCrashable(t, 3)
	a, b, c := w.peers[0], w.peers[1], w.peers[2]
	_, err := a.Create(RootIno, "l", New{Kind: model.Symlink, Target: "somewhere"})
	a.must(err)
	w.same()
	w.part(true)
	d := c.clone(c.copyOfDisk())
	a.rm("/l")
	a.write("/l", strings.Repeat("a file", 1000))
	a.cutNow()
	w.talk.Lock()
	if w.meet(t.Context(), a, b) {
		w.send(t.Context(), a, b)
	}
	w.talk.Unlock()
	if tree := b.tree(); !strings.Contains(tree, "somewhere") {
		t.Fatalf("b shows no symlink:\n%s", tree)
	}
	tree := w.anewAfter(d)
	if !strings.Contains(tree, "/l 644 a filea") || strings.Contains(tree, "somewhere") {
		t.Errorf("all show\n%s", tree)
	}
}
