package syncer

import (
	"slices"
	"testing"

	"github.com/clachanfs/clachan/syncer/model"
)

func TestFlipsAreToldAsWhatWasDone(t *testing.T) {
	at := func(name string) Place { return Place{Dir: RootIno, Name: name} }
	ben := model.Label{Author: "ben", Device: "laptop"}
	tests := []struct {
		name  string
		flips []Flip
		want  []Change
	}{
		{"a new name", []Flip{{Dir: RootIno, Name: "a", New: 7}}, []Change{{Deed: Wrote, By: ben, At: at("a"), Ino: 7}}},
		{"new bytes", []Flip{{Content: 7}}, []Change{{Deed: Wrote, By: ben, Ino: 7}}},
		{"a new name with its bytes is one thing", []Flip{{Dir: RootIno, Name: "a", New: 7}, {Content: 7}}, []Change{{Deed: Wrote, By: ben, At: at("a"), Ino: 7}}},
		{"moved", []Flip{{Dir: RootIno, Name: "b", New: 7}, {Dir: RootIno, Name: "a", Old: 7}},
			[]Change{{Deed: Renamed, By: ben, At: at("b"), From: at("a"), Ino: 7}}},
		{"moved over another", []Flip{{Dir: RootIno, Name: "a", Old: 7}, {Dir: RootIno, Name: "b", Old: 8, New: 7}},
			[]Change{{Deed: Renamed, By: ben, At: at("b"), From: at("a"), Ino: 7}}},
		{"removed", []Flip{{Dir: RootIno, Name: "a", Old: 7}}, []Change{{Deed: Removed, By: ben, At: at("a"), Ino: 7}}},
		{"spelt anew", []Flip{{Dir: RootIno, Name: "A", Old: 7, New: 7}}, nil},
	}
	for _, tt := range tests {
		if got := flipped(tt.flips, ben); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
