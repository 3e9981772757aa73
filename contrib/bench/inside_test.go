package bench

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// How long does a copy of a file take that is made in the folder: with cp, which has the blocks shared, byte by byte,
// and on the disk below; and until the other side has it.
func BenchmarkCopyInside(b *testing.B) {
	p := newPair(b)
	const size = 256 << 20
	big := p.mounts[0] + "/big"
	writeRandom(b, big, size)
	p.run(b, 0, "wait", "bench", "--on", "all", "--timeout", "5m")
	native := filepath.Join(b.TempDir(), "big")
	writeRandom(b, native, size)
	took := map[string][]time.Duration{}
	timed := func(what string, do func()) {
		start := time.Now()
		do()
		took[what] = append(took[what], time.Since(start))
	}
	cp := func(how, from, to string) {
		if out, err := exec.Command("cp", how, from, to).CombinedOutput(); err != nil {
			b.Fatalf("cp: %v\n%s", err, out)
		}
	}
	synced := func() { p.run(b, 0, "wait", "bench", "--on", "all", "--timeout", "5m") }
	for range b.N * 5 {
		timed("shared-synced", func() {
			timed("shared", func() { cp("--reflink=auto", big, big+".1") })
			synced()
		})
		timed("bytes-synced", func() {
			timed("bytes", func() { cat(b, big, big+".2") })
			synced()
		})
		timed("native", func() { cp("--reflink=auto", native, native+".1") })
		want, err := os.ReadFile(big)
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range []string{"/big.1", "/big.2"} {
			if got, err := os.ReadFile(p.mounts[1] + name); err != nil || !bytes.Equal(got, want) {
				b.Fatalf("%s differs: %v", name, err)
			}
			os.Remove(p.mounts[0] + name)
		}
		os.Remove(native + ".1")
		synced()
	}
	for what, ds := range took {
		b.ReportMetric(median(ds), "ms-"+what)
	}
}

// cat copies by read and write alone.
func cat(b *testing.B, from, to string) {
	b.Helper()
	r, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	for buf := make([]byte, 1<<20); ; {
		n, err := r.Read(buf)
		if err == io.EOF {
			return
		}
		if err == nil {
			_, err = w.Write(buf[:n])
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
