package simtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/chunker"
	"github.com/clachanfs/clachan/blocks/crashfs"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// A machine is one device: a disk, and while it is up a whole engine on it.
type machine struct {
	w        *world
	i        int
	name     string
	id       *trust.Identity
	pid      peer.ID
	addr     ma.Multiaddr
	mem      *crashfs.FS  // what is on the disk while it is down
	sized    bool         // the disk can be full
	believes bool         // nobody has told it that its clock is wrong
	skew     atomic.Int64 // of its clock, ns: engines read it while it jumps

	up    bool
	d     *disk
	bd    *blocks.Disk
	node  *peers.Node
	host  *simHost
	f     *syncer.Folder
	s     *screen
	end   context.CancelFunc
	tasks sync.WaitGroup
	mu    sync.Mutex // guards errs
	errs  []error

	users   []*user
	back    time.Time // when a machine that is down comes back
	double  *machine  // runs as the same; nil: none
	off     bool      // stays down
	backup  *backup
	lacks   map[*text]bool // what it may lack at a start: it was restored
	away    bool           // its users are
	rotten  bool           // bits of stored blocks have flipped since all was read last
	decayed bool           // ever
	eio     float64
	full    bool
	room    int       // writes until it is
	faulty  bool      // the disk has faults now
	sick    time.Time // the last one ended
	healed  time.Time // it has worked since then
	jumped  bool      // its clock was set, or it was down for days: what is in the history is younger to it

	spool     map[int64][]byte // bytes staged beside the rows, by the number of the write
	trail     trail
	saves     *fault                   // the power goes when something is written over next
	proc      syncer.Proc              // whose turn it is
	ended     atomic.Int64             // when it lost its power, ns since 1970
	announced atomic.Pointer[model.VV] // what others have been told is durable here
}

// told keeps what is announced.
type told struct {
	syncer.Remote
	m *machine
	d *disk
}

func (t told) Announce(k model.VV) {
	if !t.d.crashed.Load() {
		t.m.announced.Store(&k)
	}
	t.Remote.Announce(k)
}

// now is the machine's own clock.
func (m *machine) now() time.Time { return time.Now().Add(time.Duration(m.skew.Load())) }

func (m *machine) at() spot { return spot(m.addr.String()) }

// start opens everything on what is on the disk.
func (m *machine) start() error {
	m.d = newDisk(m.mem, m.w.rand(), m.sized)
	m.d.count = m.w.count
	m.d.onCrash = func() {
		m.w.say("%s loses its power", m.name)
		m.ended.Store(time.Now().UnixNano())
		if m.host != nil {
			m.host.kill()
		}
	}
	m.host, m.node, m.f = nil, nil, nil
	err := m.load()
	if err == nil {
		err = m.run()
	}
	if err != nil {
		err = errors.Join(err, m.close())
		m.mem = m.rest()
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	m.up, m.healed, m.jumped = true, time.Now(), m.jumped || m.w.days > 0
	return nil
}

// rest is what the next start finds on the disk.
func (m *machine) rest() *crashfs.FS {
	if left := m.d.remains(); left != nil {
		return left
	}
	return m.mem
}

func (m *machine) load() (err error) {
	log := slog.New(logTo{m.w, m})
	m.bd, err = blocks.OpenDisk(m.d, "data", blocks.DiskOptions{
		// No cache of packs: it would hide a flipped bit from who reads all to find it.
		Log: log, MetaCache: 2 << 20, BlockCache: 1, MemTable: 256 << 10, Pending: 4 << 20,
		Fatal: func(msg string) { panic("the end: " + msg) },
	})
	if err != nil {
		m.bd = nil
		return err
	}
	kv := index.NewDevice(m.bd.Meta())
	if err := m.w.enrol(m, kv); err != nil {
		return err
	}
	m.node, err = peers.Open(peers.Config{
		Identity: m.id, KV: kv, Name: m.name, Version: "simulated", NoDiscovery: true, Log: log,
		NewHost: func(_ *trust.Identity, gate connmgr.ConnectionGater) (host.Host, error) {
			m.host = m.w.net.newHost(m.pid, m.addr, gate)
			return m.host, nil
		},
	})
	if err != nil {
		m.node = nil
		return err
	}
	l, err := trust.Open(kv, m.w.folder)
	if err != nil {
		return err
	}
	set := l.Settings()
	m.f, err = syncer.Open(syncer.Options{
		Disk: m.bd, Number: 1, ID: m.w.folder, Name: "sim", Names: m.w.plan.names, Key: blocks.Key(set.IDKey), Seed: chunker.Seed(set.ChunkSeed),
		Device: m.id.Key(), Label: model.Label{Author: "u" + m.name, Device: m.name},
		Allowed: l.MayAuthor, Remote: told{m.node.Remote(m.w.folder), m, m.d}, Members: m.others, Joined: m.i > 0, ReadOnly: m.reads(), Now: m.now, Log: log,
		Unsure: func() bool { return !m.believes && m.skew.Load() != 0 },
	})
	if err != nil {
		m.f = nil
		return err
	}
	m.s = newScreen(m.w.freezeTime)
	var failed error
	err = m.f.Staged(func(ino syncer.Ino, d syncer.DirtyState) bool {
		var v syncer.Version
		if v, failed = m.f.Content(ino); failed == nil {
			m.s.adopt(ino, m.unspool(d), v)
		}
		return failed == nil
	})
	m.f.SetSurface(m.s)
	return errors.Join(err, failed)
}

func (m *machine) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	m.end = cancel
	m.errs = nil
	for what, run := range map[string]func(context.Context) error{"node": m.node.Run, "folder": m.f.Run, "disk": m.bd.Run} {
		m.tasks.Go(func() {
			if err := run(ctx); err != nil {
				m.mu.Lock()
				m.errs = append(m.errs, fmt.Errorf("%s: %w", what, err))
				m.mu.Unlock()
			}
		})
	}
	return m.node.AddFolder(peers.Share{ID: m.w.folder, Folder: m.f, Store: m.f.Store()})
}

// stop ends the engine in order, or what is left of it after a crash.
func (m *machine) stop() error {
	m.up = false
	err := m.close()
	m.mem = m.rest()
	return err
}

func (m *machine) close() error {
	var errs []error
	if m.end != nil {
		m.end()
		m.end = nil
		m.tasks.Wait()
		m.node.RemoveFolder(m.w.folder)
	}
	if m.node != nil {
		errs = append(errs, m.node.Close())
		m.node = nil
	}
	if m.bd != nil {
		errs = append(errs, m.bd.Close())
		m.bd = nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(append(errs, m.errs...)...)
}

// crashed tells whether the power is gone, though the engine does not know yet.
func (m *machine) crashed() bool { return m.d != nil && m.d.crashed.Load() }

// enrol gives a machine the membership and the addresses, once.
func (w *world) enrol(m *machine, kv trust.KV) error {
	ids, err := trust.List(kv)
	if err != nil || slices.Contains(ids, w.folder) {
		return err
	}
	for _, o := range w.everybody() {
		if o.pid == m.pid {
			continue
		}
		page := binary.BigEndian.AppendUint64(nil, 0)
		if err := kv.Set("peers/addr/"+o.pid.String(), append(page, o.addr.String()+"\n"...)); err != nil {
			return err
		}
	}
	_, err = trust.Adopt(kv, w.folder, w.settings, w.members)
	return err
}

// logged is what is counted of what engines log.
var logged = map[string]string{
	"damaged block":                          "blocks found damaged",
	"this database goes on as a new replica": "re-keys",
	beginsAnew:                               "members that began anew",
	"changes not taken in":                   "refusals",
}

// beginsAnew is said by who drops what it has announced, to hear it again.
const beginsAnew = "beginning anew, with what the tree shows"

// logTo makes what engines log a part of the story.
type logTo struct {
	w *world
	m *machine
}

func (l logTo) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l logTo) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l logTo) WithGroup(string) slog.Handler                    { return l }
func (l logTo) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		if err, ok := a.Value.Any().(error); ok && errors.Is(err, syncer.ErrBehind) && !l.w.plan.evil && !l.w.plan.copied {
			l.w.note("I11", "%s: %v", l.m.name, err)
		}
		return true
	})
	if what := logged[r.Message]; what != "" {
		l.w.count(what, 1)
	}
	if r.Message == beginsAnew {
		l.m.announced.Store(nil)
	}
	text := b.String()
	l.w.say("%s logs: %s%.300s", l.m.name, r.Message, text)
	return nil
}

// memKV is a trust.KV in memory.
type memKV map[string][]byte

func (kv memKV) Get(k string) ([]byte, error) { return kv[k], nil }
func (kv memKV) Set(k string, v []byte) error { kv[k] = slices.Clone(v); return nil }
func (kv memKV) Delete(k string) error        { delete(kv, k); return nil }
func (kv memKV) List(prefix string, yield func(string, []byte) bool) error {
	var keys []string
	for k := range kv {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !yield(k, kv[k]) {
			break
		}
	}
	return nil
}
