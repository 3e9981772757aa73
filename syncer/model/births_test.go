package model

import "testing"

// What a birth gave a node and what is removed since goes, with the birth.
func TestWhatABirthGaveIsCollected(t *testing.T) {
	const script = `
here write /f F
here cut
here ln /f /g
here cut
here rm /f
here cut
here write /g G
here chmod /g m
here cut
moves <- here
removes <- here
here <- moves
here <- removes`
	s := newScripted(script)
	if bad := s.play(script); bad != nil {
		t.Fatalf("%s: %s", bad.what, bad.why)
	}
	p := s.who["here"]
	s.collect(p)
	for id, n := range p.m.Nodes {
		if id != RootID && (len(n.Links) != 1 || len(n.Births) > 0 || n.Spent()) {
			t.Errorf("it keeps\n%s\n%v", dump(n), n.Births)
		}
	}
}
