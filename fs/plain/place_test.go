package plain

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// noise are bytes that no program makes shorter.
func noise(seed byte, n int) string {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return string(p)
}

// blind reads nothing.
type blind struct{}

func (blind) ReadPart(uint64, []byte, int64) (int, error) { return 0, errors.New("not now") }

// rests returns when all on disk has been taken in.
func (m *member) rests() {
	m.w.t.Helper()
	must(m.w.t, m.plain.Scan(m.w.t.Context()))
	within(m.w.t, patience, "all is taken in", func() bool {
		st, err := m.folder.Stats()
		return err == nil && st.Pending == 0
	})
}

// ino is the inode that a file shows.
func (m *member) ino(name string) syncer.Ino {
	m.w.t.Helper()
	a, err := m.folder.Lookup(syncer.RootIno, name)
	must(m.w.t, err)
	return a.Ino
}

// twice is how many blocks of a file's content are stored though they stand in it, and single
// how many are not.
func (m *member) twice(name string) (twice, single int) {
	t := m.w.t
	t.Helper()
	file := inode(t, m.path(name))
	v, err := m.folder.Content(m.ino(name))
	must(t, err)
	store := m.folder.Store()
	store.SetSource(blind{})
	defer store.SetSource(m.plain)
	must(t, content.Data(t.Context(), store, v.Content, func(id blocks.ID, _, _ int64) error {
		if !store.Stands(id, file) {
			t.Errorf("%s: a block of %s does not stand in it", m.name, name)
		}
		_, err := store.Get(t.Context(), id, nil)
		switch {
		case err == nil:
			twice++
		case errors.Is(err, blocks.ErrNotFound):
			single++
			return nil
		}
		return err
	}))
	return twice, single
}

// once returns when nothing of files is stored that stands in them.
func (m *member) once(names ...string) {
	m.w.t.Helper()
	within(m.w.t, patience, "bytes are stored once", func() bool {
		must(m.w.t, m.folder.Expire(m.w.t.Context()))
		for _, n := range names {
			if twice, single := m.twice(n); twice > 0 || single == 0 {
				return false
			}
		}
		return true
	})
}

// past is what the history has of a file, the newest first; "" is what is not here.
func (m *member) past(name string) (out []string) {
	t := m.w.t
	t.Helper()
	var found []index.Past
	must(t, m.folder.Pasts(func(p index.Past) bool { found = append(found, p); return true }))
	for _, p := range found {
		c, err := content.Decode(p.Content)
		must(t, err)
		b := make([]byte, c.Size)
		if _, err := content.NewReader(m.folder.Store(), c).ReadAt(t.Context(), b, 0); err != nil && !errors.Is(err, io.EOF) {
			b = nil
		}
		out = append(out, string(b))
	}
	return out
}

func TestBytesAreNotStoredTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	a, b, c := w.members[0], w.members[1], w.members[2]
	big, small := noise(1, 3<<20), noise(2, 20_000)
	write(t, a.path("big"), big)
	write(t, a.path("small"), small)
	write(t, a.path("copy"), big)
	a.start()
	a.rests()
	for _, n := range []string{"big", "small", "copy"} {
		if twice, single := a.twice(n); twice != 0 || single == 0 {
			t.Errorf("%s: %d blocks are stored, %d are not", n, twice, single)
		}
	}
	b.start()
	within(t, patience, "b has it", func() bool { return shows(b.dir) == shows(a.dir) })
	b.once("big", "small", "copy")
	write(t, a.path("new"), noise(3, 200_000)) // it is stored until the other has it
	a.rests()
	within(t, patience, "b has it", func() bool { return shows(b.dir) == shows(a.dir) })
	a.once("big", "small", "copy", "new")
	b.once("big", "small", "copy", "new")
	// What is moved, or replaced by the same, can be read still.
	must(t, os.Rename(b.path("big"), b.path("moved")))
	write(t, b.path("tmp"), small)
	must(t, os.Rename(b.path("tmp"), b.path("small")))
	must(t, os.Remove(b.path("copy")))
	a.rests()
	b.rests()
	within(t, patience, "both show the same", func() bool { return shows(a.dir) == shows(b.dir) })
	a.end()
	c.start()
	within(t, patience, "a third has it from b", func() bool { return shows(c.dir) == shows(b.dir) })
	for n, want := range map[string]string{"moved": big, "small": small} {
		if is, err := os.ReadFile(c.path(n)); err != nil || string(is) != want {
			t.Errorf("%s came otherwise: %v", n, err)
		}
	}
}

func TestWhatOthersReplaceOrRemoveIsHistory(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	one, end := noise(1, 400_000), noise(3, 400_000)
	write(t, a.path("f"), one+end)
	write(t, a.path("g"), noise(2, 9000))
	w.still()
	b.once("f", "g")
	write(t, a.path("f"), "new"+end)
	w.still()
	must(t, os.Remove(a.path("g")))
	w.still()
	must(t, b.folder.Expire(t.Context()))
	past := b.past("f")
	if len(past) != 2 || past[0] != noise(2, 9000) || past[1] != one+end {
		t.Errorf("%d versions are in the history, or others", len(past))
	}
	b.once("f") // what both versions have stands in the one
}

func TestWhatIsOverwrittenWhileOthersAskForItIsAskedForAgain(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	w.apart.Store(true)
	write(t, a.path("f"), noise(1, 300_000))
	a.rests()
	f, err := os.OpenFile(a.path("f"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("changed"), 150_000)
	must(t, err)
	w.apart.Store(false) // they meet while it is open for writing
	time.Sleep(300 * time.Millisecond)
	must(t, f.Close())
	w.still()
	is, err := os.ReadFile(b.path("f"))
	must(t, err)
	want, err := os.ReadFile(a.path("f"))
	must(t, err)
	if !bytes.Equal(is, want) {
		t.Error("the other has something else")
	}
}

func TestAFileThatIsSavedUnchangedStandsWhereItIs(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	write(t, a.path("f"), noise(1, 300_000))
	a.rests()
	write(t, a.path("tmp"), noise(1, 300_000))
	must(t, os.Rename(a.path("tmp"), a.path("f")))
	within(t, patience, "it is seen", func() bool {
		at, err := a.folder.Sight().At(inode(t, a.path("f")))
		return err == nil && len(at) == 1 && at[0].Name == "f"
	})
	within(t, patience, "it stands there", func() bool {
		v, err := a.folder.Content(a.ino("f"))
		return err == nil && a.folder.Stands(t.Context(), inode(t, a.path("f")), v)
	})
}

func TestHistoryOutlivesAllNamesAndWhatIsWrittenLater(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a, b := w.members[0], w.members[1]
	linked, one := noise(1, 50_000), noise(2, 900_000)
	write(t, a.path("x"), linked)
	must(t, os.Link(a.path("x"), a.path("y")))
	write(t, a.path("f"), one)
	w.still()
	b.once("x", "f")
	must(t, os.Remove(a.path("x")))
	must(t, os.Remove(a.path("y")))
	write(t, a.path("f"), "new"+one[:800_000])
	w.still()
	write(t, b.path("f"), noise(3, 100_000)) // what both versions had
	w.still()
	must(t, b.folder.Expire(t.Context()))
	past := b.past("f")
	for _, want := range []string{linked, one} {
		if !slices.Contains(past, want) {
			t.Errorf("what others replaced or removed is not in the history of %d versions", len(past))
		}
	}
}

func TestADirectoryGivesWayToAnother(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	write(t, a.path("f"), noise(1, 300_000))
	a.rests()
	must(t, a.plain.Demote(t.Context()))
	a.end()
	a.dir, a.opts.New = t.TempDir(), true
	a.start()
	within(t, patience, "the file is there", func() bool {
		is, err := os.ReadFile(a.path("f"))
		return err == nil && string(is) == noise(1, 300_000)
	})
	a.once("f")
}

func TestWhatStoodInAFileThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	write(t, a.path("f"), noise(1, 50_000))
	a.rests()
	const gone = 1 << 60 // replaced while it was cut, or as a backup knew it
	_, err := a.folder.Store().PlaceIn(gone).Put([]byte(noise(2, 9000)), 0)
	must(t, err)
	must(t, a.plain.Scan(t.Context()))
	var files []uint64
	must(t, a.folder.Store().Files(func(file uint64) error { files = append(files, file); return nil }))
	if len(files) != 1 || files[0] != inode(t, a.path("f")) {
		t.Errorf("something stands in %v", files)
	}
}

func TestAFileThatIsBeingCutIsNotLeft(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	const file = 1 << 60 // found to be f, whose row tells of another still
	write(t, a.path("f"), "small")
	a.rests()
	a.plain.wait(a.ino("f"), stat{id: syncer.FileID{Ino: file}}, syncer.Version{})
	store := a.folder.Store()
	id, err := store.PlaceIn(file).Put([]byte(noise(1, 9000)), 0)
	must(t, err)
	p := newPass(&loop{d: a.plain}, t.Context(), nil)
	gone := syncer.Seen{Kind: model.File, File: syncer.FileID{Ino: file}}
	must(t, p.left(gone))
	if !store.Stands(id, file) {
		t.Error("what has been found of it is forgotten")
	}
	a.plain.forget(a.ino("f"))
	must(t, p.left(gone))
	if store.Stands(id, file) {
		t.Error("it is known still when it is gone")
	}
}
