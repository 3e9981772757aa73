package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var dirFiles = flag.Int("files", 20_000, "how many files Directory makes")

// maxDirRSS is what the daemon may take for a directory of a million files, in
// MiB.
const maxDirRSS = 500

// BenchmarkDirectory makes files in one directory, lists and stats them by a
// daemon that was started anew, and removes them all; and prints how many of each
// a second, and the largest memory of the daemons. It fails if that is too much.
func BenchmarkDirectory(b *testing.B) {
	for range b.N {
		p := newAlone(b)
		dir, n := filepath.Join(p.mounts[0], "dir"), *dirFiles
		must(b, os.Mkdir(dir, 0o755))
		name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("file-%08d", i*7919%n)) }
		var most float64
		rate := func(unit string, do func(b *testing.B)) {
			begun := time.Now()
			do(b)
			took := time.Since(begun)
			b.ReportMetric(float64(n)/took.Seconds(), unit+"/s")
			rss := p.peak(b)
			most = max(most, rss)
			b.Logf("%s: %d in %v, peak of the daemon %.0f MiB", unit, n, took.Round(time.Millisecond), rss)
		}
		rate("create", func(b *testing.B) {
			for i := range n {
				fd, err := unix.Open(name(i), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
				must(b, err)
				must(b, unix.Close(fd))
			}
		})
		rate("wait", func(b *testing.B) { p.run(b, 0, "wait", "bench", "--timeout", "30m") })
		p.stop(b, 0)
		p.start(b, 0)
		rate("list", func(b *testing.B) {
			f, err := os.Open(dir)
			must(b, err)
			names, err := f.Readdirnames(-1)
			must(b, err)
			must(b, f.Close())
			if len(names) != n {
				b.Fatalf("%d names, want %d", len(names), n)
			}
		})
		rate("stat", func(b *testing.B) {
			var st unix.Stat_t
			for i := range n {
				must(b, unix.Lstat(name(i), &st))
			}
		})
		rate("remove", func(b *testing.B) {
			for i := range n {
				must(b, unix.Unlink(name(i)))
			}
		})
		must(b, os.Remove(dir))
		rate("cut", func(b *testing.B) { p.run(b, 0, "wait", "bench", "--timeout", "30m") })
		p.stop(b, 0)
		b.ReportMetric(most, "MiB")
		if most > maxDirRSS {
			b.Fatalf("the daemon took %.0f MiB, more than %d", most, maxDirRSS)
		}
	}
}
