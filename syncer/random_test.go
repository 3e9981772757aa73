package syncer_test

import (
	"context"
	"flag"
	"fmt"
	mrand "math/rand"
	"strings"
	"testing"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

var (
	worlds = flag.Int("worlds", 25, "random worlds to run")
	seed   = flag.Int64("seed", 1, "seed of the first")
)

// A user does random things to a few names.
type user struct {
	*peer
	r      *mrand.Rand
	log    *[]string
	n      int
	names  []string
	pad    string         // ends what is written
	reads  map[Ino]string // open for reading, with what was read
	writes map[Ino]bool   // open for writing
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
	name := u.names[u.r.Intn(len(u.names))]
	if u.r.Intn(3) == 0 { // something that is there, a conflict copy perhaps
		var all []string
		u.must(u.List(dir, 0, func(e Entry) bool {
			if !strings.HasPrefix(e.Name, "keep") { // see TestRandomRestores
				all = append(all, e.Name)
			}
			return true
		}))
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
	switch op := u.r.Intn(22); {
	case op < 5:
		if !there || a.Kind == model.File {
			u.say("write %s", path)
			u.write(dir, name)
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
	case op < 17 && there:
		u.attrs(a, path)
	case op < 18 && !(there && a.Kind != model.File):
		u.say("save %s by rename", path)
		u.write(dir, ".tmp")
		u.Rename(dir, ".tmp", dir, name, 0)
	case op < 19 && !(there && a.Kind != model.File):
		u.say("save %s with backup", path)
		u.Rename(dir, name, dir, name+"~", 0)
		u.write(dir, name)
	case op < 20 && there && a.Kind == model.File:
		u.open(a.Ino, path)
	case op < 21:
		u.close()
	default:
		u.say("symlink %s", path)
		u.Create(dir, name, New{Kind: model.Symlink, Mode: 0o777, Target: fmt.Sprint("to", u.n)})
	}
}

func (u *user) write(dir Ino, name string) {
	if a, err := u.Lookup(dir, name); err == nil { // it changes for who reads it
		if _, ok := u.reads[a.Ino]; ok {
			u.close()
		}
	}
	if !u.writeAt(dir, name, fmt.Sprint(u.name, u.n)+u.pad) { // somebody else's has come in between
		u.say("not written")
	}
}

// attrs changes mode, times or extended attributes.
func (u *user) attrs(a Attr, path string) {
	switch u.r.Intn(4) {
	case 0:
		mode := uint32(0o600 + u.r.Intn(64))
		u.say("chmod %s %o", path, mode)
		u.SetAttr(a.Ino, Set{Mode: &mode})
	case 1:
		mtime := int64(u.r.Intn(1e9)) * 1e9
		u.say("touch %s %d", path, mtime)
		u.SetAttr(a.Ino, Set{Mtime: &mtime})
	case 2:
		u.say("setxattr %s", path)
		u.Setxattr(a.Ino, fmt.Sprint("user.", u.r.Intn(2)), []byte(fmt.Sprint(u.name, u.n)), 0)
	case 3:
		u.say("removexattr %s", path)
		u.Removexattr(a.Ino, fmt.Sprint("user.", u.r.Intn(2)))
	}
}

// open opens a file for reading, whose bytes must stay, or for writing, when it
// is not cut.
func (u *user) open(ino Ino, path string) {
	if _, ok := u.reads[ino]; ok || u.writes[ino] {
		return
	}
	writes := u.r.Intn(2) == 0
	u.peer.open(ino, writes)
	if _, err := u.Held(ino); err != nil { // removed in between
		u.shut(ino)
	} else if writes {
		u.say("open %s", path)
		u.writes[ino] = true
	} else {
		u.say("open %s to read", path)
		u.reads[ino] = u.read(ino)
	}
}

// close closes all that is open.
func (u *user) close() {
	u.say("close")
	for ino, was := range u.reads {
		if now := u.read(ino); now != was {
			u.t.Errorf("%s: inode %d had %s when it was opened, has %s", u.name, ino, was, now)
		}
		u.shut(ino)
	}
	for ino := range u.writes {
		u.shut(ino)
	}
	clear(u.reads)
	clear(u.writes)
}

// restart stops the peer and starts it again, or kills it.
func (u *user) restart() {
	u.close()
	if u.r.Intn(2) == 0 {
		u.say("crash")
		u.crash(u.r)
		return
	}
	u.say("restart")
	u.w.talk.Lock()
	defer u.w.talk.Unlock()
	u.stop()
	u.start()
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

// namesOf gives every other folder names that differ only in case or form.
func namesOf(seed int64) (policy string, names []string) {
	if seed%2 == 0 {
		return model.NamesPortable, []string{"a", "A", "b", "c.txt", "C.txt", "\u00e9", "E\u0301"}
	}
	return model.NamesBytes, []string{"a", "b", "c.txt"}
}

// TestRandomWorlds lets users work on two or three peers that lose touch again
// and again. In the end all show the same, and the rows are what the log says.
// Every other folder is one where names that differ in case or form are one.
func TestRandomWorlds(t *testing.T) {
	for i := range int64(*worlds) {
		s := *seed + i
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			r := mrand.New(mrand.NewSource(s))
			policy, names := namesOf(s)
			w := newWorldOf(t, 2+r.Intn(2), policy)
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
				p.crashable()
				us = append(us, &user{peer: p, r: r, log: &log, names: names, reads: map[Ino]string{}, writes: map[Ino]bool{}})
			}
			for range 30 + r.Intn(40) {
				u := us[r.Intn(len(us))]
				switch r.Intn(13) {
				case 0:
					log = append(log, "part")
					w.part(true)
				case 1:
					log = append(log, "heal")
					w.part(false)
				case 2:
					u.say("cut")
					u.must(u.Cut(context.Background()))
				case 3:
					if r.Intn(4) == 0 {
						u.restart()
					}
				default:
					u.step()
				}
			}
			for _, u := range us {
				u.close()
			}
			w.part(false)
			w.same()
		})
	}
}
