package syncer_test

import (
	"errors"
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

// partedFile returns who has lost touch with another that has a file too.
func partedFile(t *testing.T) (*peer, Ino) {
	w := newWorld(t, 2)
	w.peers[0].write("/f", "agreed upon")
	w.settle()
	w.part(true)
	b := w.peers[1]
	return b, b.stat("/f").Ino
}

// Who has looked a file up, and holds it too late, is told that it is gone, whatever
// the others still have of it: else he would read what it becomes.
func TestFileHeldTooLateIsGone(t *testing.T) {
	for _, tt := range []struct {
		when string // it is held
		held error
	}{{"before", nil}, {"amid", ErrNotExist}, {"after", ErrNotExist}} {
		t.Run(tt.when, func(t *testing.T) {
			b, ino := partedFile(t)
			got := make(chan error, 1)
			hold := func() {
				b.Hold(ino)
				_, err := b.Held(ino)
				got <- err
			}
			if tt.when == "before" {
				hold()
			}
			b.must(b.Removing(RootIno, "f", func() {
				if tt.when == "amid" {
					go hold()
					time.Sleep(20 * time.Millisecond) // it waits for the end of this
				}
			}))
			if tt.when == "after" {
				hold()
			}
			if err := <-got; !errors.Is(err, tt.held) {
				t.Errorf("held %s its removal: %v", tt.when, err)
			}
			if a, err := b.Attr(ino); !errors.Is(err, tt.held) || err == nil && a.Nlink != 0 {
				t.Errorf("then: %+v, %v", a, err)
			}
			b.Release(ino)
			if _, err := b.Attr(ino); !errors.Is(err, ErrNotExist) {
				t.Errorf("when nobody holds it: %v", err)
			}
		})
	}
}

// Who holds a removed file while the last of the others lets it go, has it.
func TestFileHeldAgainStays(t *testing.T) {
	b, ino := partedFile(t)
	b.Hold(ino)
	b.rm("/f")
	released := make(chan bool)
	b.must(b.Amid(func() {
		go func() {
			b.Release(ino)
			close(released)
		}()
		time.Sleep(20 * time.Millisecond) // it waits for the end of this
		b.Hold(ino)
	}))
	<-released
	if _, err := b.Held(ino); err != nil || b.read(ino) != "agreed upon" {
		t.Errorf("%v, shows %q", err, b.read(ino))
	}
	b.Release(ino)
	if _, err := b.Attr(ino); !errors.Is(err, ErrNotExist) {
		t.Errorf("when nobody holds it: %v", err)
	}
}

// What has lost its last name here stays as it is for who has it open, also once that
// is cut: a chmod that is not cut yet concerns nobody else any more.
func TestUnlinkedInodesAreNotDescribedAnew(t *testing.T) {
	w := newWorld(t, 1)
	p := w.peers[0]
	p.write("/f", "text")
	p.mkdir("/d")
	p.cutNow()
	inos := []Ino{p.stat("/f").Ino, p.stat("/d").Ino}
	was := map[Ino]Attr{}
	for i, path := range []string{"/f", "/d"} {
		p.Hold(inos[i])
		mode := uint32(0o700)
		_, err := p.SetAttr(inos[i], Set{Mode: &mode})
		p.must(err)
		p.rm(path)
		was[inos[i]], err = p.Attr(inos[i])
		p.must(err)
	}
	p.cutNow()
	for _, ino := range inos {
		if got, err := p.Attr(ino); err != nil || got != was[ino] {
			t.Errorf("%+v, %v, want %+v", got, err, was[ino])
		}
		p.Release(ino)
	}
}
