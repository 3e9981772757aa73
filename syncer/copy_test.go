package syncer_test

import (
	"context"
	"errors"
	mrand "math/rand"
	"testing"

	"github.com/clachanfs/clachan/blocks/content"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// creates makes a file and keeps it open for writing, so that it is not cut.
func (p *peer) creates(name string) Ino {
	a, err := p.Create(RootIno, name, New{Kind: model.File, Mode: 0o644})
	p.must(err)
	p.open(a.Ino, true)
	return a.Ino
}

// copyTo has a file go on at off with n bytes of another.
func (p *peer) copyTo(from, to string, off, n int64) error {
	c, err := p.Copy(context.Background(), p.stat(from).Ino, p.stat(to).Ino, off, n)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Commit()
	return err
}

// A copy names the blocks of the other file, outlives it and a power cut, and is cut as
// what it is.
func TestCopiesNameTheSameBlocks(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.crashable()
	data := make([]byte, 3<<20)
	mrand.New(mrand.NewSource(1)).Read(data)
	a.write("/f", string(data))
	a.cutNow()
	whole := a.creates("whole")
	a.must(a.copyTo("/f", "/whole", 0, 1<<40))
	parts := a.creates("parts")
	const part = 1<<20 + 1234
	a.must(a.copyTo("/f", "/parts", 0, part))
	if got := a.shows("/parts"); got != string(data[:part]) {
		t.Errorf("a part has %d bytes", len(got))
	}
	a.must(a.copyTo("/f", "/parts", part, 1<<40))
	partial := a.creates("part")
	a.must(a.copyTo("/f", "/part", 0, part))
	for _, ino := range []Ino{whole, parts, partial} {
		a.shut(ino)
	}
	before := func(name string) content.Content {
		v, err := a.Content(a.stat(name).Ino)
		a.must(err)
		return v.Content
	}
	of := before("/f").Encode()
	a.rm("/f")
	a.must(a.Sync())
	a.crash(mrand.New(mrand.NewSource(1)))
	w.settle()
	for _, p := range w.peers {
		for name, want := range map[string]string{"/whole": string(data), "/parts": string(data), "/part": string(data[:part])} {
			if p.shows(name) != want {
				t.Errorf("%s shows something else at %s", p.name, name)
			}
		}
	}
	for _, name := range []string{"/whole", "/parts"} {
		if before(name).Encode() != of {
			t.Errorf("%s does not name the blocks of what it was copied from", name)
		}
	}
	b.write("/part", "by another")
	w.same()
}

func TestCopiesThatCannotShareAreRefused(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	data := make([]byte, 1<<20)
	mrand.New(mrand.NewSource(1)).Read(data)
	a.write("/f", string(data))
	a.write("/small", "small")
	a.write("/other", string(data[1:]))
	a.cutNow()
	a.write("/staged", "staged")
	inos := []Ino{a.creates("empty"), a.creates("disk.img"), a.creates("copy")}
	a.must(a.copyTo("/f", "/copy", 0, 1<<19))
	for _, tt := range []struct {
		what, from, to string
		off            int64
	}{
		{"of a small file", "/small", "/empty", 0},
		{"into what is staged", "/f", "/staged", 0},
		{"into what has other bytes", "/f", "/other", 0},
		{"behind other bytes", "/f", "/other", 1<<20 - 1},
		{"behind the end", "/f", "/empty", 1 << 19},
		{"from the end", "/f", "/copy", 1 << 20},
		{"over a copy", "/f", "/copy", 0},
		{"into what is cut in another way", "/f", "/disk.img", 0},
	} {
		if err := a.copyTo(tt.from, tt.to, tt.off, 1<<40); !errors.Is(err, ErrNoCopy) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	for _, ino := range inos {
		a.shut(ino)
	}
	a.cutNow()
	if err := a.copyTo("/f", "/empty", 0, 1<<40); !errors.Is(err, ErrNoCopy) {
		t.Errorf("into what is known to others: %v", err)
	}
	a.creates("new")
	c, err := a.Copy(context.Background(), a.stat("/f").Ino, a.stat("/new").Ino, 0, 1<<40)
	a.must(err)
	defer c.Close()
	a.write("/new", "meanwhile")
	if _, err := c.Commit(); !errors.Is(err, ErrNoCopy) || a.shows("/new") != "meanwhile" {
		t.Errorf("over what was written meanwhile: %v", err)
	}
}
