package mount_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clachanfs/clachan/syncer/model"
)

// A watcher collects what inotify tells of directories and files, as "WHAT name".
type watcher struct {
	f    *os.File
	mu   sync.Mutex // guards the rest
	dirs map[int32]string
	got  []heard
}

type heard struct {
	what, name string // name: what was watched, with the name in it
	cookie     uint32
	at         time.Time
}

func (h heard) String() string { return h.what + " " + h.name }

var masks = []struct {
	bit  uint32
	name string
}{
	{unix.IN_CREATE, "CREATE"}, {unix.IN_MODIFY, "MODIFY"}, {unix.IN_ATTRIB, "ATTRIB"}, {unix.IN_CLOSE_WRITE, "CLOSE_WRITE"},
	{unix.IN_MOVED_FROM, "MOVED_FROM"}, {unix.IN_MOVED_TO, "MOVED_TO"}, {unix.IN_DELETE, "DELETE"}, {unix.IN_OPEN, "OPEN"},
	{unix.IN_DELETE_SELF, "DELETE_SELF"}, {unix.IN_MOVE_SELF, "MOVE_SELF"}, {unix.IN_Q_OVERFLOW, "Q_OVERFLOW"},
	{unix.IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"}, {unix.IN_ACCESS, "ACCESS"}, {unix.IN_IGNORED, "IGNORED"}, {unix.IN_ISDIR, "ISDIR"},
}

// usual is what is watched for, unless a test says otherwise: what does not come of reading.
const usual = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CLOSE_WRITE | unix.IN_MOVE | unix.IN_DELETE |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// attend adds watches. What they tell waits until somebody listens.
func attend(t testing.TB, mask uint32, paths ...string) *watcher {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	w := &watcher{f: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{}}
	for _, p := range paths {
		wd, err := unix.InotifyAddWatch(fd, p, mask)
		must(t, err)
		w.dirs[int32(wd)] = p
	}
	return w
}

// listen has a watcher collect from now on.
func (w *watcher) listen(t testing.TB) *watcher {
	done := make(chan struct{})
	go func() { defer close(done); w.read() }()
	t.Cleanup(func() { w.f.Close(); <-done })
	return w
}

func watch(t testing.TB, mask uint32, paths ...string) *watcher {
	t.Helper()
	return attend(t, mask, paths...).listen(t)
}

func (w *watcher) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			return
		}
		w.parse(buf[:n])
	}
}

func (w *watcher) parse(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for len(b) >= unix.SizeofInotifyEvent {
		wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		n := binary.NativeEndian.Uint32(b[12:])
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:][:n], []byte{0})
		var what []string
		for _, m := range masks {
			if mask&m.bit != 0 {
				what = append(what, m.name)
			}
		}
		h := heard{strings.Join(what, ","), w.dirs[wd], binary.NativeEndian.Uint32(b[8:]), now}
		if len(name) > 0 {
			h.name += "/" + string(name)
		}
		w.got = append(w.got, h)
		b = b[unix.SizeofInotifyEvent+n:]
	}
}

// heard returns what was told so far.
func (w *watcher) heard() []heard {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

func (w *watcher) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = nil
}

func (w *watcher) has(want string) bool {
	return slices.ContainsFunc(w.heard(), func(h heard) bool { return h.String() == want })
}

// deeds are what a peer does below a directory in which d is one, and what those hear who watch both.
var deeds = []struct {
	name string
	do   func(dir string) error
	want string
}{
	{"create", func(d string) error { return os.WriteFile(d+"/f", []byte("one"), 0o644) },
		"CREATE f, MODIFY f, CLOSE_WRITE f"},
	{"create empty", func(d string) error { return os.WriteFile(d+"/d/empty", nil, 0o644) },
		"CREATE d/empty, CLOSE_WRITE d/empty"},
	{"modify", func(d string) error {
		f, err := os.OpenFile(d+"/f", os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("two")
		}
		return errors.Join(err, f.Close())
	}, "MODIFY f, CLOSE_WRITE f"},
	{"chmod", func(d string) error { return os.Chmod(d+"/f", 0o600) }, "ATTRIB f"},
	{"utimes", func(d string) error { return os.Chtimes(d+"/f", time.Unix(5, 0), time.Unix(6, 0)) }, "ATTRIB f"},
	{"setxattr", func(d string) error { return unix.Setxattr(d+"/f", "user.x", []byte("1"), 0) }, "ATTRIB f"},
	{"rename", func(d string) error { return os.Rename(d+"/f", d+"/g") }, "MOVED_FROM f, MOVED_TO g"},
	{"rename elsewhere", func(d string) error { return os.Rename(d+"/g", d+"/d/g") }, "MOVED_FROM g, MOVED_TO d/g"},
	{"symlink", func(d string) error { return os.Symlink("/nowhere", d+"/d/l") }, "CREATE d/l"},
	{"rename a link", func(d string) error { return os.Rename(d+"/d/l", d+"/l") }, "MOVED_FROM d/l, MOVED_TO l"},
	{"unlink a link", func(d string) error { return os.Remove(d + "/l") }, "DELETE l"},
	{"mkdir", func(d string) error { return os.Mkdir(d+"/e", 0o755) }, "CREATE,ISDIR e"},
	{"chmod directory", func(d string) error { return os.Chmod(d+"/e", 0o700) }, "ATTRIB,ISDIR e"},
	{"rename directory", func(d string) error { return os.Rename(d+"/e", d+"/d/e2") }, "MOVED_FROM,ISDIR e, MOVED_TO,ISDIR d/e2"},
	{"rmdir", func(d string) error { return os.Remove(d + "/d/e2") }, "DELETE,ISDIR d/e2"},
	{"unlink", func(d string) error { return os.Remove(d + "/d/g") }, "DELETE d/g"},
	{"remove all", func(d string) error { return os.RemoveAll(d + "/d") }, "DELETE d/empty, DELETE_SELF d, IGNORED d, DELETE,ISDIR d"},
}

// inside is what was told below a directory, and whether the two ends of each move have one cookie.
func (w *watcher) inside(dir string) string {
	var out []string
	var cookie uint32
	for _, h := range w.heard() {
		name, _ := filepath.Rel(dir, h.name)
		what := h.what
		if strings.HasPrefix(what, "MOVED_TO") && h.cookie != cookie {
			what += " (alone)"
		}
		cookie = h.cookie
		out = append(out, what+" "+name)
	}
	return strings.Join(out, ", ")
}

// hearDeeds has a peer do all deeds, and a program elsewhere: they are heard alike.
func hearDeeds(t *testing.T, s *server) {
	t.Helper()
	here := t.TempDir()
	for round := range 2 {
		a, b, c := filepath.Join(s.mnt(0), fmt.Sprint(round)), filepath.Join(s.mnt(1), fmt.Sprint(round)), filepath.Join(here, fmt.Sprint(round))
		must(t, os.MkdirAll(a+"/d", 0o755))
		must(t, os.MkdirAll(c+"/d", 0o755))
		within(t, 10*time.Second, "the directory", func() bool { _, err := os.Stat(b + "/d"); return err == nil })
		peer, local := watch(t, usual, b, b+"/d"), watch(t, usual, c, c+"/d")
		write(t, a+"/mark", "") // when it is heard of, nothing of before comes any more
		within(t, 10*time.Second, "the mark", func() bool { return peer.has("CLOSE_WRITE " + b + "/mark") })
		for _, x := range deeds {
			peer.clear()
			local.clear()
			must(t, x.do(c))
			within(t, time.Second, "a program here: "+x.want, func() bool { return local.inside(c) == x.want })
			must(t, x.do(a))
			for end := time.Now().Add(10 * time.Second); peer.inside(b) != x.want; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s: heard %q, want %q", x.name, peer.inside(b), x.want)
				}
			}
		}
	}
}

func TestWatchersHearWhatAPeerDoesAsOfAProgramHere(t *testing.T) {
	for _, tt := range []struct{ name, readers, names string }{
		{name: "members who write"}, {name: "a reader", readers: "1"}, {name: "names that fold", names: model.NamesPortable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(readersEnv, tt.readers)
			t.Setenv(namesEnv, tt.names)
			s := newServer(t, 2, "")
			hearDeeds(t, s)
			s.tell("silent")
		})
	}
}
