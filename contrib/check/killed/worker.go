package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	slots   = 6
	sizeMax = 300 << 10
)

// A slot is a name, and what may stand under it after a crash: the first is what
// was acknowledged, the others are what each call since has made, or was about to
// make. A nil one is no file.
type slot struct {
	name   string
	images []*image
	torn   bool     // the last of them is of a write that may have gone half way
	past   []string // the last calls
}

const pastMax = 40

func (s *slot) did(format string, args ...any) {
	s.past = append(s.past, fmt.Sprintf(format, args...))
	if len(s.past) > pastMax {
		s.past = s.past[1:]
	}
}

type image struct{ b []byte }

func (s *slot) now() *image { return s.images[len(s.images)-1] }

// may adds what a call is about to make.
func (s *slot) may(x *image) { s.images = append(s.images, x) }

// settle leaves the last of them.
func (s *slot) settle() { s.images = []*image{s.now()} }

// worker is a program.
type worker struct {
	id           int
	dir          string
	rnd          *rand.Rand
	acks         io.Writer
	slots        []*slot
	calls, acked int
}

func newWorker(id int, dir string, seed uint64, acks io.Writer) *worker {
	w := &worker{id: id, dir: dir, rnd: rand.New(rand.NewPCG(seed, 1)), acks: acks}
	for i := range slots {
		w.slots = append(w.slots, &slot{name: filepath.Join(dir, fmt.Sprint("f", i)), images: []*image{nil}})
	}
	return w
}

// dying is how long a process that was killed may take to end.
const dying = 3 * time.Second

// work goes on until the daemon is gone. Only other errors count.
func (w *worker) work() (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for err == nil {
		w.calls++
		err = w.step(w.slots[w.rnd.IntN(slots)])
		if w.rnd.IntN(40) == 0 {
			time.Sleep(time.Duration(w.rnd.IntN(200)) * time.Millisecond) // long enough to be cut
		}
	}
	// The kernel says EIO of what a dying process was just reading.
	for end := time.Now().Add(dying); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var st unix.Statfs_t
		if errors.Is(unix.Statfs(w.dir, &st), syscall.ENOTCONN) {
			return nil
		}
	}
	return fmt.Errorf("worker %d: %w", w.id, err)
}

func (w *worker) step(s *slot) error {
	switch k := w.rnd.IntN(20); {
	case s.now() == nil || k == 0:
		return w.replace(s)
	case k == 1:
		return w.remove(s)
	}
	f, err := os.OpenFile(s.name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for range 1 + w.rnd.IntN(12) {
		if err = w.change(s, f); err != nil {
			break
		}
	}
	if err == nil && w.rnd.IntN(2) == 0 {
		err = w.sync(s, f)
	}
	return errors.Join(err, f.Close())
}

// sync is what acknowledges.
func (w *worker) sync(s *slot, f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	s.settle()
	return w.ack(s)
}

func (w *worker) ack(s *slot) (err error) {
	w.acked++
	s.did("acknowledged")
	at := time.Now().Format("15:04:05.000000")
	if x := s.now(); x == nil {
		_, err = fmt.Fprintf(w.acks, "%s %s none\n", at, s.name)
	} else {
		_, err = fmt.Fprintf(w.acks, "%s %s %d %x\n", at, s.name, len(x.b), sha256.Sum256(x.b))
	}
	return err
}

// syncDir acknowledges the names.
func (w *worker) syncDir() error {
	d, err := os.Open(w.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (w *worker) bytes(n int) []byte {
	b := make([]byte, n)
	v := byte(w.rnd.IntN(256))
	for i := range b {
		b[i] = v + byte(i>>6)
	}
	return b
}

// replace saves the way editors do.
func (w *worker) replace(s *slot) error {
	x := &image{w.bytes(w.rnd.IntN(sizeMax))}
	tmp := s.name + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(x.b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	s.may(x)
	s.did("replace by %d bytes", len(x.b))
	if err := os.Rename(tmp, s.name); err != nil {
		return err
	}
	if err := w.syncDir(); err != nil {
		return err
	}
	s.settle()
	return w.ack(s)
}

func (w *worker) remove(s *slot) error {
	s.may(nil)
	s.did("remove")
	if err := os.Remove(s.name); err != nil {
		return err
	}
	if err := w.syncDir(); err != nil {
		return err
	}
	s.settle()
	return w.ack(s)
}

// change changes an open file in one of the ways that fsx does.
func (w *worker) change(s *slot, f *os.File) error {
	b := s.now().b
	off := w.rnd.IntN(len(b) + 1)
	n := 1 + w.rnd.IntN(min(64<<10, sizeMax-min(off, sizeMax-1)))
	within := min(n, len(b)-off)
	fd := int(f.Fd())
	switch k := w.rnd.IntN(8); {
	case k < 3:
		p := w.bytes(n)
		s.may(&image{put(b, p, off)})
		s.did("write %d at %d", n, off)
		_, err := f.WriteAt(p, int64(off))
		s.torn = err != nil
		return err
	case k == 3:
		size := w.rnd.IntN(sizeMax)
		s.may(&image{cut(b, size)})
		s.did("truncate from %d to %d", len(b), size)
		return f.Truncate(int64(size))
	case k == 4:
		s.may(&image{put(b, make([]byte, within), off)})
		s.did("punch %d at %d", n, off)
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
	case k == 5:
		s.may(&image{put(b, make([]byte, n), off)})
		s.did("zero %d at %d", n, off)
		return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, int64(off), int64(n))
	case k == 6 && within > 0:
		return w.mapped(s, fd, off, within)
	}
	got := make([]byte, len(b))
	if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF {
		return err
	}
	if !slices.Equal(got, b) {
		return fmt.Errorf("%s reads otherwise than written", s.name)
	}
	return nil
}

func (w *worker) mapped(s *slot, fd, off, n int) (err error) {
	b := s.now().b
	m, err := unix.Mmap(fd, 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer func() {
		if recover() != nil {
			err = errors.New("a mapped page cannot be read") // when the daemon is gone
		}
		err = errors.Join(err, unix.Munmap(m))
	}()
	p := w.bytes(n)
	s.may(&image{put(b, p, off)})
	s.did("mapped write of %d at %d", n, off)
	copy(m[off:], p)
	return unix.Msync(m, unix.MS_SYNC)
}

// put is b with p at off.
func put(b, p []byte, off int) []byte {
	out := cut(b, max(len(b), off+len(p)))
	copy(out[off:], p)
	return out
}

// cut is b with another size.
func cut(b []byte, size int) []byte {
	out := make([]byte, size)
	copy(out, b)
	return out
}

// verify looks at each file after a crash, and goes on from what is there.
func (w *worker) verify() error {
	for _, s := range w.slots {
		var x *image
		b, err := os.ReadFile(s.name)
		switch {
		case err == nil:
			x = &image{b}
		case !errors.Is(err, os.ErrNotExist):
			return err
		}
		if err := s.allows(x); err != nil {
			return fmt.Errorf("%s: %w; the last calls: %s", s.name, err, strings.Join(s.past, "; "))
		}
		s.images, s.torn = []*image{x}, false
		s.did("killed")
		os.Remove(s.name + ".tmp")
	}
	return nil
}

// allows says why a file cannot be what a crash left.
func (s *slot) allows(x *image) error {
	if x == nil {
		if !slices.Contains(s.images, nil) {
			return errors.New("is lost")
		}
		return nil
	}
	was := slices.DeleteFunc(slices.Clone(s.images), func(y *image) bool { return y == nil })
	// The kernel ends the daemon's own write between two pages.
	n := len(was)
	half := s.torn && n > 1 && len(was[n-2].b) < len(x.b) && len(x.b) < len(was[n-1].b)
	if !half && !slices.ContainsFunc(was, func(y *image) bool { return len(y.b) == len(x.b) }) {
		return fmt.Errorf("has %d bytes, as at no time since it was acknowledged", len(x.b))
	}
	for i, c := range x.b {
		// What a file grows by is zero until it is written.
		if !slices.ContainsFunc(was, func(y *image) bool { return i < len(y.b) && y.b[i] == c || i >= len(y.b) && c == 0 }) {
			return fmt.Errorf("byte %d is %#x, as at no time since it was acknowledged", i, c)
		}
	}
	return nil
}
