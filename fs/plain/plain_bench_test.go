package plain

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

var benchFiles = flag.Int("files", 10_000, "how many files BenchmarkFirstScan has")

// BenchmarkFirstScan takes in a directory that is full, of files of 1 to 8 kB, a hundred to a
// directory.
func BenchmarkFirstScan(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, 1)
		m := w.members[0]
		r := rand.NewChaCha8([32]byte{})
		for i := range *benchFiles {
			if i%100 == 0 {
				must(b, os.MkdirAll(m.path(fmt.Sprint(i/100)), 0o755))
			}
			data := make([]byte, 1000+r.Uint64()%7000)
			r.Read(data)
			must(b, os.WriteFile(m.path(fmt.Sprint(i/100), fmt.Sprint(i)), data, 0o644))
		}
		b.StartTimer()
		m.start()
		for {
			st, err := m.folder.Stats()
			must(b, err)
			if int(st.Files) == *benchFiles && st.Pending == 0 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		b.StopTimer()
		m.end()
		b.StartTimer()
	}
}
