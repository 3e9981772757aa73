package plain

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A world is some members of a folder, each of which shows it as a plain directory. They are
// joined by calls.
type world struct {
	t       testing.TB
	members []*member
	apart   atomic.Bool
	kick    chan struct{}
}

type member struct {
	w      *world
	name   string
	home   string // where its store is
	dir    string
	opts   Options
	reader bool
	joined bool
	names  string
	disk   *blocks.Disk
	folder *syncer.Folder
	plain  *Dir
	stop   func() error
	on     atomic.Bool
	live   sync.RWMutex // read-held while another uses the folder: it ends after that
	member atomic.Bool  // since it first started
	tune   func(*Dir)   // before it runs
}

func (m *member) Announce(model.VV) {
	select {
	case m.w.kick <- struct{}{}:
	default:
	}
}

func (m *member) Fetch(ctx context.Context, id blocks.ID, _ int64, _ syncer.Class) error {
	for _, q := range m.w.members {
		if q == m || m.w.apart.Load() || !q.hold() {
			continue
		}
		b, err := q.folder.Store().Get(ctx, id, nil)
		q.live.RUnlock()
		if err == nil {
			return m.folder.Store().PutVerified(ctx, id, b)
		}
	}
	return syncer.ErrOffline
}

// hold keeps a member from ending, until its live is unlocked. It fails where one
// has ended or is about to: who waited here could be waited for by who ends it.
func (m *member) hold() bool {
	if !m.live.TryRLock() {
		return false
	}
	if !m.on.Load() {
		m.live.RUnlock()
		return false
	}
	return true
}

// newWorld makes members that are not started; each has an empty directory.
func newWorld(t testing.TB, n int) *world {
	t.Helper()
	w := &world{t: t, kick: make(chan struct{}, 1)}
	for i := range n {
		name := string(rune('a' + i))
		m := &member{w: w, name: name, home: filepath.Join(t.TempDir(), name), dir: filepath.Join(t.TempDir(), name), joined: i > 0}
		must(t, os.MkdirAll(m.dir, 0o755))
		m.opts.New = true
		w.members = append(w.members, m)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { w.gossip(ctx) })
	t.Cleanup(func() {
		cancel()
		g.Wait()
		for _, m := range w.members {
			m.end()
		}
	})
	return w
}

// start is newWorld with all members at work.
func start(t testing.TB, n int) *world {
	t.Helper()
	w := newWorld(t, n)
	for _, m := range w.members {
		m.start()
	}
	return w
}

func (m *member) start() {
	m.w.t.Helper()
	t := m.w.t
	var err error
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})).With("member", m.name)
	m.disk, err = blocks.OpenDisk(vfs.Default, m.home, blocks.DiskOptions{Log: log})
	must(t, err)
	key := sha256.Sum256([]byte(m.name))
	m.folder, err = syncer.Open(syncer.Options{
		Disk: m.disk, Number: 1, ID: sha256.Sum256([]byte("folder")), Name: "test", Key: blocks.Key(sha256.Sum256([]byte("key"))),
		Device: ed25519.NewKeyFromSeed(key[:]), Label: model.Label{Author: "user" + m.name, Device: "device" + m.name},
		Allowed: func(ed25519.PublicKey) error { return nil }, Remote: m, Names: m.names, Log: log,
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), ReadOnly: m.reader, Joined: m.joined, Members: m.others,
	})
	must(t, err)
	m.opts.Log = log
	m.plain, err = New(m.folder, m.dir, m.opts)
	must(t, err)
	m.opts.New = false
	if m.tune != nil {
		m.tune(m.plain)
	}
	plainCtx, stopPlain := context.WithCancel(context.Background())
	folderCtx, stopFolder := context.WithCancel(context.Background())
	diskCtx, stopDisk := context.WithCancel(context.Background())
	var p, f, d errgroup.Group
	d.Go(func() error { return m.disk.Run(diskCtx) })
	f.Go(func() error { return m.folder.Run(folderCtx) })
	p.Go(func() error { return m.plain.Run(plainCtx) })
	m.stop = func() error {
		stopPlain()
		err := p.Wait()
		stopFolder()
		err = errors.Join(err, f.Wait())
		stopDisk()
		return errors.Join(err, d.Wait(), m.disk.Close())
	}
	m.on.Store(true)
	m.member.Store(true)
	<-m.plain.Ready()
}

func (m *member) end() {
	if m.stop == nil {
		return
	}
	m.on.Store(false)
	m.live.Lock() // whoever uses it is done
	defer m.live.Unlock()
	if err := m.stop(); err != nil {
		m.w.t.Errorf("%s: %v", m.name, err)
	}
	m.stop = nil
}

// gossip carries what is announced.
func (w *world) gossip(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
		case <-tick.C:
		}
		for _, p := range w.members {
			for _, q := range w.members {
				if p == q || w.apart.Load() || !p.hold() {
					continue
				}
				if q.hold() {
					w.tell(ctx, p, q)
					q.live.RUnlock()
				}
				p.live.RUnlock()
			}
		}
	}
}

// tell has q know what p does.
func (w *world) tell(ctx context.Context, p, q *member) {
	k := q.folder.Knowledge()
	missing, _ := q.folder.Missing()
	p.folder.Acked(q.name, k, uint64(missing))
	if p.folder.Knowledge().LE(k) && (!q.joined || q.folder.Complete()) {
		return
	}
	if err := send(ctx, p, q); err != nil && ctx.Err() == nil {
		fmt.Fprintf(w.t.Output(), "%s to %s: %v\n", p.name, q.name, err)
	}
}

// meet is the beginning of a session, without which a newcomer takes nothing.
func meet(ctx context.Context, p, q *member) error {
	op, err := p.folder.Opening()
	if err != nil {
		return err
	}
	oq, err := q.folder.Opening()
	if err != nil {
		return err
	}
	_, err = p.folder.Meet(ctx, q.name, op, oq)
	if _, qerr := q.folder.Meet(ctx, p.name, oq, op); qerr != nil {
		return qerr
	}
	return err
}

func send(ctx context.Context, p, q *member) error {
	if !q.folder.Complete() {
		if err := meet(ctx, p, q); err != nil {
			return err
		}
	}
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

// others are the members that are not m.
func (m *member) others() (names []string) {
	for _, q := range m.w.members {
		if q != m && q.member.Load() {
			names = append(names, q.name)
		}
	}
	return names
}

// String is all there is to say of a member.
func (m *member) String() string {
	st, err := m.folder.Stats()
	return fmt.Sprintf("%s:\n%s\nthe folder:\n%s\nnotices: %v\nstats: %+v, %v; complete: %v; knows %v\n", m.name, shows(m.dir),
		m.tree(syncer.RootIno, ""), m.plain.Notices(), st, err, m.folder.Complete(), m.folder.Knowledge())
}

// tree is the folder, and where what is on disk is otherwise, as far as that is known.
func (m *member) tree(dir syncer.Ino, up string) (out string) {
	m.folder.List(dir, 0, func(e syncer.Entry) bool {
		at := syncer.Place{Dir: dir, Name: e.Name}
		s, ok, _ := m.folder.Sight().Get(at)
		v, _ := m.folder.Content(e.Attr.Ino)
		out += fmt.Sprintf("%s%s ino %d mode %o size %d", up, e.Name, e.Attr.Ino, e.Attr.Mode, e.Attr.Size)
		if v.Content.Size <= 40 {
			out += fmt.Sprintf(" %q", v.Content.Encode())
		}
		out += fmt.Sprintf(" %v", v.Orig)
		if ok {
			if st, err := statAt(-100, m.path(up+e.Name)); err == nil && !st.same(s) {
				out += fmt.Sprintf(" DISK %+v", st)
			}
			out += fmt.Sprintf(" seen size %d mtime %d ctime %d id %v", s.Size, s.Mtime, s.Ctime, s.File)
		}
		if !ok {
			out += " UNSEEN"
		} else if s.Ino != e.Attr.Ino || s.Orig != v.Orig && e.Attr.Kind == model.File {
			out += fmt.Sprintf(" SEEN %d %v, is %v", s.Ino, s.Orig, v.Orig)
		}
		if m.plain.waits(e.Attr.Ino) != nil {
			out += " waits"
		}
		out += "\n"
		if e.Attr.Kind == model.Dir {
			out += m.tree(e.Attr.Ino, up+e.Name+"/")
		}
		return true
	})
	return out
}

func (m *member) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, data string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(data), 0o644))
}

// within polls until ok, or fails.
func within(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// shows is all that is in a directory: of each path its kind, mode and bytes.
func shows(dir string) string {
	var out []string
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
			out = append(out, rel+" "+err.Error())
		case rel == ours:
			return fs.SkipDir
		case rel == ".":
		case e.IsDir():
			out = append(out, rel+"/")
		case e.Type() == fs.ModeSymlink:
			to, _ := os.Readlink(path)
			out = append(out, rel+" -> "+to)
		default:
			b, err := os.ReadFile(path)
			info, _ := e.Info()
			if err != nil || info == nil {
				out = append(out, fmt.Sprintf("%s %v", rel, err))
				return nil
			}
			text := string(b)
			if len(b) > 40 {
				text = fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b))
			}
			out = append(out, fmt.Sprintf("%s %v %q", rel, info.Mode(), text))
		}
		return nil
	})
	slices.Sort(out)
	return strings.Join(out, "\n")
}

const patience = time.Minute

// same waits until all show what the first one does, and it is this.
func (w *world) same(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	var got []string
	ok := func() bool {
		got = nil
		for _, m := range w.members {
			if !m.on.Load() {
				continue
			}
			got = append(got, shows(m.dir))
			if got[len(got)-1] != strings.Join(want, "\n") {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			for _, m := range w.members {
				w.t.Log(m)
			}
			w.t.Fatalf("want:\n%s", strings.Join(want, "\n"))
		}
	}
}

// still says that nothing changes any more: no member has anything to cut, and all show the same.
func (w *world) still() string {
	w.t.Helper()
	var last string
	defer func() {
		if w.t.Failed() {
			for _, m := range w.members {
				w.t.Log(m)
			}
		}
	}()
	for _, m := range w.members {
		must(w.t, m.plain.Scan(w.t.Context()))
	}
	within(w.t, patience, "all is still", func() bool {
		at := ""
		for i, m := range w.members {
			st, err := m.folder.Stats()
			must(w.t, err)
			if st.Pending+st.Waiting > 0 {
				return false
			}
			is := shows(m.dir)
			if i > 0 && is != at {
				return false
			}
			at = is
		}
		if at != last {
			last = at
			time.Sleep(300 * time.Millisecond)
			return false
		}
		return !strings.Contains(at, ours)
	})
	return last
}
