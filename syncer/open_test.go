package syncer_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A handle is a file that is open for writing.
type handle struct {
	*peer
	ino  Ino
	data []byte
}

// edit opens a file for writing, making it if need be.
func (p *peer) edit(path string) *handle {
	p.t.Helper()
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	if err != nil {
		a, err = p.Create(dir, name, New{Kind: model.File, Mode: 0o644})
	}
	p.must(err)
	p.Hold(a.Ino)
	h := &handle{peer: p, ino: a.Ino, data: []byte(p.read(a.Ino))}
	p.surf.mu.Lock()
	p.surf.busy[a.Ino] = true
	p.surf.using[a.Ino] = Writing{Open: true, Wrote: time.Now()}
	p.surf.mu.Unlock()
	return h
}

// writeAt writes at an offset, as one call.
func (h *handle) write(off int, data string) {
	h.t.Helper()
	v, err := h.Content(h.ino)
	h.must(err)
	h.surf.mu.Lock()
	if n := off + len(data) - len(h.data); n > 0 {
		h.data = append(h.data, make([]byte, n)...)
	}
	copy(h.data[off:], data)
	h.gen++
	now := time.Now()
	l := &memLayer{Reader: bytes.NewReader(bytes.Clone(h.data)), gen: h.gen, base: v, mtime: now.UnixNano()}
	if old := h.surf.dirty[h.ino]; old != nil {
		l.base = old.base
	}
	h.surf.dirty[h.ino] = l
	u := h.surf.using[h.ino]
	if u.Begun.IsZero() {
		u.Begun = now
	}
	u.Wrote = now
	h.surf.using[h.ino] = u
	h.surf.mu.Unlock()
	size := int64(len(h.data))
	h.must(h.Dirty(h.ino, DirtyState{Gen: l.gen, Base: l.base.Orig, Open: true, Size: size, Alloc: size, Mtime: l.mtime, Ctime: l.mtime}))
}

func (h *handle) fsync() {
	h.surf.mu.Lock()
	u := h.surf.using[h.ino]
	u.Synced = time.Now()
	h.surf.using[h.ino] = u
	h.surf.mu.Unlock()
	h.Synced(h.ino)
}

func (h *handle) close() {
	h.surf.mu.Lock()
	delete(h.surf.using, h.ino)
	delete(h.surf.busy, h.ino)
	h.surf.mu.Unlock()
	h.Closed(h.ino)
	h.forget(h.ino)
	h.Release(h.ino)
}

// shows is what a peer has under a path; empty: nothing.
func (p *peer) shows(path string) string {
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	if err != nil {
		return ""
	}
	return p.read(a.Ino)
}

func TestOpenFilesAreCutWhenTheyRest(t *testing.T) {
	type step struct {
		after time.Duration
		do    string // "write TEXT", "fsync", "close"; else what the other peer shows
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"closed", []step{{0, "write one"}, {time.Second, "close"}, {time.Second, "one"}}},
		{"rests without fsync", []step{{0, "write one"}, {20 * time.Second, "write two"}, {29 * time.Second, ""}, {2 * time.Second, "two"}}},
		{"rests after fsync", []step{{0, "write one"}, {0, "fsync"}, {1900 * time.Millisecond, ""}, {time.Second, "one"}}},
		{"written to after fsync", []step{{0, "write one"}, {0, "fsync"}, {time.Second, "write two"}, {20 * time.Second, ""}, {11 * time.Second, "two"}}},
		{"goes on after a cut", []step{{0, "write one"}, {0, "fsync"}, {3 * time.Second, "one"}, {0, "write two"}, {20 * time.Second, "one"}, {0, "fsync"}, {3 * time.Second, "two"}}},
		{"never written to", []step{{29 * time.Second, ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				h := w.peers[0].edit("/f")
				for i, s := range tt.steps {
					time.Sleep(s.after)
					synctest.Wait()
					text, ok := strings.CutPrefix(s.do, "write ")
					switch {
					case ok:
						h.write(0, text)
					case s.do == "fsync":
						h.fsync()
					case s.do == "close":
						h.close()
					default:
						if got := w.peers[1].shows("/f"); got != s.do {
							t.Fatalf("step %d: the other peer shows %q, want %q", i, got, s.do)
						}
					}
				}
			})
		})
	}
}

func TestSteadyWriterIsCutAtAnFsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		h := w.peers[0].edit("/log")
		for i := range 700 {
			h.write(i, "x")
			h.fsync()
			time.Sleep(time.Second)
			if got := len(w.peers[1].shows("/log")); (got > 0) != (i >= 600) {
				t.Fatalf("after %d s the other peer has %d bytes", i, got)
			}
		}
		h.close()
	})
}

// A name that is removed or moved does not wait for who has the file open and
// does not write to it.
func TestNamesDoNotWaitForIdleWriters(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	a.write("/f", "one")
	w.settle()
	h := a.edit("/f")
	a.mv("/f", "/g")
	a.must(a.Cut(context.Background()))
	w.want("/g 644 one")
	h.close()
}

// A file that is opened and emptied while a cut stores others is not cut half
// written.
func TestOpenedDuringACutIsNotTorn(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/x", "old")
	a.write("/y", "old")
	w.same()
	paths := map[Ino]string{a.stat("/x").Ino: "/y", a.stat("/y").Ino: "/x"} // the other
	var h *handle
	other := make(chan string, 1)
	a.surf.mu.Lock()
	a.surf.froze = func(ino Ino) {
		if p := paths[ino]; p != "" && h == nil {
			h = a.edit(p)
			h.truncate()
			h.write(0, "half")
			other <- p
		}
	}
	a.surf.mu.Unlock()
	a.write("/x", "new x")
	a.write("/y", "new y")
	p := <-other
	a.must(a.Cut(t.Context()))
	w.until("what was closed is at b", func() bool { return a.Knowledge().LE(b.Knowledge()) })
	time.Sleep(200 * time.Millisecond) // the cutter looks again
	for _, q := range w.peers {
		if tree := q.tree(); q == b && strings.Contains(tree+"\n", " half\n") {
			t.Errorf("b shows\n%s", tree)
		}
	}
	h.write(4, " and whole")
	h.close()
	w.until("the rest is at b", func() bool { return strings.Contains(b.tree(), p+" 644 half and whole") })
}

// Who moves and edits a file that others have changed and then removed keeps it,
// with what he wrote; what they removed stays so.
func TestEditOfARemovedFileBringsNothingElseBack(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "first")
	w.same()
	w.part(true)
	h := a.edit("/f")
	h.write(0, "edit!")
	a.mv("/f", "/g")
	b.write("/f", "theirs")
	b.cutNow()
	b.rm("/f")
	b.cutNow()
	w.part(false)
	w.until("the removal", func() bool { return b.Knowledge().LE(a.Knowledge()) })
	h.close()
	w.want("/g 644 edit!")
}

// A write that the row did not know of before the cut has moved the times once and not
// again.
func TestACutIsNoChangeOfTheFile(t *testing.T) {
	w := newWorld(t, 1)
	p := w.peers[0]
	h := p.edit("/f")
	h.write(0, "some")
	was := p.stat("/f")
	p.surf.mu.Lock()
	p.surf.dirty[h.ino].mtime++
	p.surf.mu.Unlock()
	h.close()
	p.cutNow()
	want := was
	want.Mtime, want.Ctime = was.Mtime+1, was.Ctime+1
	if got := p.stat("/f"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
