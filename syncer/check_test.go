package syncer_test

import (
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// What the disk could not read for a while is not missing when it can be read.
func TestCheckAsksADiskThatWorksAgain(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	var ill atomic.Bool
	w.talk.Lock()
	a.stop()
	a.fs = errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if ill.Load() && op.Kind == errorfs.OpFileReadAt && strings.Contains(op.Path, "/blocks/") {
			return syscall.EIO
		}
		return nil
	}))
	a.start()
	p := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{}).Read(p)
	a.write("/f", string(p))
	a.cutNow()
	a.stop() // what is in memory goes to tables
	a.start()
	w.talk.Unlock()
	faults := func() (n int) {
		a.must(a.Check(t.Context(), func(error) { n++ }))
		return n
	}
	ill.Store(true)
	v, err := a.Content(a.ino("/f"))
	a.must(err)
	if _, err := content.NewReader(a.Blocks(), v.Content).ReadAt(t.Context(), make([]byte, 10), 0); err == nil {
		t.Fatal("read from a disk that cannot")
	}
	if faults() == 0 {
		t.Error("a disk that cannot be read has no faults")
	}
	ill.Store(false)
	if n := faults(); n != 0 {
		t.Errorf("%d faults of a disk that can be read", n)
	}
}
