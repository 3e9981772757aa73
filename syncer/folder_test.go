package syncer_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A peer is a folder on a disk in memory, joined with the others by calls.
type peer struct {
	*Folder
	t      testing.TB
	name   string
	fs     vfs.FS
	disk   *blocks.Disk
	surf   *memSurface
	w      *world
	opts   Options
	cancel context.CancelFunc
	done   chan error
	gen    uint64
	up     bool
}

type world struct {
	t     testing.TB
	talk  sync.Mutex  // held while two peers talk, and to keep them from it
	cut   atomic.Bool // nobody reaches anybody
	kick  chan struct{}
	live  sync.RWMutex // guards peers, and of each its Folder and up
	peers []*peer
	met   map[[2]*Folder]bool // guarded by talk: links that are open
}

// up returns the folders that are running.
func (w *world) up() []*peer {
	w.live.RLock()
	defer w.live.RUnlock()
	return slices.DeleteFunc(slices.Clone(w.peers), func(p *peer) bool { return !p.up })
}

type memRemote struct{ p *peer }

func (r *memRemote) Announce(model.VV) { r.p.w.poke() }

func (r *memRemote) Fetch(ctx context.Context, id blocks.ID, _ int64, _ Class) error {
	if r.p.w.cut.Load() {
		return ErrOffline
	}
	w := r.p.w
	w.live.RLock() // nobody's disk is closed meanwhile
	defer w.live.RUnlock()
	for _, q := range w.peers {
		if q == r.p || !q.up {
			continue
		}
		if b, err := q.Store().Get(ctx, id, nil); err == nil {
			return r.p.Store().PutVerified(ctx, id, b)
		}
	}
	return ErrOffline
}

// newWorld makes n peers of one folder.
func newWorld(t testing.TB, n int) *world { return newWorldOf(t, n, "") }

// newWorldOf makes n peers of one folder that has a name policy.
func newWorldOf(t testing.TB, n int, names string) *world {
	w := &world{t: t, kick: make(chan struct{}, 1), met: map[[2]*Folder]bool{}}
	var id [32]byte
	var key blocks.Key
	rand.Read(id[:])
	rand.Read(key[:])
	for i := range n {
		_, dev, _ := ed25519.GenerateKey(rand.Reader)
		p := &peer{t: t, w: w, name: string(rune('a' + i)), fs: vfs.NewMem()}
		p.opts = Options{Number: 1, ID: id, Name: "test", Names: names, Key: key, Device: dev, Label: model.Label{Author: "u" + p.name, Device: "d" + p.name},
			Allowed: func(ed25519.PublicKey) error { return nil }, Remote: &memRemote{p}, Unsure: func() bool { return false }}
		p.start()
		w.live.Lock()
		w.peers = append(w.peers, p)
		w.live.Unlock()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.gossip(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, p := range w.peers {
			p.stop()
		}
	})
	return w
}

func (p *peer) start() {
	p.t.Helper()
	var err error
	if p.disk, err = blocks.OpenDisk(p.fs, "data", blocks.DiskOptions{}); err != nil {
		p.t.Fatal(err)
	}
	p.opts.Disk = p.disk
	f, err := Open(p.opts)
	if err != nil {
		p.t.Fatal(err)
	}
	p.surf = &memSurface{dirty: map[Ino]*memLayer{}, open: map[Ino]bool{}, using: map[Ino]Writing{}, busy: map[Ino]bool{}}
	f.SetSurface(p.surf)
	p.w.live.Lock()
	p.Folder, p.up = f, true
	p.w.live.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan error, 1)
	go func() { p.done <- f.Run(ctx) }()
}

func (p *peer) stop() {
	if err := p.end(); err != nil {
		p.t.Errorf("%s: run: %v", p.name, err)
	}
}

// end stops a peer, and returns how its folder ended.
func (p *peer) end() error {
	p.w.live.Lock()
	p.up = false
	p.w.live.Unlock()
	p.cancel()
	ran := <-p.done
	if err := p.disk.Close(); err != nil {
		p.t.Errorf("%s: close: %v", p.name, err)
	}
	return ran
}

// gossip carries what is announced.
func (w *world) gossip(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
		case <-time.After(20 * time.Millisecond):
		}
		w.talk.Lock()
		all := w.up()
		for _, p := range all {
			for _, q := range all {
				if p != q && !w.cut.Load() && w.meet(ctx, p, q) && !p.Knowledge().LE(q.Knowledge()) {
					w.send(ctx, p, q)
				}
			}
		}
		w.talk.Unlock()
	}
}

func (w *world) send(ctx context.Context, p, q *peer) {
	k := p.Knowledge()
	for b, err := range p.Since(ctx, q.Knowledge(), nil) {
		if err == nil {
			err = q.Receive(ctx, p.name, b)
		}
		if errors.Is(err, ErrAnew) || errors.Is(err, ErrBehind) {
			w.anew(q, ErrAnew) // the session ends
			return
		}
		if err != nil {
			if ctx.Err() == nil {
				w.t.Errorf("%s to %s: %v", p.name, q.name, err)
			}
			return
		}
	}
	if err := q.CaughtUp(ctx, p.name, k); errors.Is(err, ErrAnew) {
		w.anew(q, err)
	} else if err != nil {
		w.t.Errorf("%s to %s: caught up: %v", p.name, q.name, err)
	}
	if err := q.Sync(); err != nil {
		w.t.Error(err)
	}
	q.Acked(p.name, p.Knowledge(), 0)
}

// at finds the directory and the last name of a path.
func (p *peer) at(path string) (Ino, string) {
	p.t.Helper()
	parts := strings.Split(strings.Trim(path, "/"), "/")
	dir := RootIno
	for _, c := range parts[:len(parts)-1] {
		a, err := p.Lookup(dir, c)
		if err != nil {
			p.t.Fatalf("%s: %s: %v", p.name, path, err)
		}
		dir = a.Ino
	}
	return dir, parts[len(parts)-1]
}

// stat looks a path up.
func (p *peer) stat(path string) Attr {
	p.t.Helper()
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	p.must(err)
	return a
}

// open opens a file for reading or writing, as a program does.
func (p *peer) open(ino Ino, writes bool) {
	p.Hold(ino)
	p.surf.mu.Lock()
	defer p.surf.mu.Unlock()
	if p.surf.busy[ino] = true; writes {
		p.surf.open[ino] = true
	}
}

// shut closes it.
func (p *peer) shut(ino Ino) {
	p.surf.mu.Lock()
	delete(p.surf.busy, ino)
	delete(p.surf.open, ino)
	p.surf.mu.Unlock()
	p.Closed(ino)
	p.forget(ino)
	p.Release(ino)
}

// until waits for something that is about to be.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("not yet: ", what)
		}
	}
}

func (p *peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

func (p *peer) mkdir(path string) {
	p.t.Helper()
	dir, name := p.at(path)
	_, err := p.Create(dir, name, New{Kind: model.Dir, Mode: 0o755})
	p.must(err)
}

// write makes or overwrites a file, as one open, write and close.
func (p *peer) write(path, data string) {
	p.t.Helper()
	dir, name := p.at(path)
	if !p.writeAt(dir, name, data) {
		p.t.Fatalf("%s: %s exists", p.name, path)
	}
}

func (p *peer) writeAt(dir Ino, name, data string) bool {
	p.t.Helper()
	a, err := p.Lookup(dir, name)
	if errors.Is(err, ErrNotExist) {
		a, err = p.Create(dir, name, New{Kind: model.File, Mode: 0o644})
	}
	if errors.Is(err, ErrExist) || errors.Is(err, ErrNotExist) || err == nil && a.Kind != model.File {
		return false // a peer's change came in between
	}
	p.must(err)
	p.Hold(a.Ino)
	defer func() { p.forget(a.Ino); p.Release(a.Ino) }()
	v, err := p.Content(a.Ino)
	if errors.Is(err, ErrNotExist) {
		return false
	}
	p.must(err)
	now := time.Now().UnixNano()
	p.surf.mu.Lock()
	p.gen++
	p.surf.dirty[a.Ino] = &memLayer{Reader: bytes.NewReader([]byte(data)), gen: p.gen, base: v, mtime: now}
	gen := p.gen
	p.surf.mu.Unlock()
	err = p.Dirty(a.Ino, DirtyState{Gen: gen, Base: v.Orig, Size: int64(len(data)), Alloc: int64(len(data)), Mtime: now, Ctime: now})
	if errors.Is(err, ErrNotExist) {
		return false
	}
	p.must(err)
	p.Closed(a.Ino)
	return true
}

func (p *peer) mv(from, to string) {
	p.t.Helper()
	d1, n1 := p.at(from)
	d2, n2 := p.at(to)
	p.must(p.Rename(d1, n1, d2, n2, 0))
}

func (p *peer) rm(path string) {
	p.t.Helper()
	dir, name := p.at(path)
	a, err := p.Lookup(dir, name)
	p.must(err)
	if a.Kind == model.Dir {
		var names []string
		p.must(p.List(a.Ino, 0, func(e Entry) bool { names = append(names, e.Name); return true }))
		for _, n := range names {
			p.rm(path + "/" + n)
		}
		p.must(p.Rmdir(dir, name))
		return
	}
	p.must(p.Unlink(dir, name))
}

// forget drops what was written to files that are gone and not open, as a kernel
// would: to those given, or all.
func (p *peer) forget(inos ...Ino) {
	p.surf.mu.Lock()
	defer p.surf.mu.Unlock()
	if inos == nil {
		inos = slices.Collect(maps.Keys(p.surf.dirty))
	}
	for _, ino := range inos {
		if a, err := p.Attr(ino); !p.surf.busy[ino] && (err != nil || a.Nlink == 0) {
			delete(p.surf.dirty, ino)
		}
	}
}

// settle waits until all peers know the same and show it.
func (w *world) settle() {
	w.t.Helper()
	for _, p := range w.peers {
		p.must(p.Cut(context.Background()))
	}
	deadline := time.Now().Add(40 * time.Second) // longer than anything waits for others
	for {
		if w.together() {
			break
		}
		if time.Now().After(deadline) {
			for _, p := range w.peers {
				n, _ := p.Missing()
				w.t.Logf("%s: knows %v, lacks %d", p.name, p.Knowledge(), n)
				for _, d := range p.Drift() {
					w.t.Logf("%s: %s", p.name, d)
				}
			}
			w.t.Fatal("peers do not come together")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// together tells whether all know the same and show it, and nothing is to be
// told.
func (w *world) together() bool {
	w.talk.Lock()
	defer w.talk.Unlock()
	for _, p := range w.peers {
		s, err := p.Stats()
		p.must(err)
		n, _ := p.Missing()
		if n > 0 || s.Pending > 0 || p.Holding() {
			return false
		}
		for _, q := range w.peers {
			if p != q && !w.cut.Load() && !w.meet(context.Background(), p, q) {
				return false
			}
		}
		p.must(p.Sync()) // what was cut may not have been announced yet
	}
	return !slices.ContainsFunc(w.peers, func(p *peer) bool { return !p.Knowledge().Equal(w.peers[0].Knowledge()) })
}

// same fails if the trees differ, and returns them.
func (w *world) same() string {
	w.t.Helper()
	w.settle()
	for _, p := range w.peers {
		p.must(p.Check(context.Background(), func(err error) { w.t.Errorf("%s: check: %v", p.name, err) }))
	}
	tree := w.peers[0].list(true)
	for _, p := range w.peers[1:] {
		if got := p.list(true); got != tree {
			a, b := w.peers[0].State(), p.State()
			for id := range a {
				if a[id] != b[id] {
					w.t.Logf("%s: %s\n%s\n%s", p.name, id, a[id], b[id])
				}
			}
			for _, q := range w.peers {
				for _, d := range q.Drift() {
					w.t.Logf("%s: %s", q.name, d)
				}
			}
			w.t.Fatalf("%s and %s differ:\n%s\n\n%s", w.peers[0].name, p.name, tree, got)
		}
	}
	return w.peers[0].tree()
}

func (w *world) want(paths ...string) {
	w.t.Helper()
	tree := w.same()
	if got := strings.Join(paths, "\n"); got != tree {
		w.t.Fatalf("want\n%s\ngot\n%s", got, tree)
	}
}

func TestChangesReachTheOtherPeer(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "one")
	a.mkdir("/d")
	long := strings.Repeat("x", 100_000)
	a.write("/d/g", long)
	sum := fmt.Sprintf("xxxxxxxx… 100000 %08x", crc32.ChecksumIEEE([]byte(long)))
	w.want("/d 755 /", "/d/g 644 "+sum, "/f 644 one")
	b.write("/f", "two")
	b.mv("/d", "/e")
	w.want("/e 755 /", "/e/g 644 "+sum, "/f 644 two")
	a.rm("/e")
	w.want("/f 644 two")
}

func TestConcurrentEditsBothStay(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/doc.txt", "v")
	w.settle()
	w.part(true)
	a.write("/doc.txt", "A")
	a.must(a.Cut(context.Background()))
	b.write("/doc.txt", "B")
	b.must(b.Cut(context.Background()))
	w.part(false)
	tree := w.same()
	if !strings.Contains(tree, "/doc.txt 644 B") || !strings.Contains(tree, "/doc (conflict, ua, da, ") || strings.Count(tree, "\n") != 1 {
		t.Fatalf("got\n%s", tree)
	}
}

// cases are told as the reference model tells them: operations at a and b,
// cut off from each other between two syncs.
func TestNamedCases(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"edit, delete", "a write /d v\nsync\na write /d A\nb rm /d", "/d 644 A"},
		{"rename, edit", "a write /d v\nsync\na mv /d /e\nb write /d B", "/e 644 B"},
		{"rename, delete", "a write /d v\nsync\na mv /d /e\nb rm /d", "/e 644 v"},
		{"create, create equal", "a write /d v\nb write /d v", "/d 644 v"},
		{"cycle", "a mkdir /x\na mkdir /y\na write /x/f F\nsync\na mv /x /y/x\nb mv /y /x/y", "/y 755 /\n/y/x 755 /\n/y/x/f 644 F|/x 755 /\n/x/f 644 F\n/x/y 755 /"},
		{"child, rmdir", "a mkdir /x\nsync\na write /x/f F\nb rm /x", "/x 755 /\n/x/f 644 F"},
		{"mv out, rm -r", "a mkdir /t\na mkdir /t/p\na write /t/p/f F\nsync\na mkdir /k\na mv /t/p /k/p\nb rm /t", "/k 755 /\n/k/p 755 /\n/k/p/f 644 F"},
		{"atomic save published halfway", "a write /d v\nsync\na write /d.tmp A\nsync\na mv /d.tmp /d", "/d 644 A"},
		{"rename, rename", "a write /d v\nsync\na mv /d /e\na mv /e /h\na mv /h /e\na write /x 1\na write /y 2\na rm /x\na rm /y\nb mv /d /g", ""},
		{"dirs unite", "a mkdir /x\na write /x/f F\nb mkdir /x\nb write /x/g G", "/x 755 /\n/x/f 644 F\n/x/g 644 G"},
		{"mv dir, edit and create inside", "a mkdir /x\na write /x/f F\nsync\na mv /x /y\nb write /x/f G\nb write /x/h H", "/y 755 /\n/y/f 644 G\n/y/h 644 H"},
		{"backup save", "a write /d v\nsync\na mv /d /d~\na write /d A\nb write /d B", ""},
		{"swap", "a write /d D\na write /e E\nsync\na mv /d /t\na mv /e /d\na mv /t /e", "/d 644 E\n/e 644 D"},
		{"swap dirs", "a mkdir /d\na write /d/1 D\na mkdir /e\nsync\na mv /d /t\na mv /e /d\na mv /t /e", "/d 755 /\n/e 755 /\n/e/1 644 D"},
		{"rm and mkdir anew", "a mkdir /d\na write /d/1 D\nsync\na rm /d\na mkdir /d\na write /d/2 E", "/d 755 /\n/d/2 644 E"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 2)
			w.part(true)
			for _, line := range strings.Split(tt.script, "\n") {
				f := strings.Fields(line)
				if f[0] == "sync" {
					w.part(false)
					w.same()
					w.part(true)
					continue
				}
				p := w.peers[f[0][0]-'a']
				switch f[1] {
				case "write":
					p.write(f[2], f[3])
				case "mkdir":
					p.mkdir(f[2])
				case "rm":
					p.rm(f[2])
				case "mv":
					p.mv(f[2], f[3])
				}
			}
			for _, p := range w.peers {
				p.must(p.Cut(context.Background()))
			}
			w.part(false)
			if got := w.same(); tt.want != "" && !slices.Contains(strings.Split(tt.want, "|"), got) {
				t.Fatalf("want\n%s\ngot\n%s", tt.want, got)
			}
		})
	}
}

func TestRebornDirectoryKeepsWhatItsTombstonesSay(t *testing.T) {
	w := newWorld(t, 2)
	a := w.peers[0]
	for range 3 {
		a.mkdir("/d")
		a.mkdir("/d/e")
		a.write("/d/e/f", "F")
		w.same()
		a.rm("/d")
		w.same()
	}
}
