package metrics

import (
	"strconv"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/prometheus/client_golang/prometheus"
)

const prefix = "clachan_"

// A metric tells one number of an X, such as a folder.
type metric[X any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(X) (v float64, known bool)
}

// gauge tells what goes up and down.
func gauge[X any, N ~int | ~int64 | ~uint64 | ~float64](name, help string, labels []string, value func(X) N) metric[X] {
	return metric[X]{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.GaugeValue,
		func(x X) (float64, bool) { return float64(value(x)), true }}
}

// counter tells what only grows while the daemon runs.
func counter[X any, N ~int | ~int64 | ~uint64](name, help string, labels []string, value func(X) N) metric[X] {
	m := gauge(name, help, labels, value)
	m.kind = prometheus.CounterValue
	return m
}

// perhaps tells what is not always known.
func perhaps[X any](name, help string, labels []string, value func(X) (float64, bool)) metric[X] {
	return metric[X]{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.GaugeValue, value}
}

func (m metric[X]) collect(ch chan<- prometheus.Metric, x X, labels ...string) {
	if v, known := m.value(x); known {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
}

func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}

// told is a folder with all that is told of it.
type told struct {
	control.FolderStatus
	Folder
}

var (
	ofFolder = []string{"folder"}
	folders  = []metric[told]{
		gauge("folder_mounted", "1 if programs can reach the folder.", ofFolder, func(f told) int { return flag(f.Mounted) }),
		gauge("folder_files", "Files in the folder.", ofFolder, func(f told) uint64 { return f.Files }),
		gauge("folder_bytes", "Bytes in the files of the folder.", ofFolder, func(f told) uint64 { return f.Bytes }),
		gauge("folder_needed_blocks", "Blocks that are not here yet.", ofFolder, func(f told) uint64 { return f.NeedBlocks }),
		gauge("folder_needed_bytes", "Bytes that are not here yet.", ofFolder, func(f told) uint64 { return f.NeedBytes }),
		gauge("folder_damaged_blocks", "Blocks that are damaged here, of thousands not all.", ofFolder, func(f told) uint64 { return f.Damaged }),
		perhaps("folder_only_here_files", "Files that no other member holds in full, at least; none is told of until a member has said what it has.", ofFolder,
			func(f told) (float64, bool) { return float64(f.OnlyHere), !f.Unheard }),
		gauge("folder_conflicts", "Conflict copies in the folder.", ofFolder, func(f told) uint64 { return f.Conflicts }),
		gauge("folder_copies", "Members that hold every current version.", ofFolder, func(f told) int { return f.Copies.Min }),
		gauge("folder_wanted_copies", "Members that should hold every current version.", ofFolder, func(f told) int { return f.Copies.Want }),
		perhaps("folder_scrub_timestamp_seconds", "When all stored blocks had last been read and verified.", ofFolder,
			func(f told) (float64, bool) {
				if f.Scrubbed == nil {
					return 0, false
				}
				return float64(f.Scrubbed.Unix()), true
			}),
		gauge("store_packs", "Packs of the blocks of the folder.", ofFolder, func(f told) int { return f.Space.Packs }),
		gauge("store_bytes", "Bytes in packs.", ofFolder, func(f told) int64 { return f.Space.Bytes }),
		gauge("store_garbage_bytes", "Bytes in packs that nothing named when the last sweep had ended.", ofFolder, func(f told) int64 { return f.Space.Garbage }),
		gauge("store_unpacked_bytes", "Bytes in rows, to be packed.", ofFolder, func(f told) int64 { return f.Space.Small }),
	}

	ofPeer = []string{"peer", "name"}
	peers  = []metric[control.PeerStatus]{
		gauge("peer_online", "1 if the member is connected.", ofPeer, func(p control.PeerStatus) int { return flag(p.Online) }),
		counter("peer_sent_bytes_total", "Bytes sent to the member.", ofPeer, func(p control.PeerStatus) uint64 { return p.SentBytes }),
		counter("peer_received_bytes_total", "Bytes received from the member.", ofPeer, func(p control.PeerStatus) uint64 { return p.ReceivedBytes }),
		perhaps("peer_rtt_seconds", "Round trip to the member.", ofPeer, func(p control.PeerStatus) (float64, bool) {
			if p.RTT == nil {
				return 0, false
			}
			return *p.RTT / 1000, true
		}),
	}

	ofDB = []string{"db"}
	dbs  = []metric[blocks.DBMetric]{
		gauge("db_bytes", "Bytes that the database takes on the disk.", ofDB, func(m blocks.DBMetric) uint64 { return m.Bytes }),
		gauge("db_tables", "Tables of the database.", ofDB, func(m blocks.DBMetric) int64 { return m.Tables }),
		gauge("db_read_amplification", "Tables that a read may have to look into.", ofDB, func(m blocks.DBMetric) int { return m.ReadAmp }),
		counter("db_flushes_total", "Memtables written as tables.", ofDB, func(m blocks.DBMetric) int64 { return m.Flushes }),
		counter("db_compactions_total", "Compactions done.", ofDB, func(m blocks.DBMetric) int64 { return m.Compactions }),
		gauge("db_compactions_running", "Compactions that run now.", ofDB, func(m blocks.DBMetric) int64 { return m.Compacting }),
		gauge("db_compaction_debt_bytes", "Bytes to be compacted until it rests.", ofDB, func(m blocks.DBMetric) uint64 { return m.Debt }),
		gauge("db_memtable_bytes", "Bytes in memtables.", ofDB, func(m blocks.DBMetric) uint64 { return m.MemTables }),
		gauge("db_wal_bytes", "Bytes of the write-ahead log on the disk.", ofDB, func(m blocks.DBMetric) uint64 { return m.LogBytes }),
		counter("db_wal_written_bytes_total", "Bytes written to the write-ahead log.", ofDB, func(m blocks.DBMetric) uint64 { return m.LogWritten }),
		gauge("db_cache_bytes", "Bytes in the cache.", ofDB, func(m blocks.DBMetric) int64 { return m.CacheBytes }),
		counter("db_cache_hits_total", "Reads that the cache answered.", ofDB, func(m blocks.DBMetric) int64 { return m.CacheHits }),
		counter("db_cache_misses_total", "Reads that went to the disk.", ofDB, func(m blocks.DBMetric) int64 { return m.CacheMisses }),
	}

	disk = []metric[State]{
		gauge("disk_bytes", "Size of the filesystem with the data folder.", nil, func(s State) int64 { return s.DiskTotal }),
		gauge("disk_free_bytes", "Bytes that are left there for clachan.", nil, func(s State) int64 { return s.DiskFree }),
	}

	build = prometheus.NewDesc(prefix+"build_info", "The program that runs; always 1.", []string{"version", "goversion", "format", "protocol"}, nil)
	state = prometheus.NewDesc(prefix+"folder_state", "1 for the state that the folder is in.", []string{"folder", "state"}, nil)
	asked = prometheus.NewDesc(prefix+"fuse_operations_total", "Operations that the kernel asked for.", []string{"folder", "op"}, nil)
	took  = prometheus.NewDesc(prefix+"fuse_operation_duration_seconds", "How long operations took, of which one in sixteen is timed.", []string{"folder", "op"}, nil)
)

// A Collector tells the State that a function returns.
type Collector func() (State, error)

// Describe implements prometheus.Collector.
func (Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{build, state, asked, took} {
		ch <- d
	}
	describe(ch, folders)
	describe(ch, peers)
	describe(ch, dbs)
	describe(ch, disk)
}

func describe[X any](ch chan<- *prometheus.Desc, all []metric[X]) {
	for _, m := range all {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	s, err := c()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(state, err)
		return
	}
	v := s.Version
	ch <- prometheus.MustNewConstMetric(build, prometheus.GaugeValue, 1, v.Version, v.Go, strconv.Itoa(v.Format), strconv.Itoa(v.Protocol))
	for _, m := range disk {
		m.collect(ch, s)
	}
	for _, m := range dbs {
		m.collect(ch, s.Meta, "meta")
		m.collect(ch, s.Packs, "packs")
	}
	for _, p := range s.Status.Peers {
		for _, m := range peers {
			m.collect(ch, p, p.ID, p.Name)
		}
	}
	for i, f := range s.Status.Folders {
		for _, m := range folders {
			m.collect(ch, told{f, s.Folders[i]}, f.Name)
		}
		for _, st := range control.States {
			ch <- prometheus.MustNewConstMetric(state, prometheus.GaugeValue, float64(flag(st == f.State)), f.Name, st)
		}
		for _, op := range s.Folders[i].Ops {
			ch <- prometheus.MustNewConstMetric(asked, prometheus.CounterValue, float64(op.Count), f.Name, op.Name)
			ch <- prometheus.MustNewConstHistogram(took, op.Timed, op.Took.Seconds(), cumulative(op), f.Name, op.Name)
		}
	}
}

// cumulative is how many took at most each bound.
func cumulative(op mount.Op) map[float64]uint64 {
	out := map[float64]uint64{}
	n := uint64(0)
	for i, bound := range mount.OpBuckets {
		n += op.Buckets[i]
		out[float64(bound)/float64(time.Second)] = n
	}
	return out
}
