package syncer_test

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

var saves = flag.Int("saves", 600, "saves of TestEditorSaves, all patterns together")

// patterns are the ways in which programs save a file, as traces of them show.
var patterns = []struct {
	name string
	save func(p program, path, data string)
}{
	{"truncate and write", func(p program, path, data string) { p.put(path, data) }},
	{"atomic replace", func(p program, path, data string) { p.replace(path, data) }},
	{"vim", func(p program, path, data string) { // writes its probe, moves the file aside, writes it anew
		p.probe("/4913")
		p.rename(path, path+"~")
		p.put(path, data)
		p.rm(path + "~")
	}},
	{"vim, backup by copy", func(p program, path, data string) {
		p.put(path+"~", p.load(path))
		p.put(path, data)
		p.rm(path + "~")
	}},
	{"LibreOffice", func(p program, path, data string) {
		lock := "/.~lock." + path[1:] + "#"
		p.put(lock, "me")
		p.put("/lu123.tmp", data)
		p.rename("/lu123.tmp", path)
		p.rm(lock)
	}},
	{"VS Code, atomic", func(p program, path, data string) {
		p.put(path+".vsctmp", data)
		p.rename(path+".vsctmp", path)
	}},
	{"KeePassXC", func(p program, path, data string) { // reads back what it wrote
		p.put(path+".aBcDeF", data)
		p.load(path + ".aBcDeF")
		p.rename(path+".aBcDeF", path)
		p.load(path)
	}},
	{"gedit", func(p program, path, data string) {
		p.put("/.goutputstream-X1", data)
		p.rename("/.goutputstream-X1", path)
	}},
	{"Emacs", func(p program, path, data string) { // keeps the backup
		if _, err := p.Lookup(RootIno, path[1:]+"~"); err == nil {
			p.rm(path + "~")
		}
		p.rename(path, path+"~")
		p.put(path, data)
	}},
}

// probe makes an empty file and removes it.
func (p program) probe(path string) {
	dir, name := p.at(path)
	_, err := p.Create(dir, name, New{Kind: model.File, Mode: 0o644, By: p.is})
	p.must(err)
	p.rm(path)
}

// However a program saves, while another peer follows, no save is a conflict, and
// the file is one node from the first to the last, with all saves in its history.
func TestEditorSaves(t *testing.T) {
	each := (*saves + len(patterns) - 1) / len(patterns)
	all := 0
	begun := time.Now()
	for i, pattern := range patterns {
		t.Run(pattern.name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			p := program{a, Proc(100 + i)}
			path := "/report.odt"
			p.put(path, "0")
			w.settle()
			id := a.node(path)
			pad := strings.Repeat("x", 6000) // too much for a row
			var cut, met []int               // saves that were surely a version here, and at both
			for n := range each {
				data := fmt.Sprint(n + 1)
				if n%2 == 0 {
					data += pad
				}
				pattern.save(p, path, data)
				all++
				switch {
				case n%7 == 0:
					a.must(a.Cut(context.Background()))
					cut = append(cut, n+1)
				case n%50 == 49:
					if tree := w.same(); strings.Contains(tree, "conflict") {
						t.Fatalf("save %d is a conflict:\n%s", n+1, tree)
					}
					if got := a.node(path); got != id {
						t.Fatalf("save %d made another node: %v, was %v", n+1, got, id)
					}
					met = append(met, n+1)
				}
			}
			tree := w.same()
			if got, want := b.node(path), id; got != want || a.node(path) != want {
				t.Errorf("the file is node %v, was %v", got, want)
			}
			if n := strings.Count(tree, "conflict"); n > 0 {
				t.Errorf("%d conflict copies:\n%s", n, tree)
			}
			if !strings.HasPrefix(b.shows(path), fmt.Sprint(each)) {
				t.Errorf("the other peer does not have the last save")
			}
			a.remembers(path, each, append(cut, met...))
			b.remembers(path, each, met)
		})
	}
	t.Logf("%d saves in %d patterns, %v: 0 conflict copies, one node each", all, len(patterns), time.Since(begun).Round(time.Millisecond))
}

// remembers checks that saves are in the history of a file, each once and, where
// they were made, in their order. Elsewhere one that was never shown, as a later
// was known when its bytes came, goes before the one that was.
func (p *peer) remembers(path string, last int, saves []int) {
	p.t.Helper()
	there := map[int]bool{last: true}
	for _, x := range p.past(path) {
		n, err := strconv.Atoi(strings.TrimRight(p.bytesOf(x), "x"))
		if err != nil || there[n] || x.Removed || x.Here && n > last {
			p.t.Errorf("%s: save %d came before save %d: %+v, %v", p.name, n, last, x, err)
		}
		last, there[n] = n, true
	}
	for _, n := range saves {
		if !there[n] {
			p.t.Errorf("%s: save %d is not in the history", p.name, n)
		}
	}
}

// node is the node that a peer shows under a path.
func (p *peer) node(path string) model.ID {
	p.t.Helper()
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	p.must(err)
	return p.NodeOf(a.Ino)
}
