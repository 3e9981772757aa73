package staging

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// crash restarts from what was persisted. What is written after that may be there or not.
func (w *walk) crash() {
	st, err := w.f.Persist(context.Background(), true)
	w.check(err)
	w.say("crash gen %d data %d zero %v", st.Gen, len(st.Data), st.Zero)
	may := [][]byte{bytes.Clone(w.want)} // what it was since
	if w.r.IntN(2) == 0 && st.Gen != 0 {
		for n := w.r.IntN(4); n > 0; n-- {
			switch w.r.IntN(3) {
			case 0:
				w.truncate()
				if n == 1 {
					break // before its state is kept
				}
				st, err = w.f.Persist(context.Background(), w.r.IntN(2) == 0)
				w.check(err)
			case 1:
				st = w.hole()
			default:
				w.write()
			}
			may = append(may, bytes.Clone(w.want))
		}
	}
	w.d.Close()
	if w.r.IntN(2) == 0 {
		w.say("reboot")
		reboot(w.t, w.path)
		w.undelete()
	}
	w.check(os.RemoveAll(w.kept))
	w.check(os.Mkdir(w.kept, 0o700))
	w.d = openDir(w.t, w.path, w.opts)
	w.check(w.d.Sweep(func(uint64) bool { return st.Gen != 0 }))
	if st.Gen == 0 {
		w.f = w.d.New(7, source(w.base))
	} else {
		w.f, err = w.d.Recover(7, st, source(w.base))
		w.check(err)
	}
	w.layer = nil
	got := w.read()
	if !slices.ContainsFunc(may, func(m []byte) bool { return len(m) == len(got) }) {
		w.fatal("recovered size %d: neither as saved nor as it was after", len(got))
	}
	for i, b := range got {
		if !slices.ContainsFunc(may, func(m []byte) bool { return i < len(m) && m[i] == b || i >= len(m) && b == 0 }) {
			w.fatal("recovered byte %d is %d: neither as saved nor as it was after", i, b)
		}
	}
	if w.want = got; w.r.IntN(2) == 0 {
		w.say("grow again") // what is beyond the end stays away
		w.check(w.f.Truncate(context.Background(), w.gen(), maxSize, 8))
		w.grow(maxSize)
	}
}

// keep links the staging files elsewhere: a power cut may undo that they are deleted.
func (w *walk) keep() {
	names, err := filepath.Glob(filepath.Join(w.path, "7.*"))
	w.check(err)
	for _, name := range names {
		if err := os.Link(name, filepath.Join(w.kept, filepath.Base(name))); !errors.Is(err, os.ErrExist) {
			w.check(err)
		}
	}
}

// undelete brings back some of what was deleted since the last start.
func (w *walk) undelete() {
	names, err := filepath.Glob(filepath.Join(w.kept, "*"))
	w.check(err)
	for _, name := range names {
		if to := filepath.Join(w.path, filepath.Base(name)); w.r.IntN(2) == 0 {
			if err := os.Link(name, to); !errors.Is(err, os.ErrExist) {
				w.check(err)
				w.say("back is %s", filepath.Base(name))
			}
		}
	}
}
