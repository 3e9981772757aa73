package plain

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/clachanfs/clachan/syncer"
)

// A disk gives the number of a file that was replaced to the next: who saves many files has each
// replaced by one with the number of another. It is known afterwards which is where.
func TestFilesThatTakeOverEachOthersNumbersAreFound(t *testing.T) {
	t.Parallel()
	w := start(t, 1)
	a := w.members[0]
	const n = 30
	name := func(i int) string { return fmt.Sprintf("f%02d", i) }
	for i := range n {
		write(t, a.path(name(i)), noise(byte(i), 8000))
	}
	a.rests()
	free := a.path("free")
	write(t, free, "")
	numbers := map[uint64]bool{}
	for i := range n {
		numbers[inode(t, a.path(name(i)))] = true
	}
	for i := range n {
		write(t, free, noise(byte(100+i), 9000))
		must(t, os.Rename(a.path(name(i)), a.path("next")))
		must(t, os.Rename(free, a.path(name(i))))
		must(t, os.Rename(a.path("next"), free))
	}
	must(t, os.Remove(free))
	a.rests()
	again := 0
	for i := range n {
		file := inode(t, a.path(name(i)))
		if numbers[file] {
			again++
		}
		within(t, patience, fmt.Sprintf("number %d is only at %s", file, name(i)), func() bool {
			at, err := a.plain.sight.At(file)
			return err == nil && slices.Equal(at, []syncer.Place{{Dir: syncer.RootIno, Name: name(i)}})
		})
		v, err := a.folder.Content(a.ino(name(i)))
		must(t, err)
		if !a.folder.Stands(t.Context(), file, v) {
			t.Errorf("nothing of %s stands in it", name(i))
		}
	}
	if again < n-1 {
		t.Errorf("%d have the number of another", again)
	}
}

// Where a file was found is not where it is cut, once it was moved or has a further name.
func TestFilesThatAreMovedAndLinkedBeforeTheyAreCut(t *testing.T) {
	t.Parallel()
	w := start(t, 2)
	a := w.members[0]
	must(t, os.Mkdir(a.path("d"), 0o755))
	var names []string
	for i := range 40 {
		from, to := fmt.Sprintf("d/%02d", i), fmt.Sprintf("to%02d", i)
		write(t, a.path(from), from)
		must(t, a.plain.Scan(t.Context()))
		if i%2 == 0 {
			must(t, os.Rename(a.path(from), a.path(to)))
			names = append(names, to)
		} else {
			must(t, os.Link(a.path(from), a.path(to)))
			names = append(names, to, from)
		}
	}
	a.rests()
	for _, name := range names {
		within(t, patience, name+" is seen as it was cut", func() bool {
			at, err := a.plain.sight.At(inode(t, a.path(name)))
			for _, k := range at {
				s, ok, serr := a.plain.sight.Get(k)
				if serr != nil || !ok || s.Ctime == 0 || s.Orig.Seq == 0 {
					return false
				}
			}
			return err == nil && len(at) > 0
		})
	}
}
