package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A pair is two daemons that share a folder.
type pair struct {
	bin     string
	homes   [2]string
	mounts  [2]string
	daemons [2]*exec.Cmd
}

func newPair(b *testing.B) *pair {
	b.Helper()
	p := newAlone(b)
	p.start(b, 1)
	ticket := p.run(b, 0, "invite", "bench")
	p.run(b, 1, "join", ticket, p.mounts[1])
	p.run(b, 0, "wait", "bench", "--on", "all", "--timeout", "30s")
	return p
}

// newAlone is the first of a pair, with the folder mounted.
func newAlone(b *testing.B) *pair {
	b.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		b.Skip("needs root and /dev/fuse")
	}
	dir := b.TempDir()
	p := &pair{bin: filepath.Join(dir, "clachan")}
	if out, err := exec.Command("go", "build", "-o", p.bin, "../../cmd/clachan").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	for i := range p.homes {
		p.homes[i] = filepath.Join(dir, fmt.Sprint("home", i))
		p.mounts[i] = filepath.Join(dir, fmt.Sprint("mount", i))
	}
	p.start(b, 0)
	p.run(b, 0, "init", "bench", "--at", p.mounts[0])
	return p
}

// stop ends a daemon as its user would.
func (p *pair) stop(b *testing.B, i int) {
	b.Helper()
	p.daemons[i].Process.Signal(os.Interrupt)
	if err := p.daemons[i].Wait(); err != nil {
		b.Fatalf("daemon %d: %v", i, err)
	}
	p.daemons[i] = nil
}

func (p *pair) start(b *testing.B, i int) {
	b.Helper()
	cmd := exec.Command(p.bin, "daemon", "--listen", "127.0.0.1:0", "--no-discovery")
	cmd.Env = append(os.Environ(), "CLACHAN_HOME="+p.homes[i])
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	p.daemons[i] = cmd
	b.Cleanup(func() {
		if p.daemons[i] == cmd {
			p.stop(b, i)
		}
	})
	for s := bufio.NewScanner(out); s.Scan(); {
		if s.Text() == "ready" {
			return
		}
	}
	b.Fatalf("daemon %d did not get ready", i)
}

func (p *pair) run(b *testing.B, i int, args ...string) string {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.bin, args...)
	cmd.Env = append(os.Environ(), "CLACHAN_HOME="+p.homes[i])
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("clachan %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// peak is the largest resident memory of the daemons so far, in MiB.
func (p *pair) peak(b *testing.B) float64 {
	var most float64
	for _, d := range p.daemons {
		if d == nil {
			continue
		}
		s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		for line := range strings.Lines(string(s)) {
			var kib float64
			if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
				most = max(most, kib/1024)
			}
		}
	}
	return most
}

func median(ds []time.Duration) float64 {
	slices.Sort(ds)
	return float64(ds[len(ds)/2]) / float64(time.Millisecond)
}

func BenchmarkEditLatency(b *testing.B) {
	p := newPair(b)
	var took []time.Duration
	for range b.N {
		for i := range 20 {
			time.Sleep(300 * time.Millisecond) // both idle: what is measured begins after it
			text := fmt.Sprintf("%099d\n", i)
			start := time.Now()
			if err := os.WriteFile(p.mounts[0]+"/edit", []byte(text), 0o644); err != nil {
				b.Fatal(err)
			}
			for {
				if got, err := os.ReadFile(p.mounts[1] + "/edit"); err == nil && string(got) == text {
					break
				}
				if time.Since(start) > 10*time.Second {
					b.Fatal("the edit does not arrive")
				}
				time.Sleep(200 * time.Microsecond)
			}
			took = append(took, time.Since(start))
		}
	}
	b.ReportMetric(median(took), "ms/edit")
	b.ReportMetric(float64(took[len(took)-1])/1e6, "ms-max")
}

// copyAll copies with cp, waits until the other side has it, and reports.
func copyAll(b *testing.B, p *pair, src string) {
	var copied, done []time.Duration
	for i := range b.N {
		start := time.Now()
		if out, err := exec.Command("cp", "-a", src, fmt.Sprint(p.mounts[0], "/copy", i)).CombinedOutput(); err != nil {
			b.Fatalf("cp: %v\n%s", err, out)
		}
		copied = append(copied, time.Since(start))
		p.run(b, 0, "wait", "bench", "--on", "all", "--timeout", "9m")
		done = append(done, time.Since(start))
		if out, err := exec.Command("diff", "-r", src, fmt.Sprint(p.mounts[1], "/copy", i)).CombinedOutput(); err != nil {
			b.Fatalf("the copy differs: %v\n%s", err, out)
		}
	}
	b.ReportMetric(median(copied), "ms-copied")
	b.ReportMetric(median(done), "ms-synced")
	b.ReportMetric(p.peak(b), "MiB-peak")
}

func BenchmarkCopyTree(b *testing.B) {
	p := newPair(b)
	src := b.TempDir()
	for i := range 2000 {
		dir := fmt.Sprintf("%s/d%d", src, i/50)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		writeRandom(b, fmt.Sprintf("%s/f%d", dir, i), 4<<10)
	}
	b.ResetTimer()
	copyAll(b, p, src)
}

func BenchmarkBigFile(b *testing.B) {
	p := newPair(b)
	src := filepath.Join(b.TempDir(), "big")
	writeRandom(b, src, 1<<30)
	b.ResetTimer()
	copyAll(b, p, src)
}

func writeRandom(b *testing.B, path string, n int) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for n > 0 {
		k := min(n, len(buf))
		rand.Read(buf[:k])
		if _, err := f.Write(buf[:k]); err != nil {
			b.Fatal(err)
		}
		n -= k
	}
}
