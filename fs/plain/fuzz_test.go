package plain

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAnythingDoneOnBothDisksEndsTheSame has programs do what they like on two disks at once,
// now and then apart or with a daemon away. All show the same in the end, no index tells
// anything else than its disk, and what nobody has removed or written over is somewhere.
func TestAnythingDoneOnBothDisksEndsTheSame(t *testing.T) {
	t.Parallel()
	seeds := 3
	if testing.Short() {
		seeds = 1
	}
	first := uint64(1)
	if s := os.Getenv("SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		seeds = 1
	}
	if s := os.Getenv("SEEDS"); s != "" {
		seeds, _ = strconv.Atoi(s)
	}
	for seed := first; seed < first+uint64(seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			anything(t, seed)
		})
	}
}

func anything(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	w := start(t, 2)
	written := 0
	for range 12 {
		for range 1 + r.IntN(10) {
			m := w.members[r.IntN(2)]
			written++
			op(t, r, m.dir, fmt.Sprintf("%d by %s", written, m.name))
			if r.IntN(4) == 0 {
				time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
			}
		}
		switch r.IntN(6) {
		case 0:
			w.apart.Store(!w.apart.Load())
		case 1:
			m := w.members[r.IntN(2)]
			m.end()
			for range r.IntN(6) {
				written++
				op(t, r, m.dir, fmt.Sprintf("%d by %s", written, m.name))
			}
			m.start()
		case 2:
			time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		}
	}
	w.apart.Store(false)
	w.still()
	for _, m := range w.members {
		if n := m.plain.Notices(); len(n) > 0 {
			t.Errorf("%s: %v", m.name, n)
		}
	}
	was := shows(w.members[0].dir)
	for _, m := range w.members { // what is on disk is what is remembered
		m.end()
		m.start()
	}
	if is := w.still(); is != was {
		t.Errorf("after a start:\n%s\nbefore:\n%s", is, was)
	}
}

// op does one thing to a directory.
func op(t *testing.T, r *rand.Rand, dir, data string) {
	t.Helper()
	paths := func(want func(os.FileInfo) bool) (out []string) {
		filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err != nil {
				return nil
			}
			if info.Name() == ours {
				return filepath.SkipDir
			}
			if want(info) {
				out = append(out, path)
			}
			return nil
		})
		return out
	}
	pick := func(in []string) string {
		if len(in) == 0 {
			return filepath.Join(dir, "none")
		}
		return in[r.IntN(len(in))]
	}
	isDir := func(i os.FileInfo) bool { return i.IsDir() }
	isFile := func(i os.FileInfo) bool { return i.Mode().IsRegular() }
	below := func(i os.FileInfo) bool { return true }
	name := func() string { return filepath.Join(pick(paths(isDir)), string(rune('p'+r.IntN(6)))) }
	if r.IntN(5) == 0 {
		data = strings.Repeat(data+"\n", 1+r.IntN(20000))
	}
	var what, x, y string
	var err error
	switch n := r.IntN(16); {
	case n < 4:
		what, x = "write", name()
		err = os.WriteFile(x, []byte(data), 0o644)
	case n < 6:
		what, x = "edit", pick(paths(isFile))
		err = os.WriteFile(x, []byte(data), 0o644)
	case n < 8:
		what, x = "mkdir", name()
		err = os.Mkdir(x, 0o755)
	case n < 11:
		what, x, y = "rename", pick(paths(below)[1:]), name()
		err = os.Rename(x, y)
	case n == 11:
		what, x = "remove", pick(paths(isFile))
		err = os.Remove(x)
	case n == 12:
		what, x = "remove all", name()
		err = os.RemoveAll(x)
	case n == 13:
		what, x, y = "save", pick(paths(isFile)), filepath.Join(dir, "tmp~")
		if _, err = os.Stat(x); err == nil {
			if err = os.WriteFile(y, []byte(data), 0o644); err == nil {
				err = os.Rename(y, x)
			}
		}
	case n == 14:
		what, x = "chmod", pick(paths(isFile))
		err = os.Chmod(x, os.FileMode(0o600|r.IntN(0o200)))
	case n == 15:
		what, x, y = "symlink", data[:min(len(data), 20)], name()
		err = os.Symlink(x, y)
	}
	if testing.Verbose() {
		t.Logf("%s %s %s %v", what, strings.TrimPrefix(x, filepath.Dir(filepath.Dir(dir))), strings.TrimPrefix(y, filepath.Dir(filepath.Dir(dir))), err)
	}
}
