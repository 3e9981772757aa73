package daemon

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// vv is the knowledge of our own changes up to seq.
func vv(seq uint64) model.VV { return model.VV{}.With(model.Dot{Replica: 1, Seq: seq}) }

func TestFolderStateIsTheFirstThatHolds(t *testing.T) {
	all := share{err: errors.New("x"), conflicts: 1, others: []string{"b"}, only: 1, missing: 1, pending: 1}
	steps := []struct {
		want string
		fix  func(*share)
	}{
		{control.StateError, func(s *share) { s.err = nil }},
		{control.StateConflict, func(s *share) { s.conflicts = 0 }},
		{control.StateOffline, func(s *share) { s.online = 1 }},
		{control.StateOnlyHere, func(s *share) { s.only = 0 }},
		{control.StateSyncing, func(s *share) { s.missing = 0 }},
		{control.StatePending, func(s *share) { s.pending = 0 }},
		{control.StateSynced, func(*share) {}},
	}
	for _, step := range steps {
		if got := all.state(); got != step.want {
			t.Errorf("%+v is %s, want %s", all, got, step.want)
		}
		step.fix(&all)
	}
	alone := share{pending: 1}
	if got := alone.state(); got != control.StateSynced {
		t.Errorf("a folder without other members is %s", got)
	}
}

func TestCopiesAreCountedByWhatMembersTold(t *testing.T) {
	tests := []struct {
		name         string
		missing      uint64
		others       []string
		acks         map[string]syncer.Ack
		copies       int
		onlyHere     uint64
		knownToOwner uint64
	}{
		{"alone", 0, nil, nil, 1, 0, 10},
		{"nobody told", 0, []string{"b"}, nil, 1, 10, 10},
		{"b has all", 0, []string{"b"}, map[string]syncer.Ack{"b": {K: vv(10)}}, 2, 0, 10},
		{"b is behind", 0, []string{"b"}, map[string]syncer.Ack{"b": {K: vv(7)}}, 1, 3, 10},
		{"b lacks blocks", 0, []string{"b"}, map[string]syncer.Ack{"b": {K: vv(10), Missing: 2}}, 1, 2, 10},
		{"b lacks more blocks than changes", 0, []string{"b"}, map[string]syncer.Ack{"b": {K: vv(10), Missing: 500}}, 1, 10, 10},
		{"one of two has all", 0, []string{"b", "c"}, map[string]syncer.Ack{"b": {K: vv(10)}, "c": {K: vv(1)}}, 2, 0, 10},
		{"we lack blocks", 3, []string{"b"}, map[string]syncer.Ack{"b": {K: vv(10)}}, 1, 0, 10},
		{"a member that left does not count", 0, []string{"b"}, map[string]syncer.Ack{"c": {K: vv(10)}}, 1, 10, 10},
		{"b knows more than us", 0, []string{"b"}, map[string]syncer.Ack{"b": {K: vv(12)}}, 2, 0, 10},
	}
	for _, tt := range tests {
		s := share{missing: tt.missing, others: tt.others, acks: tt.acks, known: vv(tt.knownToOwner)}
		if got := s.copies(); got != tt.copies {
			t.Errorf("%s: %d copies, want %d", tt.name, got, tt.copies)
		}
		if got := s.onlyHere(1); got != tt.onlyHere {
			t.Errorf("%s: %d only here, want %d", tt.name, got, tt.onlyHere)
		}
	}
}

func TestOfflinePeerHasNoPath(t *testing.T) {
	on := peers.PeerState{ID: "b", Online: true, Path: "lan", Transport: "tcp", RTT: 1500 * time.Microsecond, Sent: 1, Received: 2}
	st := peerStatus(on)
	if *st.Path != "lan" || *st.Transport != "tcp" || *st.RTT != 1.5 || st.SentBytes != 1 || st.ReceivedBytes != 2 || st.Folders == nil {
		t.Errorf("online: %+v", st)
	}
	on.Online = false
	if st := peerStatus(on); st.Path != nil || st.Transport != nil || st.RTT != nil || st.SentBytes != 1 {
		t.Errorf("offline: %+v", st)
	}
}

func TestWaitFindsItsMembers(t *testing.T) {
	members := []trust.Member{{ID: "1", Label: "nas"}, {ID: "2", Label: "desk"}, {ID: "3", Label: "desk"}}
	tests := []struct {
		on   string
		want []string
		bad  bool
	}{
		{"", nil, false}, {"all", []string{"1", "2", "3"}, false}, {"nas", []string{"1"}, false},
		{"3", []string{"3"}, false}, {"nobody", nil, false}, {"desk", nil, true},
	}
	for _, tt := range tests {
		got, err := matchMembers(members, tt.on)
		if !slices.Equal(got, tt.want) || (err != nil) != tt.bad {
			t.Errorf("%q: %v, %v", tt.on, got, err)
		}
	}
}
