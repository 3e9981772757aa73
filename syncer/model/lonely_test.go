package model

import (
	"strings"
	"testing"
)

// What a change places in a directory that others had removed, and that lives
// there only through what is in it, others can show who have collected it: once
// that is elsewhere for them.
func TestWhatIsPlacedInALonelyDirectoryBringsItAlong(t *testing.T) {
	for _, tt := range []struct{ name, op, want string }{
		{"a removed file is edited", "write /x/f F2", "/x/f kind"},
		{"a file that is shown for want of a name", "xattr /x/g 2", "/g kind"},
		{"a new file", "write /x/n N", "/x/n kind"},
		{"a new directory", "mkdir /x/d", "/x/d kind"},
		{"a removed file gets an attribute", "xattr /x/f 2", ""},
		{"a removed file is moved", "mv /x/f /x/e", "/x/e kind"},
		{"a removed file gets a name", "ln /x/f /x/e", "/x/e kind"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollecting(1)
			for seed := int64(2); len(c.peers) != 3 || c.out[c.peers[2]]; seed++ {
				c = newCollecting(seed)
			}
			here, moves, removes := c.peers[0], c.peers[1], c.peers[2]
			do := func(p *peer, ops ...string) {
				t.Helper()
				for _, op := range ops {
					f := strings.Fields(op)
					if err := p.do(f[0], f[1:]); err != nil {
						t.Fatalf("%s: %v", op, err)
					}
				}
			}
			do(here, "mkdir /x", "write /x/f F", "write /x/g G")
			c.cut(here)
			c.pull(moves, here, 99)
			c.pull(removes, here, 99)
			do(here, "write /x/g G2")
			c.cut(here)
			c.pull(moves, here, 99)
			do(removes, "rm /x")
			c.cut(removes)
			c.pull(removes, here, 99)
			do(moves, "mv /x/g /g")
			c.cut(moves)
			do(here, tt.op)
			c.pull(here, removes, 99)
			c.pull(moves, removes, 99)
			c.pull(moves, here, 99)
			c.collect(moves)
			if got := list(moves.m).String(); c.dropped < 2 || strings.Contains(got, "/x") {
				t.Errorf("%d collected of\n%s", c.dropped, got)
			}
			defer func() {
				if x := recover(); x != nil {
					f, ok := x.(failure)
					if !ok {
						panic(x)
					}
					t.Errorf("%s: %s", f.what, f.why)
				}
			}()
			c.quiesce()
			for _, p := range c.peers {
				if got := list(p.m).String(); !strings.Contains(got, tt.want) {
					t.Errorf("want %s\n%s", tt.want, got)
				}
			}
			c.check()
		})
	}
}
