package mount_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Files tell when they were made here, and what else statx tells is what stat does.
func TestFilesTellWhenTheyWereMade(t *testing.T) {
	s := newServer(t, 2, "")
	statx := func(path string) (x unix.Statx_t) {
		t.Helper()
		must(t, unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x))
		if x.Mask&unix.STATX_BTIME == 0 {
			t.Errorf("%s: no time of birth", path)
		}
		return x
	}
	at := func(ts unix.StatxTimestamp) time.Time { return time.Unix(ts.Sec, int64(ts.Nsec)) }
	before := time.Now()
	write(t, s.path("f"), "one")
	must(t, os.Mkdir(s.path("d"), 0o750))
	must(t, os.Symlink("f", s.path("l")))
	must(t, unix.Mknod(s.path("null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	for _, name := range []string{"f", "d", "l", "null"} {
		x := statx(s.path(name))
		if b := at(x.Btime); b.Before(before.Add(-time.Second)) || b.After(time.Now()) {
			t.Errorf("%s was made at %v", name, b)
		}
		var st unix.Stat_t
		must(t, unix.Lstat(s.path(name), &st))
		if x.Ino != st.Ino || uint32(x.Mode) != st.Mode || x.Nlink != uint32(st.Nlink) || x.Size != uint64(st.Size) || x.Blocks != uint64(st.Blocks) ||
			x.Uid != st.Uid || x.Gid != st.Gid || unix.Mkdev(x.Rdev_major, x.Rdev_minor) != st.Rdev || at(x.Mtime) != time.Unix(st.Mtim.Unix()) || at(x.Ctime) != time.Unix(st.Ctim.Unix()) {
			t.Errorf("%s: statx %+v, stat %+v", name, x, st)
		}
	}
	was := at(statx(s.path("f")).Btime)
	old := time.Unix(1, 0)
	must(t, os.Chtimes(s.path("f"), old, old))
	write(t, s.path("f"), "three")
	if x := statx(s.path("f")); at(x.Btime) != was || x.Size != 5 {
		t.Errorf("born at %v, then at %v; %d bytes", was, at(x.Btime), x.Size)
	}
	there := filepath.Join(s.mnt(1), "f")
	within(t, 10*time.Second, "the file on the other side", holds(there, "three"))
	statx(there)
}
