package simtest

import (
	"bytes"
	"fmt"
	"path"

	"github.com/clachanfs/clachan/syncer"
)

// programs are what users run: what editors, version control, databases and
// shells do to files.
var programs = []func(*user){
	vim, vim, office, office, code, code, keepass, git, git, rmrf, moveTree, moveTree, appender, database, database, shell, shell, shell, attributes, attributes,
	links, exchange, script, reader, reader, nameless, editor, editor, locker, rmrf,
}

// vim: the old file becomes the backup, the new one is written in its place, the
// backup goes.
func vim(u *user) {
	p := u.doc()
	var old *text
	if a, err := u.m.stat(p); err == nil {
		old, err = u.m.seen(a)
		u.try(err)
		u.try(u.m.rename(p, p+"~", 0))
	}
	h := u.file(p, true, true)
	u.try(h.write(0, 0, u.text()))
	if u.r.IntN(2) == 0 {
		u.try(h.sync())
	}
	h.close()
	if u.may(u.m.unlink(p + "~")) {
		old.consume(u.m, nil) // also if others have moved it meanwhile, and a second name is there
	}
}

// office: a lock file, a temporary file renamed over the document.
func office(u *user) {
	p := u.doc()
	dir, base := path.Split(p)
	lock := dir + ".~lock." + base + "#"
	h := u.file(lock, true, false)
	u.try(h.write(0, 0, u.m.w.oracle.bytes(u.m, 20, false)))
	h.close()
	for range 1 + u.r.IntN(2) {
		tmp := fmt.Sprintf("%slu%d.tmp", dir, u.r.IntN(100))
		h := u.file(tmp, true, true)
		u.try(h.write(0, 0, u.text()))
		u.try(h.sync())
		h.close()
		u.try(u.m.rename(tmp, p, 0))
	}
	u.may(u.m.unlink(lock))
}

// code: truncate and write in place.
func code(u *user) {
	h := u.whole(u.doc())
	b := u.text()
	if n := len(b) / 2; u.r.IntN(3) == 0 {
		u.try(h.write(0, 0, b[:n]))
		u.try(h.write(-1, -1, b[n:]))
	} else {
		u.try(h.write(0, 0, b))
	}
	if u.r.IntN(2) == 0 {
		u.try(h.sync())
	}
	h.close()
}

// keepass: a temporary file, the old one unlinked, the new one renamed.
func keepass(u *user) {
	p := u.doc()
	h := u.file(p+".new", true, false)
	u.try(h.write(0, 0, u.text()))
	u.try(h.sync())
	h.close()
	u.may(u.m.unlink(p))
	u.try(u.m.rename(p+".new", p, 0))
	u.try(u.m.sync())
}

// git: an object is written aside and linked into place, refs and the index are
// replaced through a lock.
func git(u *user) {
	u.may(u.m.mkdir("/repo"))
	u.may(u.m.mkdir("/repo/objects"))
	fan := fmt.Sprintf("/repo/objects/%02x", u.r.IntN(3))
	u.may(u.m.mkdir(fan))
	tmp := fmt.Sprintf("%s/tmp_obj_%d", fan, u.r.IntN(1000))
	h := u.file(tmp, true, true)
	u.try(h.write(0, 0, u.text()))
	u.try(h.sync())
	h.close()
	obj := fmt.Sprintf("%s/%04x", fan, u.r.IntN(1<<16))
	if u.may(u.m.link(tmp, obj)) {
		u.try(u.m.unlink(tmp))
	} else {
		u.try(u.m.rename(tmp, obj, syncer.RenameNoReplace))
	}
	for _, p := range []string{"/repo/index", "/repo/HEAD"} {
		h := u.file(p+".lock", true, true)
		u.try(h.write(0, 0, u.m.w.oracle.bytes(u.m, 40+u.r.IntN(200), false)))
		h.close()
		u.try(u.m.rename(p+".lock", p, 0))
	}
}

func rmrf(u *user) {
	if u.r.IntN(2) == 0 {
		u.removeAll(u.path())
	}
}

// moveTree moves anything anywhere.
func moveTree(u *user) {
	from, to := u.path(), u.path()
	if u.r.IntN(2) == 0 {
		to = u.dir() + "/" + path.Base(from)
	}
	u.try(u.m.rename(from, to, 0))
}

// appender writes a log.
func appender(u *user) {
	h := u.file(u.doc(), true, false)
	for range 1 + u.r.IntN(4) {
		u.try(h.write(-1, -1, u.m.w.oracle.bytes(u.m, 10+u.r.IntN(200), false)))
		if u.r.IntN(2) == 0 {
			u.try(h.sync())
		}
	}
	h.close()
}

// database writes pages in place, with a journal beside, or first to a log that
// it takes over into the pages now and then.
func database(u *user) {
	db := u.dir() + "/x.db"
	h := u.file(db, true, false)
	if u.r.IntN(2) == 0 {
		u.wal(db, h)
		return
	}
	h.mapped = u.r.IntN(3) == 0
	for range 1 + u.r.IntN(2) {
		j := u.file(db+"-journal", true, false)
		u.try(j.write(0, 0, u.m.w.oracle.bytes(u.m, 512, false)))
		u.try(j.sync())
		j.close()
		for range 1 + u.r.IntN(3) {
			page := u.m.w.oracle.bytes(u.m, 4000, u.r.IntN(2) == 0)
			u.try(h.write(int64(u.r.IntN(12))*4096, -1, page[:4000]))
		}
		u.try(h.sync())
		u.may(u.m.unlink(db + "-journal"))
	}
	h.close()
}

func (u *user) wal(db string, h *handle) {
	l := u.file(db+"-wal", true, false)
	for range 1 + u.r.IntN(3) {
		frame := u.m.w.oracle.bytes(u.m, 4000, u.r.IntN(2) == 0)
		u.try(l.write(-1, -1, frame[:4000]))
		u.try(l.sync())
		if u.r.IntN(3) == 0 {
			u.try(h.write(int64(u.r.IntN(12))*4096, -1, frame[:4000]))
			u.try(h.sync())
			u.try(l.write(0, 0, u.m.w.oracle.bytes(u.m, 32, false))) // it begins anew
		}
	}
	l.close()
	h.close()
	u.may(u.m.unlink(db + "-wal"))
}

// shell makes directories, files and what is in them.
func shell(u *user) {
	d := u.path()
	u.may(u.m.mkdir(d))
	for range u.r.IntN(3) {
		h := u.file(d+"/"+u.name(), true, true)
		u.try(h.write(0, 0, u.text()))
		h.close()
	}
}

func attributes(u *user) {
	p := u.path()
	switch u.r.IntN(5) {
	case 0, 1:
		u.try(u.m.chmod(p, uint32(0o600+u.r.IntN(64))))
	case 2:
		u.try(u.m.touch(p, int64(u.r.IntN(1e9))*1e9))
	case 3:
		u.try(u.m.setxattr(p, fmt.Sprint("user.", u.r.IntN(2)), fmt.Sprint(u.m.name, u.m.w.oracle.next())))
	case 4:
		u.try(u.m.setxattr(p, fmt.Sprint("user.", u.r.IntN(2)), ""))
	}
}

func links(u *user) {
	if u.r.IntN(2) == 0 {
		u.try(u.m.symlink(u.path()))
		return
	}
	u.try(u.m.link(u.path(), u.path()))
}

func exchange(u *user) {
	u.try(u.m.rename(u.path(), u.path(), syncer.RenameExchange))
}

// script is a program that takes its time: a file is open all the while.
func script(u *user) {
	h := u.whole(u.doc())
	for range 2 + u.r.IntN(6) {
		u.pause()
	}
	u.try(h.write(0, 0, u.text()))
	for range u.r.IntN(4) {
		u.pause()
	}
	h.close()
}

// reader has a file open for a while, and reads it twice: nobody but programs here
// may have changed it under its hands.
func reader(u *user) {
	h := u.opened(u.m.open(u.doc(), false, false, false))
	was, err := h.look()
	u.try(err)
	for range 2 + u.r.IntN(8) {
		u.pause()
	}
	now, err := h.look()
	if err == nil && !bytes.Equal(was.data, now.data) && was.writes == now.writes && !u.m.unwell() && !u.m.crashed() {
		u.m.w.fail("I9", "%s: %s is open, and has %.60q where there was %.60q", u.m.name, h.path, now.data, was.data)
	}
	u.m.w.count("readers", 1)
	h.close()
}

// nameless writes a file before it gives it a name, if it does.
func nameless(u *user) {
	h := u.opened(u.m.tmpfile())
	u.try(h.write(0, 0, u.text()))
	if u.r.IntN(2) == 0 {
		u.try(h.sync())
	}
	if u.r.IntN(4) > 0 {
		u.may(h.link(u.path()))
	}
	u.m.w.count("files without a name", 1)
	h.close()
}

// editor reads a file, takes its time, often until others have changed it, and saves
// what it has made of it: what they have saved meanwhile it does not know.
func editor(u *user) {
	p, ours := u.doc(), u.m.w.plan.savers && u.r.IntN(2) == 0
	if ours {
		p = "/doc.odt" // all work on it
	}
	h := u.opened(u.m.open(p, false, ours, false))
	h.close()
	for range 3 + u.r.IntN(15) + 20*u.r.IntN(2) {
		if u.pause(); u.m.overtaken(p) {
			break
		}
	}
	u.save(p)
}

// save puts something else into a file, unread: written over it, renamed over it, or
// in its place when it has moved aside.
func (u *user) save(p string) {
	to, how := p, u.r.IntN(4)
	had := u.m.had(u.proc, p)
	switch how {
	case 0:
		to = p + ".new"
	case 1:
		u.may(u.m.rename(p, p+"~", 0))
	}
	h := u.opened(u.m.openUnread(to))
	err := h.write(0, 0, u.text())
	if err == nil {
		for _, t := range had { // also if it is elsewhere by now
			t.or = append(t.or, h.t)
		}
	}
	u.try(err)
	if u.r.IntN(2) == 0 {
		u.try(h.sync())
	}
	h.close()
	if how == 0 {
		u.try(u.m.rename(to, p, 0))
	}
}

// locker has a directory as its lock.
func locker(u *user) {
	lock := u.dir() + "/lock.d"
	u.try(u.m.mkdir(lock))
	h := u.file(lock+"/owner", true, false)
	u.try(h.write(0, 0, u.m.w.oracle.bytes(u.m, 20, false)))
	h.close()
	u.may(u.m.unlink(lock + "/owner"))
	u.may(u.m.rmdir(lock))
}
