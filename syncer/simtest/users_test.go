package simtest

import (
	"errors"
	"math/rand/v2"

	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A user runs one program after the other on a machine. It has a goroutine of
// its own, which moves only when the world lets it, for some system calls.
type user struct {
	m     *machine
	r     *rand.Rand
	turn  chan bool     // false: the program is killed
	rest  chan struct{} // the program pauses
	ended chan struct{}
	open  []*handle
	proc  syncer.Proc
}

// What unwinds a program: it was killed, or a call failed.
type (
	killed struct{}
	failed struct{}
)

// reads tells whether a machine may only read.
func (m *machine) reads() bool { return m.w.plan.reader && m.i == 1 && m.name == "b" }

// hire gives a machine its users.
func (m *machine) hire() {
	if m.reads() {
		return
	}
	for range m.w.plan.users {
		u := &user{m: m, r: rand.New(rand.NewPCG(m.w.r.Uint64(), 7)), turn: make(chan bool), rest: make(chan struct{}), ended: make(chan struct{})}
		m.users = append(m.users, u)
		go u.live()
	}
}

func (u *user) live() {
	defer close(u.ended)
	defer func() {
		switch x := recover().(type) {
		case nil, killed, violated:
		default:
			panic(x)
		}
	}()
	u.wait()
	for {
		u.run()
		u.pause()
	}
}

func (u *user) wait() {
	if !<-u.turn {
		panic(killed{})
	}
}

// pause lets others go on.
func (u *user) pause() {
	u.rest <- struct{}{}
	u.wait()
}

// step lets the program go on until it pauses.
func (u *user) step() {
	u.m.proc = u.proc
	select {
	case u.turn <- true:
		select {
		case <-u.rest:
		case <-u.ended:
		}
	case <-u.ended:
	}
}

func (u *user) kill() {
	select {
	case u.turn <- false:
	case <-u.ended:
	}
	<-u.ended
}

// run runs a program until it ends or fails.
func (u *user) run() {
	defer func() {
		switch x := recover().(type) {
		case nil, failed:
			for _, h := range u.open {
				h.close()
			}
			u.open = nil
		default:
			panic(x)
		}
	}()
	u.begin()
	if u.m.w.plan.savers && u.r.IntN(3) > 0 {
		editor(u)
		return
	}
	programs[u.r.IntN(len(programs))](u)
}

// begin makes another process of who runs the next program, or the same that has
// run the last one and knows what it has read. Of some nobody knows who they are.
func (u *user) begin() {
	if u.m.w.plan.calm || u.r.IntN(2) == 0 {
		u.proc = syncer.Proc(u.m.w.oracle.next())
	}
	if u.r.IntN(5) == 0 {
		u.proc = 0
	}
	u.m.proc = u.proc
}

// try ends the program if a call failed; else others may go on, or not.
func (u *user) try(err error) {
	if err != nil {
		panic(failed{})
	}
	if u.r.IntN(3) == 0 {
		u.pause()
	}
}

// may is try for what may fail.
func (u *user) may(err error) bool {
	if u.r.IntN(3) == 0 {
		u.pause()
	}
	return err == nil
}

func (u *user) file(path string, create, excl bool) *handle {
	return u.opened(u.m.open(path, true, create, excl))
}

// whole opens a file that is to be written anew, unread: its bytes may have been
// read before, or not at all.
func (u *user) whole(path string) *handle {
	if u.r.IntN(2) == 0 {
		return u.file(path, true, false)
	}
	return u.opened(u.m.openUnread(path))
}

func (u *user) opened(h *handle, err error) *handle {
	if err != nil {
		panic(failed{})
	}
	u.open = append(u.open, h)
	return h
}

// text makes up the bytes of a file. Most are short; some fill several blocks.
func (u *user) text() []byte {
	kind := u.r.IntN(12)
	if u.m.w.plan.rot && kind != 1 {
		kind = 3 // Pebble looks for a flipped bit by trying all: seconds for a large block
	}
	switch kind {
	case 0:
		return u.m.w.oracle.bytes(u.m, 5000+u.r.IntN(30_000), true)
	case 1:
		return u.m.w.oracle.bytes(u.m, 5000+u.r.IntN(60_000), false)
	case 2:
		if u.r.IntN(6) == 0 {
			return u.m.w.oracle.bytes(u.m, 100_000+u.r.IntN(200_000), true)
		}
	}
	return u.m.w.oracle.bytes(u.m, u.r.IntN(300), false)
}

var names = []string{"a", "b", "c.txt", "doc.odt", "d", "e"}

// spelt are names that a portable folder takes for the same as others.
var spelt = []string{"A", "C.TXT", "Doc.odt", "\u00e9", "e\u0301"}

func (u *user) name() string {
	all := names
	if u.m.w.plan.names == model.NamesPortable && u.r.IntN(3) == 0 {
		all = spelt
	}
	return all[u.r.IntN(len(all))]
}

// dir picks a directory.
func (u *user) dir() string {
	dir, ino := "", syncer.RootIno
	for u.r.IntN(3) > 0 {
		var dirs []syncer.Entry
		err := u.m.f.List(ino, 0, func(e syncer.Entry) bool {
			if e.Attr.Kind == model.Dir {
				dirs = append(dirs, e)
			}
			return true
		})
		if err != nil || len(dirs) == 0 {
			break
		}
		e := dirs[u.r.IntN(len(dirs))]
		dir, ino = dir+"/"+e.Name, e.Attr.Ino
	}
	return dir
}

// path picks a name: something that is there, or one of a few.
func (u *user) path() string {
	if bait := u.m.w.bait; bait != "" && u.r.IntN(4) == 0 {
		return bait
	}
	dir := u.dir()
	if u.r.IntN(3) > 0 {
		if all, err := u.m.list(dir); err == nil && len(all) > 0 {
			return dir + "/" + all[u.r.IntN(len(all))]
		}
	}
	return dir + "/" + u.name()
}

// doc picks the name of a file, there or not.
func (u *user) doc() string {
	for range 5 {
		p := u.path()
		if a, err := u.m.stat(p); errors.Is(err, syncer.ErrNotExist) || err == nil && a.Kind == model.File {
			return p
		}
	}
	panic(failed{})
}

// removeAll is rm -r.
func (u *user) removeAll(path string) {
	a, err := u.m.stat(path)
	if err != nil {
		return
	}
	if a.Kind != model.Dir {
		u.may(u.m.unlink(path))
		return
	}
	all, err := u.m.list(path)
	if err != nil {
		return
	}
	for _, n := range all {
		u.removeAll(path + "/" + n)
	}
	u.may(u.m.rmdir(path))
}
