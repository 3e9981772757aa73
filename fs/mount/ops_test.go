package mount

import (
	"sync"
	"testing"
	"time"
)

func TestOperationsAreCountedAndSomeTimed(t *testing.T) {
	m := new(Mount)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 4 * timedEvery {
				m.ops.end(opRead, m.ops.begin(opRead))
			}
		})
	}
	all.Wait()
	m.ops.end(opMkdir, m.ops.begin(opMkdir))
	m.ops.add(opCopy, 300*time.Microsecond)
	m.ops.begin(opCopy)
	m.ops.add(opCopy, time.Minute) // beyond all bounds
	got := map[string]Op{}
	for _, op := range m.Ops() {
		got[op.Name] = op
	}
	if r := got["read"]; r.Count != 16*timedEvery || r.Timed != 16 || r.Took <= 0 {
		t.Errorf("reads: %+v", r)
	}
	if got["mkdir"].Timed != 1 {
		t.Errorf("what is asked for once: %+v", got["mkdir"])
	}
	if c := got["copy"]; c.Buckets[3] != 1 || c.Timed != 2 || c.Took < time.Minute {
		t.Errorf("copies: %+v", c)
	}
	if len(got) != 3 {
		t.Errorf("%d kinds, want 3", len(got))
	}
	for k, name := range opNames {
		if name == "" {
			t.Errorf("kind %d has no name", k)
		}
	}
}

func BenchmarkCountingAnOperation(b *testing.B) {
	m := new(Mount)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.ops.end(opRead, m.ops.begin(opRead))
		}
	})
}
