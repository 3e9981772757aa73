package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mrand "math/rand"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/clachanfs/clachan/blocks"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// The tests named Loss are ways in which users of other programs lost data, and
// what becomes of them here:
//
//	a drive that is gone, an endpoint made anew           EmptyDiskDeletesNothing
//	an index that is reset, a device built again          IndexReset, DeviceRebuilt
//	a backup without the files                            BackupWithoutTheFiles
//	a server or a client restored from an old copy        ServerRolledBack, ClientRestoredFromBackup
//	power loss, a full receiver                           PowerCutLeavesNoShortFile, FullReceiverKeepsTheOldVersion
//	names that differ in case or form only                TwinsBothSurvive, RemovingATwinSparesTheOther
//	conflict copies that are dropped                      ConflictCopiesStay
//	a stale program saves over what it never saw          TestStaleSavesKeepWhatTheyNeverSaw
//	open files renamed or removed elsewhere               OpenFileStaysWhenOthersRenameIt, OpenFileOutlivesItsRemoval
//	a false conflict at each save                         TestEditorSaves
//	a file missing while an editor replaces it            ReplacedFileIsNeverMissing
//	a removal stopped by files of one machine             LocalOnlyFilesDoNotBlockARemoval
//	a directory renamed while it syncs                    DirectoryRenamedWhileItSyncs
//	a directory where a file was                          FileBecomesDirectory
//	a long-offline laptop, a cloned machine               LongOfflineLaptop, ClonedMachine
//	an original deleted in favour of a copy               RemovedFilesStayInTheHistory
//	what a machine does not want, or leaves               LeavingDeletesNothing: a machine has all
//	                                                      of a folder or leaves it, there is no
//	                                                      selection of parts that could be taken
//	                                                      for a deletion
//	files that rot                                        RottenBytesAreHealed
//	a resolver that is stuck                              WhatAPeerLacksIsKnown
//	a library that is erased                              ErasedLibraryCanBeWrittenBack
//	a symlink that leads outside                          SymlinksAreText
//	a disk that fails to read                             UnreadableNamesAreNoDeletions

// A disk that is gone, or an endpoint made anew, is a member that knows nothing:
// nothing of the others' goes, and it gets everything back.
func TestLossEmptyDiskDeletesNothing(t *testing.T) {
	w := newWorld(t, 3)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	for i := range 20 {
		w.peers[i%3].write(fmt.Sprint("/f", i), fmt.Sprint("v", i))
	}
	before := w.same()
	b.onEmptyDisk()
	if got := w.same(); got != before {
		t.Fatalf("was\n%s\nis\n%s", before, got)
	}
}

// onEmptyDisk goes on with the identity, and without the database.
func (p *peer) onEmptyDisk() {
	p.w.talk.Lock()
	defer p.w.talk.Unlock()
	p.stop()
	p.fs = vfs.NewMem()
	p.start()
}

// Leaving a folder, or losing its rows, is no deletion.
func TestLossLeavingDeletesNothing(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	a.write("/d/f", "F")
	before := w.same()
	w.talk.Lock()
	b.stop()
	disk, err := blocks.OpenDisk(b.fs, "data", blocks.DiskOptions{})
	b.must(err)
	b.must(index.Delete(disk.Meta(), 1))
	b.must(disk.Drop(1))
	b.must(disk.Close())
	b.start()
	w.talk.Unlock()
	if got := w.same(); got != before {
		t.Fatalf("was\n%s\nis\n%s", before, got)
	}
}

// After a power cut a file has its old bytes or its new ones, never none and
// never fewer, once it was cut the new ones, and the others never get what was
// not whole.
func TestLossPowerCutLeavesNoShortFile(t *testing.T) {
	t.Logf("seed %d", *seed)
	r := mrand.New(mrand.NewSource(*seed))
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.crashable()
	whole := func(p *peer) string {
		s := p.read(p.stat("/f").Ino)
		if len(s) != 200_000 || strings.Trim(s, s[:1]) != "" {
			t.Fatalf("%s shows %d bytes", p.name, len(s))
		}
		return s[:1]
	}
	a.write("/f", strings.Repeat("a", 200_000))
	w.settle()
	for i := range 6 {
		next := string(rune('b' + i))
		a.write("/f", strings.Repeat(next, 200_000))
		cut := r.Intn(2) == 0
		if cut {
			a.cutNow()
		}
		a.crash(r)
		if got := whole(a); cut && got != next {
			t.Fatalf("%s was cut and %s is there", next, got)
		}
		b.Acked("a", a.Knowledge(), 0) // as a new session begins
		w.settle()
		if got, want := whole(b), whole(a); got != want {
			t.Fatalf("%s at b, %s at a", got, want)
		}
	}
	w.same()
}

// again starts a peer again with another remote.
func (p *peer) again(r Remote) {
	p.w.talk.Lock()
	defer p.w.talk.Unlock()
	p.stop()
	p.opts.Remote = r
	p.start()
}

// A receiver without room shows the version it has, whole, and hands out
// nothing short.
func TestLossFullReceiverKeepsTheOldVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		r := &fullRemote{memRemote: &memRemote{b}}
		b.again(r)
		a.write("/f", "the old version")
		w.same()
		r.full.Store(true)
		long := strings.Repeat("new", 50_000)
		a.write("/f", long)
		a.must(a.Cut(context.Background()))
		w.until("blocks are asked for", func() bool { return r.asked.Load() > 0 })
		b.must(b.Cut(context.Background()))
		x := b.stat("/f")
		if got := b.read(x.Ino); got != "the old version" || x.Size != int64(len(got)) {
			t.Fatalf("shows %.20q with size %d", got, x.Size)
		}
		r.full.Store(false)
		w.same()
		if a.read(a.stat("/f").Ino) != long {
			t.Fatal("the writer lost its version")
		}
	})
}

// Conflict copies stay until a user deletes them, however many there are.
func TestLossConflictCopiesStay(t *testing.T) {
	w := newWorld(t, 2)
	w.peers[0].write("/f.txt", "v")
	w.same()
	const rounds = 13
	for i := range rounds {
		w.part(true)
		for _, p := range w.peers {
			p.write("/f.txt", fmt.Sprint(p.name, i))
			p.must(p.Cut(context.Background()))
		}
		w.part(false)
		w.same()
	}
	tree := w.same()
	if got := strings.Count(tree, "(conflict"); got != rounds {
		t.Fatalf("%d conflict copies of %d\n%s", got, rounds, tree)
	}
}

// A program that has a file open keeps it when others rename and change it.
func TestLossOpenFileStaysWhenOthersRenameIt(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "v")
	w.same()
	x := a.stat("/f")
	a.open(x.Ino, false)
	b.mv("/f", "/g")
	b.write("/g", "w")
	b.write("/f", "another")
	w.want("/f 644 another", "/g 644 w")
	if got := a.read(x.Ino); got != "v" {
		t.Fatalf("the open file has %q", got)
	}
	a.shut(x.Ino)
}

// What is being written is not lost to a removal elsewhere.
func TestLossOpenFileOutlivesItsRemoval(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "v")
	w.same()
	x := a.stat("/f")
	a.open(x.Ino, true)
	a.write("/f", "mine")
	b.rm("/f")
	b.must(b.Cut(context.Background()))
	w.until("the removal is here", func() bool { return b.Knowledge().LE(a.Knowledge()) })
	a.shut(x.Ino)
	w.want("/f 644 mine")
}

// A file that an editor replaces is never seen missing elsewhere.
func TestLossReplacedFileIsNeverMissing(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "v0")
	w.same()
	stop, gone := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { gone <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := b.Lookup(RootIno, "f"); err != nil {
				n++
			}
		}
	}()
	for i := range 40 {
		a.write("/.f.tmp", fmt.Sprint("v", i+1))
		a.mv("/.f.tmp", "/f")
		if i%3 == 0 {
			a.must(a.Cut(context.Background()))
		}
	}
	w.settle()
	close(stop)
	if n := <-gone; n > 0 {
		t.Fatalf("missing %d times", n)
	}
	w.want("/f 644 v40")
}

// What exists on one machine only keeps its directory there when others remove
// it, and brings it back nowhere else.
func TestLossLocalOnlyFilesDoNotBlockARemoval(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	a.write("/d/f", "F")
	w.same()
	dir, name := a.at("/d/pipe")
	_, err := a.Create(dir, name, New{Kind: model.Fifo, Mode: 0o644})
	a.must(err)
	b.rm("/d")
	for range 2 {
		w.settle()
		if _, err := b.Lookup(RootIno, "d"); !errors.Is(err, ErrNotExist) {
			t.Fatalf("the directory is back: %v", err)
		}
		if _, err := a.Lookup(dir, name); err != nil {
			t.Fatalf("the pipe is gone: %v", err)
		}
		if _, err := a.Lookup(dir, "f"); !errors.Is(err, ErrNotExist) {
			t.Fatalf("the file was kept: %v", err)
		}
		b.write("/other", "x")
	}
	a.must(a.Unlink(dir, name)) // and the directory goes with it
	w.want("/other 644 x")
}

// gatedRemote lets some blocks through, and the rest when the gate opens.
type gatedRemote struct {
	*memRemote
	free  int64
	gate  chan struct{}
	asked atomic.Int64
	given atomic.Int64
}

func (r *gatedRemote) Fetch(ctx context.Context, id blocks.ID, size int64, class Class) error {
	if r.asked.Add(1) > r.free {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer r.given.Add(1)
	return r.memRemote.Fetch(ctx, id, size, class)
}

// A directory renamed while it is sent, some of its bytes here and others not, is
// one directory, and its bytes travel once.
func TestLossDirectoryRenamedWhileItSyncs(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	const files = 60
	r := &gatedRemote{memRemote: &memRemote{b}, free: files / 2, gate: make(chan struct{})}
	b.again(r)
	a.mkdir("/d")
	for i := range files {
		a.write(fmt.Sprint("/d/f", i), strings.Repeat(fmt.Sprint(i, ","), 5000))
		if i == files/2 {
			a.must(a.Cut(context.Background()))
		}
	}
	a.must(a.Cut(context.Background()))
	halfway := func() bool {
		n, _ := b.Missing()
		return a.Knowledge().LE(b.Knowledge()) && r.given.Load() == r.free && r.asked.Load() > r.free && n > 0
	}
	w.until("half the bytes are there", halfway)
	a.mv("/d", "/e")
	a.must(a.Cut(context.Background()))
	w.until("the rename is there, and no more bytes", halfway)
	close(r.gate)
	tree := w.same()
	if strings.Count(tree, "\n") != files || !strings.HasPrefix(tree, "/e 755 /") {
		t.Fatalf("got\n%s", tree)
	}
	if n := r.asked.Load(); n > files {
		t.Errorf("%d blocks fetched for %d", n, files)
	}
	r.asked.Store(0)
	a.mv("/e", "/d")
	w.same()
	if n := r.asked.Load(); n > 0 {
		t.Errorf("a rename fetched %d blocks", n)
	}
}

// A file that becomes a directory of the same name wedges nothing.
func TestLossFileBecomesDirectory(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "v")
	w.same()
	a.rm("/f")
	a.mkdir("/f")
	a.write("/f/x", "X")
	w.want("/f 755 /", "/f/x 644 X")
	b.rm("/f")
	b.write("/f", "file")
	w.want("/f 644 file")
	w.part(true)
	a.write("/f", "edited")
	a.must(a.Cut(context.Background()))
	b.rm("/f")
	b.mkdir("/f")
	b.write("/f/y", "Y")
	b.must(b.Cut(context.Background()))
	w.part(false)
	tree := w.same()
	for _, want := range []string{"/f 755 /", "/f/y 644 Y", " 644 edited"} {
		if !strings.Contains(tree, want) {
			t.Fatalf("no %s in\n%s", want, tree)
		}
	}
}

// Bytes that rotted on disk are never served: they come from a peer that has
// them, and are good again.
func TestLossRottenBytesAreHealed(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	r := mrand.New(mrand.NewSource(1))
	long := make([]byte, 6<<20) // so that packs are sealed
	r.Read(long)
	a.write("/f", string(long))
	w.same()
	w.talk.Lock()
	b.stop()
	if n := rot(t, b.fs, "data", long[100_000:100_064]); n == 0 {
		t.Fatal("the bytes are nowhere on disk")
	}
	b.start()
	w.talk.Unlock()
	x := b.stat("/f")
	if got := b.read(x.Ino); got != string(long) {
		t.Fatal("other bytes were served")
	}
	w.part(true)
	if got := b.read(x.Ino); got != string(long) {
		t.Fatal("not healed")
	}
	w.part(false)
	w.same()
}

// rot changes one bit wherever a file under dir has these bytes.
func rot(t *testing.T, fs vfs.FS, dir string, what []byte) (n int) {
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		st, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.IsDir() {
			n += rot(t, fs, path, what)
			continue
		}
		f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, st.Size())
		if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if at := bytes.Index(b, what); at >= 0 && strings.HasSuffix(name, ".sst") {
			if _, err := f.WriteAt([]byte{b[at+9] ^ 4}, int64(at+9)); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Nothing waits for a resolver: what a peer lacks can be told, and is sent when
// it is back.
func TestLossWhatAPeerLacksIsKnown(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "v")
	w.same()
	w.part(true)
	a.write("/f", "w")
	b.write("/f", "x")
	a.must(a.Cut(context.Background()))
	if a.Knowledge().LE(a.Acks()["b"].K) {
		t.Error("b is said to have what it was not sent")
	}
	w.part(false)
	w.same()
	if !a.Knowledge().LE(a.Acks()["b"].K) {
		t.Error("b is not said to have what it was sent")
	}
}

// A symlink of a peer is text: nothing is followed, whatever it names.
func TestLossSymlinksAreText(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	for i, to := range []string{"/etc/passwd", "../../..", "//", strings.Repeat("x", 4095)} {
		name := fmt.Sprint("l", i)
		_, err := a.Create(RootIno, name, New{Kind: model.Symlink, Mode: 0o777, Target: to})
		a.must(err)
		w.settle()
		x, err := b.Lookup(RootIno, name)
		b.must(err)
		if got, err := b.Readlink(x.Ino); err != nil || got != to {
			t.Errorf("%q, want %q: %v", got, to, err)
		}
		if _, err := b.Create(x.Ino, "f", New{Kind: model.File, Mode: 0o644}); !errors.Is(err, ErrNotDir) {
			t.Errorf("created through a symlink: %v", err)
		}
	}
}

// A directory that cannot be read whole is not shown as one with fewer names: who
// copies or compares it would take the others for deleted.
func TestLossUnreadableNamesAreNoDeletions(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	mem := vfs.NewMem()
	var ill atomic.Bool
	var reads atomic.Int64
	w.talk.Lock()
	a.stop()
	a.fs = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if ill.Load() && op.Kind == errorfs.OpFileReadAt && strings.Contains(op.Path, "/meta/") && reads.Add(1)%2 == 0 {
			return syscall.EIO
		}
		return nil
	}))
	a.start()
	w.talk.Unlock()
	const files = 3000
	for i := range files {
		_, err := a.Create(RootIno, fmt.Sprintf("a rather long name of a file %04d", i), New{Kind: model.File, Mode: 0o644})
		a.must(err)
	}
	w.talk.Lock()
	a.stop() // what is in memory goes to tables
	a.start()
	w.talk.Unlock()
	ill.Store(true)
	failed := 0
	for range 100 { // every other read fails; more and more is in the cache
		n := 0
		if err := a.List(RootIno, 0, func(Entry) bool { n++; return true }); err != nil {
			failed++
		} else if n < files {
			t.Fatalf("%d of %d names, and no error", n, files)
		}
	}
	ill.Store(false)
	if failed == 0 {
		t.Error("nothing failed")
	}
}

// Who deletes what he takes for one of two copies deletes it everywhere; weeks
// later the others still have it in their histories, with its bytes and its path.
func TestLossRemovedFilesStayInTheHistory(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/photos")
	long := strings.Repeat("much to lose ", 10_000)
	a.write("/photos/p", long)
	w.same()
	b.rm("/photos")
	w.same()
	a.opts.Now = func() time.Time { return time.Now().AddDate(0, 0, 29) }
	a.again(a.opts.Remote)
	a.must(a.Expire(t.Context()))
	w.talk.Lock()
	b.stop() // what is read is here
	xs := a.deleted()
	if len(xs) != 1 || xs[0].Path != "photos/p" || xs[0].Who != b.opts.Label || a.bytesOf(xs[0]) != long {
		t.Errorf("removed are %+v", xs)
	}
	b.start()
	w.talk.Unlock()
}

// A library that one member erases goes at the others, and none of its bytes:
// every file is in the history and can be written back.
func TestLossErasedLibraryCanBeWrittenBack(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/lib")
	const files = 200
	want := map[string]string{}
	for i := range files {
		name := fmt.Sprint("lib/f", i)
		want[name] = strings.Repeat(fmt.Sprint("book ", i, " "), 1+i*7)
		a.write("/"+name, want[name])
	}
	before := len(strings.Split(w.same(), "\n"))
	b.rm("/lib")
	w.same()
	a.must(a.Expire(t.Context()))
	xs := a.deleted()
	a.mkdir("/lib")
	for _, x := range xs {
		if got := a.bytesOf(x); got != want[x.Path] || !x.Removed || x.Here {
			t.Errorf("%s: %.20q, %+v", x.Path, got, x)
		}
		a.write("/"+x.Path, a.bytesOf(x))
	}
	if after := len(strings.Split(w.same(), "\n")); len(xs) != files || after != before {
		t.Errorf("%d files are in the history; there were %d names and are %d", len(xs), before, after)
	}
}
