package daemon

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// words writes events as what they say.
func words(events []control.Event) (out []string) {
	for _, e := range events {
		s := e.Kind
		for _, x := range []string{e.Folder, e.Peer, e.Text} {
			if x != "" {
				s += " " + x
			}
		}
		out = append(out, s)
	}
	return out
}

func TestTheDifferenceOfTwoLooksIsWhatHappened(t *testing.T) {
	one := func(x folderLook) look {
		x.name = "notes"
		return look{folders: map[trust.FolderID]folderLook{{1}: x}, online: map[string]string{}}
	}
	ben := map[string]string{"b": "ben"}
	with := func(l look, online ...string) look {
		for _, p := range online {
			l.online[p] = "ben"
		}
		return l
	}
	tests := []struct {
		name    string
		was, is look
		want    []string
	}{
		{"nothing", one(folderLook{mounted: true, members: ben}), one(folderLook{mounted: true, members: ben}), nil},
		{"made", look{}, one(folderLook{mounted: true}), []string{"folder-added notes", "folder-mounted notes"}},
		{"joined by us: who is there has not just joined", look{}, one(folderLook{members: ben}), []string{"folder-added notes"}},
		{"unmounted", one(folderLook{mounted: true}), one(folderLook{}), []string{"folder-unmounted notes"}},
		{"failed", one(folderLook{mounted: true}), one(folderLook{err: "no disk"}), []string{"folder-unmounted notes", "folder-error notes no disk"}},
		{"works again", one(folderLook{err: "no disk"}), one(folderLook{mounted: true}), []string{"folder-mounted notes", "folder-recovered notes"}},
		{"left", one(folderLook{mounted: true, members: ben}), look{}, []string{"folder-left notes"}},
		{"somebody joined and came", one(folderLook{}), with(one(folderLook{members: ben}), "b"), []string{"member-joined notes ben", "connected ben"}},
		{"somebody went", with(one(folderLook{members: ben}), "b"), one(folderLook{members: ben}), []string{"disconnected ben"}},
		{"somebody left", one(folderLook{members: ben}), one(folderLook{}), []string{"member-left notes ben"}},
	}
	for _, tt := range tests {
		if got := words(differ(tt.was, tt.is)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestOnlyWhatLastsIsToldAndThenItsEnd(t *testing.T) {
	s, start := spans{}, time.Now()
	at := func(d time.Duration, syncing bool) ([]string, bool) {
		l := look{folders: map[trust.FolderID]folderLook{{1}: {name: "notes", syncing: syncing}}}
		out, waits := s.step(l, start.Add(d))
		return words(out), waits
	}
	steps := []struct {
		after   time.Duration
		syncing bool
		want    []string
		waits   bool
	}{
		{0, true, nil, true},
		{lasts / 2, false, nil, false},
		{lasts, true, nil, true},
		{2 * lasts, true, []string{"sync-begun notes"}, false},
		{3 * lasts, true, nil, false},
		{4 * lasts, false, []string{"sync-finished notes"}, false},
	}
	for _, x := range steps {
		if got, waits := at(x.after, x.syncing); !slices.Equal(got, x.want) || waits != x.waits {
			t.Errorf("after %v: %q, waits %t; want %q, %t", x.after, got, waits, x.want, x.waits)
		}
	}
}

// However much happens at once, what waits to be told stays small, and what is lost is counted.
func TestBulkIsHeardAsAGap(t *testing.T) {
	w := newWatch(time.Now())
	f := &folder{}
	for i := range 30 {
		w.hear(f, make([]syncer.Change, 400))
		w.hear(f, []syncer.Change{{At: syncer.Place{Name: string(rune('a' + i))}}})
	}
	told, lost, more := 0, uint64(0), true
	var last heard
	for more {
		var list []heard
		var l uint64
		if list, l, more = w.take(); len(list) > heardOnce {
			t.Fatalf("%d at once", len(list))
		}
		told, lost, last = told+len(list), lost+l, list[len(list)-1]
	}
	if told == 0 || told > maxHeard || told+int(lost) != 30*401 || last.c.At.Name != string(rune('a'+29)) {
		t.Errorf("%d told, %d lost, the last is %q", told, lost, last.c.At.Name)
	}
}

func TestRatesAreOfTheLastSeconds(t *testing.T) {
	var r rates
	start := time.Now()
	steps := []struct {
		after time.Duration
		total uint64
		want  uint64
	}{
		{0, 1000, 0}, {100 * time.Millisecond, 5000, 0}, {time.Second, 500, 0}, {2 * time.Second, 2500, 2000},
		{3 * time.Second, 2500, 1000}, {time.Minute, 90000, 0}, {time.Minute + time.Second, 90100, 100},
	}
	for _, x := range steps {
		if got := r.of("a", x.total, start.Add(x.after)); got != x.want {
			t.Errorf("after %v: %d, want %d", x.after, got, x.want)
		}
		r.of("b", 7, start.Add(x.after))
	}
}

func TestStatusNamesWhoHasWhatAndWhoHasNot(t *testing.T) {
	members := []trust.Member{{ID: "b", Label: "ben"}, {ID: "c", Label: "nas"}, {ID: "d", Label: "mia"}}
	s := share{missing: 3, others: []string{"b", "c", "d"}, here: []string{"b", "c"}, known: vv(10),
		acks: map[string]syncer.Ack{"b": {K: vv(10)}, "c": {K: vv(8), Missing: 2}, "d": {K: vv(9)}}}
	if got := s.sources(members); !slices.Equal(got, []string{"ben"}) {
		t.Errorf("it can come from %q: nas lacks some too, mia is away", got)
	}
	if got := s.waitingFor(members); !slices.Equal(got, []string{"nas", "mia"}) {
		t.Errorf("waiting for %q", got)
	}
	if s.unheard() || (&share{}).unheard() || !(&share{others: []string{"b"}, acks: map[string]syncer.Ack{"c": {}}}).unheard() {
		t.Error("unheard is who has members none of which told anything")
	}
	if got := s.told(model.Replica(1)); got != 10 {
		t.Errorf("the last change that somebody knows of is %d", got)
	}
}

func TestQuantilesAreBetweenTheBoundsOfTheirBucket(t *testing.T) {
	buckets := func(n ...uint64) []uint64 { return append(n, make([]uint64, len(mount.OpBuckets)-len(n))...) }
	tests := []struct {
		share   float64
		timed   uint64
		buckets []uint64
		want    float64
	}{
		{0.5, 100, buckets(100), 0.008},
		{0.5, 100, buckets(0, 100), 0.040},
		{0.99, 100, buckets(98, 0, 0, 2), 0.256 + 0.744/2},
		{0.99, 1, buckets(), 4000}, // longer than all bounds
	}
	for _, tt := range tests {
		if got := quantile(tt.share, tt.timed, tt.buckets); got == nil || math.Abs(*got-tt.want) > 1e-6 {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	if got := quantile(0.5, 0, buckets()); got != nil {
		t.Errorf("of nothing: %v", *got)
	}
}
