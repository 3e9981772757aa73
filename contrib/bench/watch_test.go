package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An ear hears what inotify tells of one directory: when each kind of event first came for a name.
type ear struct {
	f  *os.File
	mu sync.Mutex // guards at
	at map[heard]time.Time
}

type heard struct {
	bit  uint32
	name string
}

func listen(b *testing.B, dir string) *ear {
	b.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MODIFY|unix.IN_CLOSE_WRITE|unix.IN_MOVE|unix.IN_DELETE|unix.IN_ATTRIB)
	}
	if err != nil {
		b.Fatal(err)
	}
	e := &ear{f: os.NewFile(uintptr(fd), "inotify"), at: map[heard]time.Time{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 64<<10); ; {
			n, err := e.f.Read(buf)
			if err != nil {
				return
			}
			e.hear(buf[:n])
		}
	}()
	b.Cleanup(func() { e.f.Close(); <-done })
	return e
}

func (e *ear) hear(p []byte) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(p) >= unix.SizeofInotifyEvent {
		bit, n := binary.NativeEndian.Uint32(p[4:]), binary.NativeEndian.Uint32(p[12:])
		name, _, _ := bytes.Cut(p[unix.SizeofInotifyEvent:][:n], []byte{0})
		h := heard{bit &^ unix.IN_ISDIR, string(name)}
		if _, again := e.at[h]; !again {
			e.at[h] = now
		}
		p = p[unix.SizeofInotifyEvent+n:]
	}
}

func (e *ear) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.at)
}

// when returns when all were heard, the last of them.
func (e *ear) when(want []heard) (at time.Time, all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range want {
		t, ok := e.at[h]
		if !ok {
			return time.Time{}, false
		}
		if t.After(at) {
			at = t
		}
	}
	return at, true
}

// How long after a change of a peer can be seen does who watches hear of it, and how often does it: of 100 each.
func BenchmarkWatchers(b *testing.B) {
	p := newPair(b)
	a, m := p.mounts[0]+"/", p.mounts[1]+"/"
	e := listen(b, p.mounts[1])
	size := func(n int64) func(string) bool {
		return func(name string) bool { fi, err := os.Lstat(m + name); return err == nil && fi.Size() == n }
	}
	there := func(name string) bool { _, err := os.Lstat(m + name); return err == nil }
	gone := func(name string) bool { return !there(name) }
	const rounds = 100
	after := map[string][]time.Duration{}
	missed := map[string]int{}
	for range b.N {
		for i := range rounds {
			f, g, d := fmt.Sprint("f", i), fmt.Sprint("g", i), fmt.Sprint("d", i)
			for _, x := range []struct {
				kind string
				do   func() error
				name string
				seen func(string) bool
				want []heard
			}{
				{"create", func() error { return os.WriteFile(a+f, []byte("1"), 0o644) }, f, there, []heard{{unix.IN_CREATE, f}}},
				{"modify", func() error { return os.WriteFile(a+f, []byte("22"), 0o644) }, f, size(2), []heard{{unix.IN_MODIFY, f}}},
				{"close-write", func() error { return os.WriteFile(a+f, []byte("333"), 0o644) }, f, size(3), []heard{{unix.IN_CLOSE_WRITE, f}}},
				{"attrib", func() error { return os.Chmod(a+f, 0o600) }, f, func(n string) bool {
					fi, err := os.Lstat(m + n)
					return err == nil && fi.Mode().Perm() == 0o600
				}, []heard{{unix.IN_ATTRIB, f}}},
				{"rename", func() error { return os.Rename(a+f, a+g) }, g, there, []heard{{unix.IN_MOVED_FROM, f}, {unix.IN_MOVED_TO, g}}},
				{"delete", func() error { return os.Remove(a + g) }, g, gone, []heard{{unix.IN_DELETE, g}}},
				{"mkdir", func() error { return os.Mkdir(a+d, 0o755) }, d, there, []heard{{unix.IN_CREATE, d}}},
				{"rmdir", func() error { return os.Remove(a + d) }, d, gone, []heard{{unix.IN_DELETE, d}}},
			} {
				e.forget()
				if err := x.do(); err != nil {
					b.Fatal(err)
				}
				start, visible := time.Now(), time.Time{}
				var at time.Time
				for ok := false; !ok || visible.IsZero(); time.Sleep(200 * time.Microsecond) {
					if visible.IsZero() && x.seen(x.name) {
						visible = time.Now()
					}
					if at, ok = e.when(x.want); time.Since(start) > 10*time.Second {
						break
					}
				}
				if at.IsZero() || visible.IsZero() {
					missed[x.kind]++
				}
				after[x.kind] = append(after[x.kind], max(0, at.Sub(visible)))
			}
		}
	}
	var lost, worst float64
	var lines []string
	for kind, ds := range after {
		med := median(ds)
		lines = append(lines, fmt.Sprintf("%-11s heard %d of %d, median %.2f ms, longest %.2f ms",
			kind, len(ds)-missed[kind], len(ds), med, float64(ds[len(ds)-1])/1e6))
		lost += float64(missed[kind])
		worst = max(worst, med)
	}
	slices.Sort(lines)
	b.Log("\n" + strings.Join(lines, "\n"))
	b.ReportMetric(lost, "missed")
	b.ReportMetric(worst, "ms-median-max")
}
