package model

import (
	"fmt"
	"testing"
)

// Each of the changes in which more is said of a node than one may say is one
// that others take in, and together they say it all.
func TestChangesThatAreTooLargeAreParted(t *testing.T) {
	const names, attrs = maxLinkChanges + 1000, 2*maxAttrChanges + 10
	id := BirthID(RootID, "f", File, 0)
	m := NewMem(Bytes, func(Dot) Origin { return Origin{} })
	born := Change{Dot: Dot{2, 1}, ID: id, Kind: File, Lamport: 1, Born: true,
		Links: []LinkChange{{Key: PrimaryKey, Parent: RootID, Name: "f"}}, Version: &VersionChange{Content: "x"}}
	for i := range names {
		born.Links = append(born.Links, LinkChange{Key: uint64(i + 1), Parent: RootID, Name: fmt.Sprint("n", i)})
	}
	for i := range attrs {
		born.Attrs = append(born.Attrs, AttrChange{Name: fmt.Sprint("xuser.", i), Val: "="})
	}
	m.Apply(born, nil)
	a := &Author{State: m, K: VV{{2, 1}}, Replica: 1, Lamport: 1}
	a.removeOthers(m.Nodes[id])
	a.setAttrs(m.Nodes[id], map[string]string{AttrMode: "\x01\xa4"})
	a.put(m.Nodes[id], VersionChange{Content: "y"})
	n := 0
	for i, c := range a.Changes() {
		d := Dot{1, uint64(i + 1)}
		got, err := DecodeChange(c.Encode(), d)
		if err != nil || c.Dot != d || got.Dot != d {
			t.Errorf("change %d: dot %v, %v", i, c.Dot, err)
		}
		n += len(c.Links) + len(c.Attrs)
	}
	if len(a.Changes()) < 3 || n != names+attrs+1 {
		t.Errorf("%d changes say %d", len(a.Changes()), n)
	}
	x := m.Nodes[id]
	if len(x.Names(Bytes)) != 1 || len(attrsOf(x)) != 1 || len(x.Shown()) != 1 || x.Shown()[0].Content != "y" {
		t.Errorf("%d names, %d attributes, %d versions", len(x.Names(Bytes)), len(attrsOf(x)), len(x.Shown()))
	}
}
