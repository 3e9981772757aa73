package staging

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// A layer is what was written in one generation. File.mu guards it.
type layer struct {
	gen    uint64
	frozen bool
	part   bool     // recovered: what it froze is only right together with the layers above
	data   blockSet // blocks with bytes here
	zero   spans    // bytes that read zero, where there is no data

	// In memory: the bytes of the blocks in data, each without the zeros at its end that were never written.
	mem  map[int64][]byte // nil once in a file
	held int64            // bytes in mem, counted in Dir.used

	// In a file.
	name   string
	writes uint64 // counts changes of the file
	synced uint64 // value of writes that is durable
	named  bool   // its name is durable

	// Of the whole file when the layer was frozen.
	size         int64
	mtime, ctime int64
}

// What holds a byte.
const (
	inZero = -1
	inBase = -2
)

// locate says which of layers holds the byte at off, or inZero or inBase, and up to where that stays so.
func locate(layers []*layer, off, end int64) (who int, stop int64) {
	for i := len(layers) - 1; i >= 0; i-- {
		l := layers[i]
		in, b := l.data.at(off / blockSize)
		end = min(end, b*blockSize)
		if in {
			return i, end
		}
		in, e := l.zero.at(off)
		end = min(end, e)
		if in {
			return inZero, end
		}
	}
	return inBase, end
}

// memRead copies bytes of blocks in memory.
func (l *layer) memRead(p []byte, off int64) {
	for len(p) > 0 {
		b, at := off/blockSize, int(off%blockSize)
		n := min(len(p), blockSize-at)
		k := 0
		if buf := l.mem[b]; at < len(buf) {
			k = copy(p[:n], buf[at:])
		}
		clear(p[k:n])
		p, off = p[n:], off+int64(n)
	}
}

// readAt reads bytes that lie in data.
func (l *layer) readAt(d *Dir, p []byte, off int64) error {
	if l.mem != nil {
		l.memRead(p, off)
		return nil
	}
	h, err := d.use(l)
	if err != nil {
		return fmt.Errorf("read staging file: %w", err)
	}
	defer d.done(h)
	n, err := h.f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read staging file: %w", err)
	}
	clear(p[n:]) // the last block of the file ends where the file does
	return nil
}

// memWrite writes into blocks in memory.
func (l *layer) memWrite(d *Dir, p []byte, off int64) {
	for len(p) > 0 {
		b, at := off/blockSize, int(off%blockSize)
		n := min(len(p), blockSize-at)
		buf := l.mem[b]
		was := cap(buf)
		if need := at + n; need > len(buf) {
			if need > cap(buf) {
				// In steps, so that a file growing by small writes is not copied each time.
				buf = append(make([]byte, 0, min(blockSize, max(need, 2*cap(buf)))), buf...)
			}
			clear(buf[len(buf):need])
			buf = buf[:need]
		}
		copy(buf[at:], p[:n])
		l.mem[b] = buf
		l.held += int64(cap(buf) - was)
		d.used.Add(int64(cap(buf) - was))
		p, off = p[n:], off+int64(n)
	}
}

// memDrop forgets blocks in memory.
func (l *layer) memDrop(d *Dir, a, b int64) {
	for k, buf := range l.mem {
		if k >= a && k < b {
			l.held -= int64(cap(buf))
			d.used.Add(-int64(cap(buf)))
			delete(l.mem, k)
		}
	}
}

// spill moves the layer from memory to its file.
func (l *layer) spill(d *Dir, ino uint64, size, ctime int64) (err error) {
	name := d.name(ino, l.gen)
	f, err := os.OpenFile(name+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make staging file: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(name + ".tmp")
		}
	}()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("make staging file: %w", err)
	}
	var werr error
	l.data.runs(func(a, b int64) {
		for ; a < b && werr == nil; a++ {
			// Whole blocks, so that each is data; but nothing beyond the end of the file.
			buf := make([]byte, min(blockSize, max(size-a*blockSize, 0)))
			copy(buf, l.mem[a])
			_, werr = f.WriteAt(buf, a*blockSize)
		}
	})
	if werr != nil {
		return fmt.Errorf("write staging file: %w", werr)
	}
	if err := stamp(name+".tmp", ctime); err != nil {
		return err
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("make staging file: %w", err)
	}
	l.memDrop(d, 0, math.MaxInt64)
	l.mem, l.name, l.writes = nil, name, 1
	d.adopt(l, f)
	return nil
}

// write puts p at off into the layer. The blocks it touches must be whole: new ones are covered from
// their start to their end or the end of the file. On error nothing has changed.
func (l *layer) write(d *Dir, p []byte, off int64) error {
	a, b := off/blockSize, ceilBlock(off+int64(len(p)))
	if l.mem != nil {
		l.memWrite(d, p, off)
		l.data.set(a, b)
		return nil
	}
	h, err := d.use(l)
	if err != nil {
		return fmt.Errorf("write staging file: %w", err)
	}
	defer d.done(h)
	l.writes++
	if _, err := h.f.WriteAt(p, off); err != nil {
		// New blocks written in part must not be taken for data after a crash.
		for x := a; x < b; {
			in, e := l.data.at(x)
			if e = min(e, b); !in {
				err = errors.Join(err, punch(h.f, x*blockSize, (e-x)*blockSize))
			}
			x = e
		}
		return fmt.Errorf("write staging file: %w", err)
	}
	l.data.set(a, b)
	return nil
}

func punch(f *os.File, off, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// zeroData makes the data between a and b zero, forgetting the blocks that are all within.
func (l *layer) zeroData(d *Dir, a, b int64) error {
	ba, bb := ceilBlock(a), b/blockSize
	var edges []span
	switch {
	case ba > bb: // within one block
		edges = []span{{a, b}}
	default:
		edges = []span{{a, ba * blockSize}, {bb * blockSize, b}}
	}
	for _, e := range edges {
		if e.a == e.b || !l.data.has(e.a/blockSize) {
			continue
		}
		if err := l.write(d, make([]byte, e.b-e.a), e.a); err != nil {
			return err
		}
	}
	if ba >= bb {
		return nil
	}
	if l.mem != nil {
		l.memDrop(d, ba, bb)
	} else if in, e := l.data.at(ba); in || e < bb {
		h, err := d.use(l)
		if err != nil {
			return fmt.Errorf("punch staging file: %w", err)
		}
		defer d.done(h)
		l.writes++
		if err := punch(h.f, ba*blockSize, (bb-ba)*blockSize); err != nil {
			return fmt.Errorf("punch staging file: %w", err)
		}
	}
	l.data.clear(ba, bb)
	return nil
}

// resize sets the size of the file, cutting data off.
func (l *layer) resize(d *Dir, size int64) error {
	if l.mem == nil {
		h, err := d.use(l)
		if err != nil {
			return fmt.Errorf("truncate staging file: %w", err)
		}
		defer d.done(h)
		l.writes++
		if err := h.f.Truncate(size); err != nil {
			return fmt.Errorf("truncate staging file: %w", err)
		}
	} else {
		l.memDrop(d, ceilBlock(size), math.MaxInt64)
		if b, at := size/blockSize, int(size%blockSize); at < len(l.mem[b]) {
			l.mem[b] = l.mem[b][:at]
		}
	}
	l.data.clear(ceilBlock(size), forever/blockSize)
	return nil
}
