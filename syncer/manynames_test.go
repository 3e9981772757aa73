package syncer_test

import (
	"fmt"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
)

// Of a file with hundreds of names each stays until it is removed, whatever is cut in between.
func TestAFileMayHaveManyNames(t *testing.T) {
	p := newWorld(t, 1).peers[0]
	p.write("/file", "text")
	ino := p.ino("/file")
	const names = 200
	for i := range names {
		_, err := p.Link(ino, RootIno, fmt.Sprint("name", i))
		p.must(err)
		if i%50 == 49 {
			p.cutNow()
		}
	}
	if a := p.stat("/file"); a.Nlink != names+1 {
		t.Errorf("%d links", a.Nlink)
	}
	for i := range names {
		p.rm(fmt.Sprint("/name", i))
	}
	p.cutNow()
	if a := p.stat("/file"); a.Nlink != 1 {
		t.Errorf("%d links are left", a.Nlink)
	}
}
