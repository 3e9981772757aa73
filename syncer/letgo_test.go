package syncer_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// copyOf finds the conflict copy in the root.
func (p *peer) copyOf(stem string) string {
	p.t.Helper()
	var found string
	p.must(p.List(RootIno, 0, func(e Entry) bool {
		if strings.HasPrefix(e.Name, stem+" (conflict") && e.Attr.Kind == model.File {
			found = "/" + e.Name
		}
		return true
	}))
	if found == "" {
		p.t.Fatalf("%s has no conflict copy of %s:\n%s", p.name, stem, p.tree())
	}
	return found
}

// What a user saw and wrote over is in the history, though others had made a
// conflict copy of it: that was removed before it was shown here.
func TestWhatWasOnScreenIsKeptWhenItsCopyGoesUnseen(t *testing.T) {
	for _, mine := range []string{"mine", strings.Repeat("mine", 3_000)} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := program{w.peers[0], 7}, w.peers[1]
			a.write("/f", "old")
			w.settle()
			a.load("/f")
			b.write("/f", mine)
			w.same()
			r := behind(b, 50_000)
			a.write("/first", "1") // is cut at once; what follows, together
			synctest.Wait()
			a.put("/f", strings.Repeat("stale", 12_000))
			a.write("/big", strings.Repeat("b", 60_000))
			a.cutNow()
			time.Sleep(time.Second)
			synctest.Wait()
			if got := b.shows("/f"); got != mine || strings.Contains(b.tree(), "(conflict") {
				t.Fatalf("b shows %.10q before the last byte is here:\n%s", got, b.tree())
			}
			b.write("/f", "next")
			b.cutNow()
			a.rm(a.copyOf("f"))
			a.cutNow()
			time.Sleep(time.Second)
			synctest.Wait()
			close(r.gate)
			w.same()
			for _, p := range w.peers {
				if !slices.Contains(p.pasts(), mine) {
					t.Errorf("not in the history of %s: %.10q", p.name, mine)
				}
			}
		})
	}
}

// The same where the copy cannot be shown, for there is something else of this
// machine only under its name.
func TestWhatWasOnScreenIsKeptWhenItsCopyFindsNoRoom(t *testing.T) {
	w := newWorld(t, 3)
	a, b, c := w.peers[0], w.peers[1], w.peers[2]
	w.part(true)
	a.write("/f", "lost the race")
	a.cutNow()
	w.talk.Lock()
	if w.meet(t.Context(), a, b) {
		w.send(t.Context(), a, b)
	}
	w.talk.Unlock()
	if got := b.shows("/f"); got != "lost the race" {
		t.Fatalf("b shows %q", got)
	}
	x := b.stat("/f")
	at := time.Unix(0, x.Mtime).UTC().Format("2006-01-02 15.04.05")
	_, err := b.Create(RootIno, "f (conflict, ua, da, "+at+")", New{Kind: model.Fifo, Mode: 0o644})
	b.must(err)
	c.write("/f", "won it")
	c.cutNow()
	w.part(false)
	w.until("b shows what has won", func() bool { return b.shows("/f") == "won it" })
	w.until("c has the copy", func() bool { return strings.Contains(c.tree(), "(conflict, ua") })
	c.rm(c.copyOf("f"))
	c.cutNow()
	w.until("nobody has the copy", func() bool { return c.Knowledge().LE(a.Knowledge()) && c.Knowledge().LE(b.Knowledge()) })
	for _, p := range w.peers {
		if !slices.Contains(p.pasts(), "lost the race") {
			t.Errorf("not in the history of %s:\n%s", p.name, p.tree())
		}
	}
}

// What a user did away with while a program had it open is in the history, though
// others changed its file before that was cut.
func TestWhatIsOpenWhenItGoesIsInTheHistory(t *testing.T) {
	for name, do := range map[string]func(p *peer){
		"removed":  func(p *peer) { p.rm("/f") },
		"replaced": func(p *peer) { p.mv("/new", "/f") },
		"saved":    func(p *peer) { p.rm("/f"); p.mv("/new", "/f") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			a.write("/f", "old")
			w.settle()
			w.part(true)
			b.write("/new", "new")
			b.cutNow()
			a.must(a.Setxattr(a.stat("/f").Ino, "user.x", []byte("1"), 0))
			a.cutNow()
			ino := b.stat("/f").Ino
			b.open(ino, false)
			do(b)
			w.talk.Lock()
			if w.meet(t.Context(), a, b) {
				w.send(t.Context(), a, b)
			}
			w.talk.Unlock()
			if !a.Knowledge().LE(b.Knowledge()) {
				t.Fatal("b has not heard of the change")
			}
			if got := b.read(ino); got != "old" {
				t.Errorf("who has it open reads %q", got)
			}
			b.cutNow()
			b.shut(ino)
			if got := b.pasts(); !slices.Contains(got, "old") {
				t.Errorf("in the history: %q", got)
			}
			w.part(false)
			w.same()
		})
	}
}

// What is open where others move it to a name that something of this machine only
// has is shown as soon as that is gone, and is in the history if it goes again.
func TestWhatIsOpenWhileItFindsNoRoomIsHere(t *testing.T) {
	for name, open := range map[string]bool{"open": true, "not open": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a, b := w.peers[0], w.peers[1]
				r := behind(b, 50_000)
				old := strings.Repeat("old!", 3_000)
				a.write("/f", old)
				a.mkdir("/d")
				w.same()
				w.part(true)
				_, err := b.Create(RootIno, "g", New{Kind: model.Fifo, Mode: 0o644})
				b.must(err)
				for i := range 16 { // as many as are fetched at once
					a.write("/d/"+string(rune('a'+i)), strings.Repeat(string(rune('a'+i)), 60_000))
				}
				a.cutNow()
				w.part(false)
				time.Sleep(time.Second)
				if open {
					b.open(b.ino("/f"), false)
				}
				a.mv("/f", "/g")
				a.cutNow()
				time.Sleep(time.Second)
				if b.stat("/g").Kind != model.Fifo || strings.Contains(b.tree(), "/f ") {
					t.Fatalf("b has not followed:\n%s", b.tree())
				}
				b.rm("/g")
				if !strings.Contains(b.tree(), "/g 644 old!") {
					t.Errorf("what is here waits to be fetched:\n%s", b.tree())
				}
				a.write("/g", "next")
				a.cutNow()
				time.Sleep(time.Second)
				close(r.gate)
				w.same()
				if !slices.Contains(b.pasts(), old) {
					t.Error("not in the history of b")
				}
			})
		})
	}
}
