package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// copies lists the conflict copies in a directory.
func copies(t testing.TB, dir string) (out []string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range es {
		if strings.Contains(e.Name(), "(conflict, ") {
			out = append(out, e.Name())
		}
	}
	return out
}

// Who saves a file, while the other side follows, is never in conflict.
func TestSavesAreNoConflicts(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := s.mnt(0), s.mnt(1)
	path := filepath.Join(a, "report.odt")
	write(t, path, "0")
	saves := map[string]func(data string){
		"truncate": func(data string) { write(t, path, data) },
		"replace": func(data string) {
			write(t, path+".tmp", data)
			must(t, os.Rename(path+".tmp", path))
		},
		"vim": func(data string) {
			must(t, os.Rename(path, path+"~"))
			write(t, path, data)
			must(t, os.Remove(path+"~"))
		},
		"read back": func(data string) {
			write(t, path+".new", data)
			read(t, path+".new")
			must(t, os.Rename(path+".new", path))
			read(t, path)
		},
		"office": func(data string) {
			lock := filepath.Join(a, ".~lock.report.odt#")
			write(t, lock, "me")
			write(t, filepath.Join(a, "lu1.tmp"), data)
			must(t, os.Rename(filepath.Join(a, "lu1.tmp"), path))
			must(t, os.Remove(lock))
		},
	}
	last := ""
	for name, save := range saves {
		for n := range 60 {
			last = fmt.Sprint(name, n, strings.Repeat("x", n%3*4000))
			save(last)
			if n%20 == 0 {
				s.tell("cut")
			}
		}
		within(t, 20*time.Second, name, holds(filepath.Join(b, "report.odt"), last))
	}
	for _, dir := range []string{a, b} {
		if c := copies(t, dir); len(c) > 0 {
			t.Errorf("conflict copies in %s: %q", dir, c)
		}
	}
}

// A program that read a file and replaces it, not knowing what came since, keeps
// that as a copy; one that read it again does not.
func TestStaleSaveKeepsTheOther(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := filepath.Join(s.mnt(0), "db.kdbx"), filepath.Join(s.mnt(1), "db.kdbx")
	write(t, a, "first")
	within(t, 10*time.Second, "first version", holds(b, "first"))
	cat := exec.Command("cat", b) // other programs read and write b
	if out, err := cat.Output(); err != nil || string(out) != "first" {
		t.Fatal(string(out), err)
	}
	read(t, a)
	must(t, exec.Command("sh", "-c", "echo -n theirs > "+b).Run())
	within(t, 10*time.Second, "their version", func() bool {
		out, err := exec.Command("cat", a).Output()
		return err == nil && string(out) == "theirs"
	})
	write(t, a+".tmp", "mine")
	must(t, os.Rename(a+".tmp", a))
	within(t, 10*time.Second, "a copy of theirs", func() bool {
		c := copies(t, s.mnt(1))
		return len(c) == 1 && holds(filepath.Join(s.mnt(1), c[0]), "theirs")() && holds(b, "mine")()
	})
	must(t, exec.Command("sh", "-c", "echo -n again > "+b).Run())
	within(t, 10*time.Second, "their next version", holds(a, "again")) // this one is read here
	write(t, a+".tmp", "known")
	must(t, os.Rename(a+".tmp", a))
	within(t, 10*time.Second, "the last version", holds(b, "known"))
	if c := copies(t, s.mnt(1)); len(c) != 1 {
		t.Errorf("copies: %q", c)
	}
}

// Who opens a file beside a program that does not know its last version makes
// that program know no more.
func TestStaleSaveStaysOneWhenOthersOpenTheFile(t *testing.T) {
	s := newServer(t, 2, "")
	a, b := filepath.Join(s.mnt(0), "notes"), filepath.Join(s.mnt(1), "notes")
	write(t, a, "first")
	within(t, 10*time.Second, "first version", holds(b, "first"))
	read(t, a)
	must(t, exec.Command("sh", "-c", "echo -n theirs > "+b).Run())
	within(t, 10*time.Second, "their version", func() bool {
		out, err := exec.Command("cat", a).Output()
		return err == nil && string(out) == "theirs"
	})
	f, err := os.OpenFile(a, os.O_WRONLY, 0)
	must(t, err)
	must(t, exec.Command("sh", "-c", ": >> "+a).Run())
	_, err = f.WriteString("mine")
	must(t, err)
	must(t, f.Truncate(4))
	must(t, f.Close())
	within(t, 10*time.Second, "a copy of theirs", func() bool {
		c := copies(t, s.mnt(1))
		return len(c) == 1 && holds(filepath.Join(s.mnt(1), c[0]), "theirs")() && holds(b, "mine")()
	})
}

// A database that is in use reaches the other side, whole and with its journal.
func TestDatabaseInUseIsWholeElsewhere(t *testing.T) {
	bin, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Log("no sqlite3 here: the engine's test of groups stands alone")
		return
	}
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			s := newServer(t, 2, "")
			a, b := filepath.Join(s.mnt(0), "x.db"), filepath.Join(s.mnt(1), "x.db")
			cmd := exec.Command(bin, a)
			in, err := cmd.StdinPipe()
			must(t, err)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			must(t, cmd.Start())
			io.WriteString(in, "pragma journal_mode="+mode+"; pragma synchronous=full; create table t(n integer, s text); create table u(n integer);\n")
			rows := func() int { // of a copy, as a program there would open it
				dir := t.TempDir()
				for _, suffix := range []string{"", "-wal", "-journal"} {
					if data, err := os.ReadFile(b + suffix); err == nil {
						must(t, os.WriteFile(filepath.Join(dir, "x.db"+suffix), data, 0o644))
					}
				}
				got, err := exec.Command(bin, filepath.Join(dir, "x.db"), "pragma integrity_check; select (select count(*) from t) - (select count(*) from u); select count(*) from t;").CombinedOutput()
				var n int
				var diff int
				if _, serr := fmt.Sscanf(string(got), "ok\n%d\n%d", &diff, &n); serr != nil || err != nil {
					return -1
				}
				if diff != 0 {
					t.Errorf("a transaction by halves: %s", got)
				}
				return n
			}
			begun := time.Now()
			last := 0
			for n := 1; n <= 60 && last < 20; n++ {
				fmt.Fprintf(in, "begin; insert into t values(%d, hex(randomblob(3000))); insert into u values(%d); commit;\n", n, n)
				if n%10 == 0 { // it rests
					within(t, 15*time.Second, "rows on the other side", func() bool {
						got := rows()
						if got > last {
							last = got
							return true
						}
						time.Sleep(100 * time.Millisecond)
						return false
					})
				}
			}
			if _, err := os.Stat(b + "-shm"); err == nil {
				t.Error("shared memory is on the other side")
			}
			in.Close()
			must(t, cmd.Wait())
			within(t, 15*time.Second, "all rows", func() bool { return rows() >= last })
			t.Logf("%d rows seen elsewhere while in use, in %v; %s", last, time.Since(begun).Round(time.Millisecond), out.String())
			if c := copies(t, s.mnt(1)); len(c) > 0 {
				t.Errorf("copies: %q", c)
			}
		})
	}
}

// Who opens a file goes on from what is there, also as long as the kernel was not told of it: else what it read of before,
// saved, would take the place of what others wrote, without a conflict.
func TestWhoOpensAFileSeesWhatIsThere(t *testing.T) {
	t.Setenv(lateEnv, "1")
	for name, tt := range map[string]struct {
		others string
		add    func(path string) error
		want   string
	}{
		"read and saved": {"one\ntwo\n", func(path string) error {
			b, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, append(b, "three\n"...), 0o644))
		}, "one\ntwo\nthree\n"},
		"appended to": {"one\ntwo\n", func(path string) error {
			var err error
			for _, line := range []string{"thr", "ee\n"} {
				f, oerr := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
				if oerr != nil {
					return oerr
				}
				_, werr := f.WriteString(line)
				err = errors.Join(err, werr, f.Close())
			}
			return err
		}, "one\ntwo\nthree\n"},
		"shorter, appended to": {"2\n", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("3\n")
			return errors.Join(err, f.Close())
		}, "2\n3\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, 2, "")
			a, b := s.mnt(1)+"/f", s.path("f")
			write(t, b, "one\n")
			s.tell("cut all")
			s.tell("synced")
			if got := read(t, a); got != "one\n" { // from now on the kernel knows it
				t.Fatalf("the file has %q", got)
			}
			must(t, os.WriteFile(b, []byte(tt.others), 0o644))
			s.tell("cut all")
			s.tell("synced")
			must(t, tt.add(a))
			if got := read(t, a); got != tt.want {
				t.Errorf("here it has %q, want %q", got, tt.want)
			}
		})
	}
}

// Of what is not written by write(2) too, O_SYNC says that it is kept; and when a file was read is known later.
func TestWhatIsKeptOverAnEnd(t *testing.T) {
	s := newServer(t, 1, "")
	must(t, os.WriteFile(s.path("read"), []byte("text"), 0o644))
	must(t, os.Chtimes(s.path("read"), time.Unix(1000, 0), time.Unix(2000, 0)))
	s.tell("cut all")
	f, err := os.Open(s.path("read"))
	must(t, err)
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	_, err = f.Read(make([]byte, 4))
	must(t, errors.Join(err, f.Close()))
	read := stat(t, s.path("read")).Atim
	if read.Sec == 1000 {
		t.Fatal("reading does not move atime")
	}
	s.stop()
	s.start()
	if at := stat(t, s.path("read")).Atim; at != read {
		t.Errorf("atime %v, before the end %v", at, read)
	}
	open := func(name string) *os.File {
		f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|unix.O_SYNC, 0o644)
		must(t, err)
		return f
	}
	from, to, grown := open("from"), open("to"), open("grown")
	_, err = from.WriteAt(make([]byte, 5000), 0)
	must(t, err)
	_, err = unix.CopyFileRange(int(from.Fd()), nil, int(to.Fd()), nil, 5000, 0)
	must(t, err)
	must(t, unix.Fallocate(int(grown.Fd()), 0, 0, 6000))
	s.kill()
	s.start()
	for name, want := range map[string]int64{"from": 5000, "to": 5000, "grown": 6000} {
		if got := stat(t, s.path(name)).Size; got != want {
			t.Errorf("%s has %d bytes after a kill, want %d", name, got, want)
		}
	}
}
