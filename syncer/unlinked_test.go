package syncer_test

import (
	"testing"
	"testing/synctest"
	"time"

	. "github.com/clachanfs/clachan/syncer"
)

// What was written to a file that was then removed is not shown where others have
// moved the file meanwhile, and is not cut: not even if the surface has not
// forgotten it yet, because its kernel did not know the inode that it removed.
func TestRemovedFileComesBackWithoutItsStagedBytes(t *testing.T) {
	for _, held := range []bool{false, true} {
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
			if held {
				b.Hold(ino)
			}
			b.rm("/f")
			w.part(false)
			time.Sleep(time.Second)
			synctest.Wait()
			if at := b.stat("/g"); at.Ino == ino || at.Size != int64(len("agreed upon")) || b.shows("/g") != "agreed upon" {
				t.Errorf("held %v: shows %q, %+v; removed was inode %d", held, b.shows("/g"), at, ino)
			}
			b.forget(ino)
			if held {
				b.Release(ino)
			}
			w.settle()
			for _, p := range w.peers {
				if got := p.shows("/g"); got != "agreed upon" {
					t.Errorf("held %v: in the end %s shows %q", held, p.name, got)
				}
			}
			w.same()
		})
	}
}
