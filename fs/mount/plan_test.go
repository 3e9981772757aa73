package mount

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

func at(dir syncer.Ino, name string) syncer.Place { return syncer.Place{Dir: dir, Name: name} }

func TestWatchersAreToldWhatAProgramWouldHaveDone(t *testing.T) {
	const root, dir, sub, unseen = syncer.RootIno, 10, 11, 12
	known := func(ino syncer.Ino) bool { return ino != unseen }
	for _, tt := range []struct {
		name  string
		flips []syncer.Flip
		want  []event
	}{
		{"made, its bytes are not told apart", []syncer.Flip{{Dir: root, Name: "f", New: 5}, {Content: 5}, {Content: 5, Attrs: true}},
			[]event{{deed: made, at: at(root, "f"), ino: 5}}},
		{"written twice is once", []syncer.Flip{{Content: 5}, {Content: 5}, {Content: 5, Attrs: true}},
			[]event{{deed: wrote, ino: 5}, {deed: touched, ino: 5}}},
		{"gone and come is moved", []syncer.Flip{{Dir: dir, Name: "b", New: 5}, {Dir: root, Name: "a", Old: 5}},
			[]event{{deed: moved, at: at(dir, "b"), from: at(root, "a"), ino: 5}}},
		{"moved over another, which is not told removed", []syncer.Flip{{Dir: root, Name: "b", Old: 6, New: 5}, {Dir: root, Name: "a", Old: 5}},
			[]event{{deed: moved, at: at(root, "b"), from: at(root, "a"), ino: 5, old: 6}}},
		{"a name is free before it is moved to", []syncer.Flip{
			{Dir: root, Name: "b", Old: 6, New: 5}, {Dir: root, Name: "c", New: 6}, {Dir: root, Name: "a", Old: 5}},
			[]event{{deed: moved, at: at(root, "c"), from: at(root, "b"), ino: 6}, {deed: moved, at: at(root, "b"), from: at(root, "a"), ino: 5}}},
		{"two change places", []syncer.Flip{{Dir: root, Name: "a", Old: 5, New: 6}, {Dir: root, Name: "b", Old: 6, New: 5}},
			[]event{{deed: moved, at: at(root, "b"), from: at(root, "a"), ino: 5}, {deed: moved, at: at(root, "a"), from: at(root, "b"), ino: 6}}},
		{"away and back within is nothing", []syncer.Flip{{Dir: root, Name: "a", Old: 5}, {Dir: root, Name: "a", New: 5}}, nil},
		{"away, and something else", []syncer.Flip{{Dir: root, Name: "a", Old: 5, OldDir: true}, {Dir: root, Name: "a", New: 6}},
			[]event{{deed: made, at: at(root, "a"), ino: 6, old: 5, oldDir: true}}},
		{"one of two names is gone", []syncer.Flip{{Dir: root, Name: "a", Old: 5}}, []event{{deed: removed, at: at(root, "a"), old: 5}}},
		{"spelt anew", []syncer.Flip{{Dir: root, Name: "a", Old: 5, New: 5}, {Dir: root, Name: "A", Old: 5, New: 5}},
			[]event{{deed: moved, at: at(root, "A"), from: at(root, "a"), ino: 5}}},
		{"what is in a directory goes before it", []syncer.Flip{
			{Dir: root, Name: "d", Old: dir, OldDir: true}, {Dir: dir, Name: "s", Old: sub, OldDir: true}, {Dir: sub, Name: "f", Old: 5}},
			[]event{{deed: removed, at: at(sub, "f"), old: 5}, {deed: removed, at: at(dir, "s"), old: sub, oldDir: true},
				{deed: removed, at: at(root, "d"), old: dir, oldDir: true}}},
		{"what is moved leaves a directory before that goes, and comes into one that is there", []syncer.Flip{
			{Dir: root, Name: "d", Old: dir, OldDir: true}, {Dir: root, Name: "a", Old: 7, New: 8}, {Dir: dir, Name: "f", Old: 5},
			{Dir: root, Name: "g", New: 5}, {Dir: root, Name: "b", New: 7}, {Dir: root, Name: "n", New: 9}},
			[]event{{deed: made, at: at(root, "n"), ino: 9}, {deed: moved, at: at(root, "g"), from: at(dir, "f"), ino: 5},
				{deed: moved, at: at(root, "b"), from: at(root, "a"), ino: 7}, {deed: made, at: at(root, "a"), ino: 8},
				{deed: removed, at: at(root, "d"), old: dir, oldDir: true}}},
		{"nobody watches what the kernel does not know", []syncer.Flip{
			{Dir: unseen, Name: "f", New: 5}, {Dir: unseen, Name: "g", New: 6}, {Dir: root, Name: "x", Old: 6}},
			[]event{{deed: moved, at: at(unseen, "g"), from: at(root, "x"), ino: 6}}},
	} {
		if got := plan(tt.flips, known); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestEventsThatWaitAreBounded(t *testing.T) {
	m := unmounted(t)
	m.note = newNotifier()
	r := m.replay
	r.tid.Store(1)
	known := func(dir syncer.Ino) { m.table.shard(dir).get(dir).lookups++ }
	var flips []syncer.Flip
	for i := range syncer.Ino(eventsMax + 2*lateMax) {
		dir := 1000 + i%(2*lateMax)
		known(dir)
		flips = append(flips, syncer.Flip{Dir: dir, Name: "f", Old: 1 << 20, New: 1<<21 + i})
	}
	for i := range flips { // each by itself: together, what is under one name is one
		m.Shown(flips[i : i+1])
	}
	es := m.note.told
	if len(es) != eventsMax || len(r.late) != lateMax || r.wait.Load() != eventsMax {
		t.Fatalf("%d events, %d directories, %d wait", len(es), len(r.late), r.wait.Load())
	}
	if !r.haunted(1000, "f") || r.haunted(1000, "g") {
		t.Error("a name that waits is not known")
	}
	for _, e := range es {
		r.done(e)
	}
	if r.haunted(1000, "f") || len(r.ghosts) != 0 || r.wait.Load() != 0 {
		t.Errorf("%d names, %d wait", len(r.ghosts), r.wait.Load())
	}
}

// However much happens at once where nobody watches, those who watch a directory hear that there is something new.
func TestDirectoriesAreHeardOfBesideManyOthers(t *testing.T) {
	m := unmounted(t)
	m.note = newNotifier()
	m.replay.tid.Store(1)
	at := func(dir syncer.Ino, kind model.Kind) syncer.Ino {
		t.Helper()
		a, err := m.folder.Create(dir, "it", syncer.New{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		return a.Ino
	}
	dir := at(syncer.RootIno, model.Dir)
	m.table.lookup(dir, m.folder.Hold)
	unseen := at(dir, model.Dir)
	var flips []syncer.Flip
	for i := range syncer.Ino(eventsMax + 2) {
		flips = append(flips, syncer.Flip{Content: 1000 + i})
	}
	m.Shown(append(flips, syncer.Flip{Content: unseen}, syncer.Flip{Content: at(unseen, model.File)}))
	if _, ok := m.replay.late[dir]; !ok || len(m.replay.late) != 1 {
		t.Errorf("late are %v, want something in %d alone", m.replay.late, dir)
	}
}

// A sync does not wait for watchers, nor they for its end.
func TestASyncGoesBeforeTheManyItTellsOf(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name       string
		wait       int32
		since, fed time.Duration // ago
		want       bool
	}{
		{"few have come", eventsMany, 0, 0, false},
		{"many have come, and more come", eventsMany + 1, 0, 0, true},
		{"more come for a while", eventsTight - 1, eventsHold - 1, eventsPause - 1, true},
		{"no more come", eventsMany + 1, time.Millisecond, eventsPause, false},
		{"more come for long", eventsMany + 1, eventsHold, 0, false},
		{"there is soon no room", eventsTight, 0, 0, false},
	} {
		if got := syncFirst(tt.wait, now, now.Add(-tt.since), now.Add(-tt.fed)); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	m := unmounted(t)
	r := m.replay
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if since := r.giveWay(ctx, now); !since.IsZero() {
		t.Error("none wait, and it is taken for many")
	}
	in, _ := r.admit(make([]event, eventsMany+1))
	if ago := time.Since(timeOf(&r.fed)); ago < 0 || ago > time.Minute {
		t.Errorf("they came %v ago", ago)
	}
	first := r.giveWay(ctx, time.Time{})
	if first.IsZero() || r.giveWay(ctx, first) != first {
		t.Errorf("%d wait, since %v", len(in), first)
	}
}
