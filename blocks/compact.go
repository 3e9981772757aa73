package blocks

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// A scheduler lets an instance of Pebble run as many compactions as it asks for.
// That of Pebble also looks ten times a second whether that has become more, which
// would be most of what an idle daemon does; this one looks when it is told.
type scheduler struct {
	db    pebble.DBForCompaction // since Register
	grant sync.Mutex             // held while compactions that wait are granted; before mu

	mu      sync.Mutex // guards what follows; taken with locks of the instance held
	running int
	over    bool
}

var (
	_ pebble.CompactionScheduler   = (*scheduler)(nil)
	_ pebble.CompactionGrantHandle = (*scheduler)(nil)
)

// Register implements pebble.CompactionScheduler.
func (s *scheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister implements pebble.CompactionScheduler.
func (s *scheduler) Unregister() {
	s.grant.Lock() // nothing is granted any more when it returns
	defer s.grant.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// TrySchedule implements pebble.CompactionScheduler.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !s.take() {
		return false, nil
	}
	return true, s
}

// take counts one more compaction, if it may run.
func (s *scheduler) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.running >= s.db.GetAllowedWithoutPermission() {
		return false
	}
	s.running++
	return true
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler: a flush
// has ended, and more may be allowed. Its caller holds locks of the instance.
func (s *scheduler) UpdateGetAllowedWithoutPermission() { go s.grantSome() }

// grantSome runs what waits, as far as that is allowed.
func (s *scheduler) grantSome() {
	s.grant.Lock()
	defer s.grant.Unlock()
	for s.take() {
		waiting, _ := s.db.GetWaitingCompaction()
		if !waiting || !s.db.Schedule(s) {
			s.give()
			return
		}
	}
}

func (s *scheduler) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}

// Done implements pebble.CompactionGrantHandle.
func (s *scheduler) Done() {
	s.give()
	s.grantSome()
}

// Started implements pebble.CompactionGrantHandle.
func (*scheduler) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (*scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (*scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}
