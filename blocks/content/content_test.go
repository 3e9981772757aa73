package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/chunker"
)

var testSeed = chunker.Seed{1, 2, 3}

// newStore returns a real store in memory.
func newStore(tb testing.TB) *blocks.Store {
	tb.Helper()
	d, err := blocks.OpenDisk(vfs.NewMem(), "disk", blocks.DiskOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d.Store(1, blocks.Key{7})
}

// counter counts what goes through a store.
type counter struct {
	Store
	mu         sync.Mutex
	gets, puts int
	got, put   int64
}

func (c *counter) Get(ctx context.Context, id blocks.ID, buf []byte) ([]byte, error) {
	b, err := c.Store.Get(ctx, id, buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gets, c.got = c.gets+1, c.got+int64(len(b))
	return b, err
}

func (c *counter) Put(ctx context.Context, p []byte) (blocks.ID, error) {
	c.mu.Lock()
	c.puts, c.put = c.puts+1, c.put+int64(len(p))
	c.mu.Unlock()
	return c.Store.Put(ctx, p)
}

func mustWrite(tb testing.TB, st Store, cut Cut, p []byte, holes ...Range) (Content, Stat) {
	tb.Helper()
	c, s, err := Write(tb.Context(), st, testSeed, cut, bytes.NewReader(p), int64(len(p)), holes)
	if err != nil {
		tb.Fatal(err)
	}
	return c, s
}

func mustRead(tb testing.TB, st Getter, c Content) []byte {
	tb.Helper()
	p := make([]byte, c.Size)
	if n, err := NewReader(st, c).ReadAt(tb.Context(), p, 0); err != nil && err != io.EOF || n != len(p) {
		tb.Fatalf("read %d of %d: %v", n, len(p), err)
	}
	return p
}

func fill(r *rand.Rand, p []byte) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
}

func chacha(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return p
}

var bothCuts = []Cut{Chunked, Fixed}

func TestReadGivesWhatWasWritten(t *testing.T) {
	st := newStore(t)
	r := rand.New(rand.NewPCG(1, 1))
	for _, cut := range bothCuts {
		for _, size := range []int{0, 1, MaxInline, MaxInline + 1, MaxSingle, MaxSingle + 1, 3*MaxSingle - 1, 1 << 20, 5<<20 + 77} {
			t.Run(fmt.Sprintf("%v/%d", cut, size), func(t *testing.T) {
				p := chacha(uint64(size), size)
				c, s := mustWrite(t, st, cut, p)
				if s.Alloc != int64(size) || s.Read != int64(size) {
					t.Errorf("stat %+v for %d bytes", s, size)
				}
				if !bytes.Equal(mustRead(t, st, c), p) {
					t.Fatal("other bytes")
				}
				back, err := Decode(c.Encode())
				if err != nil || back.Encode() != c.Encode() {
					t.Fatalf("decode: %+v, %v", back, err)
				}
				rd := NewReader(st, back)
				for range 20 {
					off, n := r.Int64N(int64(size)+2), r.IntN(300_000)
					got, want := make([]byte, n), make([]byte, n)
					gn, gerr := rd.ReadAt(t.Context(), got, off)
					wn, werr := bytes.NewReader(p).ReadAt(want, off)
					if n == 0 {
						continue
					}
					if gn != wn || gerr != werr || !bytes.Equal(got[:gn], want[:wn]) {
						t.Fatalf("read %d at %d: %d %v, want %d %v", n, off, gn, gerr, wn, werr)
					}
				}
			})
		}
	}
}

func TestReadsPastTheEndAreEOF(t *testing.T) {
	st := newStore(t)
	c, _ := mustWrite(t, st, Chunked, chacha(1, 200_000))
	n, err := NewReader(st, c).ReadAt(t.Context(), make([]byte, 10), 200_000)
	if n != 0 || err != io.EOF {
		t.Fatalf("%d, %v", n, err)
	}
}

func TestSizesOutOfBoundsAreRefused(t *testing.T) {
	st := newStore(t)
	for _, size := range []int64{-1, MaxSize + 1} {
		if _, _, err := Write(t.Context(), st, testSeed, Chunked, bytes.NewReader(nil), size, nil); err == nil {
			t.Errorf("size %d was taken", size)
		}
	}
	if _, _, err := Write(t.Context(), st, testSeed, Chunked, bytes.NewReader(nil), 100_000, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short source: %v", err)
	}
}
