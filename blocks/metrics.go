package blocks

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// A DBMetric tells how one of the two instances of Pebble does. What is counted
// is so since it was opened.
type DBMetric struct {
	Bytes       uint64 // on the disk
	Tables      int64
	ReadAmp     int // tables that a read may have to look into
	Flushes     int64
	Compactions int64
	Compacting  int64  // now
	Debt        uint64 // bytes to be compacted until it rests
	MemTables   uint64 // bytes
	LogBytes    uint64 // of the write-ahead log, on the disk
	LogWritten  uint64 // bytes
	CacheBytes  int64
	CacheHits   int64
	CacheMisses int64
}

// Metrics tells how meta and the packs do.
func (d *Disk) Metrics() (meta, packs DBMetric) {
	return metricOf(d.meta.Metrics()), metricOf(d.blocks.Metrics())
}

func metricOf(m *pebble.Metrics) DBMetric {
	total := m.Total()
	return DBMetric{
		Bytes: m.DiskSpaceUsage(), Tables: total.TablesCount, ReadAmp: m.ReadAmp(),
		Flushes: m.Flush.Count, Compactions: m.Compact.Count, Compacting: m.Compact.NumInProgress, Debt: m.Compact.EstimatedDebt,
		MemTables: m.MemTable.Size, LogBytes: m.WAL.PhysicalSize, LogWritten: m.WAL.BytesWritten,
		CacheBytes: m.BlockCache.Size, CacheHits: m.BlockCache.Hits, CacheMisses: m.BlockCache.Misses,
	}
}

// A Space tells what a store takes on the disk.
type Space struct {
	Packs   int
	Bytes   int64 // in packs
	Small   int64 // bytes in small rows
	Garbage int64 // bytes in packs that no row named when the last sweep ended; 0: none has yet
}

// Space tells what the store takes.
func (s *Store) Space() (Space, error) {
	packs, err := s.packRows()
	if err != nil {
		return Space{}, fmt.Errorf("read pack table: %w", err)
	}
	sp := Space{Packs: len(packs), Small: s.small.Load(), Garbage: s.garbage.Load()}
	for _, row := range packs {
		sp.Bytes += int64(row.bytes)
	}
	return sp, nil
}

// countGarbage sees what a sweep has left that is named by nobody.
func (s *Store) countGarbage(m *Marks) error {
	packs, err := s.packRows()
	if err != nil {
		return err
	}
	var dead uint64
	for p, row := range packs {
		if _, marked := m.packs[p]; marked && row.blocks > 0 {
			dead += row.bytes * uint64(row.blocks-m.live(p)) / uint64(row.blocks)
		}
	}
	s.garbage.Store(int64(dead))
	return nil
}
