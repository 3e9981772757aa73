package syncer_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// forge signs a batch of one change as a member would: of the replica given, or
// of its own.
func forge(p *peer, replica model.Replica, c model.Change) model.Batch {
	seal := model.Seal{Folder: p.opts.ID, Key: [32]byte(p.opts.Key)}
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	if replica == 0 {
		replica = model.NewReplica(pub)
	}
	h := model.Header{Replica: replica, Lo: 1, Hi: 1, UTC: time.Now().Unix(), Author: "eve", Device: "box"}
	return seal.Sign(h, [][]byte{c.Encode()}, key)
}

// TestRefusedBatchesDoNoHarm: what a broken member sends is refused, changes
// nothing, and the folder opens again afterwards.
func TestRefusedBatchesDoNoHarm(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "F")
	w.same()
	place := []model.LinkChange{{Key: model.PrimaryKey, Parent: model.RootID, Name: "x"}}
	tests := []struct {
		name string
		c    model.Change
	}{
		{"a clock at its end", model.Change{ID: model.ID{9}, Lamport: 1 << 62, Links: place, Version: &model.VersionChange{}}},
		{"content that cannot be", model.Change{ID: model.ID{9}, Lamport: 1, Links: place, Version: &model.VersionChange{Content: "\xff\xff"}}},
		{"a reserved name", model.Change{ID: model.ID{9}, Lamport: 1, Links: []model.LinkChange{{Parent: model.RootID, Name: ".clachan"}}}},
		{"a path for a name", model.Change{ID: model.ID{9}, Lamport: 1, Links: []model.LinkChange{{Parent: model.RootID, Name: "../x"}}}},
		{"the root itself", model.Change{ID: model.RootID, Lamport: 1, Kind: model.Dir, Gone: model.VV{{Replica: 1, Seq: 1}}}},
	}
	before, k := a.tree(), a.Knowledge()
	for _, tt := range tests {
		if err := a.Receive(context.Background(), "eve", forge(a, 0, tt.c)); !errors.Is(err, model.ErrBatch) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	fine := model.Change{ID: model.ID{9}, Lamport: 1, Links: place, Version: &model.VersionChange{}}
	for _, p := range w.peers {
		if err := a.Receive(context.Background(), "eve", forge(a, p.Replica(), fine)); !errors.Is(err, model.ErrBatch) {
			t.Errorf("a change in the name of %s: %v", p.name, err)
		}
	}
	if a.tree() != before || !a.Knowledge().Equal(k) {
		t.Errorf("changed to\n%s", a.tree())
	}
	b := w.peers[1]
	b.write("/g", "G")
	w.same()
	w.talk.Lock()
	a.stop()
	a.start()
	w.talk.Unlock()
	a.write("/h", "H")
	w.want("/f 644 F", "/g 644 G", "/h 644 H")
}

// TestStagedBytesOutliveAnotherKind: bytes not cut yet are kept when others put
// something else under the name.
func TestStagedBytesOutliveAnotherKind(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "v")
	w.same()
	w.part(true)
	b.rm("/f")
	b.mkdir("/f")
	b.must(b.Cut(context.Background()))
	x := a.stat("/f")
	a.open(x.Ino, true) // a writer holds it: it is not cut yet
	a.write("/f", "mine")
	w.part(false)
	w.until("the directory is here", func() bool { return b.Knowledge().LE(a.Knowledge()) })
	a.shut(x.Ino)
	tree := w.same()
	if !strings.Contains(tree, "mine") || !strings.Contains(tree, "/f 755 /") {
		t.Fatalf("got\n%s", tree)
	}
}

// TestLaterBytesKeepTheirSize: a file that is written on while it is cut has
// the size of what was written last, also in its row.
func TestLaterBytesKeepTheirSize(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	a.write("/f", "v")
	a.must(a.Cut(context.Background()))
	later := DirtyState{Gen: 100, Size: 5, Alloc: 5, Data: []byte("later")}
	var once sync.Once
	a.surf.froze = func(ino Ino) {
		once.Do(func() {
			if err := a.Dirty(ino, later); err != nil {
				t.Error(err)
			}
		})
	}
	a.write("/f", "the first bytes")
	a.must(a.Cut(context.Background()))
	dir, name := a.at("/f")
	x, err := a.Lookup(dir, name)
	a.must(err)
	if x.Size != later.Size {
		t.Errorf("size is %d, was written as %d", x.Size, later.Size)
	}
	a.must(a.Staged(func(ino Ino, d DirtyState) bool {
		if ino == x.Ino && d.Size != int64(len(d.Data)) {
			t.Errorf("staged with %d bytes as %d", len(d.Data), d.Size)
		}
		return true
	}))
	a.must(a.Clean(x.Ino))
}

// Who did not know what is collected here may have built on it: what it says is
// refused, also from who only relays it, and its user hears of it.
func TestChangesByOneWhoIsBehindAreRefused(t *testing.T) {
	_, a, b, _ := oneHasCollected(t)
	c := model.Change{ID: model.BirthID(model.RootID, "late", model.Dir, 0), Kind: model.Dir, Lamport: 1, Links: []model.LinkChange{{Key: model.PrimaryKey, Parent: model.RootID, Name: "late"}}, Version: &model.VersionChange{}}
	batch := forge(a, 0, c)
	a.must(a.Receive(context.Background(), "eve", batch)) // who has collected nothing has a use for it
	before, k := b.tree(), b.Knowledge()
	for range 2 {
		if err := b.Receive(context.Background(), "a", batch); !errors.Is(err, ErrBehind) || errors.Is(err, model.ErrBatch) {
			t.Errorf("taken in, or a's fault: %v", err)
		}
	}
	if b.tree() != before || !b.Knowledge().Equal(k) || b.Err() != nil {
		t.Errorf("changed to\n%s", b.tree())
	}
	if as := b.Alarms(); len(as) != 1 || !strings.Contains(as[0].Text, "not taken in") {
		t.Errorf("alarms %v", as)
	}
	if err := b.Check(t.Context(), func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
}
