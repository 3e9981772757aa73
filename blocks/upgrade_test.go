package blocks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/clachanfs/clachan/blocks/crashfs"
)

// tree returns what is in all files below dir but locks.
func tree(tb testing.TB, fs vfs.FS, dir string) map[string]string {
	tb.Helper()
	out := map[string]string{}
	names, err := fs.List(dir)
	check(tb, err)
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		fi, err := fs.Stat(path)
		check(tb, err)
		switch {
		case fi.IsDir():
			out[path] = "directory"
			maps.Copy(out, tree(tb, fs, path))
		case name != "LOCK":
			f, err := fs.Open(path)
			check(tb, err)
			b, err := io.ReadAll(f)
			check(tb, errors.Join(err, f.Close()))
			out[path] = string(b)
		}
	}
	return out
}

// A future is a later program: format 2 has a mark before each row of table 'x'
// and in the files beside, and format 3 another.
func future(fail error) DiskOptions {
	o := quiet
	o.Beside = []string{"identity", "staging"}
	mark := func(with byte) func(*Old) error {
		return func(old *Old) error {
			it, err := old.Meta.NewIter(&pebble.IterOptions{LowerBound: tableKey(1, 'x'), UpperBound: tableKey(1, 'x'+1)})
			if err != nil {
				return err
			}
			n := 0
			for ok := it.First(); ok; ok = it.Next() {
				err := old.Meta.Set(it.Key(), append([]byte{with}, it.Value()...), pebble.NoSync)
				if n++; n == 3 {
					err = errors.Join(err, old.Meta.Flush(), fail) // half of it is done
				}
				if err != nil {
					return errors.Join(err, it.Close())
				}
			}
			if err := it.Close(); err != nil {
				return err
			}
			name := old.FS.PathJoin(old.Dir, "staging", "1", "7.1")
			f, err := old.FS.Open(name)
			if err != nil {
				return err
			}
			b, err := io.ReadAll(f)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			return writeFile(old.FS, name, with, string(b))
		}
	}
	o.Steps = []Step{{1, 2, mark('2')}, {2, 3, mark('3')}}
	return o
}

// writeFile replaces a file.
func writeFile(fs vfs.FS, name string, with byte, text string) error {
	f, err := fs.Create(name+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if with != 0 {
		text = string(with) + text
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Sync(), f.Close(), fs.Rename(name+".new", name), syncDir(fs, fs.PathDir(name)))
}

const futureRows = 5

// present makes a directory as this program does.
func present(tb testing.TB, fs vfs.FS) {
	tb.Helper()
	d := open(tb, fs)
	s := d.Store(1, testKey)
	for n := range uint64(futureRows) {
		p := random(n, 1000)
		if n == 2 {
			p = random(n, MaxBlock)
		}
		id := mustPut(tb, s, p)
		check(tb, s.Flush(tb.Context()))
		check(tb, d.Meta().Set(rowKey(1, n), id[:], pebble.NoSync))
		if n == 3 {
			check(tb, d.Meta().Flush())
		}
	}
	check(tb, d.Close())
	check(tb, fs.MkdirAll("disk/staging/1", 0o700))
	check(tb, syncDir(fs, "disk"))
	check(tb, syncDir(fs, "disk/staging"))
	check(tb, writeFile(fs, "disk/identity", 0, "key"))
	check(tb, writeFile(fs, "disk/staging/1/7.1", 0, "bytes"))
}

// is says what is wrong with a directory of a format below dir.
func is(ctx context.Context, fs vfs.FS, dir string, o DiskOptions, marks string) error {
	d, err := OpenDisk(fs, dir, o)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	s := d.Store(1, testKey)
	for n := range uint64(futureRows) {
		v, closer, err := d.Meta().Get(rowKey(1, n))
		if err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		id, ok := bytes.CutPrefix(v, []byte(marks))
		if !ok || len(id) != 32 {
			return fmt.Errorf("row %d: %x", n, v)
		}
		if _, err := s.Get(ctx, ID(id), nil); err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		check := closer.Close()
		if check != nil {
			return check
		}
	}
	for name, want := range map[string]string{"identity": "key", "staging/1/7.1": marks + "bytes"} {
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			return err
		}
		b, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil || string(b) != want {
			return fmt.Errorf("%s: %q, want %q, %w", name, b, want, err)
		}
	}
	return nil
}

func TestAnOlderFormatIsTakenToOursAndKeptInACheckpoint(t *testing.T) {
	fs := vfs.NewMem()
	present(t, fs)
	check(t, is(t.Context(), fs, "disk", future(nil), "32"))
	check(t, is(t.Context(), fs, "disk", future(nil), "32")) // once
	before := tree(t, fs, "disk")
	if _, err := OpenDisk(fs, "disk", quiet); !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), "written by clachan format 3, this is 1: install a newer clachan") {
		t.Errorf("the old program: %v", err)
	}
	if after := tree(t, fs, "disk"); !maps.Equal(before, after) {
		t.Errorf("the old program has changed what it must not touch")
	}
	names, err := fs.List("disk/checkpoints")
	check(t, err)
	if len(names) != 1 || !strings.HasPrefix(names[0], "1-") {
		t.Fatalf("checkpoints %v", names)
	}
	check(t, is(t.Context(), fs, "disk/checkpoints/"+names[0], quiet, ""))
}

func TestAFailedUpgradeChangesNothing(t *testing.T) {
	fs := vfs.NewMem()
	present(t, fs)
	broken := errors.New("a step is wrong")
	for range 2 {
		if _, err := OpenDisk(fs, "disk", future(broken)); !errors.Is(err, broken) {
			t.Fatalf("open: %v", err)
		}
		if names, err := fs.List("disk/checkpoints"); err != nil || len(names) > 0 {
			t.Errorf("checkpoints %v, %v", names, err)
		}
	}
	check(t, is(t.Context(), fs, "disk", quiet, ""))
	check(t, is(t.Context(), fs, "disk", future(nil), "32"))
}

func TestNoWayFromAFormatIsSaid(t *testing.T) {
	fs := vfs.NewMem()
	present(t, fs)
	before := tree(t, fs, "disk")
	o := future(nil)
	o.Steps = o.Steps[1:]
	if _, err := OpenDisk(fs, "disk", o); err == nil || !strings.Contains(err.Error(), "no step leads on from format 1") {
		t.Errorf("open: %v", err)
	}
	if after := tree(t, fs, "disk"); !maps.Equal(before, after) {
		t.Error("it has changed what is there")
	}
}

// TestAnUpgradeMayBeCutShortAtAnyMoment lets the power go before each change of
// the disk; with a step that fails, also amid what puts it all back. What was not
// synced is all there or not at all: Pebble does not sync a directory between a
// manifest and the name that points at it.
func TestAnUpgradeMayBeCutShortAtAnyMoment(t *testing.T) {
	stride := 13
	if testing.Short() || racing { // it is for what is on disk
		stride = 41
	}
	old := quiet
	old.Beside = future(nil).Beside
	for name, fail := range map[string]error{"done": nil, "put back": errors.New("a step is wrong")} {
		t.Run(name, func(t *testing.T) {
			done := map[bool]int{}
			for n := 0; ; n += stride {
				rng := rand.New(rand.NewPCG(5, uint64(n)))
				mem, clone, left := crashfs.New(), (*crashfs.FS)(nil), atomic.Int64{}
				left.Store(1 << 40)
				present(t, mem)
				fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
					if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && left.Add(-1) == -1 {
						clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 * rng.IntN(2), RNG: rng})
					}
					return nil
				}))
				left.Store(int64(n))
				d, err := OpenDisk(fs, "disk", future(fail))
				if !errors.Is(err, fail) {
					t.Fatal(err)
				}
				if err == nil {
					check(t, d.Close())
				}
				if clone == nil {
					if n < 100 {
						t.Errorf("only %d changes", n)
					}
					break
				}
				// The old program finds all as it was, or refuses it; the new one goes on.
				again := clone.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
				err = is(t.Context(), clone, "disk", old, "")
				if err != nil && !errors.Is(err, ErrNewerFormat) {
					t.Errorf("crash before change %d: the old program: %v", n, err)
				}
				done[err != nil]++
				if err := is(t.Context(), again, "disk", future(nil), "32"); err != nil {
					t.Errorf("crash before change %d: the new program: %v", n, err)
				}
				if err == nil { // the old one was there meanwhile
					if err := is(t.Context(), clone, "disk", future(nil), "32"); err != nil {
						t.Errorf("crash before change %d: after the old program: %v", n, err)
					}
				}
			}
			if fail == nil && (done[true] == 0 || done[false] == 0) {
				t.Errorf("so often the upgrade was done or not: %v", done)
			}
		})
	}
}

func TestADiskFullAmidAnUpgradeLeavesTheOldFormat(t *testing.T) {
	for _, where := range []string{".part", "upgrade.ing"} {
		t.Run(where, func(t *testing.T) {
			mem := vfs.NewMem()
			present(t, mem)
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, where) {
					return syscall.ENOSPC
				}
				return nil
			}))
			if _, err := OpenDisk(fs, "disk", future(nil)); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("open: %v", err)
			}
			if names, err := mem.List("disk/checkpoints"); err != nil || slices.ContainsFunc(names, func(s string) bool { return strings.HasSuffix(s, partSuffix) }) {
				t.Errorf("checkpoints %v, %v", names, err)
			}
			check(t, is(t.Context(), mem, "disk", quiet, ""))
			check(t, is(t.Context(), mem, "disk", future(nil), "32"))
		})
	}
}

func TestAnOldCheckpointOfAnUpgradeIsRemovedAtAStart(t *testing.T) {
	fs := vfs.NewMem()
	d := closing(t, open(t, fs))
	now := time.Now()
	at := func(age time.Duration) string { return now.Add(-age).UTC().Format(stampLayout) }
	keep := []string{"1-" + at(keepUpgraded-time.Hour), at(10 * keepUpgraded), "mine"}
	for _, name := range append([]string{"1-" + at(keepUpgraded+time.Hour), "2-" + at(0) + partSuffix}, keep...) {
		check(t, fs.MkdirAll("disk/checkpoints/"+name+"/meta", 0o700))
	}
	check(t, d.letGo(now))
	names, err := fs.List("disk/checkpoints")
	check(t, err)
	slices.Sort(names)
	slices.Sort(keep)
	if !slices.Equal(names, keep) {
		t.Errorf("there are %v, want %v", names, keep)
	}
}

// TestACheckpointCanBeOpenedWhilePacksComeAndGo has a folder dropped and another
// written while checkpoints are taken.
func TestACheckpointCanBeOpenedWhilePacksComeAndGo(t *testing.T) {
	fs := vfs.NewMem()
	d := closing(t, open(t, fs))
	w := &writerOf{d: d, folder: 1, s: d.Store(1, testKey), r: rand.New(rand.NewPCG(6, 1))}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			err := w.step(t.Context())
			s := d.Store(2, testKey)
			if err == nil {
				_, err = s.Put(t.Context(), random(1, MaxBlock))
			}
			if err = errors.Join(err, s.Flush(t.Context()), d.Drop(2)); err != nil {
				ended <- err
				return
			}
		}
	}()
	for i := range 8 {
		w.mu.Lock()
		rows := w.rows
		w.mu.Unlock()
		dir := fmt.Sprintf("disk/checkpoints/%d", i)
		check(t, d.Checkpoint(t.Context(), dir))
		check(t, verifyCrash(t.Context(), fs, dir, map[uint32]uint64{1: rows}))
		if err := d.Checkpoint(t.Context(), dir); !errors.Is(err, os.ErrExist) {
			t.Errorf("in place of another: %v", err)
		}
	}
	close(stop)
	check(t, <-ended)
}

// apart has every directory on a filesystem of its own.
type apart struct{ vfs.FS }

func (apart) Link(from, to string) error {
	return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EXDEV}
}

func TestACheckpointOfARealDirectoryIsSparseAndItsOwn(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"linked": vfs.Default, "copied": apart{vfs.Default}} {
		t.Run(name, func(t *testing.T) { checkpointReal(t, fs) })
	}
}

func checkpointReal(t *testing.T, fs vfs.FS) {
	root := t.TempDir()
	o := quiet
	o.Beside = []string{"identity", "staging"}
	d, err := OpenDisk(fs, root+"/data", o)
	check(t, err)
	defer func() { check(t, d.Close()) }()
	id := mustPut(t, d.Store(1, testKey), random(1, MaxBlock))
	check(t, d.Store(1, testKey).Flush(t.Context()))
	check(t, os.WriteFile(root+"/data/identity", []byte("key"), 0o600))
	check(t, os.Mkdir(root+"/data/staging", 0o700))
	staged, err := os.OpenFile(root+"/data/staging/7.1", os.O_RDWR|os.O_CREATE, 0o600)
	check(t, err)
	defer staged.Close()
	_, err = staged.WriteAt([]byte("far"), 64<<20)
	check(t, err)
	check(t, staged.Truncate(1<<30))
	check(t, d.Checkpoint(t.Context(), root+"/copy"))
	_, err = staged.WriteAt([]byte("new"), 64<<20)
	check(t, err)

	fi, err := os.Stat(root + "/copy/identity")
	check(t, err)
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("identity has mode %o", fi.Mode().Perm())
	}
	f, err := os.Open(root + "/copy/staging/7.1")
	check(t, err)
	defer f.Close()
	got := make([]byte, 3)
	_, err = f.ReadAt(got, 64<<20)
	check(t, err)
	st, err := f.Stat()
	check(t, err)
	if sys := st.Sys().(*syscall.Stat_t); string(got) != "far" || st.Size() != 1<<30 || sys.Blocks > 1000 {
		t.Errorf("%q, size %d, %d blocks", got, st.Size(), sys.Blocks)
	}
	copied, err := OpenDisk(vfs.Default, root+"/copy", o)
	check(t, err)
	defer func() { check(t, copied.Close()) }()
	mustHave(t, copied.Store(1, testKey), id, random(1, MaxBlock))
}

func TestVersionsCanBeReadWithoutADisk(t *testing.T) {
	fs := vfs.NewMem()
	if v, err := ReadVersions(fs, "disk", quiet); err != nil || v != (Versions{}) {
		t.Errorf("of nothing: %v, %v", v, err)
	}
	d := open(t, fs)
	want := Versions{Format, int(pebbleFormat), int(pebbleFormat)}
	if v := d.Versions(); v != want {
		t.Errorf("of a disk: %v", v)
	}
	check(t, d.meta.Set(formatKey, []byte{Format + 1}, pebble.Sync))
	check(t, d.Close())
	before := tree(t, fs, "disk")
	want.Format++
	if v, err := ReadVersions(fs, "disk", quiet); err != nil || v != want {
		t.Errorf("of a newer one: %v, %v", v, err)
	}
	if !maps.Equal(before, tree(t, fs, "disk")) {
		t.Error("to look has changed it")
	}
}

// TestTheFormatOfPebbleIsThatOfOurs: what raises it needs a Step, and with it a
// format of ours.
func TestTheFormatOfPebbleIsThatOfOurs(t *testing.T) {
	of := map[int]pebble.FormatMajorVersion{1: 24}
	if of[Format] != pebbleFormat || lastFormat(nil) != lastFormat(steps) {
		t.Errorf("format %d has Pebble's %d, steps lead to %d", Format, pebbleFormat, lastFormat(steps))
	}
}
