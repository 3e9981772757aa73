package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

const (
	metaReplicas = 5
	metaNodes    = 20_000
	metaTurn     = 200 // nodes that one replica makes before the next does

	// The most that a node may take, in bytes.
	maxDisk = 260 // with the log
	maxWire = 130
)

// A replica is an engine of the folder, joined with the others by calls.
type replica struct {
	*syncer.Folder
	disk *blocks.Disk
	all  *[]*replica

	mu    sync.Mutex // guards dirty
	dirty map[syncer.Ino]*layer
	stop  func()
}

// A layer is the bytes of a new file: of no use but to be different ones, just
// too many to stand in its row.
type layer struct {
	*bytes.Reader
	mtime int64
}

func (l *layer) Gen() uint64            { return 1 }
func (l *layer) Base() syncer.Version   { return syncer.Version{} }
func (l *layer) Mtime() int64           { return l.mtime }
func (l *layer) Ctime() int64           { return l.mtime }
func (l *layer) Size() int64            { return l.Reader.Size() }
func (l *layer) Dirty() []content.Range { return []content.Range{{Len: l.Size()}} }
func (l *layer) Holes() []content.Range { return nil }

func (r *replica) layer(ino syncer.Ino) *layer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dirty[ino]
}

func (r *replica) Freeze(_ context.Context, inos ...syncer.Ino) ([]syncer.Layer, error) {
	out := make([]syncer.Layer, len(inos))
	for i, ino := range inos {
		if l := r.layer(ino); l != nil {
			out[i] = l
		}
	}
	return out, nil
}

func (r *replica) Rebase(ino syncer.Ino, _ uint64, _ syncer.Version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.dirty, ino)
}

func (r *replica) Busy(ino syncer.Ino) bool          { return r.layer(ino) != nil }
func (r *replica) Writing(syncer.Ino) syncer.Writing { return syncer.Writing{} }
func (r *replica) Shown([]syncer.Flip)               {}
func (r *replica) Announce(model.VV)                 {}

// Fetch takes a block from whoever has it.
func (r *replica) Fetch(ctx context.Context, id blocks.ID, _ int64, _ syncer.Class) error {
	for _, q := range *r.all {
		if b, err := q.Store().Get(ctx, id, nil); q != r && err == nil {
			return r.Store().PutVerified(ctx, id, b)
		}
	}
	return syncer.ErrOffline
}

func newReplicas(b *testing.B, n int) []*replica {
	var all []*replica
	var id [32]byte
	var key blocks.Key
	rand.Read(id[:])
	rand.Read(key[:])
	for i := range n {
		disk, err := blocks.OpenDisk(vfs.NewMem(), "data", blocks.DiskOptions{})
		must(b, err)
		_, dev, err := ed25519.GenerateKey(rand.Reader)
		must(b, err)
		r := &replica{disk: disk, all: &all, dirty: map[syncer.Ino]*layer{}}
		r.Folder, err = syncer.Open(syncer.Options{Disk: disk, Number: 1, ID: id, Name: "bench", Key: key, Device: dev,
			Label: model.Label{Author: "author", Device: fmt.Sprint("device", i)}, Remote: r,
			Allowed: func(ed25519.PublicKey) error { return nil }})
		must(b, err)
		r.SetSurface(r)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.stop = func() {
			cancel()
			must(b, <-done)
			must(b, disk.Close())
		}
		all = append(all, r)
	}
	return all
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// make makes a path with all above it, and returns how many nodes that were.
func (r *replica) make(b *testing.B, path string, kind model.Kind) (n int) {
	dir := syncer.RootIno
	parts := strings.Split(path, "/")
	for i, name := range parts {
		k := model.Dir
		if i == len(parts)-1 {
			k = kind
		}
		a, err := r.Lookup(dir, name)
		if err != nil {
			a, err = r.Create(dir, name, syncer.New{Kind: k, Mode: 0o644})
			must(b, err)
			n++
			if k == model.File {
				r.write(b, a.Ino)
			}
		}
		dir = a.Ino
	}
	return n
}

func (r *replica) write(b *testing.B, ino syncer.Ino) {
	data := make([]byte, content.MaxInline+1)
	binary.BigEndian.PutUint64(data, uint64(ino))
	rand.Read(data[8:24])
	now := time.Now().UnixNano()
	r.mu.Lock()
	r.dirty[ino] = &layer{bytes.NewReader(data), now}
	r.mu.Unlock()
	must(b, r.Folder.Dirty(ino, syncer.DirtyState{Gen: 1, Size: int64(len(data)), Mtime: now, Ctime: now}))
	r.Closed(ino)
}

// send tells q what p has, and returns how many bytes of batches that were.
func send(b *testing.B, p, q *replica) (n int) {
	ctx := context.Background()
	k := p.Knowledge()
	for batch, err := range p.Since(ctx, q.Knowledge(), nil) {
		must(b, err)
		n += len(batch.Header) + len(batch.Body)
		must(b, q.Receive(ctx, "p", batch))
	}
	must(b, q.CaughtUp(ctx, "p", k))
	must(b, q.Sync())
	return n
}

// settled waits until all bytes are here, lets the disk compact, and returns how
// many bytes the given tables take on it.
func (r *replica) size(b *testing.B, tables string) (n uint64) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if missing, _ := r.Missing(); missing == 0 {
			break
		}
		if time.Now().After(deadline) {
			b.Fatal("bytes do not come")
		}
	}
	must(b, r.disk.Meta().Flush())
	must(b, r.disk.Meta().Compact(context.Background(), []byte{0}, []byte{0xff}, false))
	for _, t := range []byte(tables) {
		from := append(binary.BigEndian.AppendUint32(nil, 1), t)
		to := append(binary.BigEndian.AppendUint32(nil, 1), t+1)
		k, err := r.disk.Meta().EstimateDiskUsage(from, to)
		must(b, err)
		n += k
	}
	return n
}

// BenchmarkMetadata copies the names of a part of the module cache, written in
// turns by five replicas, and measures what a node takes beside its bytes: not
// more than it may.
func BenchmarkMetadata(b *testing.B) {
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	must(b, err)
	root := strings.TrimSpace(string(out))
	for range b.N {
		all := newReplicas(b, metaReplicas+1)
		writers, newcomer := all[:metaReplicas], all[metaReplicas]
		nodes, turn := 0, 0
		pass := func() { // the next has all that was written
			p := writers[turn%metaReplicas]
			must(b, p.Cut(context.Background()))
			turn++
			send(b, p, writers[turn%metaReplicas])
		}
		last := 0
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(root, path)
			switch {
			case err != nil || rel == ".":
				return err
			case rel == "cache":
				return filepath.SkipDir
			case nodes >= metaNodes:
				return filepath.SkipAll
			}
			kind := model.File
			if d.IsDir() {
				kind = model.Dir
			}
			nodes += writers[turn%metaReplicas].make(b, rel, kind)
			if nodes-last >= metaTurn {
				last = nodes
				pass()
			}
			return nil
		})
		must(b, err)
		for range metaReplicas {
			pass()
		}
		wire := send(b, writers[turn%metaReplicas], newcomer)
		rows, log := newcomer.size(b, "nid"), newcomer.size(b, "bcr")
		b.ReportMetric(float64(nodes), "nodes")
		b.ReportMetric(float64(rows)/float64(nodes), "disk-B/node")
		b.ReportMetric(float64(rows+log)/float64(nodes), "disk+log-B/node")
		b.ReportMetric(float64(wire)/float64(nodes), "wire-B/node")
		if disk := (rows + log) / uint64(nodes); disk > maxDisk || wire/nodes > maxWire {
			b.Errorf("a node takes %d bytes on disk and %d on the wire, more than %d and %d", disk, wire/nodes, maxDisk, maxWire)
		}
		for _, r := range all {
			r.stop()
		}
	}
}
