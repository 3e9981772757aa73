package content

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/blocks"
)

func someID(n int) blocks.ID { return blocks.ID{1, byte(n), byte(n >> 8), 31: 1} }

func TestDecodeTakesOnlyWhatEncodeGives(t *testing.T) {
	id := someID(1)
	good := Content{Size: 100_000, Root: id}.Encode()
	long := Content{Size: 10 << 20, Root: id, Depth: 1}.Encode()
	head := func(s string, tag byte) string { return string(tag) + s[1:] }
	for _, tt := range []struct {
		name, s string
		ok      bool
	}{
		{"nothing", "", false},
		{"tag only", good[:1], false},
		{"empty file", Content{}.Encode(), true},
		{"block", good, true},
		{"list", long, true},
		{"trailing byte", good + "x", false},
		{"short root", good[:len(good)-1], false},
		{"unknown format", head(good, 0x20), false},
		{"inline too large", Content{Size: MaxInline + 1, Root: id}.Encode()[:1] + "x", false},
		{"block though it would be inline", string([]byte{0x10, 5}) + strings.Repeat("a", 32), false},
		{"inline of other length", string([]byte{0x1e, 5}) + "four", false},
		{"long varint", string([]byte{0x1e, 0x80, 0x00}), false},
		{"block larger than a block", Content{Size: blocks.MaxBlock + 1, Root: id}.Encode(), false},
		{"hole of any size", Content{Size: MaxSize}.Encode(), true},
		{"larger than a file", Content{Size: MaxSize + 1}.Encode(), false},
		{"list of a hole", Content{Size: 10 << 20, Depth: 1}.Encode(), false},
		{"list of too few bytes", Content{Size: MaxSingle, Root: id, Depth: 1}.Encode(), false},
		{"deeper than its size", Content{Size: 400_000, Root: id, Depth: 2}.Encode(), false},
		{"deepest", Content{Size: MaxSize, Root: id, Depth: MaxDepth}.Encode(), true},
	} {
		c, err := Decode(tt.s)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && c.Encode() != tt.s {
			t.Errorf("%s: %+v encodes to %x, not %x", tt.name, c, c.Encode(), tt.s)
		}
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v is not ErrMalformed", tt.name, err)
		}
	}
}

func leaves(n int, size int64) []ref {
	out := make([]ref, n)
	for i := range out {
		out[i] = ref{id: someID(i), size: size, alloc: size}
	}
	return out
}

func sum(refs []ref) (n int64) {
	for _, r := range refs {
		n += r.size
	}
	return n
}

func TestListsThatCannotBeAreRefused(t *testing.T) {
	hole := ref{size: Cell}
	full := leaves(40, Cell)
	cut := leaves(40, Cell)
	cut[34].id[31] = 0
	nodes := leaves(3, minSize(1))
	for _, tt := range []struct {
		name  string
		level uint8
		refs  []ref
		size  int64 // 0: what they add up to
		ok    bool
	}{
		{"full", 1, full, 0, true},
		{"holes between", 1, []ref{hole, full[0], hole, full[1]}, 0, true},
		{"none", 1, nil, Cell, false},
		{"too many", 1, leaves(MaxRefs+1, Cell), 0, false},
		{"too small ones", 1, leaves(40, 10), 0, false},
		{"more bytes than there should be", 1, full, 40*Cell - 1, false},
		{"fewer bytes", 1, full, 40*Cell + 1, false},
		{"holes side by side", 1, []ref{full[0], hole, hole}, 0, false},
		{"a ref of nothing", 1, []ref{full[0], {id: someID(9)}}, 0, false},
		{"a block too large", 1, []ref{full[0], {id: someID(9), size: blocks.MaxBlock + 1}}, 0, false},
		{"goes on after its end", 1, cut, 0, false},
		{"above", 2, nodes, 0, true},
		{"above, a hole", 2, []ref{nodes[0], {size: minSize(1)}}, 0, false},
		{"above, tiny ones", 2, leaves(3, 10), 0, false},
		{"above, a tiny last one", 2, append(leaves(2, minSize(1)), ref{id: someID(7), size: 1}), 0, true},
		{"above, more allocated than there is", 2, []ref{nodes[0], {id: someID(7), size: 10, alloc: 11}}, 0, false},
		{"above, sizes that overflow", 2, []ref{{id: someID(1), size: MaxSize}, {id: someID(2), size: MaxSize}}, MaxSize, false},
	} {
		size := tt.size
		if size == 0 {
			size = sum(tt.refs)
		}
		b := appendList(nil, tt.level, tt.refs)
		l, err := decodeList(b, tt.level, size)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && !bytes.Equal(appendList(nil, tt.level, l.refs), b) {
			t.Errorf("%s: other bytes", tt.name)
		}
		if _, err := decodeList(b, tt.level+1, size); err == nil {
			t.Errorf("%s: taken at another level", tt.name)
		}
		if _, err := decodeList(append(b, 0), tt.level, size); err == nil {
			t.Errorf("%s: taken with a trailing byte", tt.name)
		}
	}
}

// bomb makes a tree of as many leaves as it can of few list blocks: each list
// is many times the same one of the level below.
func bomb(t *testing.T, st Store, depth uint8) Content {
	t.Helper()
	put := func(p []byte) blocks.ID {
		id, err := st.Put(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	leaf := ref{id: put(chacha(1, Cell)), size: Cell, alloc: Cell}
	refs := []ref{leaf}
	for level := uint8(1); ; level++ {
		n := 1000
		for sum(refs)*int64(n) > MaxSize {
			n /= 2
		}
		list := make([]ref, 0, n)
		for range max(n, 1) {
			list = append(list, refs[0])
		}
		r := ref{id: put(appendList(nil, level, list)), size: sum(list), alloc: sum(list)}
		if level == depth {
			return Content{Size: r.size, Root: r.id, Depth: depth}
		}
		refs = []ref{r}
	}
}

func TestAWalkOfABombEnds(t *testing.T) {
	st := newStore(t)
	c := bomb(t, st, 3)
	c, err := Decode(c.Encode())
	if err != nil {
		t.Fatal(err)
	}
	complete, err := Missing(t.Context(), st, c, func(blocks.ID, int64) bool { return true })
	if err != nil || !complete {
		t.Fatalf("%v, %v", complete, err)
	}
}

func TestSizesThatLieAreFoundOut(t *testing.T) {
	st := newStore(t)
	p := chacha(1, 3<<20)
	c, _ := mustWrite(t, st, Chunked, p)
	if c.Depth != 1 {
		t.Fatal("want a list")
	}
	for name, lie := range map[string]Content{
		"larger":  {Size: c.Size + 1, Root: c.Root, Depth: 1},
		"deeper":  {Size: c.Size, Root: c.Root, Depth: 2},
		"a block": {Size: 100_000, Root: c.Root},
	} {
		_, err := NewReader(st, lie).ReadAt(t.Context(), make([]byte, 10), 0)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An allocation that is not that of the list below.
	l := appendList(nil, 2, []ref{{id: c.Root, size: c.Size, alloc: c.Size - 1}})
	id, err := st.Put(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	lie := Content{Size: c.Size, Root: id, Depth: 2}
	if _, err := NewReader(st, lie).ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, ErrMalformed) {
		t.Errorf("allocation: %v", err)
	}
}

func TestMissingLeadsToACompleteFile(t *testing.T) {
	for _, cut := range bothCuts {
		t.Run(cut.String(), func(t *testing.T) {
			from, to := newQuick(), newQuick()
			c := &cells{}
			c.resize(600)
			for i := range c.versions {
				c.versions[i] = uint32(i % 7)
			}
			root, s, err := Write(t.Context(), from, testSeed, cut, c, c.size, nil)
			if err != nil {
				t.Fatal(err)
			}
			fetched, passes := 0, 0
			for complete := false; !complete; passes++ {
				var want []blocks.ID
				complete, err = Missing(t.Context(), to, root, func(id blocks.ID, size int64) bool {
					want = append(want, id)
					return len(want) < 200
				})
				if err != nil || complete != (len(want) == 0) {
					t.Fatalf("complete %v with %d missing, %v", complete, len(want), err)
				}
				for _, id := range want {
					p, err := from.Get(t.Context(), id, nil)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := to.Put(t.Context(), p); err != nil {
						t.Fatal(err)
					}
					fetched++
				}
			}
			if fetched > s.NewBlocks {
				t.Errorf("%d fetched in %d passes, %d put", fetched, passes, s.NewBlocks)
			}
			got, want := make([]byte, 3*Cell), make([]byte, 3*Cell)
			r := NewReader(to, root)
			for off := int64(0); off < c.size; off += 37 * Cell {
				n, err := r.ReadAt(t.Context(), got, off)
				if err != nil && err != io.EOF {
					t.Fatal(err)
				}
				_, _ = c.ReadAt(want[:n], off)
				if !bytes.Equal(got[:n], want[:n]) {
					t.Fatalf("other bytes at %d", off)
				}
			}
		})
	}
}

func TestSeeksAgreeWithTheBytes(t *testing.T) {
	const seed = 2
	r := rand.New(rand.NewPCG(seed, 2))
	for _, cut := range bothCuts {
		st := newQuick()
		c := &cells{}
		c.resize(400)
		for i := range c.versions {
			c.versions[i] = uint32(r.IntN(5) / 3 * (i + 1))
		}
		root, _, err := Write(t.Context(), st, testSeed, cut, c, c.size, nil)
		if err != nil {
			t.Fatal(err)
		}
		rd := NewReader(st, root)
		for range 300 {
			off := r.Int64N(c.size)
			for _, hole := range []bool{false, true} {
				want := off
				for want < c.size && (c.versions[want/Cell] == 0) != hole {
					want = cellStart(want) + Cell
				}
				var got int64
				if hole {
					got, err = rd.SeekHole(t.Context(), off)
				} else {
					got, err = rd.SeekData(t.Context(), off)
				}
				if want == c.size && !hole {
					if err != io.EOF {
						t.Fatalf("seed %d: data from %d: %d, %v, want EOF", seed, off, got, err)
					}
				} else if err != nil || got != want {
					t.Fatalf("seed %d, %v: hole %v from %d: %d, %v, want %d", seed, cut, hole, off, got, err, want)
				}
			}
		}
	}
}

// Roots are part of the format: a change here makes every file differ from
// what peers have.
func TestRootsStayWhatTheyWere(t *testing.T) {
	st := newStore(t)
	p := append(chacha(1, 3<<20), make([]byte, 1<<20)...)
	p = append(p, chacha(2, 500_000)...)
	for _, tt := range []struct {
		size int
		cut  Cut
		want string
	}{
		{5, Chunked, "1e056ae6783f4f"},
		{50_000, Fixed, "11d0860331b9127aea73f58d1cfe7c86e78f2118969bb6ec848850fe42186d2dfaeb7c65"},
		{len(p), Chunked, "12a0c29e02a3d9fafa0074dadc9e13af7d8ccdb69a945403c6d4e1d325f2bbccbd38461b03"},
		{len(p), Fixed, "15a0c29e02fcc040d0623e18f138b5be2a4051e2d9c19003e9e004c03f9bdef99da2d0f624"},
	} {
		c, _ := mustWrite(t, st, tt.cut, p[:tt.size])
		if got := fmt.Sprintf("%x", c.Encode()); got != tt.want {
			t.Errorf("%d bytes, %v: %s, want %s", tt.size, tt.cut, got, tt.want)
		}
	}
}

func TestManyReadersShareAReader(t *testing.T) {
	st := newStore(t)
	p := chacha(1, 6<<20)
	c, _ := mustWrite(t, st, Fixed, p)
	rd := NewReader(st, c)
	var g errgroup.Group
	for w := range 8 {
		g.Go(func() error {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			buf := make([]byte, 200_000)
			for range 30 {
				off := r.IntN(len(p) - len(buf))
				if _, err := rd.ReadAt(t.Context(), buf, int64(off)); err != nil || !bytes.Equal(buf, p[off:off+len(buf)]) {
					return fmt.Errorf("other bytes at %d, or %w", off, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Content{}.Encode())
	f.Add(Content{Size: 3, Inline: []byte("abc")}.Encode())
	f.Add(Content{Size: 100_000, Cut: Fixed, Root: someID(1)}.Encode())
	f.Add(Content{Size: 1 << 30, Root: someID(1), Depth: 2}.Encode())
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Decode(s)
		if err != nil {
			return
		}
		if c.Encode() != s {
			t.Fatalf("%x decodes to %+v, which encodes to %x", s, c, c.Encode())
		}
		if c.Size < 0 || c.Size > MaxSize || c.Depth > MaxDepth {
			t.Fatalf("%+v", c)
		}
	})
}

func FuzzDecodeList(f *testing.F) {
	for _, refs := range [][]ref{leaves(1, Cell), leaves(40, Cell), {{size: 1 << 40}, leaves(1, 100)[0]}} {
		f.Add(appendList(nil, 1, refs), uint8(1), sum(refs))
	}
	f.Add(appendList(nil, 2, leaves(3, minSize(1))), uint8(2), 3*minSize(1))
	f.Fuzz(func(t *testing.T, b []byte, level uint8, size int64) {
		if level == 0 || level > MaxDepth || size <= 0 || size > MaxSize {
			return
		}
		l, err := decodeList(b, level, size)
		if err != nil {
			return
		}
		if !bytes.Equal(appendList(nil, level, l.refs), b) {
			t.Fatal("two spellings of a list")
		}
		if len(l.refs) > MaxRefs || sum(l.refs) != size || l.alloc() > size {
			t.Fatalf("%d refs of %d bytes in %d", len(l.refs), sum(l.refs), size)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	p := chacha(1, 32<<20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		mustWrite(b, newQuick(), Chunked, p)
	}
}
