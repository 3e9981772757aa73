package staging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// testSeed is printed; STAGING_SEED repeats a run.
func testSeed(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STAGING_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	return seed
}

// memBase is committed content in memory; blocks of only zeros are holes.
type memBase []byte

func (m memBase) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

func (m memBase) hole(off int64) bool {
	b := off / blockSize * blockSize
	return len(bytes.Trim(m[b:min(b+blockSize, int64(len(m)))], "\x00")) == 0
}

func (m memBase) seek(off int64, hole bool) (int64, error) {
	for ; off < int64(len(m)); off = (off/blockSize + 1) * blockSize {
		if m.hole(off) == hole {
			return off, nil
		}
	}
	if hole {
		return int64(len(m)), nil
	}
	return 0, io.EOF
}

func (m memBase) SeekData(_ context.Context, off int64) (int64, error) { return m.seek(off, false) }
func (m memBase) SeekHole(_ context.Context, off int64) (int64, error) { return m.seek(off, true) }

func (m memBase) Alloc(context.Context) (int64, error) { return source(m).Alloc, nil }

func source(b []byte) Source {
	m := memBase(bytes.Clone(b))
	s := Source{Base: m, Size: int64(len(b))}
	for off := int64(0); off < s.Size; off += blockSize {
		if !m.hole(off) {
			s.Alloc += min(blockSize, s.Size-off)
		}
	}
	return s
}

func random(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(1 + r.IntN(255))
	}
	return p
}

// reboot makes the directory look as if it had last been used before the machine was restarted.
func reboot(t testing.TB, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, bootFile), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB, dir string, o Options) *Dir {
	t.Helper()
	d, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// walk drives a File and a plain byte slice with the same operations.
type walk struct {
	t     *testing.T
	r     *rand.Rand
	path  string
	kept  string // what was deleted since the last start is linked there
	opts  Options
	d     *Dir
	f     *File
	base  []byte // committed content
	want  []byte // what the file must hold
	layer *Layer // frozen, not yet rebased
	froze []byte // what it must hold
	log   []string
}

const maxSize = 400 << 10

func (w *walk) say(format string, a ...any) { w.log = append(w.log, fmt.Sprintf(format, a...)) }

func (w *walk) fatal(format string, a ...any) {
	w.t.Helper()
	for _, l := range w.log[max(0, len(w.log)-40):] {
		w.t.Log(l)
	}
	w.t.Fatalf(format, a...)
}

func (w *walk) check(err error) {
	w.t.Helper()
	if err != nil {
		w.fatal("%v", err)
	}
}

func (w *walk) gen() uint64 {
	st, _ := w.f.Begin()
	return st.Gen
}

func (w *walk) grow(n int) {
	if n > len(w.want) {
		w.want = append(w.want, make([]byte, n-len(w.want))...)
	}
}

func (w *walk) span() (off, n int) {
	off = w.r.IntN(maxSize)
	if w.r.IntN(3) == 0 {
		off = off / blockSize * blockSize
	}
	if n = 1 + w.r.IntN(3*blockSize); w.r.IntN(4) == 0 {
		n = 1 + w.r.IntN(100<<10)
	}
	return off, min(n, maxSize-off)
}

func (w *walk) write() {
	off, n := w.span()
	p := random(w.r, n)
	w.say("write %d+%d", off, n)
	k, err := w.f.Write(context.Background(), w.gen(), p, int64(off), 7)
	w.check(err)
	if k != n {
		w.fatal("wrote %d of %d", k, n)
	}
	w.grow(off + n)
	copy(w.want[off:], p)
}

func (w *walk) truncate() {
	size := w.r.IntN(maxSize)
	switch w.r.IntN(4) {
	case 0:
		size = min(size, len(w.want))
	case 1:
		size = 0
	}
	w.say("truncate %d", size)
	w.check(w.f.Truncate(context.Background(), w.gen(), int64(size), 8))
	w.grow(size)
	w.want = w.want[:size:size]
}

func (w *walk) zero() {
	off, n := w.span()
	keep := w.r.IntN(2) == 0
	w.say("zero %d+%d keep=%v", off, n, keep)
	w.check(w.f.Zero(context.Background(), w.gen(), int64(off), int64(n), keep, 9))
	if !keep {
		w.grow(off + n)
	}
	for i := off; i < min(off+n, len(w.want)); i++ {
		w.want[i] = 0
	}
}

// hole makes one in the way that survives a crash, and returns the state that is kept.
func (w *walk) hole() State {
	off, n := w.span()
	w.say("hole %d+%d", off, n)
	w.check(w.f.Hide(context.Background(), w.gen(), int64(off), int64(n), 9))
	st, err := w.f.Persist(context.Background(), w.r.IntN(2) == 0)
	w.check(err)
	w.check(w.f.Zero(context.Background(), w.gen(), int64(off), int64(n), true, 9))
	for i := off; i < min(off+n, len(w.want)); i++ {
		w.want[i] = 0
	}
	return st
}

func (w *walk) freeze() {
	l := w.f.Freeze(context.Background())
	if l == nil {
		return
	}
	w.say("freeze %d", l.Gen())
	if w.layer == nil || w.layer.Gen() != l.Gen() {
		w.froze = bytes.Clone(w.want)
	}
	w.layer = l
	w.checkLayer()
}

func (w *walk) checkLayer() {
	got := make([]byte, w.layer.Size())
	if n, err := w.layer.ReadAt(got, 0); err != nil && err != io.EOF || n != len(got) || !bytes.Equal(got, w.froze) {
		w.fatal("frozen layer reads wrong: %d bytes, %v, first difference at %d", n, err, differ(got, w.froze))
	}
	same := bytes.Clone(w.froze)
	end := int64(0)
	for _, r := range w.layer.Dirty() {
		if r.Off < end || r.Len <= 0 || r.Off+r.Len > w.layer.Size() {
			w.fatal("dirty range %v out of order or bounds", r)
		}
		end = r.Off + r.Len
		copy(same[r.Off:end], make([]byte, r.Len))
	}
	for i := range same {
		if i < len(w.base) && same[i] != 0 && same[i] != w.base[i] {
			w.fatal("byte %d differs from the base but is not dirty", i)
		}
	}
	for _, r := range w.layer.Holes() {
		if len(bytes.Trim(w.froze[r.Off:r.Off+r.Len], "\x00")) > 0 {
			w.fatal("hole %v holds data", r)
		}
	}
}

func (w *walk) rebase() {
	if w.layer == nil {
		return
	}
	w.say("rebase %d", w.layer.Gen())
	w.checkLayer()
	w.base = w.froze
	src := source(w.base)
	if w.r.IntN(2) == 0 {
		src.Alloc = -1
	}
	w.keep()
	w.check(w.f.Rebase(w.layer.Gen(), src))
	w.layer = nil
}

func (w *walk) read() []byte {
	got := make([]byte, w.f.Info().Size)
	if n, err := w.f.ReadAt(context.Background(), got, 0); err != nil && err != io.EOF || n != len(got) {
		w.fatal("read %d of %d: %v", n, len(got), err)
	}
	return got
}

func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func (w *walk) verify() {
	if got := w.read(); !bytes.Equal(got, w.want) {
		w.fatal("file differs at %d; %d bytes, want %d", differ(got, w.want), len(got), len(w.want))
	}
	off, n := w.span()
	p := make([]byte, n)
	k, err := w.f.ReadAt(context.Background(), p, int64(off))
	if err != nil && err != io.EOF || k != max(0, min(n, len(w.want)-off)) || !bytes.Equal(p[:k], w.want[min(off, len(w.want)):][:k]) {
		w.fatal("read of %d+%d gives %d bytes, %v", off, n, k, err)
	}
	w.verifyHoles()
}

// verifyHoles walks SEEK_DATA and SEEK_HOLE: holes are zero, and what is data is what Alloc counts.
func (w *walk) verifyHoles() {
	ctx := context.Background()
	size, data := int64(len(w.want)), int64(0)
	for off := int64(0); off < size; {
		a, err := w.f.Seek(ctx, off, false)
		if err == io.EOF {
			a = size
		} else if err != nil {
			w.fatal("seek data: %v", err)
		}
		if a%blockSize != 0 && a != size || len(bytes.Trim(w.want[off:a], "\x00")) > 0 {
			w.fatal("data at %d after %d: not a block, or not all zero before", a, off)
		}
		if off = a; a == size {
			break
		}
		b, err := w.f.Seek(ctx, a, true)
		if err != nil || b <= a || b%blockSize != 0 && b != size {
			w.fatal("hole at %d after data at %d: %v", b, a, err)
		}
		data += ceilBlock(b) - a/blockSize
		off = b
	}
	if n, err := w.f.Alloc(ctx); err != nil || n != data*blockSize {
		w.fatal("alloc %d (%v), data blocks %d", n, err, data)
	}
}

func TestFileHoldsWhatWasWritten(t *testing.T) {
	seed := testSeed(t)
	for round := range 12 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		w := &walk{t: t, r: r, path: t.TempDir(), kept: filepath.Join(t.TempDir(), "kept"), opts: Options{Files: 2}}
		w.check(os.Mkdir(w.kept, 0o700))
		if round%3 == 0 {
			w.opts.Memory = 1 // everything in files
		}
		w.d = openDir(t, w.path, w.opts)
		if round%2 == 0 {
			w.base = random(r, r.IntN(maxSize))
			for range r.IntN(3) {
				if off := r.IntN(maxSize); off < len(w.base) {
					clear(w.base[off:min(off+60<<10, len(w.base))])
				}
			}
		}
		w.want = bytes.Clone(w.base)
		w.f = w.d.New(7, source(w.base))
		ops := []func(){w.write, w.write, w.write, w.write, w.truncate, w.zero, w.zero, w.freeze, w.rebase, w.crash}
		for range 120 {
			ops[r.IntN(len(ops))]()
			w.verify()
		}
		for _, name := range w.f.Discard() { // they stay until it is durable that the inode is gone
			w.check(os.Remove(name))
		}
		if n := w.d.used.Load(); n != 0 {
			w.fatal("%d bytes of memory still counted", n)
		}
		w.check(w.d.Close())
		if left, _ := filepath.Glob(filepath.Join(w.path, "7.*")); len(left) > 0 {
			w.fatal("files left: %v", left)
		}
	}
}

func TestSmallWriteToLargeFileCostsOneBlock(t *testing.T) {
	d := openDir(t, t.TempDir(), Options{Memory: 1})
	defer d.Close()
	const size = 10 << 30
	f := d.New(3, Source{Base: counting{}, Size: size, Alloc: size})
	st, fresh := f.Begin()
	if !fresh || st.Size != size {
		t.Fatalf("state at begin: %+v", st)
	}
	if _, err := f.Write(context.Background(), st.Gen, bytes.Repeat([]byte{1}, blockSize), 5<<30, 1); err != nil {
		t.Fatal(err)
	}
	if dirty := f.Freeze(context.Background()).Dirty(); len(dirty) != 1 || dirty[0] != (Range{Off: 5 << 30, Len: blockSize}) {
		t.Errorf("dirty = %v", dirty)
	}
	if n, err := f.Alloc(context.Background()); err != nil || n != size {
		t.Errorf("alloc = %d, %v", n, err)
	}
	fi, err := os.Stat(d.name(3, st.Gen))
	if err != nil {
		t.Fatal(err)
	}
	if n := blocksOf(fi); n > 16 {
		t.Errorf("staging file takes %d sectors", n)
	}
}

// counting is content that must not be read.
type counting struct{}

func (counting) ReadAt(context.Context, []byte, int64) (int, error) {
	return 0, errors.New("the base was read")
}
func (counting) SeekData(_ context.Context, off int64) (int64, error) { return off, nil }
func (counting) Alloc(context.Context) (int64, error)                 { return 10 << 30, nil }
func (counting) SeekHole(context.Context, int64) (int64, error)       { return 10 << 30, nil }

func TestFileOfSixteenTiBIsSparse(t *testing.T) {
	ctx := context.Background()
	d := openDir(t, t.TempDir(), Options{})
	defer d.Close()
	f := d.New(1, Source{})
	st, _ := f.Begin()
	if err := f.Truncate(ctx, st.Gen, MaxSize, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(ctx, st.Gen, []byte("end"), MaxSize-3, 1); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Write(ctx, st.Gen, []byte("end, and over it"), MaxSize-3, 1); err != nil || n != 3 {
		t.Errorf("write across the limit: %d, %v", n, err)
	}
	if _, err := f.Write(ctx, st.Gen, []byte("over"), MaxSize, 1); !errors.Is(err, ErrTooBig) {
		t.Errorf("write over the limit: %v", err)
	}
	if err := f.Hide(ctx, st.Gen, 0, MaxSize+1, 1); !errors.Is(err, ErrTooBig) {
		t.Errorf("hole over the limit: %v", err)
	}
	if _, err := f.Persist(ctx, true); err != nil {
		t.Fatal(err)
	}
	if a, err := f.Seek(ctx, 5, false); err != nil || a != MaxSize-blockSize {
		t.Errorf("data at %d, %v", a, err)
	}
	if n, _ := f.Alloc(ctx); n != blockSize {
		t.Errorf("alloc %d", n)
	}
}

func TestFullDiskLeavesOldBytes(t *testing.T) {
	ctx := context.Background()
	full := false
	errFull := errors.New("full")
	d := openDir(t, t.TempDir(), Options{Memory: 1, Grant: func(int64) error {
		if full {
			return errFull
		}
		return nil
	}})
	defer d.Close()
	f := d.New(1, source(bytes.Repeat([]byte("old "), 50<<10)))
	st, _ := f.Begin()
	full = true
	if n, err := f.Write(ctx, st.Gen, make([]byte, 1<<20), 100, 1); !errors.Is(err, errFull) || n != 0 {
		t.Fatalf("write on a full disk: %d, %v", n, err)
	}
	got := make([]byte, 200<<10)
	if _, err := f.ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("old "), 50<<10)) {
		t.Errorf("old bytes are gone: %v", err)
	}
	if i := f.Info(); i.Size != 200<<10 || i.Mtime != 0 {
		t.Errorf("size %d, mtime %d changed", i.Size, i.Mtime)
	}
}

func TestWriteToFrozenGenerationIsRefused(t *testing.T) {
	ctx := context.Background()
	d := openDir(t, t.TempDir(), Options{})
	defer d.Close()
	f := d.New(1, Source{})
	st, _ := f.Begin()
	if f.Freeze(ctx) == nil {
		t.Fatal("an open layer does not freeze")
	}
	if _, err := f.Write(ctx, st.Gen, []byte("x"), 0, 1); !errors.Is(err, ErrFrozen) {
		t.Errorf("write to a frozen generation: %v", err)
	}
	again, fresh := f.Begin()
	if !fresh || again.Gen <= st.Gen {
		t.Errorf("generation %d after %d", again.Gen, st.Gen)
	}
}

func TestFailedCutsDoNotStackLayersForever(t *testing.T) {
	ctx := context.Background()
	d := openDir(t, t.TempDir(), Options{})
	defer d.Close()
	f := d.New(1, Source{})
	var last *Layer
	for i := range 100 {
		st, _ := f.Begin()
		if _, err := f.Write(ctx, st.Gen, []byte{byte(i)}, int64(i), 1); err != nil {
			t.Fatal(err)
		}
		last = f.Freeze(ctx)
	}
	if n := len(f.layers); n > frozenMax+1 {
		t.Errorf("%d layers", n)
	}
	got := make([]byte, last.Size())
	if _, err := last.ReadAt(got, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if err := f.Rebase(last.Gen(), source(got)); err != nil {
		t.Fatal(err)
	}
	if f.Info().Size != 100 || !f.Dirty() {
		t.Errorf("after the cut: %+v", f.Info())
	}
}

func TestReadOfTheBaseCanBeInterrupted(t *testing.T) {
	d := openDir(t, t.TempDir(), Options{})
	defer d.Close()
	f := d.New(1, Source{Base: waiting{}, Size: 1 << 20, Alloc: 1 << 20})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := f.ReadAt(ctx, make([]byte, 10), 0)
		done <- err
	}()
	// A reader that waits for a peer must not hold a writer up.
	st, _ := f.Begin()
	if _, err := f.Write(context.Background(), st.Gen, make([]byte, blockSize), 0, 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("interrupted read: %v", err)
	}
}

// waiting is content on a peer that does not answer.
type waiting struct{}

func (waiting) ReadAt(ctx context.Context, _ []byte, _ int64) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}
func (waiting) SeekData(_ context.Context, off int64) (int64, error) { return off, nil }
func (waiting) Alloc(context.Context) (int64, error)                 { return 1 << 20, nil }
func (waiting) SeekHole(context.Context, int64) (int64, error)       { return 1 << 20, nil }
