package mount_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A process must not use a filesystem that it serves itself: the tests run this binary again as the server, with
// the directory to work in as its environment.
const (
	serverEnv  = "CLACHAN_TEST_MOUNT_DIR"
	peersEnv   = "CLACHAN_TEST_MOUNT_PEERS"
	optionsEnv = "CLACHAN_TEST_MOUNT_OPTIONS"
	namesEnv   = "CLACHAN_TEST_MOUNT_NAMES"   // name policy
	userEnv    = "CLACHAN_TEST_MOUNT_USER"    // this is a test of what an ordinary user can do
	readersEnv = "CLACHAN_TEST_MOUNT_READERS" // all but the first may only read
	deafEnv    = "CLACHAN_TEST_MOUNT_DEAF"    // watchers are not woken
	lateEnv    = "CLACHAN_TEST_MOUNT_LATE"    // nor is the kernel told
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverEnv); dir != "" {
		if name := os.Getenv("CLACHAN_TEST_PROFILE"); name != "" {
			if f, err := os.Create(name); err == nil {
				pprof.StartCPUProfile(f)
			}
		}
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			pprof.StopCPUProfile()
			os.Exit(1)
		}
		pprof.StopCPUProfile()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// peerSrv is one member of a folder in the server process.
type peerSrv struct {
	name   string
	disk   *blocks.Disk
	folder *syncer.Folder
	mount  *mount.Mount
	net    *netSrv
	live   sync.RWMutex // read-held while another uses the folder: its disk is closed after that
}

// netSrv joins the members by calls.
type netSrv struct {
	peers []*peerSrv
	apart atomic.Bool
	kick  chan struct{}
	trap  trap
}

// remoteSrv is the other members, as one of them sees them.
type remoteSrv struct{ p *peerSrv }

func (r remoteSrv) Announce(model.VV) {
	select {
	case r.p.net.kick <- struct{}{}:
	default:
	}
}

func (r remoteSrv) Fetch(ctx context.Context, id blocks.ID, _ int64, _ syncer.Class) error {
	for _, q := range r.p.net.peers {
		if q == r.p || r.p.net.apart.Load() || !q.live.TryRLock() {
			continue
		}
		b, err := q.folder.Store().Get(ctx, id, nil)
		q.live.RUnlock()
		if err == nil {
			return r.p.folder.Store().PutVerified(ctx, id, b)
		}
	}
	return syncer.ErrOffline
}

func startPeer(n *netSrv, dir, name string, number int) (*peerSrv, error) {
	p := &peerSrv{name: name, net: n}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("peer", name)
	var err error
	if p.disk, err = blocks.OpenDisk(trapDisk{vfs.Default, &n.trap}, filepath.Join(dir, name, "data"), blocks.DiskOptions{Log: log}); err != nil {
		return nil, err
	}
	key := sha256.Sum256([]byte(name))
	o := syncer.Options{
		Disk: p.disk, Number: 1, ID: sha256.Sum256([]byte("folder")), Name: "test", Key: blocks.Key(sha256.Sum256([]byte("key"))),
		Device: ed25519.NewKeyFromSeed(key[:]), Label: model.Label{Author: "user" + name, Device: "device" + name},
		Allowed: func(ed25519.PublicKey) error { return nil }, Remote: remoteSrv{p}, Names: os.Getenv(namesEnv), Log: log, Now: n.trap.now,
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), ReadOnly: number > 0 && os.Getenv(readersEnv) != "",
	}
	if p.folder, err = syncer.Open(o); err != nil {
		return nil, err
	}
	mo := mount.Defaults()
	mo.Name, mo.Staging, mo.Log = "test", filepath.Join(dir, name, "staging"), log
	if err := mo.Parse(os.Getenv(optionsEnv)); err != nil {
		return nil, err
	}
	if number == 0 {
		p.mount, err = mount.New(p.folder, filepath.Join(dir, "mnt"), mo)
	} else {
		p.mount, err = mount.New(p.folder, filepath.Join(dir, "mnt"+strconv.Itoa(number)), mo)
	}
	if err == nil && os.Getenv(deafEnv) != "" {
		p.folder.SetSurface(mount.Deaf{Mount: p.mount})
	}
	if err == nil && os.Getenv(lateEnv) != "" {
		p.folder.SetSurface(mount.Late{Mount: p.mount})
	}
	return p, err
}

// run serves one member. The folder outlives the mount: it cuts what the mount leaves.
func (p *peerSrv) run(ctx context.Context) error {
	folderCtx, stopFolder := context.WithCancel(context.WithoutCancel(ctx))
	diskCtx, stopDisk := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDisk()
	defer stopFolder()
	var g, d errgroup.Group
	d.Go(func() error { return p.disk.Run(diskCtx) })
	g.Go(func() error { return p.folder.Run(folderCtx) })
	err := p.mount.Run(ctx)
	stopFolder()
	err = errors.Join(err, g.Wait(), p.mount.Close())
	stopDisk()
	p.live.Lock() // for good
	return errors.Join(err, d.Wait(), p.disk.Close())
}

func serve(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	n := &netSrv{kick: make(chan struct{}, 1)}
	count, _ := strconv.Atoi(os.Getenv(peersEnv))
	for i := range max(count, 1) {
		p, err := startPeer(n, dir, string(rune('a'+i)), i)
		if err != nil {
			return err
		}
		n.peers = append(n.peers, p)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range n.peers {
		g.Go(func() error { return p.run(ctx) })
	}
	for _, p := range n.peers {
		select {
		case <-p.mount.Ready():
		case <-ctx.Done():
			return g.Wait()
		}
	}
	fmt.Println("ready")
	go n.commands(ctx)
	if len(n.peers) > 1 {
		g.Go(func() error { return n.gossip(ctx) })
	}
	return g.Wait()
}

// commands answers the test on standard input.
func (n *netSrv) commands(ctx context.Context) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var err error
		switch in.Text() {
		case "part":
			n.apart.Store(true)
		case "join":
			n.apart.Store(false)
		case "cut":
			for _, p := range n.peers {
				err = errors.Join(err, p.folder.Cut(ctx))
			}
		case "cut all": // also what is about to be closed
			for _, p := range n.peers {
				for pending := true; pending && err == nil; {
					err = p.folder.Cut(ctx)
					st, serr := p.folder.Stats()
					pending, err = st.Pending > 0, errors.Join(err, serr)
				}
			}
		case "trap disk":
			n.trap.disk.Store(1)
		case "trap clock":
			n.trap.clock.Store(1)
		case "make f": // unseen by the kernel, as what has just come from elsewhere
			_, err = n.peers[0].folder.Create(syncer.RootIno, "f", syncer.New{Kind: model.File, Mode: 0o600})
		case "synced":
			err = n.synced(ctx)
		case "silent":
			for _, p := range n.peers[1:] {
				err = errors.Join(err, p.silent(ctx))
			}
		}
		fmt.Println("done", err)
	}
}

// synced waits until all show the same.
func (n *netSrv) synced(ctx context.Context) error {
	k := n.peers[0].folder.Knowledge()
	for _, p := range n.peers {
		for {
			st, err := p.folder.Stats()
			if err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			if bytes, _ := p.folder.Missing(); bytes == 0 && st.Waiting == 0 && k.LE(p.folder.Knowledge()) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}

// silent says what a member has done itself, beside following others.
func (p *peerSrv) silent(ctx context.Context) error {
	st, err := p.folder.Stats()
	err = errors.Join(err, p.folder.Cut(ctx))
	if st.Pending != 0 {
		err = errors.Join(err, fmt.Errorf("%s: %d to cut", p.name, st.Pending))
	}
	if n := p.folder.Knowledge().Get(p.folder.Replica()); n != 0 {
		err = errors.Join(err, fmt.Errorf("%s: has made %d changes", p.name, n))
	}
	return err
}

// gossip carries what is announced.
func (n *netSrv) gossip(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.kick:
		case <-tick.C:
		}
		for _, p := range n.peers {
			for _, q := range n.peers {
				if p == q || n.apart.Load() || p.folder.Knowledge().LE(q.folder.Knowledge()) {
					continue
				}
				if err := tell(ctx, p, q); err != nil && ctx.Err() == nil {
					return fmt.Errorf("%s to %s: %w", p.name, q.name, err)
				}
			}
		}
	}
}

// tell has q know what p does, unless one of them is being closed.
func tell(ctx context.Context, p, q *peerSrv) error {
	if !p.live.TryRLock() {
		return nil
	}
	defer p.live.RUnlock()
	if !q.live.TryRLock() {
		return nil
	}
	defer q.live.RUnlock()
	return send(ctx, p, q)
}

func send(ctx context.Context, p, q *peerSrv) error {
	k := p.folder.Knowledge()
	for b, err := range p.folder.Since(ctx, q.folder.Knowledge(), nil) {
		if err == nil {
			err = q.folder.Receive(ctx, p.name, b)
		}
		if err != nil {
			return err
		}
	}
	if err := q.folder.CaughtUp(ctx, p.name, k); err != nil {
		return err
	}
	return q.folder.Sync()
}

// server is the process under test, as the test sees it.
type server struct {
	t    testing.TB
	user uint32 // that it runs as, if not this one
	dir  string
	env  []string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	mu   sync.Mutex // guards errs
	errs strings.Builder
}

func (s *server) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errs.Write(p)
}

func (s *server) logs() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errs.String()
}

// needFuse skips where there is no FUSE, and fails where there should be.
func needFuse(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		f.Close()
		if os.Geteuid() == 0 || os.Getenv(userEnv) != "" {
			return
		}
		err = errors.New("not root")
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("mount tests need FUSE and root: %v", err)
	}
	t.Skipf("mount tests need FUSE and root: %v", err)
}

// newServer mounts a new folder with so many members; each has its mountpoint.
func newServer(t testing.TB, peers int, options string) *server {
	t.Helper()
	s := idleServer(t, peers, options)
	s.start()
	return s
}

// idleServer is newServer that is not started yet.
func idleServer(t testing.TB, peers int, options string) *server {
	t.Helper()
	needFuse(t)
	dir := t.TempDir()
	s := &server{t: t, dir: dir, env: []string{
		serverEnv + "=" + dir, peersEnv + "=" + strconv.Itoa(peers), optionsEnv + "=" + options,
	}}
	for i := range peers {
		if err := os.Mkdir(s.mnt(i), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.stop()
		}
		for i := range peers {
			mount.ClearStale(s.mnt(i))
		}
		if t.Failed() {
			t.Log(s.logs())
		}
	})
	return s
}

// mnt is the mountpoint of a member.
func (s *server) mnt(i int) string {
	if i == 0 {
		return filepath.Join(s.dir, "mnt")
	}
	return filepath.Join(s.dir, "mnt"+strconv.Itoa(i))
}

// path is a path below the mountpoint of the first member.
func (s *server) path(elem ...string) string {
	return filepath.Join(append([]string{s.mnt(0)}, elem...)...)
}

func (s *server) start() {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(exe)
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.Stderr = s
	if s.user != 0 {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.user, Gid: s.user}}
	}
	s.in, _ = s.cmd.StdinPipe()
	out, _ := s.cmd.StdoutPipe()
	s.out = bufio.NewScanner(out)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if !s.out.Scan() || s.out.Text() != "ready" {
		s.cmd.Wait()
		s.cmd = nil
		s.t.Fatalf("server did not start: %s", s.logs())
	}
}

// tell gives the server a command and waits until it is done.
func (s *server) tell(cmd string) {
	s.t.Helper()
	fmt.Fprintln(s.in, cmd)
	if !s.out.Scan() || s.out.Text() != "done <nil>" {
		s.t.Fatalf("%s: %s", cmd, s.out.Text())
	}
}

// stop ends the server the way the daemon is ended.
func (s *server) stop() {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("server: %v", err)
	}
	s.cmd = nil
}

// kill ends the server without giving it a chance.
func (s *server) kill() {
	s.t.Helper()
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}
