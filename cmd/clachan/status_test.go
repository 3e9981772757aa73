package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/mattn/go-runewidth"
)

var now = time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)

// busy is a status in which everything happens at once.
func busy() control.Status {
	path, transport, rtt := "lan", "tcp", 1.25
	seen := now.Add(-3 * time.Hour)
	all := []string{"p", "n", "t", "b", "m", "o"}
	return control.Status{
		Device: "desk",
		Folders: []control.FolderStatus{
			{ID: "p", Name: "photos", Dir: "/p", State: control.StateSynced, Mounted: true, Files: 18402, Bytes: 3 << 30, Copies: control.Copies{Want: 2, Min: 3}},
			{ID: "n", Name: "notes", Dir: "/n", State: control.StateSyncing, Mounted: true, Bytes: 100 << 20, NeedBytes: 25 << 20, Rate: 5 << 20,
				Sources: []string{"nas"}, Copies: control.Copies{Want: 2, Min: 1}},
			{ID: "t", Name: "team", Dir: "/t", State: control.StateConflict, Mounted: true, Conflicts: 2, OnlyHere: 1, OnlyHerePaths: []string{"budget.ods"}, WaitingFor: []string{"mia", "nas"}},
			{ID: "b", Name: "bad", Dir: "/b", State: control.StateError, Error: "mount: no"},
			{ID: "m", Name: "mine", Dir: "/m", State: control.StateOnlyHere, Mounted: true, OnlyHere: 5, OnlyHerePaths: []string{"a\x1b[2Jb", "c", "d"}, WaitingFor: []string{"nas"}},
			{ID: "o", Name: "off", Dir: "/o", State: control.StateSynced, Returning: true, NoRoom: true,
				Notices: []control.Notice{{At: seen, Text: "this database was moved"}}},
		},
		Peers: []control.PeerStatus{
			{ID: "12D3b", Name: "mia", LastSeen: &seen, Folders: all},
			{ID: "12D3a", Name: "nas", Online: true, Path: &path, Transport: &transport, RTT: &rtt, SentBytes: 2048, Folders: all},
		},
	}
}

// shown is lines as text, of so many columns.
func shown(lines []line, p painter, width int) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text(p, width) + "\n")
	}
	return b.String()
}

func TestStatusInWords(t *testing.T) {
	st := busy()
	text := shown(statusLines(st, now, 80), false, 0)
	for _, want := range []string{
		"photos  up to date   18,402 files  3.0 GiB  copies 3/2 ok\n        /p\n",
		"notes   syncing ▕██████████░░░░▏ 75 %  75 MiB of 100 MiB  5.0 MiB/s  about 5 s\n", "from nas\n",
		"2 conflicts", "1 file is on this machine only: budget.ods (waiting for mia or nas)",
		"bad     error", "mount: no",
		`5 files are on this machine only: "a\x1b[2Jb", c, d and 2 more (waiting`,
		"not mounted (mount it with: clachan mount off)", "the disk is too full", "it begins anew", "3 hours ago: this database was moved",
		"nas  online   lan 1.25 ms tcp        sent 2.0 KiB  received 0 B\n", "mia  offline  last seen 3 hours ago\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Index(text, "nas  online") > strings.Index(text, "mia  offline") {
		t.Error("who is there does not come first")
	}
	for l := range strings.Lines(text) {
		if runewidth.StringWidth(strings.TrimSuffix(l, "\n")) > 80 {
			t.Errorf("over 80 columns: %q", l)
		}
	}
	if !needsAttention(st) || needsAttention(control.Status{Folders: st.Folders[:2]}) || !needsAttention(control.Status{Folders: st.Folders[5:]}) {
		t.Error("attention is needed for conflicts, errors and a full disk, and for nothing else")
	}
}

func TestStatusSaysWhy(t *testing.T) {
	seen := now.Add(-2 * time.Hour)
	away := []control.PeerStatus{{Name: "ben", LastSeen: &seen, Folders: []string{"x"}}, {Name: "nas", Folders: []string{"x"}}}
	there := []control.PeerStatus{{Name: "ben", Online: true, Folders: []string{"x"}}, {Name: "other", Folders: []string{"y"}}}
	tests := []struct {
		f     control.FolderStatus
		peers []control.PeerStatus
		want  []string
	}{
		{control.FolderStatus{State: control.StateSynced}, there, nil},
		{control.FolderStatus{State: control.StateOffline}, away, []string{"no member is connected: ben, last seen 2 hours ago; nas, never seen from here"}},
		{control.FolderStatus{State: control.StateSyncing}, away, []string{"nobody connected has all of it; away: ben, last seen 2 hours ago; nas, never seen from here"}},
		{control.FolderStatus{State: control.StateSyncing}, there, []string{"nobody connected has all of it yet"}},
		{control.FolderStatus{State: control.StateSyncing, Sources: []string{"a", "b", "c", "d", "e"}}, there, []string{"from a, b, c and 2 more"}},
		{control.FolderStatus{State: control.StatePending, Pending: 1}, there, []string{"1 change is to be saved: a file that is open is saved when it is closed, or rests"}},
		{control.FolderStatus{State: control.StatePending, WaitingFor: []string{"ben"}}, there, []string{"ben has to hear of the last changes"}},
		{control.FolderStatus{State: control.StateSyncing, Sources: []string{"ben"}, OnlyHere: 2, OnlyHerePaths: []string{"a", "b"}, Unheard: true}, there,
			[]string{"from ben", "nobody has said what it has since the daemon started: 2 files are on this machine only, perhaps"}},
		{control.FolderStatus{State: control.StateOnlyHere, OnlyHere: 1, OnlyHereMore: true, WaitingFor: []string{"ben"}}, there, []string{"something is still on its way to ben"}},
		{control.FolderStatus{State: control.StateOnlyHere, OnlyHere: 2, OnlyHereMore: true, OnlyHerePaths: []string{"a", "b"}, WaitingFor: []string{"ben"}}, there,
			[]string{"something is still on its way to ben: a, b, …"}},
		{control.FolderStatus{State: control.StateOnlyHere, OnlyHere: 4000, OnlyHereMore: true, Unheard: true}, there,
			[]string{"nobody has said what it has since the daemon started: what was written here is on this machine only, perhaps"}},
		{control.FolderStatus{State: control.StateSynced, Name: "a"}, nil, []string{"nobody else is a member yet (a ticket for one: clachan invite a)"}},
	}
	for _, tt := range tests {
		tt.f.ID, tt.f.Mounted = "x", true
		if got := why(tt.f, tt.peers, now); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.f.State, got, tt.want)
		}
	}
}

func TestWhatNeedsAttention(t *testing.T) {
	few, enough := control.Copies{Want: 2, Min: 1}, control.Copies{Want: 2, Min: 2}
	ben := []control.PeerStatus{{Name: "ben", Folders: []string{"x"}}}
	tests := []struct {
		name  string
		f     control.FolderStatus
		peers []control.PeerStatus
		want  bool
	}{
		{"all is well", control.FolderStatus{State: control.StateSynced, Copies: enough}, ben, false},
		{"an error", control.FolderStatus{State: control.StateError, Copies: enough}, ben, true},
		{"conflicts", control.FolderStatus{State: control.StateConflict, Conflicts: 1, Copies: enough}, ben, true},
		{"no room", control.FolderStatus{State: control.StateSyncing, NoRoom: true, Copies: few}, ben, true},
		{"nobody else yet", control.FolderStatus{State: control.StateSynced, Copies: few}, nil, false},
		{"a member of another folder", control.FolderStatus{State: control.StateSynced, Copies: few}, []control.PeerStatus{{Folders: []string{"y"}}}, false},
		{"away with enough", control.FolderStatus{State: control.StateOffline, Copies: enough}, ben, false},
		{"away with too few", control.FolderStatus{State: control.StateOffline, Copies: few}, ben, true},
		{"too few there are", control.FolderStatus{State: control.StateSynced, Copies: few}, ben, true},
		{"on its way", control.FolderStatus{State: control.StateOnlyHere, OnlyHere: 1, Copies: few}, ben, false},
	}
	for _, tt := range tests {
		tt.f.ID = "x"
		if got := needsAttention(control.Status{Folders: []control.FolderStatus{tt.f}, Peers: tt.peers}); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestTopFitsItsScreen(t *testing.T) {
	st := busy()
	for i := range 40 {
		st.Peers = append(st.Peers, control.PeerStatus{Name: strings.Repeat("n", i), Online: i%2 == 0})
		f := st.Folders[i%6]
		f.Name += "-with-a-long-name"
		st.Folders = append(st.Folders, f)
	}
	for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 60}, {80, 3}, {1, 1}} {
		for _, s := range []control.Status{st, busy(), {}} {
			lines := topLines(s, now, size[0], size[1])
			if len(lines) > size[1] {
				t.Errorf("%d lines on a screen of %d", len(lines), size[1])
			}
			for _, l := range lines {
				if w := runewidth.StringWidth(l.text(false, size[0])); w > size[0] {
					t.Errorf("%d columns on a screen of %d: %q", w, size[0], l.text(false, size[0]))
				}
			}
		}
	}
	p50, p99 := 0.1, 2.0
	st.Operations = &control.Operations{Rate: 1234, P50: &p50, P99: &p99}
	text := shown(topLines(st, now, 80, 24), false, 80)
	for _, want := range []string{"clachan on desk", "q quits", "FOLDERS", "MEMBERS", "ONLY HERE", "… and ", "5.0 MiB/s", "FUSE  1,234 ops/s   p50 0.10 ms   p99 2 ms"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestATerminalWithoutASizeHasTheUsualOne(t *testing.T) {
	for _, tt := range [][4]int{{0, 0, 80, 24}, {100, 0, 100, 24}, {0, 10, 80, 10}, {1, 1, 1, 1}} {
		if w, h := known(tt[0], tt[1]); w != tt[2] || h != tt[3] {
			t.Errorf("%v: %d, %d", tt, w, h)
		}
	}
}

func TestColourIsForTerminalsAndThoseWhoAskForIt(t *testing.T) {
	tests := []struct {
		how      string
		env      map[string]string
		terminal bool
		want     bool
	}{
		{colourAuto, nil, true, true},
		{colourAuto, nil, false, false},
		{colourAuto, map[string]string{"NO_COLOR": "1"}, true, false},
		{colourAuto, map[string]string{"TERM": "dumb"}, true, false},
		{colourAuto, map[string]string{"CLICOLOR_FORCE": "1"}, false, true},
		{colourAuto, map[string]string{"CLICOLOR_FORCE": "0"}, false, false},
		{colourAuto, map[string]string{"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, true, false},
		{colourAlways, map[string]string{"NO_COLOR": "1"}, false, true},
		{colourNever, map[string]string{"CLICOLOR_FORCE": "1"}, true, false},
	}
	for _, tt := range tests {
		if got := wantsColour(tt.how, func(k string) string { return tt.env[k] }, tt.terminal); got != tt.want {
			t.Errorf("--color %s, %v, terminal %t: %t", tt.how, tt.env, tt.terminal, got)
		}
	}
	st := busy()
	if text := shown(statusLines(st, now, 80), false, 0); strings.Contains(text, "\x1b") {
		t.Error("unpainted text has escapes, the names of files in it at least")
	}
	if text := shown(statusLines(st, now, 80), true, 0); !strings.Contains(text, "\x1b[31m2 conflicts") {
		t.Errorf("a conflict is not red in\n%s", text)
	}
}
