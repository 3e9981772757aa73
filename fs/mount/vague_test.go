package mount

import (
	"context"
	"errors"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/fs/staging"
)

// dark is a base of which nothing can be read.
type dark struct{}

var errDark = errors.New("out of reach")

func (dark) ReadAt(context.Context, []byte, int64) (int, error) { return 0, errDark }
func (dark) SeekData(context.Context, int64) (int64, error)     { return 0, errDark }
func (dark) SeekHole(context.Context, int64) (int64, error)     { return 0, errDark }
func (dark) Alloc(context.Context) (int64, error)               { return 0, errDark }

// How many blocks a file has, when that cannot be found out, the kernel asks again soon.
func TestUnknownBlocksAreNotBelievedForLong(t *testing.T) {
	m, a, l := unmountedFile(t)
	for _, base := range []bool{false, true} {
		src := staging.Source{}
		if base {
			src = staging.Source{Size: 1 << 40, Alloc: -1, Base: dark{}}
		}
		l.file.Store(m.stage.New(uint64(a.Ino), src))
		l.rowGen.Store(0)
		err := m.change(context.Background(), l, func(f *staging.File, gen uint64) error {
			_, err := f.Write(context.Background(), gen, make([]byte, 8192), 0, 1)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var attr fuse.AttrOut
		if st := m.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: uint64(a.Ino)}}, &attr); !st.Ok() {
			t.Fatal(st)
		}
		var entry fuse.EntryOut
		if err := m.enter(context.Background(), a, &entry); err != nil {
			t.Fatal(err)
		}
		if (attr.AttrValid < 60) != base || (entry.AttrValid < 60) != base {
			t.Errorf("base out of reach: %v; believed for %d and %d s", base, attr.AttrValid, entry.AttrValid)
		}
	}
}
