package peers

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer/model"
)

func TestWireCarriesEveryBlock(t *testing.T) {
	if wire.MaxBlock != blocks.MaxBlock {
		t.Fatalf("wire takes %d bytes, blocks have up to %d", wire.MaxBlock, blocks.MaxBlock)
	}
}

func randomBlock(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func mesh(t *testing.T, names ...string) (Grant, []*device, []*memFolder) {
	t.Helper()
	return meshOf(t, nil, names...)
}

func meshOf(t *testing.T, set []func(*Node), names ...string) (Grant, []*device, []*memFolder) {
	t.Helper()
	first := newDevice(t, names[0], set...)
	g, f := first.create("shared")
	ds, fs := []*device{first}, []*memFolder{f}
	for _, name := range names[1:] {
		d := newDevice(t, name, set...)
		_, f := d.join(first.invite(g.ID, trust.Writer, 1))
		ds, fs = append(ds, d), append(fs, f)
	}
	for _, d := range ds {
		d.awaitOnline(g.ID, len(ds)-1)
	}
	return g, ds, fs
}

// awaitOnline waits until n other members of a folder are connected.
func (d *device) awaitOnline(id trust.FolderID, n int) {
	d.t.Helper()
	eventually(d.t, func() bool { return d.node.Remote(id).Online() == n }, "%d members online", n)
}

func eventually(t testing.TB, ok func() bool, what string, args ...any) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 20 s: "+what, args...)
		}
	}
}

func TestFetchBringsBlocksOfAnySize(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	r := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for _, size := range []int{1, 100, 4096, 128 << 10, blocks.MaxBlock, 7, 300 << 10, 1000} {
		for class := Waiting; class < classes; class++ {
			data := randomBlock(r, size)
			id := fs[0].put(data)
			wg.Go(func() {
				if err := ds[1].node.Remote(g.ID).Fetch(t.Context(), id, int64(size), class); err != nil {
					t.Errorf("fetch %d bytes: %v", size, err)
					return
				}
				got, err := fs[1].Get(t.Context(), id, nil)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("block of %d bytes: %v", size, err)
				}
			})
		}
	}
	wg.Wait()
	for _, st := range ds[1].node.Peers() {
		if st.Received < 3*blocks.MaxBlock {
			t.Errorf("received %d bytes counted", st.Received)
		}
	}
}

func TestFetchIsOfflineWhenNobodyHasIt(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben", "cleo")
	id := fs[0].key.ID([]byte("nobody has this"))
	for _, r := range []*Remote{ds[0].node.Remote(g.ID), ds[0].node.Remote(trust.FolderID{1})} {
		if err := r.Fetch(t.Context(), id, 15, Waiting); !errors.Is(err, ErrOffline) {
			t.Errorf("fetch: %v", err)
		}
	}
}

func TestFetchAsksTheNextPeer(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben", "cleo")
	data := []byte("only cleo has this")
	id := fs[2].put(data)
	for range 5 { // whoever is asked first
		if err := ds[0].node.Remote(g.ID).Fetch(t.Context(), id, int64(len(data)), Normal); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWrongBytesMoveToAnotherPeerAndAlarm(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben", "cleo")
	r := ds[0].node.Remote(g.ID)
	for i := range 20 {
		data := []byte{byte(i), 1, 2, 3}
		id := fs[1].put(data)
		fs[2].put(data)
		fs[1].bad[id] = true
		if err := r.Fetch(t.Context(), id, 4, Normal); err != nil {
			t.Fatal(err)
		}
		if got, err := fs[0].Get(t.Context(), id, nil); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("block %d: %x, %v", i, got, err)
		}
	}
	for _, s := range ds[0].node.sessions() {
		s.mu.Lock()
		wrong := s.wrong
		s.mu.Unlock()
		if s.p == ds[1].node.id && wrong > maxWrong {
			t.Errorf("asked again after %d wrong blocks", wrong)
		}
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	id := fs[1].key.ID([]byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ds[0].node.Remote(g.ID).Fetch(ctx, id, 1, Normal); err == nil {
		t.Error("a cancelled fetch succeeded")
	}
}

func TestBlockIsNoCapability(t *testing.T) {
	a, b := newDevice(t, "ana"), newDevice(t, "ben")
	shared, _ := a.create("shared")
	private, fp := a.create("private")
	b.join(a.invite(shared.ID, trust.Writer, 1))
	b.awaitOnline(shared.ID, 1)
	id := fp.put([]byte("secret"))
	s := b.node.sessions()[0]
	for _, folder := range []trust.FolderID{private.ID, shared.ID, {9}} {
		c, err := s.pullers[Normal].ask(t.Context(), folder, id, 6)
		if err != nil {
			t.Fatal(err)
		}
		if got := <-c.answer; !errors.Is(got.err, errNoHave) || len(got.data) != 0 {
			t.Errorf("folder %s: %v, %d bytes", folder, got.err, len(got.data))
		}
	}
}

func TestFetchSharesOneFlight(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	data := randomBlock(rand.New(rand.NewPCG(3, 4)), 100<<10)
	id := fs[1].put(data)
	before := ds[0].node.Peers()[0].Received
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := ds[0].node.Remote(g.ID).Fetch(t.Context(), id, int64(len(data)), Normal); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := ds[0].node.Peers()[0].Received - before; got > 15*uint64(len(data)) {
		t.Errorf("%d bytes for one block of %d", got, len(data))
	}
}

func TestLostPeerEndsFetchAtOnce(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	release := make(chan struct{})
	fs[1].mu.Lock() // ben's store hangs
	go func() {
		<-release
		fs[1].mu.Unlock()
	}()
	id := fs[0].key.ID([]byte("slow"))
	done := make(chan error, 1)
	go func() { done <- ds[0].node.Remote(g.ID).Fetch(context.Background(), id, 4, Normal) }()
	eventually(t, func() bool {
		for _, s := range ds[0].node.sessions() {
			s.window.mu.Lock()
			used := s.window.used
			s.window.mu.Unlock()
			if used > 0 {
				return true
			}
		}
		return false
	}, "request in flight")
	_ = ds[0].node.host.Network().ClosePeer(ds[1].node.id)
	if err := <-done; !errors.Is(err, ErrOffline) {
		t.Errorf("fetch: %v", err)
	}
	close(release)
}

// slowStore gives nothing until it may.
type slowStore struct {
	Store
	asked chan bool
	may   chan struct{}
}

func (s slowStore) Get(ctx context.Context, id blocks.ID, buf []byte) ([]byte, error) {
	s.asked <- true
	<-s.may
	return s.Store.Get(ctx, id, buf)
}

// Who waits for a block gets it though the links are opened anew meanwhile.
func TestFetchOutlivesLinks(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	s := slowStore{fs[0], make(chan bool, 10), make(chan struct{})}
	ds[0].node.RemoveFolder(g.ID)
	ds[1].awaitOnline(g.ID, 0)
	if err := ds[0].node.AddFolder(Share{ID: g.ID, Folder: fs[0], Store: s}); err != nil {
		t.Fatal(err)
	}
	ds[1].awaitOnline(g.ID, 1)
	data := []byte("what ben reads")
	id := fs[0].put(data)
	r := ds[1].node.Remote(g.ID)
	done := make(chan error, 1)
	go func() { done <- r.Fetch(t.Context(), id, int64(len(data)), Waiting) }()
	<-s.asked
	at, _, release := r.acquire(t.Context())
	release()
	r.renew(at)
	close(s.may)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// pondering says how it has the folder once it may.
type pondering struct {
	*memFolder
	wait *atomic.Bool
	may  chan struct{}
}

func (f pondering) Opening() (model.Opening, error) {
	if f.wait.Load() {
		<-f.may
	}
	return f.memFolder.Opening()
}

// A peer that had the folder is asked for blocks while a link to it opens anew.
func TestBlocksAreAskedForWhileALinkOpensAnew(t *testing.T) {
	g, ds, fs := mesh(t, "ana", "ben")
	f := pondering{fs[0], new(atomic.Bool), make(chan struct{})}
	ds[0].node.RemoveFolder(g.ID)
	ds[1].awaitOnline(g.ID, 0)
	if err := ds[0].node.AddFolder(Share{ID: g.ID, Folder: f, Store: fs[0]}); err != nil {
		t.Fatal(err)
	}
	ds[1].awaitOnline(g.ID, 1)
	data := []byte("what ben reads")
	id := fs[0].put(data)
	f.wait.Store(true)
	defer close(f.may)
	r := ds[1].node.Remote(g.ID)
	at, _, release := r.acquire(t.Context())
	release()
	r.renew(at)
	ds[1].awaitOnline(g.ID, 0)
	if err := r.Fetch(t.Context(), id, int64(len(data)), Waiting); err != nil {
		t.Error(err)
	}
}
