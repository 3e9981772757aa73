package blocks

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// instance is one of Pebble in which compactions wait.
type instance struct {
	mu                        sync.Mutex
	allowed, waiting, started int
}

func (d *instance) GetAllowedWithoutPermission() int { return d.allowed }

func (d *instance) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting > 0, pebble.WaitingCompaction{}
}

func (d *instance) Schedule(pebble.CompactionGrantHandle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting--
	d.started++
	return true
}

func TestCompactionsRunAsFarAsTheyMay(t *testing.T) {
	d := &instance{allowed: 2, waiting: 3}
	s := &scheduler{}
	s.Register(1, d)
	for i := range 3 {
		if ok, _ := s.TrySchedule(); ok != (i < 2) {
			t.Fatalf("the %d. may run: %v", i+1, ok)
		}
	}
	s.Done() // one of those that wait takes its place
	if d.started != 1 {
		t.Errorf("%d started", d.started)
	}
	d.allowed = 3
	s.grantSome()
	if d.started != 2 {
		t.Errorf("%d started when more may run", d.started)
	}
	s.Unregister()
	s.Done()
	if ok, _ := s.TrySchedule(); ok || d.started != 2 {
		t.Error("a compaction runs in an instance that is closed")
	}
}

func TestManyFlushesAreCompacted(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	for i := range uint64(40) {
		check(t, d.Meta().Set(rowKey(1, i%7), random(i, 100_000), pebble.NoSync))
		check(t, d.Meta().Flush())
	}
	check(t, d.Meta().Compact(t.Context(), []byte{0}, []byte{255}, false))
	if n := d.Meta().Metrics().Levels[0].TablesCount; n > 8 {
		t.Errorf("%d tables wait in level 0", n)
	}
}
