package blocks

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	slabSize  = 1 << 20 // room for at least two blocks
	packSlabs = 16      // a pack of so many slabs is full
)

// slabs are the buffers of open packs.
var slabs = sync.Pool{New: func() any { return new([slabSize]byte) }}

// buffers hold one block while it is compressed or read.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, MaxBlock)
	return &b
}}

// entry is a block of a pack in memory.
type entry struct {
	id     ID
	flags  byte
	size   uint32
	stored []byte // in a slab of the pack
}

// pack is a pack in memory. Its store's mutex guards it while it is open;
// then it no longer changes.
type pack struct {
	entries []entry
	slabs   []*[slabSize]byte
	used    int // bytes of the last slab
	bytes   int64
	born    time.Time
	refs    atomic.Int32 // its store's, and one for each reader
	budget  *budget
}

func newPack(b *budget) *pack {
	p := &pack{born: time.Now(), budget: b}
	p.refs.Store(1)
	return p
}

// fits reports whether n more bytes fit in the slabs there are.
func (p *pack) fits(n int) bool { return len(p.slabs) > 0 && p.used+n <= slabSize }

// grow adds a slab. It returns false when the budget is spent.
func (p *pack) grow() bool {
	if !p.budget.take() {
		return false
	}
	p.slabs = append(p.slabs, slabs.Get().(*[slabSize]byte))
	p.used = 0
	return true
}

// add copies a block that fits into p.
func (p *pack) add(e entry) {
	slab := p.slabs[len(p.slabs)-1]
	n := copy(slab[p.used:], e.stored)
	e.stored = slab[p.used : p.used+n : p.used+n]
	p.used += n
	p.bytes += int64(n)
	p.entries = append(p.entries, e)
}

// release gives back one reference, and with the last one the memory.
func (p *pack) release() {
	if p.refs.Add(-1) > 0 {
		return
	}
	n := len(p.slabs)
	for _, s := range p.slabs {
		slabs.Put(s)
	}
	p.slabs, p.entries = nil, nil
	p.budget.give(n)
}

// budget bounds the slabs of all folders together.
type budget struct {
	mu      sync.Mutex // guards all below
	free    int
	changed chan struct{} // closed when free grows
}

func newBudget(bytes int64) *budget {
	return &budget{free: int(bytes / slabSize), changed: make(chan struct{})}
}

func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free == 0 {
		return false
	}
	b.free--
	return true
}

func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	close(b.changed)
	b.changed = make(chan struct{})
}

// state returns whether a slab is free, and what is closed when one becomes so.
func (b *budget) state() (free bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free > 0, b.changed
}

// codec compresses blocks. Its methods are safe for concurrent use.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

const compressMin = 256 // smaller blocks are not worth a frame

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(MaxBlock), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxBlock))
	if err != nil {
		return nil, err
	}
	return &codec{enc: enc, dec: dec}, nil
}

// encode returns the bytes to store for data: a frame in buf when that saves
// more than a tenth, else data itself.
func (c *codec) encode(data, buf []byte) (stored []byte, flags byte) {
	if len(data) < compressMin {
		return data, 0
	}
	frame := c.enc.EncodeAll(data, buf[:0])
	if len(frame) >= len(data)-len(data)/10 {
		return data, 0
	}
	return frame, flagZstd
}

// decode appends the plain bytes of stored to buf[:0].
func (c *codec) decode(flags byte, stored, buf []byte) ([]byte, error) {
	if flags&flagZstd == 0 {
		return append(buf[:0], stored...), nil
	}
	return c.dec.DecodeAll(stored, buf[:0])
}

func (c *codec) close() {
	c.dec.Close()
	_ = c.enc.Close() // nothing was streamed
}
