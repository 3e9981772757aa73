package syncer

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/clachanfs/clachan/blocks/content"
)

func TestAPartKnowsWhatIsHereOfAFile(t *testing.T) {
	p := &part{all: new(atomic.Uint64)}
	p.look()
	p.lacks(content.MaxList) // nothing is known of what is below
	p.got(content.MaxList, nil)
	p.looked(100)
	if p.here != 0 {
		t.Errorf("%d bytes are here of which nothing is known", p.here)
	}
	p.look()
	p.lacks(30)
	p.lacks(20)
	p.got(20, nil)
	p.got(30, errors.New("lost"))
	p.looked(100)
	if p.here != 70 {
		t.Errorf("%d bytes are here, want the 50 that did not lack and the 20 that came", p.here)
	}
	p.look()
	p.lacks(10)
	p.goesOn(false)
	p.got(10, nil)
	p.looked(100)
	if p.here != 80 || p.all.Load() != 30 {
		t.Errorf("%d bytes are here, %d came; a look that ends early tells only of what came", p.here, p.all.Load())
	}
}
