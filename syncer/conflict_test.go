package syncer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What two peers make alike while they do not hear of each other is no conflict.
func TestEqualContentNeverConflicts(t *testing.T) {
	long := strings.Repeat("equal ", 20_000)
	tests := []struct {
		name string
		do   func(p *peer, i int)
		want string // beside mode and path
	}{
		{"made, short", func(p *peer, _ int) { p.write("/f", "equal") }, "/f"},
		{"made, long", func(p *peer, _ int) { p.write("/f", long) }, "/f"},
		{"overwritten", func(p *peer, _ int) { p.write("/old", long) }, ""},
		{"other mtime", func(p *peer, i int) {
			p.write("/f", long)
			mtime := int64(i+1) * 1e18
			_, err := p.SetAttr(p.ino("/f"), Set{Mtime: &mtime})
			p.must(err)
		}, "/f"},
		{"other mode", func(p *peer, i int) {
			p.write("/f", long)
			mode := uint32(0o600 + i)
			_, err := p.SetAttr(p.ino("/f"), Set{Mode: &mode})
			p.must(err)
		}, "/f"},
		{"symlinks", func(p *peer, _ int) {
			_, err := p.Create(RootIno, "l", New{Kind: model.Symlink, Mode: 0o777, Target: "to"})
			p.must(err)
		}, "/l"},
		{"directories", func(p *peer, _ int) { p.mkdir("/d"); p.write("/d/f", "equal") }, "/d/f"},
		{"replaced", func(p *peer, i int) { program{p, Proc(i + 1)}.replace("/old", "equal") }, ""},
		{"renamed", func(p *peer, _ int) { p.mv("/old", "/new") }, "/new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.peers[0].write("/old", "old")
			w.settle()
			w.part(true)
			for i, p := range w.peers {
				tt.do(p, i)
				p.must(p.Cut(context.Background()))
			}
			w.part(false)
			tree := w.same()
			if strings.Contains(tree, "conflict") || !strings.Contains(tree, tt.want) {
				t.Errorf("got\n%s", tree)
			}
			before := make([]model.VV, len(w.peers))
			for i, p := range w.peers {
				before[i] = p.Knowledge()
			}
			w.same()
			for i, p := range w.peers {
				if !p.Knowledge().Equal(before[i]) {
					t.Errorf("%s said something more: %v, was %v", p.name, p.Knowledge(), before[i])
				}
			}
		})
	}
}

// A machine whose clock is years ahead, and knows no better, does not take the name
// from an edit that others make after its own; where its clock is thought to be
// right it does. Its time is shown as it is.
func TestAWildClockDoesNotTakeTheName(t *testing.T) {
	for _, unsure := range []bool{true, false} {
		t.Run(fmt.Sprint("unsynchronised: ", unsure), func(t *testing.T) {
			w := newWorld(t, 3)
			a, wild := w.peers[0], w.peers[1]
			wild.opts.Unsure = func() bool { return unsure }
			wild.again(wild.opts.Remote)
			a.write("/f.txt", "v")
			w.same()
			w.part(true)
			ahead := time.Now().AddDate(2, 0, 0).UnixNano()
			wild.write("/f.txt", "wild")
			_, err := wild.SetAttr(wild.ino("/f.txt"), Set{Mtime: &ahead})
			wild.must(err)
			wild.cutNow()
			a.write("/f.txt", "later")
			a.cutNow()
			w.part(false)
			tree := w.same()
			name := "/f (conflict, ub, db, " + time.Unix(0, ahead).UTC().Format("2006-01-02 15.04.05") + ").txt"
			if !unsure {
				name = "/f.txt"
			}
			if strings.Count(tree, "(conflict") != 1 || a.shows(name) != "wild" {
				t.Fatalf("no %s with wild bytes in\n%s", name, tree)
			}
			if got := a.stat(name).Mtime; got != ahead {
				t.Errorf("mtime %d, was %d", got, ahead)
			}
			a.again(a.opts.Remote) // the rows say the same
			if again := w.same(); again != tree {
				t.Errorf("was\n%s\nis\n%s", tree, again)
			}
		})
	}
}

func (p *peer) ino(path string) Ino {
	p.t.Helper()
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	p.must(err)
	return a.Ino
}

// A conflict copy says whose it is, has one name on all peers, and stays: when
// there are more conflicts, copies of copies included, when the file is edited
// or removed, and when a newcomer joins.
func TestConflictCopiesHaveOneNameAndStay(t *testing.T) {
	w := newWorld(t, 3)
	a := w.peers[0]
	a.write("/doc.txt", "0")
	w.settle()
	copies := func() (out []string) {
		for _, line := range strings.Split(w.same(), "\n") { // on all peers
			if strings.Contains(line, "conflict") {
				out = append(out, line)
			}
		}
		return out
	}
	var kept []string
	both := func(path string, round int) {
		w.part(true)
		for _, p := range w.peers[:2] {
			p.write(path, fmt.Sprint(p.name, round))
			p.must(p.Cut(context.Background()))
		}
		w.part(false)
		now := copies()
		if len(now) != len(kept)+1 {
			t.Errorf("round %d: %d copies, had %d", round, len(now), len(kept))
		}
		for _, line := range now {
			if slices.Contains(kept, line) {
				continue
			}
			name, data, _ := strings.Cut(line, " 644 ")
			if name == path {
				continue // the copy that was written to keeps its name
			}
			if who := data[:1]; !strings.Contains(name, " (conflict, u"+who+", d"+who+", ") || !strings.HasSuffix(name, ".txt") {
				t.Errorf("%q is the name of what %s wrote", name, data)
			}
		}
		kept = now
	}
	for round := range 12 {
		both("/doc.txt", round)
	}
	old := kept
	path, _, _ := strings.Cut(kept[0], " 644 ")
	kept = slices.Clone(kept)
	both(path, 99) // a copy of a copy
	if now := copies(); len(now) != len(old)+1 {
		t.Errorf("%d copies, had %d", len(now), len(old))
	}
	a.write("/doc.txt", "resolved")
	w.same()
	a.rm("/doc.txt")
	w.join()
	if now := copies(); !slices.Equal(now, kept) {
		t.Errorf("copies are\n%s\nwere\n%s", strings.Join(now, "\n"), strings.Join(kept, "\n"))
	}
}

// Of a file with two names one user removes one, and another the other: nobody has
// removed the file, whenever each hears of it.
func TestWhoRemovesOneNameOfTwoKeepsTheFile(t *testing.T) {
	ways := map[string]func(p *peer, name string){
		"rename over": func(p *peer, name string) {
			p.write("/tmp"+p.name, "over"+p.name)
			p.mv("/tmp"+p.name, name)
		},
		"backup": func(p *peer, name string) {
			p.mv(name, name+"~")
			p.write(name, "new"+p.name)
			p.rm(name + "~")
		},
		"unlink": func(p *peer, name string) { p.rm(name) },
	}
	for one, there := range ways {
		for two, here := range ways {
			t.Run(one+" meets "+two, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 2)
					a, b := w.peers[0], w.peers[1]
					a.write("/f", "linked")
					a.link("/f", "/g")
					w.same()
					w.part(true)
					there(a, "/g")
					a.cutNow()
					b.write("/z", "so that the next is not cut at once")
					time.Sleep(10 * time.Millisecond)
					here(b, "/f")
					w.talk2(a, b)
					w.part(false)
					holds(t, w.same(), "linked")
				})
			})
		}
	}
}
