package syncer_test

import (
	"fmt"
	"regexp"
	"testing"
)

// Who replaces one name of a file that has another does not do away with what it
// holds, even if somebody else does the same with the other.
func TestWhatHasTwoNamesStaysWhenEachIsReplacedSomewhere(t *testing.T) {
	ways := map[string]func(p *peer, name, text string){
		"rename over": func(p *peer, name, text string) {
			p.write("/tmp"+p.name, text)
			p.mv("/tmp"+p.name, name)
		},
		"unlink and rename": func(p *peer, name, text string) {
			p.write("/tmp"+p.name, text)
			p.rm(name)
			p.mv("/tmp"+p.name, name)
		},
		"unlink": func(p *peer, name, _ string) { p.rm(name) },
	}
	for here, one := range ways {
		for there, two := range ways {
			for _, displaced := range []bool{false, true} {
				t.Run(fmt.Sprint(here, ", ", there, ", displaced ", displaced), func(t *testing.T) {
					w := newWorld(t, 2)
					a, b := w.peers[0], w.peers[1]
					w.part(true)
					a.write("/x", "both")
					a.link("/x", "/y")
					if displaced { // by a directory of that name
						b.mkdir("/y")
					}
					a.cutNow()
					b.cutNow()
					w.part(false)
					y := "/y"
					if tree := w.same(); displaced {
						y = regexp.MustCompile(`/y \(conflict, [^)]*\)`).FindString(tree)
					}
					w.part(true)
					one(a, y, "A")
					two(b, "/x", "B")
					a.cutNow()
					b.cutNow()
					w.part(false)
					holds(t, w.same(), "both")
				})
			}
		}
	}
}

func (p *peer) link(from, to string) {
	p.t.Helper()
	dir, name := p.at(to)
	_, err := p.Link(p.ino(from), dir, name)
	p.must(err)
}
