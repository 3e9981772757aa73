package syncer

import (
	"time"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Stats is what status tells of a folder.
type Stats struct {
	Files, Bytes uint64
	Conflicts    uint64 // names of conflict copies
	Pending      uint64 // names and files changed here and not cut yet
	Waiting      uint64 // names and files changed by others and not shown yet
	NoRoom       bool   // for what others write
	Returning    bool   // begun anew, and waiting for a member that makes it complete
}

// counted is the last count of the tree: it costs a scan of all rows.
type counted struct {
	index.Counts
	at     time.Time
	took   time.Duration
	commit uint64
}

// Stats counts what is in the folder. Of a large folder that changes all the
// time, the count may be some seconds old.
func (f *Folder) Stats() (Stats, error) {
	f.mu.Lock()
	last, commit := f.counted, f.commits
	f.mu.Unlock()
	if last.at.IsZero() || last.commit != commit && time.Since(last.at) > 20*last.took {
		start := time.Now()
		c, err := f.ix.Count()
		if err != nil {
			return Stats{}, err
		}
		last = counted{Counts: c, at: time.Now(), took: time.Since(start), commit: commit}
		f.mu.Lock()
		f.counted = last
		f.mu.Unlock()
	}
	s := Stats{Files: last.Files, Bytes: last.Bytes, Conflicts: last.Conflicts}
	f.mu.Lock()
	s.NoRoom = f.cramped
	f.mu.Unlock()
	f.apply.Lock()
	defer f.apply.Unlock()
	s.Pending, s.Waiting, s.Returning = uint64(f.ix.Pending()), uint64(f.ix.Waiting()), f.ix.Returning()
	return s, nil
}

// Replica is this database's own name among the authors of changes.
func (f *Folder) Replica() model.Replica { return f.ix.Replica() }

// LogSize is the number of batches and of bytes in the log.
func (f *Folder) LogSize() (n int, bytes int64, err error) { return f.ix.LogSize() }
