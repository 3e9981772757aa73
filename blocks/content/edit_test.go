package content

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/clachanfs/clachan/blocks"
)

// quick is a store with cheap ids, for properties that take many trees. Ids end
// in a zero byte more often than real ones do, so that lists are shorter and
// trees deeper.
type quick struct {
	mu sync.Mutex // guards m
	m  map[blocks.ID][]byte
}

func newQuick() *quick { return &quick{m: map[blocks.ID][]byte{}} }

func (q *quick) Put(_ context.Context, p []byte) (blocks.ID, error) {
	var id blocks.ID
	h := xxhash.Sum64(p)
	binary.BigEndian.PutUint64(id[8:], h)
	binary.BigEndian.PutUint64(id[16:], uint64(len(p))+1)
	id[31] = byte(h) & 15
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.m[id]; !ok {
		q.m[id] = slices.Clone(p)
	}
	return id, nil
}

func (q *quick) Get(_ context.Context, id blocks.ID, buf []byte) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p, ok := q.m[id]
	if !ok {
		return nil, blocks.ErrNotFound
	}
	return append(buf[:0], p...), nil
}

func (q *quick) Has(id blocks.ID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.m[id]
	return ok
}

// file is the bytes of a file and what has been done to them.
type file struct {
	r     *rand.Rand
	p     []byte
	dirty []Range
	log   []string
}

func (f *file) note(what string, off, n int) {
	f.log = append(f.log, fmt.Sprintf("%s %d+%d", what, off, n))
}

// change does one random thing to f.
func (f *file) change(most int) {
	off, n := 0, 0
	if len(f.p) > 0 {
		off = f.r.IntN(len(f.p))
		if f.r.IntN(3) == 0 {
			off = off / Cell * Cell
		}
		n = min(1+f.r.IntN(1<<f.r.IntN(19)), len(f.p)-off)
		if f.r.IntN(3) == 0 {
			n = min(max(n/Cell, 1)*Cell, len(f.p)-off)
		}
	}
	switch f.r.IntN(8) {
	case 0, 1, 2:
		f.note("write", off, n)
		fill(f.r, f.p[off:off+n])
		f.dirty = append(f.dirty, Range{int64(off), int64(n)})
	case 3, 4:
		f.note("zero", off, n)
		clear(f.p[off : off+n])
		f.dirty = append(f.dirty, Range{int64(off), int64(n)})
	case 5:
		f.note("truncate", off, 0)
		f.p = f.p[:off:off]
	case 6:
		n = min(f.r.IntN(1<<f.r.IntN(20)), most-len(f.p))
		f.note("extend", len(f.p), n)
		// What a truncation has cut off comes back as zeros.
		f.dirty = append(f.dirty, Range{int64(len(f.p)), int64(n)})
		f.p = append(f.p, make([]byte, n)...)
	case 7:
		n = min(f.r.IntN(1<<f.r.IntN(20)), most-len(f.p))
		f.note("append", len(f.p), n)
		f.dirty = append(f.dirty, Range{int64(len(f.p)), int64(n)})
		f.p = append(f.p, make([]byte, n)...)
		fill(f.r, f.p[len(f.p)-n:])
	}
}

// holes returns ranges of f that are zero, some of them, not all of each.
func (f *file) holes() []Range {
	var out []Range
	for off := 0; off < len(f.p); {
		n := 0
		for off+n < len(f.p) && f.p[off+n] == 0 {
			n++
		}
		if n > 1000 && f.r.IntN(4) > 0 {
			cut := f.r.IntN(n / 4)
			out = append(out, Range{int64(off + cut), int64(n - cut)})
		}
		off += n + 1
	}
	return out
}

func TestEditGivesTheRootOfAWholeWrite(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 15
	}
	for _, cut := range bothCuts {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%v/seed=%d", cut, seed), func(t *testing.T) {
				t.Parallel()
				const most = 3 << 20
				st := newQuick()
				f := &file{r: rand.New(rand.NewPCG(seed, 99)), p: chacha(seed, 1<<20)}
				base, _ := mustWrite(t, st, cut, f.p)
				for round := range rounds {
					f.dirty, f.log = nil, nil
					for range 1 + f.r.IntN(4) {
						f.change(most)
					}
					checkEdit(t, st, base, f, round)
					base, _ = mustWrite(t, st, cut, f.p)
				}
			})
		}
	}
}

func checkEdit(t *testing.T, st Store, base Content, f *file, round int) {
	t.Helper()
	size := int64(len(f.p))
	want, ws := mustWrite(t, st, base.Cut, f.p)
	holes := f.holes()
	known, _ := mustWrite(t, st, base.Cut, f.p, holes...)
	if known.Encode() != want.Encode() {
		t.Fatalf("round %d, size %d: with holes %v the root is %+v, without %+v", round, size, holes, known, want)
	}
	for name, src := range map[string]io.ReaderAt{"plain": bytes.NewReader(f.p), "sparse": WithHoles(bytes.NewReader(f.p), holes)} {
		got, gs, err := Edit(t.Context(), st, testSeed, base, f.dirty, src, size)
		if err != nil {
			t.Fatalf("round %d: %v: %v", round, f.log, err)
		}
		if got.Encode() != want.Encode() || gs.Alloc != ws.Alloc {
			t.Fatalf("round %d, base size %d, size %d, %s: after %v edit gives %+v %+v, write %+v %+v",
				round, base.Size, size, name, f.log, got, gs, want, ws)
		}
	}
	if !bytes.Equal(mustRead(t, st, want), f.p) {
		t.Fatalf("round %d: other bytes", round)
	}
}

// Where holes, chunks and the end of the file meet: files of a few units, each
// zero or not, and every way from one to another.
func TestEditsAtTheEdgesOfHolesGiveTheRootOfAWholeWrite(t *testing.T) {
	const (
		seed  = 3
		unit  = 21_000
		units = 11
		pairs = 300
	)
	r := rand.New(rand.NewPCG(seed, 3))
	data := chacha(seed, unit*units)
	pattern := func() []byte {
		p := make([]byte, unit*(1+r.IntN(units))-r.IntN(2)*r.IntN(unit))
		for off := 0; off < len(p); off += unit {
			if r.IntN(2) == 0 {
				copy(p[off:min(off+unit, len(p))], data[off:])
			}
		}
		return p
	}
	for _, cut := range bothCuts {
		st := newQuick()
		for pair := range pairs {
			a, b := pattern(), pattern()
			base, _ := mustWrite(t, st, cut, a)
			f := &file{r: r, p: b}
			for off := 0; off < len(b); off += unit {
				end := min(off+unit, len(b))
				old := make([]byte, end-off)
				if off < len(a) {
					copy(old, a[off:])
				}
				if !bytes.Equal(old, b[off:end]) {
					f.dirty = append(f.dirty, Range{int64(off), int64(end - off)})
				}
			}
			f.log = []string{fmt.Sprintf("seed %d pair %d dirty %v", seed, pair, f.dirty)}
			checkEdit(t, st, base, f, pair)
		}
	}
}

// cells is a large file made of cells: each all of one version, 0 for a hole.
type cells struct {
	versions []uint32
	size     int64
	mu       sync.Mutex // guards read
	read     int64
}

func (c *cells) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	c.read += int64(len(p))
	c.mu.Unlock()
	n := 0
	for n < len(p) && off < c.size {
		i, in := off/Cell, off%Cell
		var cell [Cell]byte
		if v := c.versions[i]; v != 0 {
			x := uint64(v)*0x9e3779b97f4a7c15 + uint64(i)
			for j := 0; j < Cell; j += 8 {
				x ^= x << 13
				x ^= x >> 7
				x ^= x << 17
				binary.LittleEndian.PutUint64(cell[j:], x)
			}
		}
		m := copy(p[n:], cell[in:min(Cell, in+c.size-off)])
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *cells) resize(n int) {
	for len(c.versions) < n {
		c.versions = append(c.versions, 0)
	}
	clear(c.versions[n:])
	c.versions = c.versions[:n]
	c.size = int64(n) * Cell
}

func TestEditsOfDeepTreesGiveTheRootOfAWholeWrite(t *testing.T) {
	for _, cut := range bothCuts {
		t.Run(cut.String(), func(t *testing.T) {
			t.Parallel()
			const seed = 5
			r := rand.New(rand.NewPCG(seed, 5))
			st := newQuick()
			c := &cells{}
			c.resize(2200)
			for i := range c.versions {
				if r.IntN(5) > 0 {
					c.versions[i] = uint32(1 + r.IntN(1000))
				}
			}
			base, _, err := Write(t.Context(), st, testSeed, cut, c, c.size, nil)
			if err != nil {
				t.Fatal(err)
			}
			if base.Depth < 2 {
				t.Fatalf("depth %d: not deep enough to tell", base.Depth)
			}
			for round := range 8 {
				var dirty []Range
				n := len(c.versions)
				switch r.IntN(4) {
				case 0:
					c.resize(n - r.IntN(n/3))
				case 1:
					m := n + r.IntN(n/3)
					c.resize(m)
					for i := n; i < m; i++ {
						if r.IntN(3) == 0 {
							c.versions[i] = uint32(1 + r.IntN(1000))
							dirty = append(dirty, Range{int64(i) * Cell, Cell})
						}
					}
				}
				for range r.IntN(30) {
					from := r.IntN(len(c.versions))
					to := min(len(c.versions), from+1+r.IntN(1<<r.IntN(6)))
					v := uint32(r.IntN(3))
					for i := from; i < to; i++ {
						c.versions[i] = v * uint32(1+r.IntN(1000))
					}
					dirty = append(dirty, Range{int64(from) * Cell, int64(to-from) * Cell})
				}
				got, gs, err := Edit(t.Context(), st, testSeed, base, dirty, c, c.size)
				if err != nil {
					t.Fatal(err)
				}
				want, ws, err := Write(t.Context(), st, testSeed, cut, c, c.size, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got.Encode() != want.Encode() || gs.Alloc != ws.Alloc {
					t.Fatalf("seed %d round %d: edit %+v %+v, write %+v %+v", seed, round, got, gs, want, ws)
				}
				base = got
			}
		})
	}
}

func TestASmallEditOfALargeFileReadsAndWritesLittle(t *testing.T) {
	for _, cut := range bothCuts {
		t.Run(cut.String(), func(t *testing.T) {
			t.Parallel()
			st := &counter{Store: newQuick()}
			c := &cells{}
			c.resize(1 << 11) // 128 MiB
			for i := range c.versions {
				c.versions[i] = uint32(i + 1)
			}
			base, _, err := Write(t.Context(), st, testSeed, cut, c, c.size, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.versions[1500] += 7
			c.read, st.gets, st.got, st.puts, st.put = 0, 0, 0, 0, 0
			_, s, err := Edit(t.Context(), st, testSeed, base, []Range{{1500 * Cell, 4096}}, c, c.size)
			if err != nil {
				t.Fatal(err)
			}
			most := int64(2 << 20)
			if cut == Fixed {
				most = Cell
			}
			if c.read > most || s.Read != c.read {
				t.Errorf("read %d (stat %d), want at most %d", c.read, s.Read, most)
			}
			if st.put > 2<<20 || st.puts > 16 {
				t.Errorf("wrote %d bytes in %d blocks", st.put, st.puts)
			}
			if st.got > 128<<10 || st.gets > 16 {
				t.Errorf("read %d bytes of %d list blocks", st.got, st.gets)
			}
			t.Logf("read %d, put %d in %d, got %d in %d", c.read, st.put, st.puts, st.got, st.gets)
		})
	}
}

func TestAnEditOfNothingIsFree(t *testing.T) {
	st := &counter{Store: newQuick()}
	base, _ := mustWrite(t, st, Chunked, chacha(3, 8<<20))
	st.puts = 0
	got, s, err := Edit(t.Context(), st, testSeed, base, nil, nil, base.Size)
	if err != nil || got.Encode() != base.Encode() {
		t.Fatalf("%+v, %v", got, err)
	}
	if st.puts != 0 || s.Read != 0 || s.Alloc != base.Size {
		t.Errorf("%d puts, %+v", st.puts, s)
	}
}

// void is a file of zeros that may only be read near some places.
type void struct {
	data map[int64][]byte // by cell
	read int64
}

func (v *void) ReadAt(p []byte, off int64) (int, error) {
	v.read += int64(len(p))
	for n := 0; n < len(p); {
		in := off % Cell
		m := min(Cell-int(in), len(p)-n)
		clear(p[n : n+m])
		if d := v.data[off-in]; d != nil {
			copy(p[n:n+m], d[in:])
		}
		n, off = n+m, off+int64(m)
	}
	return len(p), nil
}

func TestSparseFilesOfManyTerabytesAreCutQuickly(t *testing.T) {
	const size = MaxSize - 5
	for _, cut := range bothCuts {
		t.Run(cut.String(), func(t *testing.T) {
			st := newQuick()
			at := []int64{0, 7 << 40, 15<<40 + 3*Cell, cellStart(size)}
			v := &void{data: map[int64][]byte{}}
			var holes []Range
			last := int64(0)
			for i, off := range at {
				v.data[off] = chacha(uint64(i), Cell)
				holes = append(holes, Range{last, off - last})
				last = off + Cell
			}
			whole, s, err := Write(t.Context(), st, testSeed, cut, v, size, holes)
			if err != nil {
				t.Fatal(err)
			}
			if s.Alloc != 4*Cell-5 || v.read > 8*Cell {
				t.Errorf("stat %+v, read %d", s, v.read)
			}
			empty, _, err := Write(t.Context(), st, testSeed, cut, v, size, []Range{{0, size}})
			if err != nil || !empty.Root.IsZero() || empty.Depth != 0 {
				t.Fatalf("empty: %+v, %v", empty, err)
			}
			v.read = 0
			var dirty []Range
			for _, off := range at {
				dirty = append(dirty, Range{off, Cell})
			}
			got, _, err := Edit(t.Context(), st, testSeed, empty, dirty, v, size)
			if err != nil || got.Encode() != whole.Encode() {
				t.Fatalf("edit %+v, write %+v, %v", got, whole, err)
			}
			if v.read > 8*Cell {
				t.Errorf("edit read %d", v.read)
			}
			checkSeeks(t, NewReader(st, got), at, size)
			// Grown from a small file, punched, and cut off.
			small, _ := mustWrite(t, st, cut, v.data[0])
			grown, _, err := Edit(t.Context(), st, testSeed, small, dirty[1:], v, size)
			if err != nil || grown.Encode() != whole.Encode() {
				t.Fatalf("grown %+v, want %+v, %v", grown, whole, err)
			}
			v.data = nil
			punched, _, err := Edit(t.Context(), st, testSeed, got, []Range{{0, size}}, WithHoles(v, []Range{{0, size}}), size)
			if err != nil || punched.Encode() != empty.Encode() {
				t.Fatalf("punched %+v, %v", punched, err)
			}
		})
	}
}

func checkSeeks(t *testing.T, r *Reader, at []int64, size int64) {
	t.Helper()
	off := int64(0)
	for _, want := range at {
		got, err := r.SeekData(t.Context(), off)
		if err != nil || got != want {
			t.Fatalf("data from %d: %d, %v, want %d", off, got, err, want)
		}
		want = min(want+Cell, size)
		if off, err = r.SeekHole(t.Context(), got); err != nil || off != want {
			t.Fatalf("hole from %d: %d, %v, want %d", got, off, err, want)
		}
	}
	if got, err := r.SeekData(t.Context(), size); err != io.EOF {
		t.Errorf("data from the end: %d, %v", got, err)
	}
}
