package mount

import (
	"fmt"
	"testing"

	"github.com/clachanfs/clachan/syncer"
)

func TestQueueOfNotesIsBoundedAndForgetsNothing(t *testing.T) {
	q := newNotifier()
	const dir = 7
	for i := range notesMax + 10 {
		for range 2 { // the same twice is once
			q.flip([]syncer.Flip{{Dir: dir, Name: fmt.Sprint(i)}}, nil)
		}
	}
	q.flip([]syncer.Flip{{Dir: syncer.RootIno, Name: "always exact", Old: 8}}, nil)
	q.flip([]syncer.Flip{{Content: 9}}, nil)
	notes, dirs, _ := q.take()
	if want := notesMax + 3; len(notes) != want || !dirs[dir] || len(dirs) != 1 {
		t.Fatalf("%d notes, want %d; directories %v", len(notes), want, dirs)
	}
	last := notes[notesMax:]
	if last[0] != (note{dir: syncer.RootIno, name: "always exact", ino: 8, gone: true}) || last[1] != (note{ino: 8, attrs: true}) ||
		last[2] != (note{ino: 9}) {
		t.Errorf("last notes %+v", last)
	}
	if notes, dirs, _ := q.take(); len(notes) > 0 || len(dirs) > 0 {
		t.Errorf("taken twice: %d notes, %v", len(notes), dirs)
	}
}

func TestTableKeepsWhatIsInUse(t *testing.T) {
	var tab table
	tab.init()
	const ino = 5
	holds := 0
	lookup := func() { tab.lookup(ino, func(syncer.Ino) { holds++ }) }
	if lookup(); holds != 1 {
		t.Error("not held")
	}
	if lookup(); holds != 1 {
		t.Error("held twice")
	}
	l, _ := tab.open(ino, true)
	if !tab.busy(ino) || tab.writers(ino) != 1 {
		t.Error("open file is not busy")
	}
	if held, _ := tab.forget(ino, 2); held {
		t.Error("an open inode was let go")
	}
	tab.release(ino, true)
	if tab.busy(ino) || tab.peek(ino) != nil {
		t.Error("closed clean file is busy")
	}
	if lookup(); holds != 1 {
		t.Error("held twice")
	}
	if held, _ := tab.forget(ino, 1); !held || tab.known(ino) {
		t.Error("forgotten inode is still held")
	}
	if len(tab.shard(ino).nodes) != 0 {
		t.Error("node stays")
	}
	tab.adopt(ino, l)
	if !tab.busy(ino) || len(tab.dirty()) != 1 {
		t.Error("dirty file without users is not busy")
	}
	tab.settle(ino, l) // it has no file: clean
	if tab.busy(ino) || len(tab.shard(ino).nodes) != 0 {
		t.Error("clean file without users stays")
	}
}
