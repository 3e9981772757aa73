package peers

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// memKV is a trust.KV in memory.
type memKV struct {
	mu sync.Mutex // guards m
	m  map[string][]byte
}

func newKV() *memKV { return &memKV{m: map[string][]byte{}} }

func (kv *memKV) Get(key string) ([]byte, error) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	return slices.Clone(kv.m[key]), nil
}

func (kv *memKV) Set(key string, val []byte) error {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	kv.m[key] = slices.Clone(val)
	return nil
}

func (kv *memKV) Delete(key string) error {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	delete(kv.m, key)
	return nil
}

func (kv *memKV) List(prefix string, yield func(string, []byte) bool) error {
	kv.mu.Lock()
	keys := []string{}
	for k := range kv.m {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	kv.mu.Unlock()
	slices.Sort(keys)
	for _, k := range keys {
		v, _ := kv.Get(k)
		if !yield(k, v) {
			break
		}
	}
	return nil
}

// memFolder is a log of batches and a set of blocks in memory: durable at once.
type memFolder struct {
	seal    model.Seal
	key     blocks.Key
	log     *trust.Log
	id      *trust.Identity
	replica model.Replica
	remote  *Remote

	mu       sync.Mutex // guards all below
	batches  []model.Batch
	k        model.VV
	blocks   map[blocks.ID][]byte
	need     map[blocks.ID]bool
	acks     map[string]model.VV
	caught   map[string]model.VV
	received int // batches taken in, the known ones too
	bad      map[blocks.ID]bool
	changed  chan struct{} // replaced at every change
	hold     chan struct{} // Receive waits for it, if not nil
	full     bool          // Receive has no room
	refused  int           // batches for which there was none
}

func newMemFolder(g Grant, id *trust.Identity, replica uint64, r *Remote) *memFolder {
	return &memFolder{
		seal: model.Seal{Folder: g.ID, Key: g.IDKey}, key: blocks.Key(g.IDKey), log: g.Log, id: id,
		replica: model.Replica(replica), remote: r, blocks: map[blocks.ID][]byte{}, need: map[blocks.ID]bool{},
		acks: map[string]model.VV{}, caught: map[string]model.VV{}, bad: map[blocks.ID]bool{},
		changed: make(chan struct{}),
	}
}

func (f *memFolder) touch() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// write authors one batch of one change.
func (f *memFolder) write(t testing.TB, text string) {
	t.Helper()
	f.mu.Lock()
	seq := f.k.Get(f.replica) + 1
	var prev [32]byte
	for _, b := range f.batches {
		if h, _ := model.DecodeHeader(b.Header); h.Replica == f.replica {
			prev = model.HeaderHash(b.Header)
		}
	}
	h := model.Header{Replica: f.replica, Lo: seq, Hi: seq, Deps: f.k, Prev: prev, UTC: 1}
	f.batches = append(f.batches, f.seal.Sign(h, [][]byte{[]byte(text)}, f.id.Key()))
	f.k = f.k.With(model.Dot{Replica: f.replica, Seq: seq})
	f.touch()
	k := f.k
	f.mu.Unlock()
	f.remote.Announce(k)
}

func (f *memFolder) Knowledge() model.VV {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.k
}

func (f *memFolder) Known() model.VV { return f.Knowledge() }

func (f *memFolder) Since(ctx context.Context, k, _ model.VV) iter.Seq2[model.Batch, error] {
	f.mu.Lock()
	all := slices.Clone(f.batches)
	f.mu.Unlock()
	return func(yield func(model.Batch, error) bool) {
		for _, b := range all {
			h, err := model.DecodeHeader(b.Header)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(model.Batch{}, err)
				return
			}
			if h.Hi > k.Get(h.Replica) && !yield(b, nil) {
				return
			}
		}
	}
}

func (f *memFolder) Receive(ctx context.Context, _ string, b model.Batch) error {
	f.mu.Lock()
	hold := f.hold
	if f.full {
		f.refused++
		f.touch()
		f.mu.Unlock()
		return syncer.ErrFull
	}
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h, err := model.DecodeHeader(b.Header)
	if err != nil {
		return err
	}
	leaves, err := f.seal.Leaves(b.Body)
	if err != nil || len(leaves) != 1 {
		return fmt.Errorf("%w: body", model.ErrBatch)
	}
	if err := f.log.MayAuthor(h.Signer); err != nil {
		return err
	}
	f.mu.Lock()
	f.received++
	if !h.Deps.LE(f.k) {
		f.mu.Unlock()
		return errors.New("not in causal order")
	}
	if h.Hi <= f.k.Get(h.Replica) {
		f.touch()
		f.mu.Unlock()
		return nil
	}
	f.batches = append(f.batches, b)
	f.k = f.k.With(model.Dot{Replica: h.Replica, Seq: h.Hi})
	f.touch()
	k := f.k
	f.mu.Unlock()
	f.remote.Announce(k)
	return nil
}

func (f *memFolder) CaughtUp(_ context.Context, from string, k model.VV) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.caught[from] = k
	f.touch()
	return nil
}

func (f *memFolder) Opening() (model.Opening, error) {
	return model.Opening{K: f.Knowledge()}, nil
}

func (f *memFolder) Meet(context.Context, string, model.Opening, model.Opening) (model.Tell, error) {
	return model.Tell{}, nil
}

func (f *memFolder) Left(string) bool { return false }

func (f *memFolder) Acked(peer string, k model.VV, _ uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acks[peer] = k
	f.touch()
}

func (f *memFolder) Missing() (n, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.need)), 0
}

func (f *memFolder) put(data []byte) blocks.ID {
	id := f.key.ID(data)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blocks[id] = data
	return id
}

func (f *memFolder) Get(_ context.Context, id blocks.ID, buf []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.blocks[id]
	if !ok {
		return nil, blocks.ErrNotFound
	}
	out := append(buf[:0], data...)
	if f.bad[id] {
		out[0] ^= 1
	}
	return out, nil
}

func (f *memFolder) PutVerified(_ context.Context, id blocks.ID, data []byte) error {
	if f.key.ID(data) != id {
		return blocks.ErrDamaged
	}
	f.put(slices.Clone(data))
	return nil
}

// await waits until ok holds, looking again at every change.
func (f *memFolder) await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		f.mu.Lock()
		if ok() {
			f.mu.Unlock()
			return
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: not in 20 s", what)
		}
	}
}

func (f *memFolder) awaitK(t testing.TB, k model.VV) {
	t.Helper()
	f.await(t, fmt.Sprintf("knowledge %v", k), func() bool { return k.LE(f.k) })
}

// A device is a node that runs, with its folders.
type device struct {
	t       testing.TB
	id      *trust.Identity
	kv      *memKV
	node    *Node
	folders map[trust.FolderID]*memFolder
	cancel  context.CancelFunc
	done    chan error
	set     []func(*Node) // before it runs
}

var replicas uint64

func newDevice(t testing.TB, name string, set ...func(*Node)) *device {
	t.Helper()
	id, err := trust.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, id: id, kv: newKV(), folders: map[trust.FolderID]*memFolder{}, set: set}
	d.start(name)
	return d
}

func (d *device) start(name string) {
	d.t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{d.t}, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", name)
	var err error
	d.node, err = Open(Config{
		Identity: d.id, KV: d.kv, Name: name, Version: "clachan/test", Listen: []string{"127.0.0.1:0"},
		NoDiscovery: true, Log: log,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range d.set {
		f(d.node)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan error, 1)
	go func() { d.done <- d.node.Run(ctx) }()
	d.t.Cleanup(d.stop)
	for !d.node.running.Load() {
		time.Sleep(time.Millisecond)
	}
}

// stop ends the device; once.
func (d *device) stop() {
	if d.cancel == nil {
		return
	}
	d.cancel()
	d.cancel = nil
	if err := <-d.done; err != nil {
		d.t.Errorf("run: %v", err)
	}
	if err := d.node.Close(); err != nil {
		d.t.Errorf("close: %v", err)
	}
}

// attach makes a folder of a grant and adds it.
func (d *device) attach(g Grant) *memFolder {
	d.t.Helper()
	f := d.folders[g.ID]
	if f == nil {
		replicas++
		f = newMemFolder(g, d.id, replicas, nil)
		d.folders[g.ID] = f
	}
	f.remote, f.log = d.node.Remote(g.ID), g.Log
	if err := d.node.AddFolder(Share{ID: g.ID, Folder: f, Store: f}); err != nil {
		d.t.Fatal(err)
	}
	return f
}

func (d *device) create(name string) (Grant, *memFolder) {
	d.t.Helper()
	g, err := d.node.Create(name, "")
	if err != nil {
		d.t.Fatal(err)
	}
	return g, d.attach(g)
}

func (d *device) invite(id trust.FolderID, role trust.Role, uses int) string {
	d.t.Helper()
	ticket, err := d.node.Invite(id, role, time.Hour, uses)
	if err != nil {
		d.t.Fatal(err)
	}
	return ticket
}

func (d *device) join(ticket string) (Grant, *memFolder) {
	d.t.Helper()
	g, err := d.node.Join(context.Background(), ticket, "")
	if err != nil {
		d.t.Fatal(err)
	}
	return g, d.attach(g)
}

func (d *device) pub() ed25519.PublicKey { return d.id.Public() }

// testWriter logs through t while the test runs.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Printf("%s", p)
	}
	return len(p), nil
}
