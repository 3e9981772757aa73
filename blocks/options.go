package blocks

import (
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// DiskOptions are the few things about a Disk that callers choose. The zero
// value is right for a daemon.
type DiskOptions struct {
	Log        *slog.Logger // nil: slog.Default()
	MetaCache  int64        // bytes of block cache for meta; 0: 96 MiB
	BlockCache int64        // bytes of block cache for packs; 0: 64 MiB
	MemTable   int          // bytes of a memtable of meta; 0: 16 MiB, less on a small disk
	Pending    int64        // bytes of blocks in memory, all folders together; 0: 32 MiB
	Beside     []string     // files and directories of others in the directory, which its format and checkpoints cover
	Steps      []Step       // nil: those there are; the last one leads to the format of this program

	// Fatal is called, and must not return, when what was promised cannot be
	// kept: nothing can be written any more. Nil: the process ends, with status 1.
	Fatal func(msg string)
}

// pebbleFormat is pinned: a new Pebble must not change what is on the disk by
// itself. A higher one comes with a Step, which asks the databases for it.
const pebbleFormat = pebble.FormatValueSeparation

func (o *DiskOptions) defaults(total int64) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MetaCache == 0 {
		o.MetaCache = 96 << 20
	}
	if o.BlockCache == 0 {
		o.BlockCache = 64 << 20
	}
	if o.MemTable == 0 { // the log may grow to a few memtables
		o.MemTable = int(min(16<<20, max(1<<20, total/64)))
	}
	if o.Pending == 0 {
		o.Pending = 32 << 20
	}
	o.Pending = max(o.Pending, 2*slabSize)
	if o.Steps == nil {
		o.Steps = steps
	}
	if o.Fatal == nil {
		o.Fatal = func(string) { os.Exit(1) }
	}
}

// metaOptions are for what is small and may never be lost.
func metaOptions(fs vfs.FS, o DiskOptions, l *pebble.EventListener) *pebble.Options {
	p := &pebble.Options{
		FS:                          fs,
		FormatMajorVersion:          pebbleFormat,
		CacheSize:                   o.MetaCache, // memtables are taken out of it
		MemTableSize:                uint64(o.MemTable),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                1000,
		BytesPerSync:                1 << 20,
		WALBytesPerSync:             1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		FlushDelayDeleteRange:       10 * time.Second,
		Logger:                      logger{o.Log.With("db", "meta"), o.Fatal},
		EventListener:               l,
	}
	p.Experimental.CompactionScheduler = &scheduler{}
	for i := range p.Levels {
		p.Levels[i].BlockSize = 8 << 10
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
	}
	return p
}

// blockOptions are for packs: ingested, never compacted, compressed by us.
func blockOptions(fs vfs.FS, o DiskOptions, l *pebble.EventListener) *pebble.Options {
	p := &pebble.Options{
		FS:                         checkedFS{fs},
		FormatMajorVersion:         pebbleFormat,
		CacheSize:                  o.BlockCache,
		MemTableSize:               1 << 20, // nothing is written through it
		MaxOpenFiles:               2000,
		BytesPerSync:               4 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		Logger:                     logger{o.Log.With("db", "blocks"), o.Fatal},
		EventListener:              l,
	}
	p.Experimental.CompactionScheduler = &scheduler{}
	for i := range p.Levels {
		p.Levels[i].BlockSize = 32 << 10 // a larger block has an sstable block, and a read, to itself
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	return p
}

// listener makes events of Pebble lines of the log: its defaults end the
// process on a damaged sstable. stalled is told of failed background work.
func listener(log *slog.Logger, db string, stalled func(error)) *pebble.EventListener {
	log = log.With("db", db)
	var seldom seldom
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			stalled(err)
			if seldom.ok() { // a failing flush is tried a hundred times a second
				log.Error("background work failed", "err", err.Error()) // else slog prints its stack
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			log.Error("damaged table", "file", i.Path, "err", i.Details.Error())
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			if seldom.ok() {
				log.Warn("slow disk", "file", i.Path, "op", i.OpType.String(), "took", i.Duration)
			}
		},
		LowDiskSpace: func(i pebble.LowDiskSpaceInfo) {
			log.Warn("low disk space", "free", i.AvailBytes, "total", i.TotalBytes)
		},
		PossibleAPIMisuse: func(i pebble.PossibleAPIMisuseInfo) {
			log.Warn("possible misuse", "info", i.String())
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			log.Warn("writes stalled", "reason", i.Reason)
		},
	}
}

// seldom lets one event through in a second.
type seldom struct{ last atomic.Int64 }

func (s *seldom) ok() bool {
	now, last := time.Now().UnixNano(), s.last.Load()
	return now-last >= int64(time.Second) && s.last.CompareAndSwap(last, now)
}

// logger writes the log of Pebble to slog.
type logger struct {
	log   *slog.Logger
	fatal func(msg string)
}

func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf must not return: Pebble calls it when it can no longer keep what it
// has promised, and would go on as if nothing had happened. Nor is it a panic,
// which somebody may recover from, with locks held.
func (l logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.log.Error("the disk cannot be written any more: see to it, then start again", "err", msg)
	l.fatal(msg)
	panic("blocks: " + msg)
}
