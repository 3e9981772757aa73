package syncer_test

import (
	"fmt"
	mrand "math/rand"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An editor saves a file its own way, and takes its time between the steps.
type editor struct {
	name   string
	absent bool // while it saves
	linked bool // saves over a file that has two names: inode before path
	save   func(p *peer, path, data string, step func())
}

// there tells whether a path is there.
func (p *peer) there(path string) bool {
	dir, name := p.at(path)
	_, err := p.Lookup(dir, name)
	return err == nil
}

// inPlace truncates a file and writes it anew, in several calls.
func (p *peer) inPlace(path, data string, step func()) {
	h := p.edit(path)
	step()
	h.truncate()
	for i := 0; i < len(data); i += 5 {
		step()
		h.write(i, data[i:min(i+5, len(data))])
	}
	step()
	h.close()
}

// truncate empties an open file.
func (h *handle) truncate() {
	h.data = nil
	h.write(0, "")
}

var editors = []editor{
	{"vim", false, false, func(p *peer, path, data string, step func()) {
		p.edit("/4913").close()
		step()
		p.rm("/4913")
		step()
		p.mv(path, path+"~")
		step()
		p.inPlace(path, data, step)
		step()
		p.rm(path + "~")
	}},
	{"libreoffice", false, false, func(p *peer, path, data string, step func()) {
		p.inPlace("/.~lock.f.txt#", "me", step)
		step()
		p.inPlace("/lu1234.tmp", data, step)
		step()
		p.mv("/lu1234.tmp", path)
		step()
		p.rm("/.~lock.f.txt#")
	}},
	{"vscode", false, false, func(p *peer, path, data string, step func()) { p.inPlace(path, data, step) }},
	{"keepassxc", false, false, func(p *peer, path, data string, step func()) {
		tmp := path + ".AbCdEf"
		p.inPlace(tmp, data, step)
		if got := p.shows(tmp); got != data {
			p.t.Fatalf("reads back %q, want %q", got, data)
		}
		step()
		p.mv(tmp, path)
	}},
	{"gedit", false, false, func(p *peer, path, data string, step func()) {
		p.inPlace("/.goutputstream-XYZ", data, step)
		step()
		p.mv("/.goutputstream-XYZ", path)
	}},
	{"gedit with backup", false, true, func(p *peer, path, data string, step func()) {
		p.inPlace("/.goutputstream-XYZ", data, step)
		step()
		if p.there(path + "~") {
			p.rm(path + "~")
		}
		step()
		dir, name := p.at(path)
		a, err := p.Lookup(dir, name)
		p.must(err)
		_, err = p.Link(a.Ino, dir, name+"~")
		p.must(err)
		step()
		p.mv("/.goutputstream-XYZ", path)
	}},
	{"emacs", false, false, func(p *peer, path, data string, step func()) {
		if !p.there(path + "~") { // the first save of a session
			p.mv(path, path+"~")
			step()
		}
		p.inPlace(path, data, step)
	}},
	{"emacs, backup each time", false, false, func(p *peer, path, data string, step func()) {
		p.mv(path, path+"~")
		step()
		p.inPlace(path, data, step)
	}},
	{"backup by copy", false, false, func(p *peer, path, data string, step func()) {
		p.inPlace(path+"~", p.shows(path), step)
		step()
		p.inPlace(path, data, step)
	}},
	{"removes and makes anew", true, false, func(p *peer, path, data string, step func()) {
		p.rm(path)
		p.inPlace(path, data, step)
	}},
}

// However an editor saves, and however slow it is in the midst of it, to the
// others it is one file that is edited: it stays one node, is never missing nor
// torn, and no save makes a conflict copy.
func TestEditorSavesAtAnyPace(t *testing.T) {
	each := max(1, *saves/len(editors))
	total := 0
	for _, e := range editors {
		t.Run(e.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, sent := playSaves(t, e, each)
				total += each
				t.Logf("%d saves in %v, %.2f changes sent for each, 0 conflict copies", each, took.Round(time.Second), float64(sent)/float64(each))
			})
		})
	}
	t.Logf("%d saves", total)
}

func playSaves(t *testing.T, e editor, each int) (took time.Duration, sent uint64) {
	r := mrand.New(mrand.NewSource(*seed))
	t.Logf("seed %d", *seed)
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	const path = "/f.txt"
	a.write(path, "save 0, 0 of 0")
	w.settle()
	node, before, began := a.node(path), a.Knowledge(), time.Now()
	seen := 0
	look := func() { // at what the other peer has
		got := b.shows(path)
		if got == "" && e.absent && !b.there(path) {
			return
		}
		n, err := strconv.Atoi(strings.TrimPrefix(strings.Split(got, ",")[0], "save "))
		if err != nil || n < seen || !strings.HasSuffix(got, fmt.Sprint(", ", n*7, " of ", n)) {
			t.Fatalf("after save %d the other peer has %q; it has\n%s\nhere is\n%s", seen, got, b.tree(), a.tree())
		}
		seen = n
	}
	step := func() {
		look()
		pause := time.Duration(r.Intn(8)) * time.Millisecond
		if r.Intn(20) == 0 { // a slow disk
			pause = time.Duration(r.Intn(700)) * time.Millisecond
		}
		time.Sleep(pause)
		if r.Intn(30) == 0 { // it is busy with other things
			b.write("/other", fmt.Sprint(r.Int()))
		}
	}
	for i := 1; i <= each; i++ {
		e.save(a, path, fmt.Sprintf("save %d, %d of %d", i, i*7, i), step)
		if r.Intn(3) == 0 {
			time.Sleep(time.Duration(r.Intn(3000)) * time.Millisecond)
		}
	}
	took = time.Since(began)
	tree := w.same()
	if look(); seen != each {
		t.Fatalf("the last save seen is %d of %d", seen, each)
	}
	if strings.Contains(tree, "conflict") {
		t.Fatalf("conflict copies:\n%s", tree)
	}
	for _, p := range w.peers {
		if got := p.node(path); got != node && !e.linked {
			t.Errorf("%s: node %v, was %v", p.name, got, node)
		}
	}
	for _, d := range before { // of the one who has written so far
		sent += a.Knowledge().Get(d.Replica) - d.Seq
	}
	return took, sent
}
