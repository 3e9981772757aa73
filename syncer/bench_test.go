package syncer_test

import (
	"context"
	"fmt"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// BenchmarkCreate makes empty files, 100 to a directory, without cutting them.
func BenchmarkCreate(b *testing.B) {
	w := newWorld(b, 1)
	p := w.peers[0]
	dir := RootIno
	for i := range b.N {
		if i%100 == 0 {
			a, err := p.Create(RootIno, fmt.Sprint("d", i), New{Kind: model.Dir, Mode: 0o755})
			p.must(err)
			dir = a.Ino
		}
		_, err := p.Create(dir, fmt.Sprint("f", i), New{Kind: model.File, Mode: 0o644})
		p.must(err)
	}
}

// BenchmarkSaveAndCut makes small files, 100 to a directory, to the end of
// their cuts.
func BenchmarkSaveAndCut(b *testing.B) {
	w := newWorld(b, 1)
	p := w.peers[0]
	d := ""
	for i := range b.N {
		if i%100 == 0 {
			d = fmt.Sprint("/d", i)
			p.mkdir(d)
		}
		p.write(fmt.Sprint(d, "/f", i), "some bytes")
	}
	p.must(p.Cut(context.Background()))
}
