package syncer_test

import (
	"testing"
	"testing/synctest"
	"time"

	. "github.com/clachanfs/clachan/syncer"
)

// What was written to a file that was then removed is not shown where others have
// moved the file meanwhile, and is not cut: while its surface holds the inode, the
// file is shown under another number.
func TestRemovedFileComesBackWithoutItsStagedBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		a.write("/f", "agreed upon")
		a.write("/g", "else")
		w.settle()
		ino := b.stat("/f").Ino
		w.part(true)
		a.must(a.Rename(RootIno, "f", RootIno, "g", RenameExchange))
		a.cutNow()
		b.mkdir("/busy") // what follows is cut some time later
		synctest.Wait()
		b.write("/f", "staged")
		b.Hold(ino)
		b.rm("/f")
		w.part(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if at := b.stat("/g"); at.Ino == ino || at.Size != int64(len("agreed upon")) || b.shows("/g") != "agreed upon" {
			t.Errorf("b shows %q, %+v; removed was inode %d", b.shows("/g"), at, ino)
		}
		b.forget(ino)
		b.Release(ino)
		w.settle()
		for _, p := range w.peers {
			if got := p.shows("/g"); got != "agreed upon" {
				t.Errorf("in the end %s shows %q", p.name, got)
			}
		}
		w.same()
	})
}
