package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// State is what must be kept, beside the staging files, to find a dirty file again after a crash.
type State struct {
	Gen          uint64
	Size, Alloc  int64
	Mtime, Ctime int64
	Zero         []Range // zero ranges that show through the data of all layers but the last
	Data         []byte  // all bytes of a small file; nil when they are in staging files
	From         uint64  // the oldest generation; files of earlier ones were cut, though a power cut may bring them back
	Under        bool    // there are frozen layers
	Empty        bool    // nothing was written: the file is its base
	Seq          uint64  // of the Info it was taken from; not to be kept
}

// state describes the file without Data; f.mu is held.
func (f *File) state() State {
	st := State{Size: f.size, Alloc: max(f.alloc, 0), Mtime: f.mtime, Ctime: f.ctime, Seq: f.seq}
	var z spans
	if len(f.layers) > 0 {
		st.From = f.layers[0].gen
	}
	for i, l := range f.layers {
		st.Gen, st.Under = l.gen, st.Under || l.frozen
		if i > 0 {
			// The list will lie above the data of lower layers: what their data hides must not be in it.
			f.layers[i-1].data.runs(func(a, b int64) { z = z.sub(a*blockSize, b*blockSize) })
		}
		for _, p := range l.zero {
			z = z.add(p.a, p.b)
		}
	}
	st.Zero = z.ranges(forever)
	st.Empty = f.size == f.src.Size && !slices.ContainsFunc(f.layers, func(l *layer) bool { return l.data.n > 0 || len(l.zero) > 0 })
	return st
}

// pending is a staging file that a Persist has to make durable.
type pending struct {
	l      *layer
	h      *handle
	writes uint64
	named  bool
}

// Persist returns a state from which the file can be recovered. With durable it puts the staging files on
// disk; the caller does the same with the state. It is the zero State when nothing is staged.
func (f *File) Persist(ctx context.Context, durable bool) (State, error) {
	f.save.Lock()
	defer f.save.Unlock()
	st, gaps, base, todo, err := f.persist(durable)
	if st.Data != nil && err == nil {
		err = fill(ctx, base, gaps)
	}
	return st, errors.Join(err, f.flush(todo))
}

// persist is the part of Persist that needs the lock: of a small file gaps of Data are left to the base, of another
// todo is left to be synced.
func (f *File) persist(durable bool) (st State, gaps []gap, base Base, todo []pending, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.layers) == 0 {
		return st, nil, nil, nil, nil
	}
	if f.size > 0 && f.size <= smallMax && f.inMemory() {
		st = f.state()
		st.Data, st.Zero = make([]byte, f.size), nil
		gaps, err = f.local(f.layers, st.Data, 0)
		return st, gaps, f.src.Base, nil, err
	}
	if f.size > 0 {
		if err := f.spillAll(); err != nil {
			return State{}, nil, nil, nil, err
		}
	}
	st = f.state()
	if t := f.layers[len(f.layers)-1]; t.mem == nil {
		if err := stamp(t.name, f.ctime); err != nil {
			return State{}, nil, nil, nil, err
		}
	}
	for _, l := range f.layers {
		if !durable || l.mem != nil || l.synced == l.writes && l.named {
			continue
		}
		h, e := f.dir.use(l)
		if e != nil {
			err = fmt.Errorf("sync staging file: %w", e)
			break
		}
		todo = append(todo, pending{l, h, l.writes, l.named})
	}
	return st, nil, nil, todo, err
}

func (f *File) inMemory() bool {
	for _, l := range f.layers {
		if l.mem == nil {
			return false
		}
	}
	return true
}

// spillAll moves what is in memory to files. A layer that holds nothing needs none.
func (f *File) spillAll() error {
	for i, l := range f.layers {
		if l.mem == nil || l.data.n == 0 && i < len(f.layers)-1 {
			continue
		}
		size := l.size
		if !l.frozen {
			size = f.size
		}
		if l.data.n == 0 && !l.frozen {
			continue
		}
		if err := l.spill(f.dir, f.ino, size, f.ctime); err != nil {
			return err
		}
	}
	return nil
}

// stamp gives a staging file the time of the last change: a later one tells of a write that no state knows of.
func stamp(name string, ctime int64) error {
	at := time.Unix(0, ctime)
	if err := os.Chtimes(name, at, at); err != nil {
		return fmt.Errorf("stamp staging file: %w", err)
	}
	return nil
}

// flush syncs staging files, and the directory when it has new ones. No lock but save is held.
func (f *File) flush(todo []pending) error {
	var err error
	newNames := false
	for _, p := range todo {
		if e := unix.Fdatasync(int(p.h.f.Fd())); e != nil && err == nil {
			err = fmt.Errorf("sync staging file: %w", e)
		}
		newNames = newNames || !p.named
	}
	if err == nil && newNames {
		if e := f.dir.sync(); e != nil {
			err = fmt.Errorf("sync staging directory: %w", e)
		}
	}
	f.mu.Lock()
	for _, p := range todo {
		if err == nil {
			p.l.synced, p.l.named = p.writes, true
		}
	}
	f.mu.Unlock()
	for _, p := range todo {
		f.dir.done(p.h)
	}
	return err
}

// Recover finds a file again after a restart. src is the base that its state was written over.
func (d *Dir) Recover(ino uint64, st State, src Source) (*File, error) {
	f := &File{dir: d, ino: ino, src: src, size: st.Size, mtime: st.Mtime, ctime: st.Ctime, alloc: -1}
	if st.Size < 0 || st.Size > MaxSize || st.Data != nil && int64(len(st.Data)) != st.Size {
		return nil, fmt.Errorf("recover inode %d: state does not fit", ino)
	}
	d.nextGen(st.Gen)
	gens := slices.Clone(d.found[ino])
	slices.Sort(gens)
	if st.Data != nil {
		whole := &layer{gen: 0, frozen: true, mem: map[int64][]byte{}, size: st.Size, mtime: st.Mtime, ctime: st.Ctime}
		whole.memWrite(d, st.Data, 0)
		whole.data.set(0, ceilBlock(st.Size))
		whole.zero = whole.zero.add(0, forever)
		f.layers = append(f.layers, whole)
		f.staged.Store(len(f.layers) > 0)
	}
	for _, g := range gens {
		if g < st.From || g < st.Gen && st.Data != nil || g > st.Gen && !d.sameBoot {
			if err := os.Remove(d.name(ino, g)); err != nil {
				return nil, fmt.Errorf("recover inode %d: %w", ino, err)
			}
			continue
		}
		if err := f.recoverLayer(g, st); err != nil {
			return nil, fmt.Errorf("recover inode %d: %w", ino, err)
		}
	}
	f.placeZero(st)
	for i, l := range f.layers {
		// All are frozen but the last, which goes on.
		l.frozen = i < len(f.layers)-1
		l.part = l.frozen
		l.size, l.mtime, l.ctime = f.size, f.mtime, f.ctime
	}
	if n := len(f.layers); n > 0 {
		// It may have been cut short after the state was taken: what was below that is gone.
		f.layers[n-1].zero = f.layers[n-1].zero.add(f.size, forever)
	}
	return f, nil
}

// recoverLayer reads the map of a staging file and puts it on top.
func (f *File) recoverLayer(gen uint64, st State) error {
	name := f.dir.name(f.ino, gen)
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	l := &layer{gen: gen, name: name, writes: 1, frozen: true}
	fi, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	if gen >= st.Gen {
		if at := fi.ModTime().UnixNano(); f.dir.sameBoot && at > f.ctime { // written after the state was taken
			f.mtime, f.ctime = at, at
		}
		// What was written after the state may be lost with the machine; what was cut off is gone.
		if f.dir.sameBoot || fi.Size() < st.Size {
			f.size = fi.Size()
		} else if fi.Size() > st.Size {
			err = file.Truncate(st.Size)
		}
	}
	for off := int64(0); err == nil; {
		var a, b int64
		if a, err = unix.Seek(int(file.Fd()), off, unix.SEEK_DATA); err != nil {
			if err == unix.ENXIO {
				err = nil
			}
			break
		}
		if b, err = unix.Seek(int(file.Fd()), a, unix.SEEK_HOLE); err == nil {
			l.data.set(a/blockSize, ceilBlock(b))
			off = b
		}
	}
	if err != nil {
		file.Close()
		return err
	}
	f.dir.adopt(l, file)
	f.layers = append(f.layers, l)
	f.staged.Store(len(f.layers) > 0)
	return nil
}

// placeZero gives the zero ranges of the state to the layer of its generation.
func (f *File) placeZero(st State) {
	zero := spansOf(st.Zero)
	for _, l := range f.layers {
		if l.gen == st.Gen {
			l.zero = zero
			return
		}
	}
	// Nothing of that generation was written to a file.
	l := &layer{gen: st.Gen, mem: map[int64][]byte{}, zero: zero}
	at := len(f.layers)
	for at > 0 && f.layers[at-1].gen > st.Gen {
		at--
	}
	f.layers = slices.Insert(f.layers, at, l)
	f.staged.Store(len(f.layers) > 0)
}

// Seek finds the next data (or hole) at or after off, as lseek does: io.EOF when there is none.
func (f *File) Seek(ctx context.Context, off int64, hole bool) (int64, error) {
	at := off / blockSize * blockSize
	start := at // of the hole that at is in, from the first whole block on
	for {
		size, src, who, end := f.locateAt(at)
		if off < 0 || off >= size || at >= size && !hole {
			return 0, io.EOF
		}
		if at >= size {
			return size, nil
		}
		data := who >= 0
		if who == inBase && at < src.Size {
			var err error
			if data, end, err = baseRun(ctx, src, at, min(end, src.Size)); err != nil {
				return 0, err
			}
		}
		switch {
		case data && !hole:
			return max(off, at/blockSize*blockSize), nil
		case data:
			// The block that data ends in is data to its end.
			start = ceilBlock(end) * blockSize
		case hole && (end >= start+blockSize || end == size && start < size):
			return max(off, start), nil
		}
		at = end
	}
}

// locateAt says what holds the byte at off, if it is within the file, and up to where.
func (f *File) locateAt(off int64) (size int64, src Source, who int, end int64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off >= 0 && off < f.size {
		who, end = locate(f.layers, off, f.size)
	}
	return f.size, f.src, who, end
}

// baseRun says whether the base has data at off, and up to where, at most end, that stays so.
func baseRun(ctx context.Context, src Source, off, end int64) (data bool, stop int64, err error) {
	if src.dense() {
		return true, end, nil
	}
	a, err := src.Base.SeekData(ctx, off)
	if err == io.EOF {
		return false, end, nil
	}
	if err != nil {
		return false, 0, fmt.Errorf("find data of base: %w", err)
	}
	if a > off {
		return false, min(a, end), nil
	}
	b, err := src.Base.SeekHole(ctx, off)
	if err == io.EOF || err == nil && b <= off {
		return true, end, nil
	}
	if err != nil {
		return false, 0, fmt.Errorf("find hole of base: %w", err)
	}
	return true, min(b, end), nil
}
