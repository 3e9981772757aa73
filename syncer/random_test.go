package syncer_test

import (
	"context"
	"flag"
	"fmt"
	mrand "math/rand"
	"testing"
	"time"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

var (
	worlds = flag.Int("worlds", 25, "random worlds to run")
	seed   = flag.Int64("seed", time.Now().UnixNano(), "seed of the first")
)

// A user does random things to a few names.
type user struct {
	*peer
	r   *mrand.Rand
	log *[]string
	n   int
}

func (u *user) say(format string, args ...any) {
	*u.log = append(*u.log, u.name+" "+fmt.Sprintf(format, args...))
}

// pick chooses a directory and a name, which may exist.
func (u *user) pick() (Ino, string, string) {
	dir, path := RootIno, ""
	for u.r.Intn(3) > 0 {
		var dirs []Entry
		u.must(u.List(dir, 0, func(e Entry) bool {
			if e.Attr.Kind == model.Dir {
				dirs = append(dirs, e)
			}
			return true
		}))
		if len(dirs) == 0 {
			break
		}
		e := dirs[u.r.Intn(len(dirs))]
		dir, path = e.Attr.Ino, path+"/"+e.Name
	}
	name := []string{"a", "b", "c.txt"}[u.r.Intn(3)]
	if u.r.Intn(3) == 0 { // something that is there, a conflict copy perhaps
		var all []string
		u.must(u.List(dir, 0, func(e Entry) bool { all = append(all, e.Name); return true }))
		if len(all) > 0 {
			name = all[u.r.Intn(len(all))]
		}
	}
	return dir, name, path + "/" + name
}

// step does one thing; that it cannot be done is fine.
func (u *user) step() {
	defer u.forget()
	dir, name, path := u.pick()
	a, err := u.Lookup(dir, name)
	there := err == nil
	u.n++
	switch op := u.r.Intn(16); {
	case op < 5:
		if !there || a.Kind == model.File {
			u.say("write %s", path)
			if !u.writeAt(dir, name, fmt.Sprint(u.name, u.n)) { // somebody else's has come in between
				u.say("not written")
			}
		}
	case op < 7:
		u.say("mkdir %s", path)
		u.Create(dir, name, New{Kind: model.Dir, Mode: 0o755})
	case op < 9:
		u.say("rm %s", path)
		if there && a.Kind == model.Dir {
			u.removeAll(dir, name)
		} else {
			u.Unlink(dir, name)
		}
	case op < 13:
		to, toName, toPath := u.pick()
		flags := uint32(0)
		if u.r.Intn(4) == 0 {
			flags = RenameExchange
		}
		u.say("mv %s %s %d", path, toPath, flags)
		u.Rename(dir, name, to, toName, flags)
	case op < 14 && there:
		to, toName, toPath := u.pick()
		u.say("ln %s %s", path, toPath)
		u.Link(a.Ino, to, toName)
	case op < 15 && there:
		mode := uint32(0o600 + u.r.Intn(64))
		u.say("chmod %s %o", path, mode)
		u.SetAttr(a.Ino, Set{Mode: &mode})
	default:
		u.say("symlink %s", path)
		u.Create(dir, name, New{Kind: model.Symlink, Mode: 0o777, Target: fmt.Sprint("to", u.n)})
	}
}

func (u *user) removeAll(dir Ino, name string) {
	a, err := u.Lookup(dir, name)
	if err != nil {
		return
	}
	if a.Kind != model.Dir {
		u.Unlink(dir, name)
		return
	}
	var names []string
	u.must(u.List(a.Ino, 0, func(e Entry) bool { names = append(names, e.Name); return true }))
	for _, n := range names {
		u.removeAll(a.Ino, n)
	}
	u.Rmdir(dir, name)
}

// TestRandomWorlds lets users work on two or three peers that lose touch again
// and again. In the end all show the same, and the rows are what the log says.
func TestRandomWorlds(t *testing.T) {
	for i := range int64(*worlds) {
		s := *seed + i
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			r := mrand.New(mrand.NewSource(s))
			w := newWorld(t, 2+r.Intn(2))
			var log []string
			t.Cleanup(func() {
				if t.Failed() {
					for _, l := range log {
						t.Log(l)
					}
				}
			})
			var us []*user
			for _, p := range w.peers {
				us = append(us, &user{peer: p, r: r, log: &log})
			}
			for range 30 + r.Intn(40) {
				u := us[r.Intn(len(us))]
				switch r.Intn(12) {
				case 0:
					log = append(log, "part")
					w.part(true)
				case 1:
					log = append(log, "heal")
					w.part(false)
				case 2:
					u.say("cut")
					u.must(u.Cut(context.Background()))
				default:
					u.step()
				}
			}
			w.part(false)
			w.same()
		})
	}
}
