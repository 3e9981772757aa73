package bench

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A sleeper watches a directory and reads nothing until it is asked.
type sleeper int

func sleepOn(b *testing.B, dir string) sleeper {
	b.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, dir, unix.IN_ALL_EVENTS)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	return sleeper(fd)
}

// wakes returns how many events have waited, and whether some were lost.
func (s sleeper) wakes(b *testing.B) (events int, lost bool) {
	b.Helper()
	for buf := make([]byte, 64<<10); ; {
		n, err := unix.Read(int(s), buf)
		if err == unix.EAGAIN {
			return events, lost
		}
		if err != nil {
			b.Fatal(err)
		}
		for p := buf[:n]; len(p) >= unix.SizeofInotifyEvent; events++ {
			lost = lost || binary.NativeEndian.Uint32(p[4:])&unix.IN_Q_OVERFLOW != 0
			p = p[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(p[12:]):]
		}
	}
}

// What does it cost to be heard? 10,000 files come into a directory that is watched on the other side, by one who
// reads its events and one who does not, and into one that nobody there has looked at, in turns.
func BenchmarkBulk(b *testing.B) {
	p := newPair(b)
	const files, turns = 10000, 5
	var took [2][]time.Duration
	var most int
	var overflows float64
	n := 0
	turn := func(watched bool) time.Duration {
		n++
		dir := fmt.Sprint("/bulk", n)
		if err := os.Mkdir(p.mounts[0]+dir, 0o755); err != nil {
			b.Fatal(err)
		}
		p.run(b, 0, "wait", "bench", "--on", "all", "--timeout", "1m")
		var s sleeper
		var e *ear
		if watched {
			e, s = listen(b, p.mounts[1]+dir), sleepOn(b, p.mounts[1]+dir)
		}
		start := time.Now()
		for i := range files {
			if err := os.WriteFile(fmt.Sprint(p.mounts[0], dir, "/", i), fmt.Append(nil, n, i), 0o644); err != nil {
				b.Fatal(err)
			}
		}
		p.run(b, 0, "wait", "bench", "--on", "all", "--timeout", "5m")
		done := time.Since(start)
		if !watched {
			return done
		}
		for last := 0; ; time.Sleep(2 * time.Second) { // until it is still
			if k := e.count(); k > 0 && k == last {
				break
			} else {
				last = k
			}
		}
		k, lost := s.wakes(b)
		if most = max(most, k); lost {
			overflows++
		}
		if ents, err := os.ReadDir(p.mounts[1] + dir); err != nil || len(ents) != files {
			b.Fatalf("%d files, %v", len(ents), err)
		}
		return done
	}
	turn(true) // both are warm
	turn(false)
	for range b.N * turns {
		for w, watched := range []bool{false, true} {
			took[w] = append(took[w], turn(watched))
		}
	}
	b.Log("unwatched ", took[0], " watched ", took[1])
	alone, heard := median(took[0]), median(took[1])
	b.ReportMetric(alone, "ms-unwatched")
	b.ReportMetric(heard, "ms-watched")
	b.ReportMetric(100*(heard/alone-1), "%-slower")
	b.ReportMetric(float64(most), "events-waiting")
	b.ReportMetric(overflows, "overflows")
}
